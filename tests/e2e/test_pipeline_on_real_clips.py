"""The main job on the 18 real clips, without Airflow: what leaves, what stays and why, and that the proof can say no."""

import csv
import hashlib
import io
import json
import shutil
from io import BytesIO
from pathlib import Path

import duckdb
import polars as pl
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from rich.console import Console

from curation import layout, pipeline, wiring
from curation.audit.leaks import find_home_values
from curation.demo import run_demo
from curation.errors import EvidenceBroken
from curation.release_files import ReleaseFolder
from curation.schema import CLIPS, RELEASE
from curation.shards.request import from_mapping
from curation.tables import from_parquet

SHARED = Path(__file__).resolve().parents[3] / "shared" / "clips"
FLEET = SHARED / "fleet.csv"

pytestmark = [pytest.mark.clips, pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real clips are not beside the project")]

# Why each of these stays: the reason it was put into fleet.csv for (../shared/clips/README.md).
WITHHELD = {
    "S04": "geofence.inside",
    "S09": "geofence.gnss_error",
    "S12": "geofence.datum",
    "S15": "geofence.missing_fix",
    "S16": "geofence.missing_fix",
    "S18": "geofence.missing_fix",  # the fleet says Jiangsu, the camera's own receiver California: neither is believed
}
# The only province and month cells with two vehicles: Jiangsu and Zhejiang in October.
RELEASED = {"S02", "S03", "S06", "S08", "S11", "S14"}


def run_main_job(settings):
    """Every stage once, as the DAGs do."""
    batches = pipeline.discover(settings, run_demo.SOURCE)
    for batch_id in batches:
        pipeline.ingest_batch(settings, batch_id)
        pipeline.validate_batch(settings, batch_id)
    release_id = pipeline.cut_release(settings, requesters=["engineer"])
    summary = pipeline.release_summary(settings, release_id)
    if summary["rows"]:
        if not summary["published"]:
            pipeline.approve(settings, release_id, approver="officer", ticket="T-1")
        pipeline.publish_release(settings, release_id)
    return batches, release_id, pipeline.build_shards(settings, from_mapping(dict(run_demo.SHARD_REQUEST)))


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Settings of a work folder on which the main job ran once."""
    work = tmp_path_factory.mktemp("work")
    settings = run_demo.prepare(SHARED / "videos", FLEET, work, Console(quiet=True))
    return settings, *run_main_job(settings)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def names_by_clip(settings):
    """clip_id -> S01 … S18."""
    return {row["clip_id"]: Path(row["source_uri"]).name[:3] for row in pipeline.curated(settings)[0].to_pylist()}


def test_all_clips_are_conserved(job):
    """18 clips in, 18 manifest rows out, none rejected for a defect it does not have."""
    settings, [batch_id], _, _ = job
    store = wiring.store(settings)
    manifest = from_parquet(store.read(layout.manifest_key(batch_id)), CLIPS)
    assert manifest.num_rows == 18
    assert manifest["verdict"].to_pylist() == ["accepted"] * 18
    for entry in pipeline.ledger_entries(settings):
        assert entry.counts["rows_in"] == sum(rows for name, rows in entry.counts.items() if name != "rows_in")


def test_the_right_clips_leave_and_the_others_stay_for_the_right_reason(job):
    """Six clips pass; the five that were laid as traps and the one that contradicts itself are each withheld by the rule that should."""
    settings, _, release_id, _ = job
    names = names_by_clip(settings)
    folder = ReleaseFolder(wiring.store(settings), release_id)
    decided = {names[row["clip_id"]]: row for row in folder.decisions().to_pylist()}
    assert {name for name, row in decided.items() if row["released"]} == RELEASED
    assert len(decided) == 18
    for name, rule in WITHHELD.items():
        assert rule in decided[name]["withheld_by"], name
    assert {name for name, row in decided.items() if row["withheld_by"] == ["combination.k"]} == set(decided) - RELEASED - set(WITHHELD)


def test_what_is_overseas_is_the_release(job):
    """The catalog holds exactly the released rows under the closed schema; the officer's approval is on file."""
    settings, _, release_id, _ = job
    folder = ReleaseFolder(wiring.store(settings), release_id)
    published = pipeline.published(settings)
    assert published.schema.names == RELEASE.names
    assert sorted(published["release_row_id"].to_pylist()) == sorted(folder.release()["release_row_id"].to_pylist())
    assert folder.document("approval.json")["approver"] == "officer"


def test_no_value_of_the_fleet_file_is_overseas(job):
    """No id, coordinate, exact time, file name or hash stands in any file overseas, raw or decoded."""
    settings, _, _, _ = job
    overseas = settings.work / "overseas"
    assert find_home_values(overseas, pipeline.curated(settings)[0]).found == ()
    with FLEET.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ("file", "vehicle_id", "vin", "plate", "device_id", "driver_id", "captured_at")
    values = {row[column] for row in rows for column in columns if row[column]}
    values |= {row[column] for row in rows for column in ("latitude_deg", "longitude_deg") if row[column] not in {"", "0.000000"}}
    values |= {hashlib.sha256(path.read_bytes()).hexdigest() for path in (SHARED / "videos").iterdir()}
    for path in overseas.rglob("*"):
        if path.is_file():
            data = path.read_bytes() + path.name.encode()
            assert [value for value in values if value.encode() in data] == [], path


def test_a_second_run_changes_nothing(job):
    """No batch, no clip byte, no row, no ledger entry, no file: home and overseas are the same trees as before."""
    settings, _, release_id, shard_set_id = job
    before = tree(settings.work)
    assert run_main_job(settings) == ([], release_id, shard_set_id)
    assert tree(settings.work) == before


def test_pyiceberg_polars_and_duckdb_read_the_published_table(job, monkeypatch):
    """Three readers that know nothing of this project agree on the published rows."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # else it warns that its own planner is not installed
    settings, _, _, _ = job
    catalog = SqlCatalog("overseas", uri=settings.overseas_catalog.uri, warehouse=str(settings.overseas_catalog.warehouse))
    table = catalog.load_table(settings.publish.table)
    arrow = table.scan().to_arrow()
    by_polars = pl.scan_iceberg(table).collect()
    [by_duckdb] = duckdb.sql("select count(*), count(distinct release_row_id) from arrow").fetchall()
    assert (arrow.num_rows, by_polars.height, by_duckdb) == (len(RELEASED), len(RELEASED), (len(RELEASED), len(RELEASED)))
    catalog.engine.dispose()


def test_shards_hold_every_recording_once(job):
    """Of 18 accepted clips one shows what another shows and is left out by name; the index's digests are those of the files."""
    settings, _, _, shard_set_id = job
    store = wiring.store(settings)
    index = json.loads(store.read(layout.shard_key(shard_set_id, "index.json")))
    assert (18, 1) == (index["rows"]["considered"], index["rows"]["near_duplicates"])
    assert 17 == sum(shard["samples"] for shard in index["shards"])
    for shard in index["shards"]:
        data = store.read(layout.shard_key(shard_set_id, shard["name"]))
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        assert BytesIO(data).read(64)[:64].split(b".")[0].isalnum()


def test_one_changed_byte_of_any_covered_file_is_named(job):
    """For every file that the ledger covers, and every entry of the ledger: one flipped bit, and verify names that file."""
    settings, _, _, _ = job
    store_folder = settings.store.path
    covered = {key for entry in pipeline.ledger_entries(settings) for key in entry.files}
    covered |= {layout.ledger_key(entry.sequence) for entry in pipeline.ledger_entries(settings)}
    proof = pipeline.verify(settings)
    assert proof.uncovered == ()
    assert len(covered) == proof.file_count + proof.entry_count
    for key in sorted(covered):
        path = store_folder / key
        original = path.read_bytes()
        mode = path.stat().st_mode
        path.chmod(0o644)
        middle = len(original) // 2
        path.write_bytes(original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :])
        with pytest.raises(EvidenceBroken) as refusal:
            pipeline.verify(settings)
        assert refusal.value.subject == key
        path.write_bytes(original)
        path.chmod(mode)
    assert pipeline.verify(settings) == proof


def test_without_a_fleet_file_nothing_leaves_and_the_demo_says_so(tmp_path):
    """Real clips without telemetry: all are curated, no row is released, and what the demo prints says so."""
    said, videos = io.StringIO(), tmp_path / "videos"
    videos.mkdir()
    for clip in sorted((SHARED / "videos").iterdir(), key=lambda path: path.stat().st_size)[:3]:
        shutil.copyfile(clip, videos / clip.name)
    say = Console(file=said, width=160, markup=False)
    settings = run_demo.prepare(videos, None, tmp_path / "work", say)
    _, release_id, _ = run_main_job(settings)
    run_demo.show_results(settings, 0, say)
    assert "no --fleet given: nothing may leave" in said.getvalue()
    assert f"release {release_id} (not published: no row may leave)" in said.getvalue()
    assert 0 == pipeline.published(settings).num_rows
    assert 3 == pipeline.curated(settings)[0].num_rows
