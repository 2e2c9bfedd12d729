"""Whatever is wrong with the law, the tables, the ledger or the clock: zero fields leave, exit 1, and the reason is told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from curation.errors import CurationError, LedgerUnreachable, OutsideError, PackRefused
from curation.residency import pack as packs
from curation.residency import signing


class UnreachableLedger:
    """A ledger whose store is gone."""

    def __getattr__(self, name):
        def fail(*arguments, **named):
            raise OutsideError("connection refused", subject="ledger/", fix="try again")

        return fail


def text(old: str, new: str) -> Callable:
    """The world's law with other words in its pack, signed anew by those who are trusted, so that only the words are wrong."""

    def change(law):
        assert old in law.pack_bytes.decode()
        data = law.pack_bytes.decode().replace(old, new, 1).encode()
        try:
            pack = packs.parse(data)
        except PackRefused:
            return replace(law, pack_bytes=data)
        signatures, trusted = [], {}
        for role in signing.ROLES:
            private_pem, public_hex = signing.keygen()
            signatures.append(signing.sign(pack, role, private_pem, signed_at=datetime(2026, 11, 21, tzinfo=UTC)))
            trusted[role] = (public_hex,)
        return replace(law, pack_bytes=data, signatures_bytes=signing.signatures_bytes(signatures), trusted_keys=trusted)

    return change


def fewer_signatures(law):
    """The law with one signature less."""
    return replace(law, signatures_bytes=signing.signatures_bytes(signing.parse_signatures(law.signatures_bytes)[:2]))


LAWS = {
    "pack is empty": (lambda law: replace(law, pack_bytes=b""), "holds no pack"),
    "pack is no YAML": (lambda law: replace(law, pack_bytes=b"\xff"), "UTF-8"),
    "pack expired": (text("valid_to: 2027-12-31", "valid_to: 2026-11-20"), "expired: its last day was 2026-11-20"),
    "pack is not yet valid": (text("valid_from: ", "valid_from: 2026-12-01  # "), "is not valid before 2026-12-01"),
    "short of a signature": (fewer_signatures, "is not signed by role"),
    "no signature": (lambda law: replace(law, signatures_bytes=b"[]"), "is unsigned"),
    "broken signatures": (lambda law: replace(law, signatures_bytes=b"["), "JSON"),
    "a column is not accounted for": (text("sensitivities: [picture]", "columns: [motion_px]"), "packet_digest"),
    "a class is not accounted for": (text("sensitivities: [place]", "columns: [datum]"), "latitude_deg"),
    "an undeclared output": (text("name: scene\n", "name: city\n"), "city"),
    "a nested output": (text("inputs: [scene]", "inputs: [track]"), "track"),
    "a rule of unknown words": (text("inputs: [verdict]", "inputs: [verdickt]"), "verdickt"),
    "another schema version": (text('schema_version: "1"', 'schema_version: "7"'), "schema version '7'"),
    "no fences": (lambda law: replace(law, fences_bytes=None), "no fences file"),
    "broken fences": (lambda law: replace(law, fences_bytes=b"{}"), "FeatureCollection"),
    "a demo pack in earnest": (lambda law: replace(law, allow_demo_pack=False), "demo pack"),
}  # fmt: skip
TABLES = {
    "a column more": (lambda rows: rows.append_column("latitude_hint", pa.array([31.2] * rows.num_rows)), "latitude_hint"),
    "a column less": (lambda rows: rows.drop_columns(["vin"]), "vin"),
    "a column under another name": (
        lambda rows: rows.rename_columns(["scenery" if name == "scene" else name for name in rows.column_names]),
        "scenery",
    ),
    "a column of another type": (
        lambda rows: rows.set_column(rows.column_names.index("fps"), "fps", rows["fps"].cast(pa.float32())),
        "column fps is float, not double",
    ),
    "a nested column": (
        lambda rows: rows.set_column(rows.column_names.index("scene"), "scene", pa.array([{"a": "x"}] * rows.num_rows)),
        "column scene is struct",
    ),
}


def nothing_left(world):
    """No release, no row, no field of one is anywhere."""
    return list(world.store.keys("releases/")) == []


@pytest.mark.parametrize("name", LAWS)
def test_without_a_whole_law_nothing_leaves(name, world, rows):
    """The refusal exits 1, names the reason, and stands in the ledger, where zero rows are accounted as released."""
    change, reason = LAWS[name]
    with pytest.raises(PackRefused) as refusal:
        world.cut(rows, law=change(world.law))
    assert (1, True) == (refusal.value.exit_code, reason in str(refusal.value))
    assert nothing_left(world)
    [entry] = world.ledger.entries()
    assert ("release_refused", {"rows_in": rows.num_rows, "withheld": rows.num_rows}) == (entry.kind, dict(entry.counts))
    assert reason in entry.facts["reason"] or reason in str(refusal.value)


@pytest.mark.parametrize("name", TABLES)
def test_other_tables_than_the_schema_release_nothing(name, world, rows):
    """A name or an Arrow type that differs from the schema stops the whole release, exit 1, and is named."""
    change, reason = TABLES[name]
    with pytest.raises(CurationError) as refusal:
        world.cut(change(rows))
    assert (1, True) == (refusal.value.exit_code, reason in str(refusal.value))
    assert nothing_left(world)


def test_rule_that_fails_on_a_row_releases_nothing(world, rows):
    """A signed rule that compares a text with a number cannot be asked of every row, so it lets none out; no cell is quoted."""
    extra = '- id: row.extra\n    inputs: [vin]\n    require: "vin > 5"\n    article: x\n    source: PRODUCT\n    confidence: U\n'
    law = text("- id: row.vehicle_known", extra + "    reason: {en: x, zh: x}\n  - id: row.vehicle_known")(world.law)
    with pytest.raises(PackRefused, match="cannot be evaluated") as refusal:
        world.cut(rows, law=law)
    assert 1 == refusal.value.exit_code
    assert "LSVTEST" not in str(refusal.value)
    assert nothing_left(world)


def test_unreachable_ledger_releases_nothing(world, rows):
    """Without the ledger nobody can tell what left and what time it was: cut, approval and publication say no with exit 1."""
    blind = replace(world, ledger=UnreachableLedger())
    with pytest.raises(LedgerUnreachable, match="connection refused") as refusal:
        blind.cut(rows)
    assert 1 == refusal.value.exit_code
    assert nothing_left(world)
    release_id = world.cut(rows)
    for act in (lambda: blind.approve(release_id), lambda: blind.publish(release_id, rows)):
        with pytest.raises(CurationError, match="connection refused"):
            act()
    assert ["release"] == world.kinds()


def test_clock_behind_the_ledger_exits_one(world, rows):
    """A clock that was set back stops the cut with exit 1 and both times."""
    world.cut(rows)
    world.clock.instant = datetime(2026, 11, 20, tzinfo=UTC)
    with pytest.raises(CurationError, match="the ledger's last entry is of") as refusal:
        world.cut(rows, day=date(2026, 11, 20))
    assert 1 == refusal.value.exit_code
