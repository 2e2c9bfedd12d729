"""The main job with its home store in a bucket of a real S3 server: every stage, the proof, and an erasure."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from rich.console import Console

from curation import pipeline, wiring
from curation.adapters.s3_client import connect
from curation.demo import run_demo
from curation.errors import EvidenceBroken, SiteRefused
from curation.settings import HomeSettings, Settings
from curation.stages.erase import Selection
from tests.rendered import few_checks, render
from tests.seaweed import BUCKET, Server

CLIPS = ("city-day", "tunnel", "highway-overcast", "text")
PREFIX = "main-job/"
SITE = """
[site]
operator = "Operator"
zone = "zone-1"
foreign_operated = false
[[site.approvals]]
kind = "map_custody"
reference = "No. 7"
holder = "Map Partner Ltd"
expires_on = 2027-06-30
[publish.home_credentials]
access_key_variable = "PUBLISHER_S3_KEY"
secret_key_variable = "PUBLISHER_S3_SECRET"
"""


@pytest.fixture(scope="module")
def settings(seaweed: Server, tmp_path_factory):
    """Settings of a work folder whose store is a bucket; its source is a few rendered clips."""
    root = tmp_path_factory.mktemp("s3-job")
    run_demo.prepare(render(root / "fleet", *CLIPS), None, root / "work", Console(quiet=True))
    few = few_checks(root / "expectations", 4)
    said = seaweed.settings(prefix=PREFIX).model_dump(mode="json", exclude_none=True)
    credentials = said.pop("credentials")
    store = "".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items())
    keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in credentials.items())
    toml = root / "work" / "curation.toml"
    written = f"expectations = {json.dumps(str(few))}\n{toml.read_text(encoding='utf-8')}\n[store]\n{store}[store.credentials]\n{keys}"
    toml.write_text(written, encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", "2026-11-25T08:00:00+08:00")
        for name, value in seaweed.env.items():
            environment.setenv(name, value)
        with pytest.raises(SiteRefused, match="nobody has said where its data rests"):
            pipeline.discover(pipeline.open_settings(root / "work"), "demo")
        toml.write_text(f"{written}{SITE}", encoding="utf-8")
        yield pipeline.open_settings(root / "work")


def test_the_main_job_runs_in_a_bucket_and_its_ledger_holds(settings: Settings, seaweed: Server) -> None:
    """All stages; a second run changes no object; no byte of the store lies on this machine's disk; a changed object is named."""
    main_job = runpy.run_path(str(Path(__file__).parents[1] / "crash" / "main_job.py"))["run_main_job"]
    _, release_id, shard_set_id = main_job(settings.work)
    store = wiring.store(settings)
    before = list(store.keys(""))
    entries = [entry.digest() for entry in pipeline.ledger_entries(settings)]
    assert ([], release_id, shard_set_id) == main_job(settings.work)
    assert (before, entries) == (list(store.keys("")), [entry.digest() for entry in pipeline.ledger_entries(settings)])
    proof = pipeline.verify(settings)
    assert () == proof.uncovered
    assert proof.file_count > 10
    assert not (settings.work / "home" / "store").exists()
    assert [] == [path for path in (settings.work / "home" / "spool").iterdir() if path.is_file()]

    client = connect(seaweed.settings(), home=HomeSettings(), env=seaweed.env)
    key = next(key for key in before if key.startswith("manifests/"))
    original = store.read(key)
    client.put_object(Bucket=BUCKET, Key=PREFIX + key, Body=original[:-1] + b"?")
    with pytest.raises(EvidenceBroken) as refusal:
        pipeline.verify(settings)
    assert key == refusal.value.subject
    client.put_object(Bucket=BUCKET, Key=PREFIX + key, Body=original)


def test_an_erasure_leaves_nothing_in_the_bucket(settings: Settings) -> None:
    """Clips, inspections and shard sets of the vehicle are gone, and the ledger holds without them."""
    rows = pipeline.curated(settings)[0].to_pylist()
    vehicle_id = rows[0]["vehicle_id"]
    clip_ids = [row["clip_id"] for row in rows if row["vehicle_id"] == vehicle_id]
    asked = pipeline.request_erasure(settings, Selection(by="vehicle", value=vehicle_id), reason="ended", requester="engineer")
    pipeline.confirm_erasure(settings, asked.erasure_id, approver="officer")
    keys = list(wiring.store(settings).keys(""))
    left = {key.split("/")[0] for key in keys for clip_id in clip_ids if clip_id in key}
    assert {"tombstones"} == left
    assert [] == [key for key in keys if key.startswith("shards/")]
    assert () == pipeline.verify(settings).uncovered
