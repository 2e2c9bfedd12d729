"""The Great Expectations suite over a manifest, beside the same checks in plain SQL, in Great Expectations alone and in Pandera."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from benchmarks import plain_gx, rows
from benchmarks.measure import PROJECT, RUNS, Cost, Figure, Work, cpu_s, figure, interleave, peak_mib, timed, within
from curation import schema
from curation.adapters.validator_gx import GxValidator
from curation.adapters.validator_suites import types_of
from curation.errors import NotConserved
from curation.privacy.census import COUNTS
from curation.tables import write_parquet

ROWS: Final = 1_000_000
PEAK_ROWS: Final = 10_000_000
PEAK_MIB: Final = 2048.0
_PART_ROWS: Final = 250_000
EXPECTATIONS: Final = PROJECT / "expectations"
_Check = Mapping[str, Any]
# What is done to the first rows, so that both sides have something to find.
_DAMAGE: Final[tuple[dict[str, Any], ...]] = (
    {"clip_id": "0" * 64, "province": "CN-TW"},
    {"clip_id": "0" * 64, "brightness": 2.0, "batch_id": "unnamed"},
    {"latitude_deg": 95.0, "datum": None},
    {"sharpness": float("nan"), "contrast": None},
    {"verdict": "quarantined", "error": None, "weather": "windy"},
    {"verdict": "accepted", "reasons": ["too_dark", ""], "error": "none"},
    {"verdict": "rejected", "reasons": [], "unmeasured": [("motion_px", "still"), ("nobody", "")]},
    {"verdict": "accepted", "reasons": [], "fps": None, "source_uri": "", "track": [{"offset_s": -1.0}]},
)


def figures(folder: Path, *, row_count: int = ROWS, peak_row_count: int = PEAK_ROWS, runs: int = RUNS) -> Iterator[Figure]:
    """CPU seconds over rows of which the first eight are damaged, and peak memory over more rows in a file.

    DuckDB finds the same failed checks and counts the same rows. Great Expectations alone and Pandera are given the checks of flat columns
    only, fewer than ours: what is nested or related would have to be worked out row by row for them. What they read is made beforehand.
    """
    clips, gx = _damaged(rows.clips(row_count)), GxValidator(EXPECTATIONS)
    checks = checks_of_rows()
    found_by_us = _same_failures(clips, checks, gx)  # and imports Great Expectations, whose 4 s are none of the suite's time
    frame = plain_gx.plain_frame(clips)
    flat = [check for check in checks if check["kwargs"].get("column") in frame.columns]
    sides = {
        "ours": timed(lambda: lambda: gx.validate("clips", clips)),
        "duckdb": timed(lambda: _query(clips, checks)),
        "gx": timed(lambda: lambda: plain_gx.validate(flat, frame, detail="BOOLEAN_ONLY")),
        **_pandera(flat, clips, found_by_us),
    }
    found = {name: cpu_s(costs) for name, costs in interleave(sides, runs=runs).items()}
    yield figure("validate.suite/duckdb_sql", found["ours"], found["duckdb"], unit="CPU s", better="less", goal=1 / 3)
    yield figure("validate.suite/gx_pandas", found["ours"], found["gx"], unit="CPU s", better="less", goal=1.0)
    if "pandera" in found:
        yield figure("validate.suite/pandera_polars", found["ours"], found["pandera"], unit="CPU s", better="less")
    file = folder / "clips.parquet"
    starts = range(0, peak_row_count, _PART_ROWS)
    write_parquet(file, (rows.clips(min(_PART_ROWS, peak_row_count - start), seed=start) for start in starts), schema.CLIPS)
    yield within("validate.peak/limit", [peak_mib("benchmarks.validate:validate_file", path=str(file))()], PEAK_MIB, unit="MiB")


def validate_file(path: str) -> None:
    """One run over a manifest file, for `benchmarks.peak`."""
    result = GxValidator(EXPECTATIONS).validate("clips", Path(path))
    if not result.passed:
        raise NotConserved("the invented rows do not pass the suite", subject="benchmark validate", fix="mend benchmarks/rows.py")


def checks_of_rows() -> list[_Check]:
    """The checks of the clips suite that need no other table."""
    every = json.loads((EXPECTATIONS / "clips.json").read_text(encoding="utf-8"))["expectations"]
    return [check for check in every if "needs" not in check["meta"]]


def _damaged(clips: pa.Table) -> pa.Table:
    first = [row | damage for row, damage in zip(clips.slice(0, len(_DAMAGE)).to_pylist(), _DAMAGE, strict=True)]
    return pa.concat_tables([pa.Table.from_pylist(first, schema=schema.CLIPS), clips.slice(len(_DAMAGE))])


def _same_failures(clips: pa.Table, checks: list[_Check], gx: GxValidator) -> dict[str, int]:
    """What both sides find, if they say the same: otherwise their costs cannot be compared."""
    ours = {failure.check: failure.row_count for failure in gx.validate("clips", clips).failures}
    other = {name: count for name, count in _query(clips, checks)().items() if count}
    if ours != other or not ours:
        differing = sorted(name for name in ours.keys() | other.keys() if ours.get(name) != other.get(name))
        fix = "bring the benchmark's conditions up to the suite"
        raise NotConserved(f"the plain SQL finds otherwise in {', '.join(differing)}", subject="benchmark validate", fix=fix)
    return ours


def _pandera(flat: list[_Check], clips: pa.Table, ours: Mapping[str, int]) -> Mapping[str, Callable[[], Cost]]:
    """Pandera's side, once it finds what we find; none where Pandera is not installed, which is said."""
    if importlib.util.find_spec("pandera") is None:
        print("validate: without Pandera; `make bench` installs the peers", file=sys.stderr)
        return {}
    from benchmarks import plain_pandera  # noqa: PLC0415 - a peer, not always there

    frame = plain_pandera.frame(clips)
    asked = plain_pandera.schema_of(flat, frame.columns)
    names, found = {check["meta"]["check"] for check in flat}, plain_pandera.failing(asked, frame)
    if found != {name: count for name, count in ours.items() if name in names}:
        raise NotConserved("Pandera finds otherwise", subject="benchmark validate", fix="bring plain_pandera.py up to the suite")
    return {"pandera": timed(lambda: lambda: plain_pandera.failing(asked, frame))}


def _query(clips: pa.Table, checks: list[_Check]) -> Work:
    sql = _sql(clips.schema, checks)

    def work() -> dict[str, int]:
        with duckdb.connect() as connection:
            connection.register("clips", clips)
            [counts] = connection.sql(sql).fetchall()
        return dict(zip((check["meta"]["check"] for check in checks), counts, strict=True))

    return work


def _sql(found: pa.Schema, checks: list[_Check]) -> str:
    """One row: per check, how many rows violate it."""
    good = dict(_good(found))
    counts = ", ".join(_counted(check, found, good) for check in checks)
    # Great Expectations takes NaN for a missing value; the suite has a check of its own for it.
    floats = [field.name for field in found if pa.types.is_floating(field.type)]
    known = ", ".join(f"nullif({name}, 'nan'::DOUBLE) AS {name}" for name in floats)
    finite = " AND ".join(f"coalesce(isfinite({name}), TRUE)" for name in floats)
    return f"""
        WITH known AS (SELECT * REPLACE ({known}), {finite} AS finite, map_keys(unmeasured) AS named FROM clips)
        SELECT {counts} FROM known
    """  # noqa: S608 - names of the schema and values of the suite


def _good(found: pa.Schema) -> Iterator[tuple[str, str]]:
    """Column that the suite checks beside those of the table -> when a row is good, said of the table's own columns."""
    yield "nonfinite", "finite"
    yield "reasons_blank_count", "NOT coalesce(list_contains(reasons, ''), FALSE)"
    names = ", ".join(f"'{name}'" for name in found.names)
    yield "unmeasured_unknown", f"len(list_filter(named, lambda one: one NOT IN ({names}))) = 0"
    yield "unmeasured_unexplained", "NOT list_contains(map_values(unmeasured), '')"
    others = [name for name in found.names if name not in schema.SIGNALS and name != "unmeasured"]
    yield "unmeasured_with_value", f"NOT ({' OR '.join(_has_value_and_excuse(found.field(name)) for name in others)})"
    for name in schema.SIGNALS:
        yield f"{name}_state", f"({name} IS NULL) = list_contains(named, '{name}')"
    for name in COUNTS:
        named = "coalesce(trim(detector_versions), '') <> ''"
        yield f"{name}_state", f"({name} IS NULL) = list_contains(named, '{name}') AND ({name} IS NULL OR {named})"
    yield "fix_state", "(latitude_deg IS NULL) = (longitude_deg IS NULL) AND (latitude_deg IS NULL) = (datum IS NULL)"
    on_globe = "abs(fix.latitude_deg) <= 90 AND abs(fix.longitude_deg) <= 180 AND fix.offset_s >= 0 AND fix.offset_s < 'inf'"
    yield "track_wrong_count", f"len(list_filter(coalesce(track, []), lambda fix: NOT coalesce({on_globe}, FALSE))) = 0"
    yield "object_names_clip", "contains(object_uri, clip_id)"


def _has_value_and_excuse(field: pa.Field) -> str:
    is_undefined = f" AND {field.name} <> 'undefined'" if pa.types.is_string(field.type) else ""
    return f"(list_contains(named, '{field.name}') AND {field.name} IS NOT NULL{is_undefined})"


def _counted(check: _Check, found: pa.Schema, good: Mapping[str, str]) -> str:
    """Rows that violate a check; for one about the table as a whole, 0 or 1."""
    kwargs = check["kwargs"]
    if check["type"] == "expect_table_row_count_to_be_between":
        return f"(count(*) < {kwargs['min_value']})::INT"
    if check["type"] == "expect_table_columns_to_match_ordered_list":
        return f"{int(kwargs['column_list'][: len(found)] != found.names)}"
    if check["type"] == "expect_column_values_to_be_unique":
        column = kwargs["column"]
        twice = f"SELECT count(*) AS n FROM clips GROUP BY {column} HAVING n > 1 AND {column} IS NOT NULL"  # noqa: S608
        return f"(SELECT coalesce(sum(n), 0) FROM ({twice}))"  # noqa: S608
    if kwargs["column"] == "arrow_types":
        return f"{int(kwargs['value_set'] != [types_of(found)])}"
    where = kwargs.get("row_condition")
    condition = f"NOT ({good[kwargs['column']]})" if kwargs["column"] in good else _violates(check["type"], kwargs)
    if where is not None:
        condition = f"{where['column']['name']} {where['operator']} '{where['parameter']}' AND {condition}"
    return f"count(*) FILTER (WHERE {condition})"


def _violates(kind: str, kwargs: Mapping[str, Any]) -> str:
    column, least, most = kwargs["column"], kwargs.get("min_value"), kwargs.get("max_value")
    column = "len(reasons)" if column == "reasons_count" else column
    words = ", ".join("'" + str(word).replace("'", "''") + "'" for word in kwargs.get("value_set", kwargs.get("words", ())))
    return {
        "expect_column_values_to_be_words_of": f"{column} NOT IN ({words})",
        "expect_column_values_to_be_in_set": f"{column} NOT IN ({words})",
        "expect_column_values_to_be_between": f"NOT {column} BETWEEN {least} AND {most}",
        "expect_column_value_lengths_to_be_between": f"length({column}) < {least}",
        "expect_column_values_to_match_regex": f"NOT regexp_matches({column}, '{kwargs.get('regex')}')",
        "expect_column_values_to_not_be_null": f"{column} IS NULL",
        "expect_column_values_to_be_null": f"{column} IS NOT NULL",
    }[kind]
