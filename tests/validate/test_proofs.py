"""The stages run their suites: a listing, a release or a shard set that fails one stops there, and leaves its report."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curation import layout, proofs, schema, wiring
from curation.adapters.store_local import DirectoryStore
from curation.errors import ValidationFailed
from curation.records import StageCount
from curation.settings import Settings, embedded_defaults
from curation.tables import to_parquet
from tests.validate.bad_rows import OTHERS

BATCH = "folder-0123456789abcdef"


class Notes:
    """A ledger of what it was told."""

    def __init__(self) -> None:
        self.told: list[SimpleNamespace] = []

    def record(self, count: StageCount, *, files: dict[str, str], facts: dict[str, str] | None = None) -> None:
        self.told.append(SimpleNamespace(kind=count.stage, subject=count.subject, counts=dict(count.accounted), files=files, facts=facts))

    def entries(self) -> list[SimpleNamespace]:
        return self.told


@pytest.fixture
def settings(tmp_path) -> Settings:
    """The embedded defaults."""
    return Settings.model_validate(embedded_defaults(tmp_path))


@pytest.fixture
def home(tmp_path) -> SimpleNamespace:
    """A store and a ledger."""
    return SimpleNamespace(store=DirectoryStore(tmp_path / "store", jurisdiction="CN"), ledger=Notes())


def good(table: str) -> pa.Table:
    """Rows that pass."""
    return pa.Table.from_pylist(OTHERS[table][0], schema=schema.TABLES[table])


def write_listing(home, listing: pa.Table, names: list[str]) -> None:
    """A batch's listing, and outcomes under these names."""
    pulled = [{"name": name, "outcome": "quarantined" if at else "stored", "clip_id": f"{at:064x}"} for at, name in enumerate(names)]
    home.store.create(layout.listing_key(BATCH), to_parquet(listing, schema.LISTING))
    home.store.create(layout.pulled_key(BATCH), to_parquet(pa.Table.from_pylist(pulled, schema=schema.PULLED), schema.PULLED))


def test_a_listing_is_proven(settings, home) -> None:
    """The result and its report are kept under the batch, and the ledger knows both."""
    write_listing(home, good("listing"), good("listing")["name"].to_pylist())
    proofs.of_listing(settings, home, BATCH)
    [entry] = home.ledger.told
    assert ("proof", BATCH, {"proven": 3}, "true") == (entry.kind, entry.subject, entry.counts, entry.facts["passed"])
    assert [layout.validation_key(BATCH, name) for name in ("listing-report.html", "listing-result.json")] == sorted(entry.files)
    assert sorted(entry.files) == list(home.store.keys("validation/"))


def test_an_entry_that_pull_lost_stops_the_batch(settings, home) -> None:
    """One listed entry without an outcome: refused by name, counted, and its report kept."""
    write_listing(home, good("listing"), good("listing")["name"].to_pylist()[1:])
    with pytest.raises(ValidationFailed, match=r"listing.conserved \(unexpected, 1 rows\)"):
        proofs.of_listing(settings, home, BATCH)
    assert [({"refused": 3}, "false")] == [(entry.counts, entry.facts["passed"]) for entry in home.ledger.told]


def release_tables() -> tuple[pa.Table, dict[str, pa.Table]]:
    """Rows of a snapshot, and a release of the first of them."""
    decisions = good("decisions")
    mapping = pa.table({"release_row_id": good("release")["release_row_id"][:1], "clip_id": decisions["clip_id"][:1]})
    return decisions.select(["clip_id"]), {"decisions": decisions, "release": good("release")[:1], "mapping": mapping}


def test_a_release_is_proven(settings, home) -> None:
    """Decisions and release are both proven; where nothing is released, the decisions alone."""
    rows, tables = release_tables()
    proofs.of_release(settings, home, rows, "2026-W47-0123456789ab", tables)
    assert [("decisions", "true"), ("release", "true")] == [(entry.facts["suite"], entry.facts["passed"]) for entry in home.ledger.told]
    withheld = [{"clip_id": clip_id, "released": False, "withheld_by": ["k"]} for clip_id in rows["clip_id"].to_pylist()]
    nothing = {name: table[:0] for name, table in tables.items()} | {"decisions": pa.Table.from_pylist(withheld, schema=schema.DECISIONS)}
    proofs.of_release(settings, home, rows, "2026-W48-0123456789ab", nothing)
    assert ["decisions"] == [entry.facts["suite"] for entry in home.ledger.told[2:]]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (
            lambda rows, tables: (pa.concat_tables([rows, pa.table({"clip_id": ["f" * 64]}, schema=rows.schema)]), tables),
            "decisions.conserved",
        ),
        (lambda rows, tables: (rows, tables | {"mapping": tables["mapping"][:0]}), "released.conserved"),
        (lambda rows, tables: (rows, tables | {"release": good("release")}), "release.conserved"),
        (
            lambda rows, tables: (rows, tables | {"release": tables["release"].set_column(2, "month", pa.array(["2026-11-21"]))}),
            "month.coarse",
        ),
    ],
    ids=["undecided row", "no mapping", "row more", "day"],
)
def test_a_release_that_breaks_its_contract_stops(settings, home, change, check) -> None:
    """A row that was not decided on, one without a mapping, one more than decided, or a time finer than a month: nothing is a release."""
    rows, tables = change(*release_tables())
    with pytest.raises(ValidationFailed, match=check.replace(".", r"\.")):
        proofs.of_release(settings, home, rows, "2026-W47-0123456789ab", tables)


def test_shards_are_proven(settings, home) -> None:
    """Accepted clips of the snapshot pass; one that was rejected there stops the set."""
    samples = good("shards")
    rows = pa.table({"clip_id": samples["clip_id"], "verdict": ["accepted", "accepted"]})
    proofs.of_shards(settings, home, rows, "night-0123456789abcdef", {"samples": samples, "selected": rows})
    rejected = rows.set_column(1, "verdict", pa.array(["accepted", "rejected"]))
    with pytest.raises(ValidationFailed, match=r"shards.accepted \(unexpected, 1 rows\)"):
        proofs.of_shards(settings, home, rejected, "day-0123456789abcdef", {"samples": samples, "selected": rows})
    assert ["true", "false"] == [entry.facts["passed"] for entry in home.ledger.told]


def history_entry(home, manifests, number: int) -> None:
    """A batch that passed, with its manifest."""
    batch_id = f"past-{number:016x}"
    rows = [manifests.good(10 * number + clip, {"batch_id": batch_id, "device_id": "cam-1"}) for clip in range(6)]
    home.store.create(layout.manifest_key(batch_id), to_parquet(manifests.table(*rows).cast(schema.CLIPS), schema.CLIPS))
    for kind, facts in (("manifest", {}), ("validate", {"passed": "true"})):
        home.ledger.record(StageCount(stage=kind, subject=batch_id, rows_in=6, accounted={"added": 6}), files={}, facts=facts)


def test_a_batch_is_held_against_those_before_it(settings, home, manifests) -> None:
    """The last batches that passed before its manifest was written, as many as the settings say, and none that came later."""
    short = settings.model_copy(update={"validation": settings.validation.model_copy(update={"history_batches": 5})})
    write_listing(home, good("listing"), ["a", "no video"])
    for number in range(1, 8):
        history_entry(home, manifests, number)
    home.ledger.record(StageCount(stage="manifest", subject=BATCH, rows_in=0, accounted={}), files={}, facts={})
    history_entry(home, manifests, 8)
    related = proofs.held_against(short, home, BATCH, layout.manifest_key(BATCH))
    assert [f"past-{number:016x}" for number in range(3, 8)] == pc.unique(related["history"]["batch_id"]).to_pylist()
    assert [f"{0:064x}", f"{1:064x}"] == related["stored"]["clip_id"].to_pylist()
    assert {"history"} == proofs.held_against(short, home, BATCH, layout.revision_key(BATCH, "f" * 64)).keys()


def test_drift_warns_or_fails_as_the_settings_say(settings, home, manifests) -> None:
    """A device of which every clip is suddenly bright is told, and stops the batch only where the settings want that."""
    for number in range(1, 7):
        history_entry(home, manifests, number)
    history = proofs.held_against(settings, home, BATCH, "manifests/batch=x/y/clips.parquet")
    rows = manifests.table(
        *(manifests.good(500 + clip, {"device_id": "cam-1", "brightness": 0.95}) for clip in range(6)), manifests.good(1)
    )
    warned = wiring.validator(settings).validate("clips", rows, history)
    assert (True, [("brightness.drift", 6)]) == (warned.passed, [(one.check, one.row_count) for one in warned.warnings])
    strict = settings.model_copy(update={"validation": settings.validation.model_copy(update={"drift": "fail"})})
    failed = wiring.validator(strict).validate("clips", rows, history)
    assert (False, ["brightness.drift"], ()) == (failed.passed, [one.check for one in failed.failures], failed.warnings)
