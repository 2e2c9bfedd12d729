"""The stage: a batch becomes main only through its audited branch, once, whatever is killed or runs beside it."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import schema, wiring
from curation.adapters.catalog_home import IcebergHome
from curation.adapters.catalog_upkeep import HomeUpkeep
from curation.adapters.ledger_lock_sql import SqlTurn
from curation.adapters.store_local import DirectoryStore
from curation.adapters.validator_gx import GxValidator
from curation.audit import validation_report
from curation.errors import ConcurrentChange, NotConserved, OutsideError, ValidationFailed
from curation.layout import manifest_key, validation_key
from curation.records import CheckFailure, StageCount, ValidationResult
from curation.settings import CatalogSettings, Settings, embedded_defaults
from curation.stages import validate
from curation.tables import to_parquet

TABLE = "curated.clips"
BATCH = "folder-0123456789abcdef"
OTHER = "folder-fedcba9876543210"


class Counting:
    """A validator that passes unless told otherwise, and remembers what it saw."""

    def __init__(self, *, passes: bool = True) -> None:
        self.seen: list[pa.Table] = []
        self._passes = passes

    def validate(self, suite: str, rows: pa.Table, related: Mapping[str, pa.Table] | None = None) -> ValidationResult:
        self.seen.append(rows)
        failure = CheckFailure(check="vin.pattern", column="vin", problem="unexpected", row_count=1)
        return ValidationResult(
            suite=suite,
            suite_digest="d" * 64,
            declared=1,
            executed=1,
            skipped=0,
            errored=0,
            rows_examined=rows.num_rows,
            rows_present=rows.num_rows,
            failures=() if self._passes else (failure,),
        )


class Notes:
    """A ledger that keeps each different event once."""

    def __init__(self) -> None:
        self.events: list[tuple[StageCount, Mapping[str, str], Mapping[str, str]]] = []

    def record(self, count: StageCount, *, files: Mapping[str, str], facts: Mapping[str, str] | None = None) -> None:
        event = (count, dict(files), dict(facts or {}))
        if event not in self.events:
            self.events.append(event)

    def entries(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(kind=count.stage, subject=count.subject, counts=dict(count.accounted), files=files, facts=facts)
            for count, files, facts in self.events
        ]


class Killed(BaseException):
    """The process ends here."""


class Home:
    """A work folder with everything the stage needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = CatalogSettings(name="home", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder / "warehouse")
        self.catalog = IcebergHome(settings, {TABLE: schema.CLIPS})
        self.store = DirectoryStore(folder / "store", jurisdiction="CN")
        self.validator = Counting()
        self.ledger = Notes()

    def run(self, batch_id: str, rows: pa.Table, **instead: object) -> StageCount:
        """Store the rows as the batch's manifest and validate it."""
        rows = rows.cast(schema.CLIPS)
        self.store.create(manifest_key(batch_id), to_parquet(rows, schema.CLIPS))
        ports = {"catalog": self.catalog, "validator": self.validator, "store": self.store, "ledger": self.ledger}
        return validate.run(batch_id, rows, table=TABLE, report=validation_report.render, **(ports | instead))

    def clips(self) -> list[str]:
        """Ids of main's clips."""
        return self.catalog.read(TABLE).column("clip_id").to_pylist()


@pytest.fixture
def home(tmp_path) -> Home:
    """An empty home."""
    return Home(tmp_path)


def test_a_batch_becomes_main(home, manifests) -> None:
    """All rows are added, read back from the branch for the audit, and kept with result, report and ledger entry."""
    rows = manifests.table(manifests.good(2), manifests.rejected(1))
    count = home.run(BATCH, rows)
    assert count == StageCount(stage="validate", subject=BATCH, rows_in=2, accounted={"added": 2, "replaced": 0, "already_curated": 0})
    assert home.catalog.read(TABLE).equals(rows.cast(schema.CLIPS).sort_by("clip_id"))
    assert home.validator.seen[0].equals(home.catalog.read(TABLE))
    keys = [validation_key(BATCH, "result.json"), validation_key(BATCH, "report.html"), manifest_key(BATCH)]
    recorded = home.ledger.events[0][1]
    assert recorded == {key: hashlib.sha256(home.store.read(key)).hexdigest() for key in keys}
    assert json.loads(home.store.read(keys[0]))["passed"] is True
    assert home.ledger.events[0][2]["declared"] == "1"


def test_again_changes_nothing(home, manifests) -> None:
    """A second run returns the first one's counts; table, store and ledger stay as they were."""
    rows = manifests.table(manifests.good(1))
    first = home.run(BATCH, rows)
    before = (home.catalog.head(TABLE), list(home.store.keys("")), list(home.ledger.events))
    assert first == home.run(BATCH, rows)
    assert before == (home.catalog.head(TABLE), list(home.store.keys("")), home.ledger.events)


def test_a_clip_that_is_there_is_not_written_again(home, manifests) -> None:
    """The same row from another batch is already curated; a row measured anew replaces the old one; a new one is added."""
    home.run(BATCH, manifests.table(manifests.good(1), manifests.good(2)))
    again = manifests.good(1, {"batch_id": OTHER, "source_uri": "file:///elsewhere.mp4"})
    anew = manifests.good(2, {"batch_id": OTHER, "brightness": 0.25})
    count = home.run(OTHER, manifests.table(again, anew, manifests.good(3, {"batch_id": OTHER})))
    assert count.accounted == {"added": 1, "replaced": 1, "already_curated": 1}
    main = home.catalog.read(TABLE)
    assert main.column("brightness").to_pylist() == [0.5, 0.25, 0.5]
    assert main.column("batch_id").to_pylist() == [BATCH, OTHER, OTHER]
    assert home.validator.seen[-1].num_rows == 3


def test_an_older_batch_run_again_does_not_bring_old_rows_back(home, manifests) -> None:
    """Main remembers which manifests it took in, so a rerun of the older batch leaves the newer row."""
    old = manifests.table(manifests.good(1))
    home.run(BATCH, old)
    home.run(OTHER, manifests.table(manifests.good(1, {"brightness": 0.25})))
    assert home.run(BATCH, old).accounted == {"added": 1, "replaced": 0, "already_curated": 0}
    assert home.catalog.read(TABLE).column("brightness").to_pylist() == [0.25]


def test_it_does_not_when_main_has_forgotten_its_snapshots_either(home, manifests) -> None:
    """After upkeep the ledger remembers what was taken in; clips that main does not hold any more are added again all the same."""
    old = manifests.table(manifests.good(1))
    home.run(BATCH, old)
    home.run(OTHER, manifests.table(manifests.good(1, {"brightness": 0.25})))
    HomeUpkeep(home.catalog._settings, {TABLE: schema.CLIPS}).keep_up(TABLE, pins={}, keep_s=0)
    assert [] == [one for one in home.catalog.snapshots(TABLE) if one.properties.get("curation.batch-id") == BATCH]
    assert home.run(BATCH, old).accounted == {"added": 1, "replaced": 0, "already_curated": 0}
    assert (home.catalog.read(TABLE).column("brightness").to_pylist(), len(home.ledger.events)) == ([0.25], 2)
    home.catalog.erase(TABLE, [f"{1:064x}"])
    assert home.run(BATCH, old).accounted == {"added": 1, "replaced": 0, "already_curated": 0}
    assert home.catalog.read(TABLE).column("brightness").to_pylist() == [0.5]


def test_nothing_new_is_still_validated(home, manifests) -> None:
    """A batch of known clips writes no snapshot, is validated as it stands, and is recorded once."""
    home.run(BATCH, manifests.table(manifests.good(1)))
    head = home.catalog.head(TABLE)
    for _ in range(2):
        assert home.run(OTHER, manifests.table(manifests.good(1))).accounted == {"added": 0, "replaced": 0, "already_curated": 1}
    assert (head, 2) == (home.catalog.head(TABLE), len(home.ledger.events))
    with pytest.raises(ValidationFailed):
        home.run(OTHER, manifests.table(manifests.good(1)), validator=Counting(passes=False))


def test_a_batch_that_fails_leaves_main_alone(home, manifests) -> None:
    """The branch is gone, main is unmoved, result and report are kept, and the error names checks and counts."""
    home.run(BATCH, manifests.table(manifests.good(1)))
    head = home.catalog.head(TABLE)
    with pytest.raises(ValidationFailed, match=r"1 of 1 checks ran over 1 of 1 rows; failing: vin.pattern \(unexpected, 1 rows\)"):
        home.run(OTHER, manifests.table(manifests.good(2)), validator=Counting(passes=False))
    assert head == home.catalog.head(TABLE)
    with pytest.raises(ConcurrentChange):
        home.catalog.read(TABLE, branch=f"batch-{OTHER}")
    assert json.loads(home.store.read(validation_key(OTHER, "result.json")))["passed"] is False
    count, files, facts = home.ledger.events[-1]
    assert (count.accounted, facts["passed"]) == ({"refused": 1}, "false")
    assert validation_key(OTHER, "report.html") in files


def test_a_failed_batch_can_be_replayed(home, manifests) -> None:
    """After the cause is mended the same batch passes; its new result stands beside the old one."""
    rows = manifests.table(manifests.good(1))
    with pytest.raises(ValidationFailed):
        home.run(BATCH, rows, validator=Counting(passes=False))
    assert home.run(BATCH, rows).accounted["added"] == 1
    results = list(home.store.keys(f"validation/{BATCH}/result"))
    assert sorted(json.loads(home.store.read(key))["passed"] for key in results) == [False, True]


def test_a_clip_that_stands_twice_never_reaches_main(home, manifests) -> None:
    """With the real suite: both rows are written to the branch, the audit sees them, main stays empty."""
    real = GxValidator(Path(__file__).resolve().parents[2] / "expectations")
    with pytest.raises(ValidationFailed, match=r"clip_id.unique \(unexpected, 2 rows\)"):
        home.run(BATCH, manifests.table(manifests.good(1), manifests.good(1)), validator=real)
    assert home.catalog.head(TABLE) is None
    assert home.run(OTHER, manifests.table(manifests.good(1), manifests.quarantined(2)), validator=real).accounted["added"] == 2


def test_an_older_manifest_is_audited_as_what_it_is(home, manifests) -> None:
    """A manifest that lacks a later column is held against its own columns and version; main shows null there."""
    rows = manifests.table(manifests.good(1, {"tagger_version": None})).cast(schema.CLIPS)
    older = rows.drop_columns(["tagger_version"]).replace_schema_metadata({"curation.table": "clips", "curation.schema_version": "1b"})
    sink = io.BytesIO()
    pq.write_table(older, sink)
    home.store.create(manifest_key(BATCH), sink.getvalue())
    ports = {"catalog": home.catalog, "validator": home.validator, "store": home.store, "ledger": home.ledger}
    assert 1 == validate.run(BATCH, rows, table=TABLE, report=validation_report.render, **ports).accounted["added"]
    [seen] = home.validator.seen
    assert (older.column_names, b"1b") == (seen.column_names, seen.schema.metadata[b"curation.schema_version"])
    assert [None] == home.catalog.read(TABLE)["tagger_version"].to_pylist()


def test_an_empty_manifest_is_refused(home, manifests) -> None:
    """No rows: the result cannot pass."""
    with pytest.raises(ValidationFailed, match="0 of 0 rows"):
        home.run(BATCH, manifests.table())


def test_rows_that_are_not_the_manifests_are_refused(home, manifests) -> None:
    """The digest that the ledger records must be that of the rows which were validated."""
    home.store.create(manifest_key(BATCH), to_parquet(manifests.table(manifests.good(2)).cast(schema.CLIPS), schema.CLIPS))
    with pytest.raises(NotConserved, match="not those of its manifest"):
        validate.run(
            BATCH,
            manifests.table(manifests.good(1)).cast(schema.CLIPS),
            catalog=home.catalog,
            table=TABLE,
            validator=home.validator,
            store=home.store,
            ledger=home.ledger,
            report=validation_report.render,
        )


def test_a_branch_that_lost_a_row_is_refused(home, manifests, monkeypatch) -> None:
    """A catalog that gives fewer rows back than were written is no proof of anything."""
    real = home.catalog.read
    monkeypatch.setattr(home.catalog, "read", lambda *args, **kwargs: real(*args, **kwargs).slice(1))
    with pytest.raises(NotConserved, match="2 rows in, 1 came back"):
        home.run(BATCH, manifests.table(manifests.good(1), manifests.good(2)))
    assert home.catalog.head(TABLE) is None


@pytest.mark.parametrize("moment", ["write_branch", "advance"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_is_mended_by_the_next_run(home, manifests, monkeypatch, moment, when) -> None:
    """Killed before or after each step that changes the table, the next run ends in the same state."""
    rows = manifests.table(manifests.good(1), manifests.good(2))
    real = getattr(home.catalog, moment)

    def killed(*args: object, **kwargs: object) -> None:
        if when == "after":
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(home.catalog, moment, killed)
    with pytest.raises(Killed):
        home.run(BATCH, rows)
    assert home.ledger.events == []
    monkeypatch.undo()
    fresh = Home(home.folder)
    assert fresh.run(BATCH, rows).accounted == {"added": 2, "replaced": 0, "already_curated": 0}
    assert len(fresh.clips()) == 2
    assert sorted(fresh.store.keys("validation/")) == [validation_key(BATCH, "report.html"), validation_key(BATCH, "result.json")]
    assert len(fresh.ledger.events) == 1


def test_main_that_moved_on_is_not_overwritten(home, manifests) -> None:
    """Another batch that becomes main during the audit stays there; the branch is rebuilt on it and audited again."""
    others = Home(home.folder)

    class Meddling(Counting):
        def validate(self, suite: str, rows: pa.Table, related: Mapping[str, pa.Table] | None = None) -> ValidationResult:
            if not self.seen:
                others.run(OTHER, manifests.table(manifests.good(2)))
            return super().validate(suite, rows, related)

    meddled = Meddling()
    assert home.run(BATCH, manifests.table(manifests.good(1), manifests.good(2)), validator=meddled).accounted == {
        "added": 1,
        "replaced": 0,
        "already_curated": 1,
    }
    assert len(meddled.seen) == 2
    assert len(home.clips()) == 2


def test_losing_every_time_ends(home, manifests, monkeypatch) -> None:
    """Bounded: a batch that loses again and again gives up with an error that a retry may mend."""
    monkeypatch.setattr(validate, "_ATTEMPTS", 3)
    monkeypatch.setattr(home.catalog, "advance", lambda *_: False)
    with pytest.raises(ConcurrentChange, match="main moved on 3 times"):
        home.run(BATCH, manifests.table(manifests.good(1)))
    assert len(home.validator.seen) == 3


def _validate_batches(folder: Path, tables: list[tuple[str, pa.Table]], audits: multiprocessing.Queue) -> None:
    home = Home(folder)
    for batch_id, rows in tables:
        home.run(batch_id, rows, turn=SqlTurn(f"sqlite:///{folder}/catalog.db", at="main"))
    audits.put(len(home.validator.seen))


def test_eight_processes_lose_no_row(tmp_path, manifests) -> None:
    """Eight processes with five batches each, one clip in all of them: every row is there once, each batch kept its result, and since
    they take turns at main few are audited again."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["curation.adapters.catalog_home", "curation.stages.validate"])  # imported once, not eight times
    audits = server.Queue()
    work = []
    for worker in range(8):
        tables = [manifests.table(manifests.good(100 + 5 * worker + batch), manifests.good(99)) for batch in range(5)]
        work.append([(f"w{worker}-{batch:016x}", rows) for batch, rows in enumerate(tables)])
    processes = [server.Process(target=_validate_batches, args=(tmp_path, tables, audits)) for tables in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [0] * 8 == [process.exitcode for process in processes]
    wanted = {clip_id for tables in work for _, rows in tables for clip_id in rows.column("clip_id").to_pylist()}
    home = Home(tmp_path)
    assert (41, sorted(wanted)) == (len(wanted), home.clips())
    assert 40 == len({key.split("/")[1] for key in home.store.keys("validation/")})
    assert 40 <= sum(audits.get(timeout=10) for _ in processes) < 80


def test_batches_take_turns_where_the_catalog_is_a_database(tmp_path) -> None:
    """The wired turn is a lock beside the home catalog's; a catalog behind HTTP has none."""
    settings = Settings.model_validate(embedded_defaults(tmp_path))
    with wiring.turn_at_main(settings)(), pytest.raises(OutsideError, match="cannot be had"):
        SqlTurn(settings.home_catalog.uri, at="main", wait_s=0.01)().__enter__()
    assert (tmp_path / "home" / "main-lock.db").exists()
    behind_http = settings.home_catalog.model_copy(update={"uri": "https://catalog"})
    assert nullcontext is wiring.turn_at_main(settings.model_copy(update={"home_catalog": behind_http}))


@pytest.mark.parametrize("turn", ["frozen", "none"])
def test_without_a_turn_main_is_still_right(tmp_path, manifests, turn) -> None:
    """A holder that hangs is waited for once and then passed by; without any turn, compare-and-set alone keeps what came between."""
    home, others = Home(tmp_path), Home(tmp_path)
    uri = f"sqlite:///{tmp_path}/catalog.db"
    frozen = SqlTurn(uri, at="main") if turn == "frozen" else nullcontext
    waits: list[float] = []

    def taken() -> AbstractContextManager[None]:
        waits.append(0.05)
        return SqlTurn(uri, at="main", wait_s=0.05)()

    class Meddling(Counting):
        def validate(self, suite: str, rows: pa.Table, related: Mapping[str, pa.Table] | None = None) -> ValidationResult:
            if len(self.seen) < 2:
                others.run(f"other-{len(self.seen):016x}", manifests.table(manifests.good(10 + len(self.seen))), turn=nullcontext)
            return super().validate(suite, rows, related)

    meddled = Meddling()
    with frozen():
        count = home.run(BATCH, manifests.table(manifests.good(1)), validator=meddled, turn=nullcontext if turn == "none" else taken)
    assert {"added": 1, "replaced": 0, "already_curated": 0} == count.accounted
    assert (3, [f"{number:064x}" for number in (1, 10, 11)]) == (len(meddled.seen), home.clips())
    assert len(waits) == (turn == "frozen")


def test_the_report_shows_what_failed(manifests) -> None:
    """One page: verdict, counts, failing checks; escaped, without any address of another place."""
    failure = CheckFailure(
        check="<b>",
        column=None,
        problem="errored",
        row_count=3,
        clip_ids=tuple(f"{n:064x}" for n in range(12)),
        note="n&n",
        note_zh="一,二:三 x, y",
    )
    result = ValidationResult(
        suite="clips",
        suite_digest="d" * 64,
        declared=2,
        executed=1,
        skipped=0,
        errored=1,
        rows_examined=3,
        rows_present=3,
        failures=(failure,),
    )
    page = validation_report.render(BATCH, result)
    assert page == validation_report.render(BATCH, result)
    assert [
        part
        for part in (
            "&lt;b&gt;",
            "n&amp;n",
            "Refused",
            "拒绝",
            "whole table",
            "整表",
            "and more",
            "1 of 2 checks",
            "一\uff0c二\uff1a三 x, y",
        )
        if part not in page
    ] == []
    assert [part for part in ("<b>", "http:", "https:", "src=", "<script", "@import", f"{11:064x}") if part in page] == []
    assert "prefers-color-scheme: dark" in page
