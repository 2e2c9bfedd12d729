"""A number that is none, in a Parquet file whose statistics do not speak of it: decided on as it is decided on in memory."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import residency, rows
from curation.residency import evaluate, file_check
from curation.schema import CLIPS, DECISIONS
from curation.tables import ParquetRows, from_parquet, to_parquet

NUMBERS = ("sharpness", "fps", "latitude_deg", "gnss_error_m", "brightness")  # one of them NaN in each of the first rows
SMALL = {"min_vehicles": 2, "min_days": 2}


def file_with_nan(folder: Path) -> tuple[Path, pa.Table]:
    """A manifest of two thousand rows, five of them with a NaN behind statistics of what is none."""
    clips = rows.clips(2_000)
    first = [row | {"verdict": "accepted", "reasons": [], name: math.nan} for row, name in zip(clips.to_pylist(), NUMBERS, strict=False)]
    damaged = pa.concat_tables([pa.Table.from_pylist(first, schema=CLIPS), clips.slice(len(first))])
    file = folder / "clips.parquet"
    file.write_bytes(to_parquet(damaged, CLIPS))
    return file, damaged


def test_the_rules_see_nan_behind_statistics_that_do_not_speak_of_it(tmp_path) -> None:
    """DuckDB's own reader takes such a file for one without NaN; the rules read through Arrow and withhold what they do in memory."""
    file, clips = file_with_nan(tmp_path)
    statistics = pq.ParquetFile(file).metadata.row_group(0).column(CLIPS.get_field_index("sharpness")).statistics
    assert not math.isnan(statistics.max)
    count = duckdb.execute("SELECT count(*) FROM read_parquet(?) WHERE isnan(sharpness)", [str(file)]).fetchone()
    assert (0,) == count  # the trap; where this is 1, DuckDB has mended it, and the validator's setting may go
    pack = residency.pack()
    law = pack.model_copy(update={"combination": pack.combination.model_copy(update=SMALL)})
    decisions, release = tmp_path / "decisions.parquet", tmp_path / "release.parquet"
    file_check.check(
        ParquetRows(file, CLIPS),
        pack=law,
        fences=residency.fences(),
        past=None,
        as_of=date(2026, 11, 21),
        decisions=decisions,
        release=release,
    )
    found = from_parquet(decisions.read_bytes(), DECISIONS)
    assert evaluate.decide(clips, pack=law, fences=residency.fences()).decisions.equals(found)
    of_clip = dict(zip(found["clip_id"].to_pylist(), found["withheld_by"].to_pylist(), strict=True))
    reasons = [of_clip[clip_id] for clip_id in clips["clip_id"][: len(NUMBERS)].to_pylist()]
    assert [] == [name for name, rules in zip(NUMBERS, reasons, strict=True) if not rules]
    assert {"output.sharpness", "output.fps_class", "output.brightness"} <= {rule for rules in reasons for rule in rules}
