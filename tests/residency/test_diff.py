"""Before the law changes: which rules and columns change, and which rows would leave, stay, or have to come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from curation.cli_residency import app
from curation.errors import PackRefused, UsageError
from curation.residency import diff
from curation.residency import pack as packs
from curation.schema import CLIPS
from curation.tables import to_parquet

MakeRow = Callable[..., dict[str, Any]]
MakeTable = Callable[..., pa.Table]
runner = CliRunner()


@pytest.fixture
def changed(pack_bytes: Callable[[str], bytes]) -> Callable[..., packs.Pack]:
    """Maker of the demo pack with a text replaced."""

    def make(old: str = "", new: str = "") -> packs.Pack:
        text = pack_bytes("cn-demo").decode()
        assert old in text
        return packs.parse(text.replace(old, new, 1).encode())

    return make


def test_a_pack_does_not_differ_from_itself(demo_pack: packs.Pack) -> None:
    """Nothing changes, nothing is told."""
    assert () == diff.rules(demo_pack, demo_pack)
    assert () == diff.columns(demo_pack, demo_pack)


def test_each_changed_rule_is_named_with_both_values(demo_pack: packs.Pack, changed: Callable[..., packs.Pack]) -> None:
    """A changed number, a new head, a rule that came and one that went, each with its id."""
    [one] = diff.rules(demo_pack, changed("min_vehicles: 2", "min_vehicles: 3"))
    assert ("combination.k", "changed", {"min_vehicles": (2, 3)}) == (one.rule, one.change, dict(one.fields))
    [one] = diff.rules(demo_pack, changed("valid_to: 2027-12-31", "valid_to: 2027-06-30"))
    assert (diff.HEADER, {"valid_to": ("2027-12-31", "2027-06-30")}) == (one.rule, dict(one.fields))
    found = diff.rules(demo_pack, changed("counter.raw_hours_ever", "counter.hours"))
    assert [("counter.hours", "added"), ("counter.raw_hours_ever", "removed")] == [(one.rule, one.change) for one in found]


def test_a_column_that_is_treated_otherwise_is_named(demo_pack: packs.Pack, changed: Callable[..., packs.Pack]) -> None:
    """An output made of another column frees one and binds one."""
    found = diff.columns(demo_pack, changed("inputs: [brightness]", "inputs: [contrast]"))
    assert ["brightness", "contrast"] == [one.column for one in found]
    assert "leaves as brightness (ratio_band)" in found[0].old
    assert "never leaves; withheld as it is by withhold.public" == found[0].new


def test_rows_leave_stay_and_come_back(
    demo_pack: packs.Pack, changed: Callable[..., packs.Pack], fences: bytes, clip_row: MakeRow, clips: MakeTable
) -> None:
    """A stricter k calls a cell of two back; a laxer one lets a lone row leave; every row is accounted for."""
    pair = [clip_row(number, province="CN-JS") for number in (1, 2)]
    trio = [clip_row(number, province="CN-SH") for number in (3, 4, 5)]
    alone = clip_row(6, province="CN-ZJ")
    table = clips(*pair, *trio, alone)
    abroad = diff.abroad_under(demo_pack, table, fences=fences)
    assert 5 == len(abroad)
    strict = diff.rows(table, abroad, new=changed("min_vehicles: 2", "min_vehicles: 3"), fences=fences)
    assert (0, 3, 2, 1, {"combination.k": 2}) == (
        *(strict.newly_leave, strict.stay_abroad, strict.come_back, strict.stay_home),
        dict(strict.come_back_by),
    )
    lax = diff.rows(table, abroad, new=changed("min_vehicles: 2", "min_vehicles: 1"), fences=fences)
    assert (1, 5, 0, 0) == (lax.newly_leave, lax.stay_abroad, lax.come_back, lax.stay_home)


def test_rows_at_home_do_not_keep_rows_abroad(demo_pack: packs.Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """A row abroad that is alone has to come back, though one at home would make its cell large if it left as well."""
    table = clips(clip_row(1), clip_row(2))
    found = diff.rows(table, table["clip_id"].slice(0, 1).combine_chunks(), new=demo_pack, fences=fences)
    assert (0, 0, 1, 1) == (found.newly_leave, found.stay_abroad, found.come_back, found.stay_home)


def test_what_was_erased_at_home_has_to_come_back(demo_pack: packs.Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable) -> None:
    """No rule can be asked about a clip that is gone, so none can let its row stay."""
    table = clips(clip_row(1), clip_row(2))
    abroad = pa.array([*table["clip_id"].to_pylist(), "f" * 64])
    found = diff.rows(table, abroad, new=demo_pack, fences=fences)
    assert (2, 1, {diff.ERASED_AT_HOME: 1}) == (found.stay_abroad, found.come_back, dict(found.come_back_by))


def test_what_was_withdrawn_on_request_stays_under_any_pack(
    demo_pack: packs.Pack, fences: bytes, clip_row: MakeRow, clips: MakeTable
) -> None:
    """A barred clip is told to stay at home, and makes no cell large for others."""
    table = clips(clip_row(1), clip_row(2), clip_row(3))
    nothing, ids = pa.array([], pa.string()), table["clip_id"].combine_chunks()
    found = diff.rows(table, nothing, new=demo_pack, fences=fences, barred=ids.slice(0, 1))
    assert (2, 1) == (found.newly_leave, found.stay_home)
    found = diff.rows(table, nothing, new=demo_pack, fences=fences, barred=ids.slice(0, 2))
    assert (0, 3) == (found.newly_leave, found.stay_home)


@pytest.fixture
def desk(tmp_path: Path, pack_bytes: Callable[[str], bytes], fences: bytes, clip_row: MakeRow, clips: MakeTable) -> Path:
    """Two packs, fences and a manifest of two clips in one cell."""
    text = pack_bytes("cn-demo")
    (tmp_path / "old.yaml").write_bytes(text)
    (tmp_path / "new.yaml").write_bytes(text.replace(b"min_vehicles: 2", b"min_vehicles: 3"))
    (tmp_path / "list.yaml").write_bytes(pack_bytes("lingang-2024"))
    (tmp_path / "fences.geojson").write_bytes(fences)
    (tmp_path / "clips.parquet").write_bytes(to_parquet(clips(clip_row(1), clip_row(2)), CLIPS))
    return tmp_path


def _run(*words: object) -> str:
    result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


def test_the_command_tells_rules_and_rows(desk: Path) -> None:
    """Over a manifest the command tells what comes back and why, in words and as one JSON object."""
    words = ["diff", desk / "old.yaml", desk / "new.yaml", "--manifest", desk / "clips.parquet", "--fences", desk / "fences.geojson"]
    page = _run(*words)
    assert "changed combination.k\n  min_vehicles: 2 -> 3\n" in page
    assert "rows: 0 newly leave, 0 stay abroad, 2 have to come back, 0 stay home\n  come back for combination.k: 2" in page
    facts = json.loads(_run(*words, "--json"))
    assert ([2, 3], 2) == (facts["rules"][0]["fields"]["min_vehicles"], facts["rows"]["come_back"])
    assert json.loads(_run("diff", desk / "old.yaml", desk / "new.yaml", "--json"))["rows"] is None
    assert "the packs say the same" in _run("diff", desk / "old.yaml", desk / "old.yaml")
    assert "removed output.noise" in _run("diff", desk / "old.yaml", desk / "list.yaml")


def test_the_command_refuses_two_questions_lists_with_rows_and_a_missing_fence(desk: Path) -> None:
    """--manifest goes without --published, a list decides on no row, and without fences no row can be decided on."""
    manifest = ["--manifest", desk / "clips.parquet"]
    with pytest.raises(UsageError, match="two questions"):
        _run("diff", desk / "old.yaml", desk / "new.yaml", *manifest, "--published")
    with pytest.raises(UsageError, match="decides on no row"):
        _run("diff", desk / "old.yaml", desk / "list.yaml", *manifest, "--fences", desk / "fences.geojson")
    with pytest.raises(PackRefused, match="no fences file"):
        _run("diff", desk / "old.yaml", desk / "new.yaml", *manifest)
