"""Erasure on a real work folder: two people, nothing left of the clip at home, evidence whole, and an interruption that changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from curation import layout, pipeline, schema, wiring
from curation.cli import app
from curation.demo import run_demo
from curation.digests import canonical_json
from curation.erasure_files import ERASED
from curation.errors import ApprovalRefused, ConcurrentChange, EvidenceBroken, SettingsError, UsageError
from curation.settings import Settings
from curation.shards.request import from_mapping
from curation.stages import erase
from curation.stages.erase import Selection
from curation.tables import from_parquet
from tests.rendered import few_checks, render

CLIPS = ("city-day", "city-day-back", "black", "duplicate", "highway-overcast", "text", "city-night", "tunnel")
REQUEST = {"name": "demo", "seed": 7, "splits": {"train": 1.0}}
WHY = {"reason": "contract ended", "requester": "engineer"}


class Killed(BaseException):
    """Ends a run where no handler expects it, as a kill does."""


@pytest.fixture(scope="module", autouse=True)
def _pinned_time():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", "2026-11-25T08:00:00+08:00")
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A work folder with all stages done, on a few rendered clips; its source is beside it."""
    root = tmp_path_factory.mktemp("erase")
    run_demo.prepare(render(root / "fleet", *CLIPS), None, root / "work", Console(quiet=True))
    few = few_checks(root / "expectations", 4)
    toml = root / "work" / "curation.toml"
    toml.write_text(f"expectations = {json.dumps(str(few))}\n{toml.read_text(encoding='utf-8')}", encoding="utf-8")
    settings = pipeline.open_settings(root / "work")
    for batch_id in pipeline.discover(settings, "demo"):
        pipeline.ingest_batch(settings, batch_id)
        pipeline.validate_batch(settings, batch_id)
    return root / "work"


@pytest.fixture
def settings(work) -> Settings:
    return pipeline.open_settings(work)


@pytest.fixture
def shards(settings) -> str:
    """A shard set of all that is curated now."""
    return pipeline.build_shards(settings, from_mapping(dict(REQUEST)))


def a_vehicle(settings: Settings) -> tuple[str, list[str]]:
    """A vehicle that has an accepted clip, and all its clips."""
    rows = pipeline.curated(settings)[0].to_pylist()
    vehicle_id = next(row["vehicle_id"] for row in rows if row["verdict"] == "accepted")
    return vehicle_id, sorted(row["clip_id"] for row in rows if row["vehicle_id"] == vehicle_id)


def files_with(folder: Path, *values: str) -> list[str]:
    """Files below `folder`, Parquet decoded, that hold one of the values in name or bytes."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = str(path.relative_to(folder)).encode() + path.read_bytes()
        if path.suffix == ".parquet":
            for kind in (schema.CLIPS, schema.LISTING, schema.PULLED):
                if set(kind.names) == set(from_parquet_names(path)):
                    text += json.dumps(from_parquet(path.read_bytes(), kind).to_pylist(), default=str).encode()
        if any(value.encode() in text for value in values):
            found.append(path.relative_to(folder).as_posix())
    return found


def from_parquet_names(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_schema(path).names


def batch_rows(settings: Settings, name: str, kind) -> list[dict[str, object]]:
    store = wiring.store(settings)
    return [row for key in store.keys("batches/") if key.endswith(name) for row in from_parquet(store.read(key), kind).to_pylist()]


def test_it_takes_two_people(settings):
    """Who asked cannot confirm, in whatever spelling; nobody can neither."""
    clip_id = pipeline.curated(settings)[0]["clip_id"][0].as_py()
    asked = pipeline.request_erasure(settings, Selection(by="clip", value=clip_id), **WHY)
    for approver in ("engineer", " Engineer ", "\uff45ngineer", "", "  "):
        with pytest.raises(ApprovalRefused, match="nobody else"):
            pipeline.confirm_erasure(settings, asked.erasure_id, approver=approver)
    assert clip_id in pipeline.curated(settings)[0]["clip_id"].to_pylist()


def test_a_changed_request_is_not_confirmed(settings):
    """Nobody slips another clip into what was asked for."""
    clip_id = pipeline.curated(settings)[0]["clip_id"][0].as_py()
    asked = pipeline.request_erasure(settings, Selection(by="clip", value=clip_id), reason="other", requester="engineer")
    path = settings.store.path / layout.erasure_key(asked.erasure_id, "request.json")
    original = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(original.replace(clip_id.encode(), b"0" * 64))
    try:
        with pytest.raises(EvidenceBroken, match="not what the ledger recorded"):
            pipeline.confirm_erasure(settings, asked.erasure_id, approver="officer")
    finally:
        path.write_bytes(original)


def test_a_vehicle_is_gone_from_home_and_the_ledger_still_holds(settings, shards, work):
    """Bytes, copies, inspections, rows, history and shard sets go; the batch still adds up; ids stay only with evidence and receipts."""
    vehicle_id, clip_ids = a_vehicle(settings)
    others = pipeline.curated(settings)[0].num_rows - len(clip_ids)
    naming = pipeline.build_shards(settings, from_mapping({**REQUEST, "filter": f"vehicle_id = '{vehicle_id}'", "name": "whose"}))
    never_built = from_mapping({**REQUEST, "filter": f"vehicle_id <> '{vehicle_id}'", "name": "killed"})
    wiring.store(settings).create(layout.shard_request_key(never_built.digest()), canonical_json(never_built.model_dump(mode="json")))
    listed = len(batch_rows(settings, "listing.parquet", schema.LISTING))
    for clip_id in clip_ids:
        wiring.store(settings).create(layout.masked_note_key(clip_id, "0" * 64), b"{}")
        wiring.store(settings).create(layout.masked_copy_key(clip_id, "0" * 64, "1" * 64), clip_id.encode())
    asked = pipeline.request_erasure(settings, Selection(by="vehicle", value=vehicle_id), **WHY)
    assert clip_ids == list(asked.clip_ids)
    assert asked == pipeline.request_erasure(settings, Selection(by="vehicle", value=vehicle_id), **WHY)
    assert len(clip_ids) == pipeline.confirm_erasure(settings, asked.erasure_id, approver="officer").accounted["erased"]

    rows, _ = pipeline.curated(settings)
    assert (others, []) == (rows.num_rows, [row for row in rows.to_pylist() if row["vehicle_id"] == vehicle_id])
    kept_for_evidence = {"erasures", "tombstones", "validation", "ledger", "releases"}
    left = {path.split("/")[0] for path in files_with(work / "home" / "store", *clip_ids)}
    assert left <= kept_for_evidence
    assert [] == files_with(work / "home" / "warehouse", vehicle_id, *clip_ids)
    assert [] == files_with(work / "home" / "store", vehicle_id)
    assert [] == [key for key in wiring.store(settings).keys("shards/") if shards in key]
    assert listed == len(batch_rows(settings, "listing.parquet", schema.LISTING))
    assert len(clip_ids) <= sum(row["reason"] == ERASED for row in batch_rows(settings, "pulled.parquet", schema.PULLED))
    assert () == pipeline.verify(settings).uncovered
    receipt = pipeline.erasure_receipt(settings, asked.erasure_id)
    assert sorted([shards, naming]) == receipt["shard_sets_removed"]
    again = pipeline.rebuild_shard_sets(settings, asked.erasure_id)
    assert again == pipeline.rebuild_shard_sets(settings, asked.erasure_id)
    assert (None, True) == (again[naming].shard_set_id, "named what was erased" in again[naming].why)
    assert (True, others) == (again[shards].shard_set_id not in {None, shards}, pipeline.curated(settings)[0].num_rows)
    assert [] == files_with(work / "home" / "store" / "shards", *clip_ids)
    assert () == pipeline.verify(settings).uncovered
    assert (clip_ids, "engineer", "officer", {}) == tuple(receipt[name] for name in ("clip_ids", "requester", "approver", "rows_overseas"))


def test_an_erased_clip_is_not_pulled_again(settings):
    """The source still offers it: nothing new is found, and the same bytes under another name are refused by name."""
    assert [] == pipeline.discover(settings, "demo")
    source = settings.sources["demo"].path
    [tombstone, *_] = wiring.store(settings).keys("tombstones/")
    clip_id = Path(tombstone).stem
    original = next(path for path in sorted(source.rglob("*.mp4")) if clip_id == wiring_digest(path))
    copy = source / "again.mp4"
    shutil.copy(original, copy)
    try:
        for batch_id in pipeline.discover(settings, "demo"):
            counts = pipeline.ingest_batch(settings, batch_id)
            pipeline.validate_batch(settings, batch_id)
            assert (1, 0) == (counts[0].accounted["refused"], counts[0].accounted["stored"])
        assert [] == pipeline.discover(settings, "demo")
    finally:
        copy.unlink()
    assert clip_id not in pipeline.curated(settings)[0]["clip_id"].to_pylist()
    assert () == pipeline.verify(settings).uncovered


def wiring_digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def problem_of(settings: Settings) -> str:
    """What does not hold, in the ledger's words; empty where all does."""
    try:
        pipeline.verify(settings)
    except EvidenceBroken as broken:
        return broken.problem
    return ""


class Interrupted:
    """An eraser, and a catalog, that end the run at the n-th call."""

    def __init__(self, inner, calls: SimpleNamespace) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name):
        inner = getattr(self._inner, name)
        if name not in {"remove", "replace", "erase"}:
            return inner

        def call(*arguments):
            self._calls.left -= 1
            if self._calls.left < 0:
                raise Killed
            return inner(*arguments)

        return call


def test_an_erasure_that_is_killed_at_any_point_is_named_and_finished_by_the_next_run(settings, shards, monkeypatch):
    """Until then `audit verify` says what is left to remove, and no other erasure begins."""
    vehicle_id, clip_ids = a_vehicle(settings)
    asked = pipeline.request_erasure(settings, Selection(by="vehicle", value=vehicle_id), **WHY)
    store, home = wiring.eraser, wiring.home
    calls = SimpleNamespace(left=0)
    said: list[str] = []
    for done in range(100):
        with monkeypatch.context() as patch:
            calls.left = 1  # one call further each time; what was done before is done again, and changes nothing
            calls.left += done
            patch.setattr(wiring, "eraser", lambda given: Interrupted(store(given), calls))
            try:
                pipeline.confirm_erasure(settings, asked.erasure_id, approver="officer")
                break
            except Killed:
                said.append(problem_of(settings))
                other = pipeline.curated(settings)[0].to_pylist()
                remaining = [row["clip_id"] for row in other if row["clip_id"] not in clip_ids]
                if remaining:
                    second = pipeline.request_erasure(settings, Selection(by="clip", value=remaining[0]), **WHY)
                    with pytest.raises(ConcurrentChange, match="not finished"):
                        pipeline.confirm_erasure(settings, second.erasure_id, approver="officer")
    assert done > 3
    assert [] == [problem for problem in said if problem and "still there" not in problem]
    assert any(said)
    assert home(settings).catalog.read(settings.curated_table, clip_ids=clip_ids).num_rows == 0
    assert () == pipeline.verify(settings).uncovered
    before = [entry.digest() for entry in pipeline.ledger_entries(settings)]
    pipeline.confirm_erasure(settings, asked.erasure_id, approver="officer")
    assert before == [entry.digest() for entry in pipeline.ledger_entries(settings)]


def test_wrong_use_is_named(settings, work, monkeypatch):
    """An unknown vehicle, an unknown erasure, no term in the settings, no reason, and two things at once."""
    with pytest.raises(UsageError, match="nothing is held"):
        pipeline.request_erasure(settings, Selection(by="vehicle", value="nobody"), **WHY)
    with pytest.raises(UsageError, match="never asked for"):
        pipeline.confirm_erasure(settings, "0" * 16, approver="officer")
    for data_class in ("clips", "shards", "evidence"):
        with pytest.raises(UsageError, match=f"no term for {data_class}"):
            pipeline.request_expiry(settings, data_class, **WHY)
    with pytest.raises(UsageError, match="reason"):
        pipeline.request_erasure(settings, Selection(by="vehicle", value="nobody"), reason=" ", requester="engineer")
    told = CliRunner().invoke(app, ["erase", "request", "--reason", "r", "--requester", "p", "--work", str(work)])
    assert isinstance(told.exception, UsageError)
    assert "one thing" in told.exception.problem
    (work.parent / "bad").mkdir(exist_ok=True)
    (work.parent / "bad" / "curation.toml").write_text("[retention]\nclips_days = 0\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="clips_days"):
        pipeline.open_settings(work.parent / "bad")
    (work.parent / "bad" / "curation.toml").write_text("[retention]\nevidence_days = 1000\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="evidence_days"):
        pipeline.open_settings(work.parent / "bad")


def _erase(work: Path, *arguments: str) -> str:
    return CliRunner().invoke(app, ["erase", *arguments, "--work", str(work)], catch_exceptions=False).output


def _due(work: Path) -> dict[str, dict]:
    return {row["class"]: row for row in map(json.loads, _erase(work, "due", "--json").splitlines())}


@pytest.fixture
def with_terms(settings, work):
    """Shards have a term of 30 days, evidence one of 1,100; all that is held came about on 25 November 2026."""
    toml = (work / "curation.toml").read_text(encoding="utf-8").partition("\n[retention]")[0]
    (work / "curation.toml").write_text(f"{toml}\n[retention]\nshards_days = 30\nevidence_days = 1100\n", encoding="utf-8")
    yield pipeline.open_settings(work)
    (work / "curation.toml").write_text(toml, encoding="utf-8")


def test_each_class_of_data_has_its_own_term(with_terms, shards, work, monkeypatch):
    """A shard set past its term goes by two people's word and is built anew as a new event; clips and evidence stay for theirs."""
    assert {"clips": None, "shards": 30, "evidence": 1100} == {name: row["term_days"] for name, row in _due(work).items()}
    assert (1, [], "2026-12-25") == (_due(work)["shards"]["held"], _due(work)["shards"]["due"], _due(work)["shards"]["next_due"][:10])
    with pytest.raises(UsageError, match="nothing is past its term"):
        pipeline.request_expiry(with_terms, "shards", **WHY)
    monkeypatch.setenv("CURATION_NOW", "2030-06-01T08:00:00+08:00")
    held = {shards, *pipeline.curated(with_terms)[0]["batch_id"].to_pylist()}
    assert (2, True) == (len(held), held.isdisjoint(_due(work)["evidence"]["due"]))
    monkeypatch.setenv("CURATION_NOW", "2026-12-26T08:00:00+08:00")
    assert [shards] == _due(work)["shards"]["due"]
    assert shards in _erase(work, "due")
    asked = json.loads(_erase(work, "request", "--past-term", "shards", "--reason", "term", "--requester", "engineer", "--json"))
    with pytest.raises(ApprovalRefused, match="nobody else"):
        pipeline.confirm_erasure(with_terms, asked["erasure_id"], approver="Engineer")
    receipt = json.loads(_erase(work, "confirm", asked["erasure_id"], "--approver", "officer", "--json"))
    store = wiring.store(with_terms)
    assert ([], receipt["removed"]) == (list(store.keys("shards/")), sorted(asked["objects"]))
    assert (0, True) == (_due(work)["shards"]["held"], bool(list(store.keys("clips/")) and list(store.keys("validation/"))))
    removed = [entry for entry in pipeline.ledger_entries(with_terms) if entry.kind == "removed" and entry.subject == asked["erasure_id"]]
    assert [set(asked["objects"])] == [set(entry.files) for entry in removed]
    assert () == pipeline.verify(with_terms).uncovered
    assert shards == pipeline.build_shards(with_terms, from_mapping(dict(REQUEST)))
    assert () == pipeline.verify(with_terms).uncovered
    assert (1, "2027-01-25") == (_due(work)["shards"]["held"], _due(work)["shards"]["next_due"][:10])


def test_clips_past_their_term_are_erased_on_the_command_line(settings, work, monkeypatch):
    """Nothing is past a term of ten days on the tenth; on the twelfth every remaining clip is, and the table is empty."""
    (work / "curation.toml").write_text(
        (work / "curation.toml").read_text(encoding="utf-8") + "\n[retention]\nclips_days = 10\n", encoding="utf-8"
    )
    ask = ["erase", "request", "--past-term", "clips", "--reason", "term", "--requester", "engineer", "--json", "--work", str(work)]
    monkeypatch.setenv("CURATION_NOW", "2026-12-05T07:00:00+08:00")
    assert isinstance(CliRunner().invoke(app, ask).exception, UsageError)
    monkeypatch.setenv("CURATION_NOW", "2026-12-07T08:00:00+08:00")
    told = CliRunner().invoke(app, ask, catch_exceptions=False)
    asked = json.loads(told.output)
    done = CliRunner().invoke(app, ["erase", "confirm", asked["erasure_id"], "--approver", "officer", "--work", str(work)])
    assert (0, True) == (done.exit_code, f"{len(asked['clip_ids'])} clips erased" in done.output)
    assert 0 == pipeline.curated(pipeline.open_settings(work))[0].num_rows
    assert [] == list(wiring.store(settings).keys("clips/"))
    assert (
        asked["erasure_id"]
        == json.loads(CliRunner().invoke(app, ["erase", "show", asked["erasure_id"], "--work", str(work)]).output)["erasure_id"]
    )
    assert () == pipeline.verify(settings).uncovered


def test_evidence_is_kept_for_its_term_and_for_as_long_as_its_clips(with_terms, work, monkeypatch):
    """No request, and no forged one, takes it before; audits go once their clips are gone and their term is over, the ledger never."""
    home = wiring.home(with_terms)
    audits = list(home.store.keys("validation/"))
    assert audits
    assert [] == list(home.store.keys("clips/"))
    monkeypatch.setenv("CURATION_NOW", "2028-06-01T08:00:00+08:00")
    gone = {key.split("/")[1] for key in audits}  # the batch, and the shard sets that were erased with its clips
    assert (len(gone), []) == (_due(work)["evidence"]["held"], _due(work)["evidence"]["due"])
    for kept in (audits, [next(home.store.keys("ledger/"))]):
        forged = erase.request_objects(kept, reason="r", requester="engineer", store=home.store, ledger=home.ledger)
        with pytest.raises(ApprovalRefused, match="within their term or have no end"):
            pipeline.confirm_erasure(with_terms, forged.erasure_id, approver="officer")
    assert audits == list(home.store.keys("validation/"))
    monkeypatch.setenv("CURATION_NOW", "2030-06-01T08:00:00+08:00")
    assert gone == set(_due(work)["evidence"]["due"])
    asked = pipeline.request_expiry(with_terms, "evidence", **WHY)
    assert sorted(asked.objects) == audits
    pipeline.confirm_erasure(with_terms, asked.erasure_id, approver="officer")
    assert [] == list(home.store.keys("validation/"))
    assert () == pipeline.verify(with_terms).uncovered
