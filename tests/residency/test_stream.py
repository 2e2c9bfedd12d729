"""Decisions over batches: the same bytes as over a table, released rows under random ids, and rows that spill where they may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import residency, rows
from curation.errors import CurationError, NotConserved, OutsideError, PackRefused
from curation.residency import evaluate, file_check, gate
from curation.residency.candidates import columns_read
from curation.residency.pack import OUTPUT_NAMES, Pack, VolumeCap
from curation.schema import CLIPS, DECISIONS, RELEASE
from curation.tables import ParquetRows, to_parquet, write_parquet

Row = dict[str, Any]
MakeRow = Callable[..., Row]


@pytest.fixture(scope="module")
def many() -> pa.Table:
    """Sixty thousand rows, most of them good; five stand twice."""
    table = rows.clips(60_000)
    return pa.concat_tables([table, table.slice(100, 5)])


@pytest.fixture(scope="module")
def law() -> Pack:
    """The benchmarks' law with a smaller k, which some cells of these rows reach."""
    pack = residency.pack()
    return pack.model_copy(update={"combination": pack.combination.model_copy(update={"min_vehicles": 4, "min_days": 3})})


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _stream(clips: pa.Table, pack: Pack, fences: bytes, **more: Any) -> Any:
    batches = clips.select(columns_read(pack, clips.schema)).to_batches(max_chunksize=7_000)
    return evaluate.stream(batches, clips.schema, pack=pack, fences=fences, draws_ids=True, **more)


def test_a_stream_decides_as_a_table_does(many: pa.Table, law: Pack) -> None:
    """Decisions are the same to the byte; the release holds the outputs of the same rows, in the order of ids that pass the gate."""
    whole = evaluate.decide(many, pack=law, fences=residency.fences())
    with _stream(many, law, residency.fences()) as decided:
        decisions, release = pa.concat_tables(decided.decisions()), pa.concat_tables(decided.release())
        assert 0 < whole.released_count < whole.row_count
        assert whole.rule_counts == decided.rule_counts
        assert (whole.row_count, whole.released_count) == (decided.row_count, decided.released_count)
    assert 10 == whole.rule_counts["row.unique_clip"]
    assert to_parquet(whole.decisions, DECISIONS) == to_parquet(decisions, DECISIONS)
    assert RELEASE == release.schema
    by_value = [(name, "ascending") for name in OUTPUT_NAMES]
    assert whole.outputs.select(OUTPUT_NAMES).sort_by(by_value).equals(release.select(OUTPUT_NAMES).sort_by(by_value))
    gate.check_table(release, many.slice(0, 2_000))


def test_rows_that_do_not_fit_spill_into_the_folder_given_and_nowhere_else(
    many: pa.Table, law: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory, rows stand in files of that folder while they are decided on; the answer is the same, and they are gone then."""
    spill, cwd = tmp_path / "spill", tmp_path / "cwd"
    for folder in (spill, cwd):
        folder.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(evaluate, "SPILL_FROM", "24MB")
    wanted = evaluate.decide(many, pack=law, fences=residency.fences()).decisions
    with _stream(many, law, residency.fences(), spill=spill) as decided:
        reading = decided.decisions()
        first = next(reading)
        assert _names(spill)
        assert wanted.equals(pa.concat_tables([first, *reading]))
    assert (set(), set()) == (_names(spill), _names(cwd))


def test_no_room_for_rows_that_spill_is_no_fault_of_the_pack(
    many: pa.Table, law: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows cannot spill the run ends, to be tried again: exit 3, and nothing was decided."""
    monkeypatch.setattr(evaluate, "SPILL_FROM", "24MB")
    (tmp_path / "spill").write_bytes(b"a file stands where a folder should")
    with (
        pytest.raises(OutsideError, match="room for rows that spill") as failure,
        _stream(many, law, residency.fences(), spill=tmp_path / "spill") as decided,
    ):
        list(decided.decisions())
    assert 3 == failure.value.exit_code


def test_what_ends_the_batches_ends_the_evaluation(
    demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: Callable[..., pa.Table]
) -> None:
    """A page that cannot be read on the way is told as such, and nothing is decided."""

    def broken() -> Iterator[pa.RecordBatch]:
        yield from clips(clip_row(1), clip_row(2)).select(columns_read(demo_pack, CLIPS)).to_batches()
        raise CurationError("is not readable Parquet: page 7", subject="table clips", fix="restore the file")

    with pytest.raises(CurationError, match="page 7"), evaluate.stream(broken(), CLIPS, pack=demo_pack, fences=fences):
        pass


def test_rows_that_get_lost_on_the_way_out_are_missed(
    demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: Callable[..., pa.Table]
) -> None:
    """A reading that ends early is no decision on all rows, and no release of all that were counted."""
    with _stream(clips(clip_row(1), clip_row(2)), demo_pack, fences) as decided:
        decided.connection.execute(
            "CREATE OR REPLACE TEMP VIEW coded AS SELECT * FROM decided JOIN spelt USING (released) LIMIT 0"
        ).fetchall()
        for reading in (decided.decisions, decided.release, decided.whole):
            with pytest.raises(NotConserved, match="0 were"):
                list(reading())


def _checked(folder: Path, clips: pa.Table, pack: Pack, fences: bytes) -> file_check.Checked:
    write_parquet(folder / "clips.parquet", [clips], CLIPS)
    files = {name: folder / f"{name}.parquet" for name in ("decisions", "release")}
    manifest = ParquetRows(folder / "clips.parquet", CLIPS)
    return file_check.check(manifest, pack=pack, fences=fences, past=None, as_of=date(2026, 11, 21), **files)


def test_a_file_is_decided_on_as_its_table_is(
    demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: Callable[..., pa.Table], tmp_path: Path
) -> None:
    """The decisions file is that of the table, the folder that rows may spill into is gone, and a volume cap holds as in a release."""
    table = clips(*(clip_row(number) for number in range(6)), clip_row(9, verdict="rejected"))
    found = _checked(tmp_path, table, demo_pack, fences)
    assert (
        to_parquet(evaluate.decide(table, pack=demo_pack, fences=fences).decisions, DECISIONS)
        == (tmp_path / "decisions.parquet").read_bytes()
    )
    assert (7, 6) == (found.row_count, found.released_count)
    assert {"clips.parquet", "decisions.parquet", "release.parquet"} == _names(tmp_path)
    said = demo_pack.row_rules[0].model_dump(include={"article", "source", "confidence", "reason"})
    capped = demo_pack.model_copy(update={"volume_caps": (VolumeCap(id="volume.two", max_rows=2, **said),)})
    found = _checked(tmp_path, table, capped, fences)
    assert (2, 4) == (found.released_count, found.rule_counts["volume.two"])
    assert 2 == pq.read_metadata(tmp_path / "release.parquet").num_rows


def test_ids_that_were_not_asked_for_cannot_be_read(
    demo_pack: Pack, fences: bytes, clip_row: MakeRow, clips: Callable[..., pa.Table]
) -> None:
    """A stream that draws no ids hands out no release."""
    batches = clips(clip_row(1), clip_row(2)).select(columns_read(demo_pack, CLIPS)).to_batches()
    with (
        evaluate.stream(batches, CLIPS, pack=demo_pack, fences=fences) as decided,
        pytest.raises(PackRefused, match="cannot be evaluated"),
    ):
        list(decided.release())
