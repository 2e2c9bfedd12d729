"""Two S3 servers, one at home and one overseas, with users of their own: who publishes cannot read a clip, who reads cannot reach home."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from curation import overseas_table, pipe, schema, wiring
from curation.adapters import catalog_open, s3_client
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.catalog_process import ProcessCatalog, environment
from curation.adapters.store_release import ReleaseReader
from curation.adapters.store_s3 import S3Store
from curation.audit.ledger import StoreLedger
from curation.audit.trace import trace
from curation.audit.verify import verify
from curation.errors import ApprovalRefused, CurationError, GateRefused, OutsideError, SettingsError, UsageError
from curation.layout import clip_key, manifest_key
from curation.publisher import answer
from curation.records import SnapshotInfo
from curation.settings import HomeSettings, ProfileCredentials, PublisherSettings, Settings, embedded_defaults
from curation.shards.files import sets_holding
from curation.stages.publish import EVIDENCE_PROPERTY, RELEASE_PROPERTY, TABLE_PROPERTY, WITHDRAWN_PROPERTY
from tests import rest_catalog, seaweed

TABLE = rest_catalog.TABLE
CLIP = clip_key("ab" * 32, ".mp4")
MANIFEST = manifest_key("demo-0123456789abcdef")
PREFIXES = tuple(f"{number}/" for number in range(20))  # of a store for each test
PUBLISHER = {"access_key_variable": "PUBLISHER_S3_KEY", "secret_key_variable": "PUBLISHER_S3_SECRET"}


@pytest.fixture(scope="module")
def at_home(tmp_path_factory) -> Iterator[seaweed.Server]:
    """The home server; its second user may read releases and nothing else."""
    users = {"publisher": [f"Read:{seaweed.BUCKET}/{prefix}releases/*" for prefix in PREFIXES]}
    with seaweed.running(tmp_path_factory.mktemp("home"), users=users) as server:
        yield server


@pytest.fixture(scope="module")
def overseas(tmp_path_factory) -> Iterator[rest_catalog.Overseas]:
    """The overseas server with its REST catalog, a publisher and a reader."""
    with rest_catalog.running(tmp_path_factory.mktemp("overseas")) as found:
        yield found


@pytest.fixture(scope="module")
def prefixes() -> Iterator[str]:
    """Those that no test has used."""
    return iter(PREFIXES)


@pytest.fixture
def prefix(prefixes) -> str:
    """Where this test's home store lies in the bucket."""
    return next(prefixes)


@pytest.fixture
def settings(at_home, overseas, prefix) -> PublisherSettings:
    """What the publishing process is told."""
    return PublisherSettings(
        overseas_catalog=overseas.settings("publisher"),
        table=TABLE,
        store=at_home.settings(prefix=prefix, credentials=PUBLISHER),
        home=HomeSettings(),
    )


@pytest.fixture
def world(world, at_home, settings, prefix, tmp_path):
    """The home in a bucket with a clip and a manifest, and the overseas catalog behind its process."""
    store = S3Store(at_home.settings(prefix=prefix), home=HomeSettings(), spool=tmp_path / "spool", env=at_home.env)
    store.create(CLIP, b"clip bytes")
    store.create(MANIFEST, b"manifest")
    catalog = ProcessCatalog(settings, env={**os.environ, **at_home.env, "OVERSEAS_SECRET": "x"})
    return replace(world, store=store, ledger=StoreLedger(store, world.clock, world.key), catalog=catalog)


@pytest.fixture
def now(monkeypatch):
    """The clock of the world, for the publishing process as well."""
    monkeypatch.setenv("CURATION_NOW", "2026-11-21T08:00:00+00:00")


def client(server: seaweed.Server, key: str, secret: str):
    """An S3 client of a server under some keys."""
    credentials = {"access_key_variable": "SOME_KEY", "secret_key_variable": "SOME_SECRET"}
    return s3_client.connect(server.settings(credentials=credentials), home=HomeSettings(), env={"SOME_KEY": key, "SOME_SECRET": secret})


def status(call, **arguments) -> int:
    """The HTTP status of a call."""
    try:
        return call(Bucket=seaweed.BUCKET, **arguments)["ResponseMetadata"]["HTTPStatusCode"]
    except s3_client.ClientError as error:
        return s3_client.status_of(error)


def test_a_release_goes_over_the_border_and_nothing_else_does(world, rows, overseas, at_home, now, monkeypatch) -> None:
    """Home never opens the catalog; the process does, with its own keys; what left is read by the reader, kept at home, and taken back."""
    monkeypatch.setattr(catalog_open, "_secrets", lambda _: pytest.fail("home read the overseas keys"))
    release_id = world.cut(rows)
    with pytest.raises(ApprovalRefused, match="is not approved"):
        world.publish(release_id, rows)
    with pytest.raises(ApprovalRefused, match="is not approved"):  # nor does the process commit it when it is asked all the same
        world.catalog.append(TABLE, rows, properties={RELEASE_PROPERTY: release_id})
    world.approve(release_id)
    with pytest.raises(ApprovalRefused, match="other evidence"):
        world.catalog.append(TABLE, rows, properties={RELEASE_PROPERTY: release_id, EVIDENCE_PROPERTY: "0" * 64})
    evidence = {RELEASE_PROPERTY: release_id, EVIDENCE_PROPERTY: world.folder(release_id).digest("evidence.json")}
    for named in ({}, {WITHDRAWN_PROPERTY: "true"}):
        with pytest.raises(UsageError, match="says which one is meant"):
            world.catalog.append(TABLE, rows, properties={**evidence, **named})
    with pytest.raises(GateRefused, match="is not the one that was looked at"):
        world.catalog.append(TABLE, rows, properties={**evidence, TABLE_PROPERTY: "00000000-0000-0000-0000-000000000000"})
    assert world.catalog.identify(TABLE).is_unused
    world.publish(release_id, rows)
    _knows_its_ledger(world)
    monkeypatch.undo()
    released = world.folder(release_id).release().replace_schema_metadata(None)
    read = overseas.catalog("reader").read(TABLE)
    assert released.sort_by("release_row_id").to_pylist() == read.to_pylist()
    assert () == tuple(key for key in verify(world.store, world.key.public_key()).uncovered if key not in {CLIP, MANIFEST})
    given = Path(f"/proc/{world.catalog._process.pid}/environ").read_text().split("\0")
    assert {line.partition("=")[0] for line in given if line} - {"PATH", "LANG", "LC_ALL", "TMPDIR", "CURATION_NOW"} == {
        "AWS_EC2_METADATA_DISABLED",
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "AWS_RESPONSE_CHECKSUM_VALIDATION",
        *PUBLISHER.values(),
    }
    _leads_nobody_home(world, release_id, overseas, at_home)
    _is_traced_in_the_bucket(world, release_id, read["release_row_id"].to_pylist())
    world.catalog.withdraw_rows(TABLE, read["release_row_id"].combine_chunks())
    assert [] == world.catalog.holding(TABLE, read["release_row_id"].combine_chunks())
    assert 0 == world.catalog.read(TABLE).num_rows


def _is_traced_in_the_bucket(world, release_id, row_ids) -> None:
    """What left is told by clip, row and vehicle, and a clip is found in a shard, from ranges of objects that a real server gives."""
    entries = list(world.ledger.entries())
    mapping = world.folder(release_id).mapping().to_pylist()
    for name, found in (("release_row_id", 1), ("clip_id", 1), ("vehicle_id", 1)):
        told = trace(mapping[0][name], store=world.store, entries=entries)
        assert [(found, release_id, True)] == [(len(told.rows), row.release_id, row.release_row_id in row_ids) for row in told.rows]
    packed, clip_id = io.BytesIO(), mapping[0]["clip_id"]
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for suffix in (".json", ".mp4"):
            member = tarfile.TarInfo(clip_id + suffix)
            member.size = 1 << 16
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    world.store.create("shards/day-0123456789abcdef/train-000000.tar", packed.getvalue())
    assert {"day-0123456789abcdef": frozenset({clip_id})} == sets_holding([clip_id, "f" * 64], world.store)


def test_the_publishing_user_reads_releases_and_nothing_else_of_home(world, rows, at_home, prefix) -> None:
    """The home server itself says no: no clip, no manifest, no ledger, no listing, and no write anywhere."""
    release = prefix + world.folder(world.cut(rows)).key("release.parquet")
    publisher = client(at_home, at_home.env["PUBLISHER_S3_KEY"], at_home.env["PUBLISHER_S3_SECRET"])
    assert 200 == status(publisher.get_object, Key=release)
    for key in (prefix + CLIP, prefix + MANIFEST, f"{prefix}ledger/00000000000000000000.json", "anything"):
        assert 403 == status(publisher.get_object, Key=key)
        assert 403 == status(publisher.put_object, Key=key, Body=b"x")
        assert 403 == status(publisher.delete_object, Key=key)
    assert 403 == status(publisher.put_object, Key=release, Body=b"x")
    assert 403 == status(publisher.delete_object, Key=release)
    assert 403 == status(publisher.list_objects_v2)
    assert b"clip bytes" == world.store.read(CLIP)


@pytest.mark.parametrize("user", ["publisher", "reader", "home"])
def test_no_overseas_key_opens_anything_at_home(world, at_home, overseas, prefix, user) -> None:
    """Neither the reader's nor the publisher's nor even the overseas owner's keys are known at home, nor home's overseas."""
    keys = overseas.server.env
    stranger = client(at_home, keys[f"{user.upper()}_S3_KEY"], keys[f"{user.upper()}_S3_SECRET"])
    assert 403 == status(stranger.get_object, Key=prefix + CLIP)
    assert 403 == status(stranger.list_objects_v2)
    assert 403 == status(stranger.put_object, Key="releases/x", Body=b"x")
    assert 403 == status(client(overseas.server, at_home.env["HOME_S3_KEY"], at_home.env["HOME_S3_SECRET"]).list_objects_v2)


def _knows_its_ledger(world) -> None:
    """The catalog bears the ledger's head, and takes a newer one and no older one."""
    noted, table_uuid = world.catalog.identify(TABLE).anchor, world.catalog.identify(TABLE).table_uuid
    world.catalog.anchor(TABLE, "0:" + "0" * 64, table_uuid=table_uuid)
    assert noted == world.catalog.identify(TABLE).anchor
    overseas_table.note_head(TABLE, catalog=world.catalog, store=world.store, ledger=world.ledger)
    last = world.ledger.head()
    assert f"{last.sequence}:{last.digest()}" == world.catalog.identify(TABLE).anchor


def _leads_nobody_home(world, release_id, overseas, at_home) -> None:
    """No object overseas names the home server, its bucket or a key of it."""
    told = repr(overseas.catalog("reader")._load(TABLE).metadata).encode()
    told += b"".join(data for _, data in world.catalog.written(TABLE, world.catalog.find(TABLE, release_id).snapshot_id))
    words = (at_home.url, at_home.url.rpartition(":")[2], "releases/", "clips/ab", *at_home.env.values())
    assert [] == [word for word in words if word.encode() in told]


def test_the_environment_is_scrubbed(settings) -> None:
    """Of all that stands in the environment only what is named goes on; a profile's files are named only where a profile is."""
    names = ["PATH", "HOME", "AWS_SECRET_ACCESS_KEY", "HOME_S3_KEY", "PUBLISHER_S3_KEY", "PUBLISHER_S3_SECRET", "SECRET", "PYTHONPATH"]
    everything = dict.fromkeys(names, "x")
    fixed = environment(settings, {}).keys()
    assert {"PATH", "PUBLISHER_S3_KEY", "PUBLISHER_S3_SECRET"} == environment(settings, everything).keys() - fixed
    profile = ProfileCredentials(named_profile="publisher")
    settings = settings.model_copy(update={"store": settings.store.model_copy(update={"credentials": profile})})
    assert {"PATH", "HOME"} == environment(settings, everything).keys() - fixed


def test_a_publisher_under_homes_own_keys_is_refused(at_home, tmp_path) -> None:
    """A store in a bucket without a user for the publishing process, or with home's own, publishes nothing."""
    given = {**embedded_defaults(tmp_path), "store": at_home.settings().model_dump()}
    for publish in ({}, {"home_credentials": at_home.settings().credentials.model_dump()}):
        with pytest.raises(SettingsError, match="names no user of the store"):
            wiring.overseas(Settings.model_validate({**given, "publish": publish}))


def test_a_release_reader_reads_one_release(world) -> None:
    """Its own guard refuses every other key, and every write, whatever the store would allow."""
    reader = ReleaseReader(world.store, "2026-W47-x")
    for call in (
        lambda: reader.read(CLIP),
        lambda: reader.size("releases/2026-W47-y/release.parquet"),
        lambda: reader.read_range("ledger/0", 0, 1),
        lambda: reader.local_path(CLIP),
        lambda: reader.keys("releases/"),
        lambda: reader.create("releases/2026-W47-x/new", b""),
        reader.stage,
    ):
        with pytest.raises(CurationError, match="is not the publishing process's"):
            call()
    for name in ("", "..", "a/b"):
        with pytest.raises(CurationError, match="is no id of a release"):
            ReleaseReader(world.store, name)


def test_the_process_answers_catalog_calls_alone(settings) -> None:
    """Nothing but the calls of the port is carried out."""
    with pytest.raises(UsageError, match="is no call"):
        answer(settings, IcebergOverseas(settings.overseas_catalog, {TABLE: schema.RELEASE}), "_load", {"table": TABLE})


def test_a_process_that_dies_is_told_and_replaced(settings, at_home, monkeypatch) -> None:
    """Killed over a question, a retry may help; the next question, such as to take back what was committed, is answered by a new one. So it
    is where the asker was interrupted, as by a time limit: an answer that nobody waited for is not taken for the next."""
    catalog = ProcessCatalog(settings, env={**os.environ, **at_home.env})
    assert catalog.find(TABLE, "none") is None
    first = catalog._process
    os.kill(first.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, first.kill)
    killer.start()
    with pytest.raises(OutsideError, match="ended with status -9"):
        catalog.read(TABLE)
    killer.join()
    assert catalog.find(TABLE, "none") is None
    assert first.pid != catalog._process.pid

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    second = catalog._process
    with monkeypatch.context() as patch:
        patch.setattr(pipe, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalog.read(TABLE)
    assert second.poll() is not None
    assert catalog.find(TABLE, "none") is None


def test_the_process_ends_when_its_asker_does(tmp_path) -> None:
    """Killed while it waits for an answer, whoever asked leaves no process behind that holds the keys, and none that complains."""
    code = f"""
import os, signal, time
from pathlib import Path
from curation import pipe, pipeline, wiring
catalog = wiring.overseas(pipeline.open_settings(Path({str(tmp_path)!r})))
question = {{"table": "published.clips", "release_id": "none"}}
catalog.find(**question)
os.kill(catalog._process.pid, signal.SIGSTOP)
pipe.send(catalog._process.stdin, {{"call": "find", "arguments": question}})
print(catalog._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asker:
        pid = int(asker.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        asker.kill()
        os.kill(pid, signal.SIGCONT)
        assert asker.stderr.read() == ""  # until the last who may write to it has ended
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_every_kind_of_value_survives_the_pipe(tmp_path) -> None:
    """Tables, arrays, bytes, records, errors and plain values arrive as they left; a broken pipe is told."""
    from curation import pipe

    table = pa.table({"a": ["x", None]}).replace_schema_metadata({"k": "v"})
    info = SnapshotInfo(snapshot_id=2**62, parent_id=None, properties={"a": "b"})
    said = [None, True, 1, 1.5, "中", b"\0", table, pa.array(["x"]), info, {"map": 1}, (1, [2])]
    with (tmp_path / "pipe").open("wb") as file:
        pipe.send(file, said)
        pipe.send(file, pipe.error_message(ApprovalRefused("p", subject="s", fix="f")))
        file.write(b"\0\0")
    with (tmp_path / "pipe").open("rb") as file:
        assert [*said[:-1], [1, [2]]] == pipe.receive(file)
        with pytest.raises(ApprovalRefused, match=r"s: p\. Fix: f"):
            pipe.raise_error(pipe.receive(file))
        with pytest.raises(OutsideError, match="broke off"):
            pipe.receive(file)
        assert pipe.receive(file) is None
