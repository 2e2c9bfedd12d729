"""Pulling a folder of clips into a real S3 server on loopback, beside boto3's own upload of the same files; and pulling it again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from benchmarks.clip_files import MIB, write_clips
from benchmarks.measure import RUNS, Figure, Work, cpu_s, figure, interleave, peak_mib, timed, wall_s, within
from benchmarks.pull import SOURCE
from curation import pipeline
from curation.errors import NotConserved
from curation.settings import Settings, embedded_defaults
from tests.seaweed import BUCKET, Server, running

CLIPS: Final = 64
CLIP_BYTES: Final = 32 * MIB  # as a minute of a TeslaCam camera: 2 GiB in all
_NUMBERS: Final = count()


def figures(folder: Path, *, clip_count: int = CLIPS, clip_bytes: int = CLIP_BYTES, runs: int = RUNS) -> Iterator[Figure]:
    """Figures of a first pull in time and CPU of the clients, of a second one, and of a first one's peak memory."""
    source = folder / "source"
    files = write_clips(source, clip_count, clip_bytes)
    (folder / "server").mkdir()
    with running(folder / "server") as server:
        os.environ.update(server.env)
        said = server.settings().model_dump_json()
        sides = {
            "ours": timed(lambda: _first(said, source, folder, clip_count)),
            "other": timed(lambda: _upload(server, files)),
            "again": timed(lambda: _again(said, source, folder, clip_count)),
        }
        found = interleave(sides, runs=runs)
        yield figure("pull.s3_wall/boto3_upload_file", wall_s(found["ours"]), wall_s(found["other"]), unit="s", better="less", goal=0.9)
        yield figure("pull.s3_cpu/boto3_upload_file", cpu_s(found["ours"]), cpu_s(found["other"]), unit="CPU s", better="less")
        yield figure("pull.s3_rerun/first_run", wall_s(found["again"]), wall_s(found["ours"]), unit="s", better="less", goal=50.0)
        peak = peak_mib("benchmarks.pull_s3:pull_anew", said=said, source=str(source), folder=str(folder))
        yield within("pull.s3_peak/limit", interleave({"ours": peak}, runs=min(runs, 2))["ours"], 300.0, unit="MiB")


def pull_into(said: str, source: str, work: str) -> int:
    """Clips stored of the source, from its listing to the ledger; `said` are the settings of the store, as JSON."""
    site: dict[str, Any] = {"operator": "benchmark", "zone": "loopback", "foreign_operated": False}
    approval = {"kind": "map_custody", "reference": "benchmark", "holder": "benchmark", "expires_on": "2999-12-31"}
    given = {"store": json.loads(said), "sources": {SOURCE: {"path": Path(source)}}, "site": {**site, "approvals": [approval]}}
    settings = Settings.model_validate({**embedded_defaults(Path(work)), **given})
    counts = [pipeline.pull_batch(settings, batch_id) for batch_id in pipeline.discover(settings, SOURCE)]
    return sum(one.accounted["stored"] for one in counts)


def pull_anew(said: str, source: str, folder: str) -> int:
    """`pull_into` a part of the bucket that is empty."""
    number = f"{os.getpid()}-{next(_NUMBERS)}"
    store = json.loads(said) | {"prefix": f"pull-{number}/"}
    return pull_into(json.dumps(store), source, f"{folder}/work-{number}")


def _first(said: str, source: Path, folder: Path, clip_count: int) -> Work:
    store, work = _place(said, folder)
    return lambda: _pulled(store, source, work, clip_count)


def _again(said: str, source: Path, folder: Path, clip_count: int) -> Work:
    store, work = _place(said, folder)
    _pulled(store, source, work, clip_count)
    return lambda: _pulled(store, source, work, clip_count)


def _place(said: str, folder: Path) -> tuple[str, str]:
    number = next(_NUMBERS)
    work = folder / f"work-{number}"
    shutil.rmtree(work, ignore_errors=True)
    return json.dumps(json.loads(said) | {"prefix": f"run-{number}/"}), str(work)


def _pulled(store: str, source: Path, work: str, clip_count: int) -> None:
    stored = pull_into(store, str(source), work)
    if stored != clip_count:
        raise NotConserved(f"{stored} of {clip_count} clips were stored", subject="benchmark pull_s3", fix="see why the others were not")


def _upload(server: Server, files: Sequence[Path]) -> Work:
    keys = list(server.env.values())
    client = boto3.client(
        "s3", endpoint_url=server.url, region_name="cn-north-1", aws_access_key_id=keys[0], aws_secret_access_key=keys[1],
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    number = next(_NUMBERS)

    def work() -> None:
        for file in files:
            client.upload_file(str(file), BUCKET, f"upload-{number}/{file.name}")

    return work
