"""Great Expectations as the language of checks; the proof that every declared check ran is ours, for GX passes what it skips.

`expectations/<suite>.json` is data, rewritten from the Arrow schema by `python -m curation.adapters.validator_gx --write`.
GX sees the table as a DataFrame: columns of the schema (nested ones as JSON text), then the flat columns of `_flat_columns`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from curation import schema
from curation.errors import ValidationFailed
from curation.records import CheckFailure, ValidationResult

CLIP_IDS_KEPT: Final = 100  # per failed check; the count beside them is whole
ROW_COUNT_CHECK: Final = "table.row_count"
_HEX64: Final = r"^[0-9a-f]{64}$"
_MAX_COUNT: Final = 2**53  # beyond it a number in the DataFrame is no longer exact

_Check = dict[str, Any]


class GxValidator:
    """Runs the suites of a folder. Implements `ports.Validator`."""

    def __init__(self, expectations: Path) -> None:
        self._expectations = expectations

    def validate(self, suite: str, rows: pa.Table) -> ValidationResult:
        """The result of `<expectations>/<suite>.json` over `rows`: counts and clip ids, no value of any other column.

        Never passes for lack of checks: one that GX does not know, or that raises, is told as skipped or errored.

        Raises:
            ValidationFailed: the suite's file is missing, malformed or empty, or the table holds a column twice.
        """
        file = self._expectations / f"{suite}.json"
        declared, digest = _read_suite(file)
        twice = sorted({name for name in rows.column_names if rows.column_names.count(name) > 1})
        if twice:
            fix = "write the table with the columns of curation/schema.py"
            raise ValidationFailed(f"holds a column twice ({', '.join(twice)}): nothing was checked", subject=f"table {suite}", fix=fix)
        frame = _frame(rows)
        answers = _run(file, suite, declared, frame)
        names = set(frame.columns)
        told = (_failure(check, answers.get(_name(check)), rows.num_rows, names) for check in declared)
        failures = [failure for failure in told if failure is not None]
        counted = answers.get(ROW_COUNT_CHECK, {}).get("observed")
        return ValidationResult(
            suite=suite,
            suite_digest=digest,
            declared=len(declared),
            executed=sum(not answer["errored"] for answer in answers.values()),
            skipped=sum(_name(check) not in answers for check in declared),
            errored=sum(bool(answer["errored"]) for answer in answers.values()),
            rows_examined=counted if isinstance(counted, int) else 0,
            rows_present=rows.num_rows,
            failures=tuple(failures),
        )


def _name(check: _Check) -> str:
    return str(check["meta"]["check"])


def _read_suite(file: Path) -> tuple[list[_Check], str]:
    """The declared checks and SHA-256 of the file."""
    fix = "run `make expectations`"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValidationFailed("the suite's file is missing: nothing was checked", subject=str(file), fix=fix) from error
    try:
        checks: list[_Check] = json.loads(data)["expectations"]
        names = [_name(check) for check in checks]
        well_formed = all(isinstance(check["type"], str) and isinstance(check["kwargs"], dict) for check in checks)
    except (ValueError, KeyError, TypeError) as error:
        raise ValidationFailed("the suite's file is malformed: nothing was checked", subject=str(file), fix=fix) from error
    if not well_formed or len(set(names)) != len(names):
        raise ValidationFailed("the suite's file is malformed: a check has no type, or no name of its own", subject=str(file), fix=fix)
    if not checks:
        raise ValidationFailed("the suite declares no check: nothing was checked", subject=str(file), fix=fix)
    return checks, hashlib.sha256(data).hexdigest()


@contextmanager
def _gx_noise_off() -> Iterator[None]:
    """GX logs each refusal (told here by count), and it and the libraries it imports still use what Python and pandas deprecate."""
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _run(file: Path, suite: str, declared: Sequence[_Check], frame: Any) -> dict[str, dict[str, Any]]:
    """Check name -> what GX answered: success, errored, observed, count, ids."""
    with _gx_noise_off():
        import great_expectations as gx  # noqa: PLC0415 - 4 s and 270 MiB, only where a suite runs
        from great_expectations.data_context.types.base import (  # noqa: PLC0415
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )
        from great_expectations.exceptions import GreatExpectationsError  # noqa: PLC0415

        in_memory = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
        config = DataContextConfig(store_backend_defaults=in_memory, progress_bars=ProgressBarsConfig(globally=False))
        context = gx.get_context(mode="ephemeral", project_config=config)
        asset = context.data_sources.add_pandas("tables").add_dataframe_asset(suite)
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
        detail = {"result_format": "COMPLETE", "unexpected_index_column_names": ["clip_id"] if "clip_id" in frame.columns else []}
        try:
            checks = gx.ExpectationSuite(name=suite, expectations=[dict(check) for check in declared])
            results = batch.validate(checks, result_format=detail).results
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise ValidationFailed(
                f"Great Expectations could not run the suite ({type(error).__name__})", subject=str(file), fix="run `make expectations`"
            ) from error
    return {result.expectation_config.meta["check"]: _reduced(result) for result in results}


def _reduced(result: Any) -> dict[str, Any]:
    """What may be kept of a GX result: GX puts raw values of the failing rows into it."""
    info = result.exception_info or {}
    raised = [info.get("raised_exception")] if "raised_exception" in info else [part.get("raised_exception") for part in info.values()]
    found = result.result or {}
    ids = {str(row.get("clip_id")) for row in found.get("unexpected_index_list") or [] if isinstance(row, Mapping)}
    return {
        "success": bool(result.success),
        "errored": any(raised),
        "observed": found.get("observed_value"),
        "count": found.get("unexpected_count"),
        "ids": sorted(one for one in ids if re.match(_HEX64, one)),  # anything else in clip_id may be a value of another column
    }


def _failure(check: _Check, answer: Mapping[str, Any] | None, row_count: int, names: set[str]) -> CheckFailure | None:
    column = check["meta"].get("column", check["kwargs"].get("column"))
    if answer is None:
        return _told(check, column, "skipped", 0, note=f"was not run: Great Expectations knows no {check['type']}")
    if answer["errored"]:
        needed = check["kwargs"].get("column")
        missing = needed is not None and needed not in names
        note = f"column {column} is missing, or not of its type" if missing else "raised an exception instead of an answer"
        return _told(check, column, "errored", 0, note=note)
    if answer["success"]:
        return None
    if _name(check) == ROW_COUNT_CHECK and row_count == 0:
        return _told(check, None, "unexpected", 0, note="the table is empty: no row was examined")
    count = row_count if answer["count"] is None else int(answer["count"])
    return _told(check, column, "unexpected", count, ids=answer["ids"], note=str(check["meta"].get("notes", "")))


def _told(check: _Check, column: str | None, problem: str, count: int, *, note: str, ids: Sequence[str] = ()) -> CheckFailure:
    return CheckFailure(check=_name(check), column=column, problem=problem, row_count=count, clip_ids=tuple(ids[:CLIP_IDS_KEPT]), note=note)


# --- the table as GX sees it -------------------------------------------------------------------------------------------------------


def _frame(rows: pa.Table) -> Any:
    """A DataFrame of the table's columns, nested ones as JSON text, and the flat columns."""
    import pandas as pd  # noqa: PLC0415 - 0.7 s

    columns: dict[str, Any] = {}
    for field, values in zip(rows.schema, rows.columns, strict=True):
        nested = pa.types.is_nested(field.type)
        texts = [None if one is None else json.dumps(one, default=str) for one in values.to_pylist()] if nested else None
        columns[field.name] = pd.Series(texts, dtype=object) if nested else values.to_pandas()
    for name, flat in _flat_columns(rows).items():
        columns[name] = pd.Series(flat, dtype=object)
    return pd.DataFrame(columns)


def _flat_columns(rows: pa.Table) -> dict[str, list[Any]]:
    """Columns that say of nested or related columns what GX can check; one whose inputs are missing is left out, so its check errs.

    - `arrow_types`: every column with its Arrow type
    - `nonfinite`: float columns that hold NaN or infinity
    - `reasons_count`, `reasons_blank_count`: how many reasons, and how many of them say nothing
    - `unmeasured_unknown`, `unmeasured_unexplained`, `unmeasured_with_value`: names in `unmeasured` that are no column, that have no
      reason, that have a value all the same
    - `<signal>_state`: measured, unmeasured, both or neither
    - `fix_state`: complete (both coordinates and a datum), none, or partial
    - `track_wrong_count`: fixes of the track outside the globe or before the clip
    - `object_names_clip`: whether object_uri contains clip_id
    """
    kinds = {field.name: field.type for field in rows.schema}
    types = _types(rows.schema)
    flat: dict[str, list[Any]] = {"arrow_types": [types] * rows.num_rows}
    floats = {name: rows.column(name).to_pylist() for name, kind in kinds.items() if pa.types.is_floating(kind)}
    flat["nonfinite"] = [
        ", ".join(name for name, values in floats.items() if values[at] is not None and not math.isfinite(values[at]))
        for at in range(rows.num_rows)
    ]
    if _is(kinds, "reasons", pa.types.is_list):
        reasons = rows.column("reasons").to_pylist()
        flat["reasons_count"] = [None if one is None else len(one) for one in reasons]
        flat["reasons_blank_count"] = [sum(not reason for reason in one or ()) for one in reasons]
    if _is(kinds, "unmeasured", pa.types.is_map):
        flat.update(_unmeasured_columns(rows))
    if {"latitude_deg", "longitude_deg", "datum"} <= kinds.keys():
        fixes = zip(*(rows.column(name).to_pylist() for name in ("latitude_deg", "longitude_deg", "datum")), strict=True)
        flat["fix_state"] = [_fix_state(*fix) for fix in fixes]
    if _is(kinds, "track", pa.types.is_list):
        flat["track_wrong_count"] = [sum(not _on_globe(fix) for fix in track or ()) for track in rows.column("track").to_pylist()]
    if {"object_uri", "clip_id"} <= kinds.keys():
        pairs = zip(rows.column("object_uri").to_pylist(), rows.column("clip_id").to_pylist(), strict=True)
        flat["object_names_clip"] = ["yes" if uri and clip_id and str(clip_id) in str(uri) else "no" for uri, clip_id in pairs]
    return flat


def _types(table: pa.Schema) -> str:
    return "; ".join(f"{field.name} {field.type}" for field in table)


def _is(kinds: Mapping[str, pa.DataType], name: str, test: Any) -> bool:
    return name in kinds and bool(test(kinds[name]))


def _unmeasured_columns(rows: pa.Table) -> dict[str, list[str]]:
    named = [dict(one or ()) for one in rows.column("unmeasured").to_pylist()]
    others = [name for name in rows.column_names if name not in schema.SIGNALS and name != "unmeasured"]
    values = {name: rows.column(name).to_pylist() for name in {*others, *schema.SIGNALS} & set(rows.column_names)}

    def has_value(name: str, at: int) -> bool:
        value = values[name][at]
        return value is not None and value != "undefined" and not (isinstance(value, float) and math.isnan(value))

    flat: dict[str, list[str]] = {
        "unmeasured_unknown": [", ".join(sorted(str(key) for key in one if key not in rows.column_names)) for one in named],
        "unmeasured_unexplained": [", ".join(sorted(str(key) for key, reason in one.items() if not reason)) for one in named],
        "unmeasured_with_value": [
            ", ".join(name for name in others if name in one and has_value(name, at)) for at, one in enumerate(named)
        ],
    }
    states = {(True, False): "measured", (False, True): "unmeasured", (True, True): "both", (False, False): "neither"}
    for name in schema.SIGNALS:
        if name in values:
            flat[f"{name}_state"] = [states[has_value(name, at), name in one] for at, one in enumerate(named)]
    return flat


def _fix_state(latitude_deg: object, longitude_deg: object, datum: object) -> str:
    given = [part is not None and part == part for part in (latitude_deg, longitude_deg, datum)]  # noqa: PLR0124 - NaN
    return "complete" if all(given) else "partial" if any(given) else "none"


def _on_globe(fix: Mapping[str, float | None] | None) -> bool:
    if fix is None:
        return False
    latitude_deg, longitude_deg, offset_s = fix["latitude_deg"], fix["longitude_deg"], fix["offset_s"]
    if latitude_deg is None or longitude_deg is None or offset_s is None:
        return False
    return abs(latitude_deg) <= 90.0 and abs(longitude_deg) <= 180.0 and 0.0 <= offset_s < math.inf


# --- the suite, from the schema ----------------------------------------------------------------------------------------------------

_VOCABULARIES: Final[Mapping[str, Sequence[str]]] = {
    "verdict": schema.VERDICTS,
    "timeofday": schema.TIMEOFDAY,
    "weather": schema.WEATHER,
    "scene": schema.SCENE,
    "ego_motion": schema.EGO_MOTION,
    "datum": schema.DATUMS,
    "province": schema.PROVINCES,
    "inspect_depth": ("packets", "keyframes", "full"),
}
_PATTERNS: Final[Mapping[str, tuple[str, str]]] = {
    "clip_id": (_HEX64, "A clip is named by the SHA-256 of its bytes, so that the same bytes are the same clip."),
    "batch_id": (r"^.+-[0-9a-f]{16}$", "A batch is named by its source and its listing's digest, so that it can be traced."),
    "packet_digest": (_HEX64, "A digest that is not one finds no re-wrapped copy."),
    "settings_digest": (_HEX64, "The settings under which a clip was measured must be found again."),
}
_RANGES: Final[Mapping[str, tuple[float, float, str]]] = {
    "latitude_deg": (-90.0, 90.0, "Outside it lies no place on Earth."),
    "longitude_deg": (-180.0, 180.0, "Outside it lies no place on Earth."),
    "gnss_error_m": (0.0, 1e7, "An error is a distance, and the Earth is no larger."),
    "speed_mean_mps": (0.0, 150.0, "No road vehicle is faster than 540 km/h."),
    "speed_max_mps": (0.0, 150.0, "No road vehicle is faster than 540 km/h."),
    "sun_elevation_deg": (-90.0, 90.0, "Outside it stands nothing in the sky."),
    "width_px": (1, 65535, "A picture has at least one column, and no codec at hand has more."),
    "height_px": (1, 65535, "A picture has at least one row, and no codec at hand has more."),
    "fps": (0.0, 1000.0, "No dashcam takes more pictures a second."),
    "noise_sigma": (0.0, 255.0, "Luma has 8 bits."),
}
_MEASURED_IF_ACCEPTED: Final = (
    "container", "video_codec", "width_px", "height_px", "fps", "frame_count", "duration_s", "timeofday", "weather", "scene",
)  # fmt: skip


def _check(name: str, kind: str, notes: str, *, of: str | None = None, **kwargs: object) -> _Check:
    meta = {"check": name, "notes": notes} | ({"column": of} if of else {})
    return {"type": kind, "kwargs": kwargs, "meta": meta}


def _where(column: str, operator: str, value: str) -> dict[str, object]:
    return {"type": "comparison", "column": {"name": column}, "operator": operator, "parameter": value}


def clips_suite() -> dict[str, Any]:
    """The suite of the manifest table, generated from `schema.CLIPS` and a small hand-written part."""
    return {
        "name": "clips",
        "meta": {"schema_version": schema.SCHEMA_VERSION},
        "expectations": [*_table_checks(), *_column_checks(), *_row_rules()],
    }


def _table_checks() -> Iterator[_Check]:
    flat = list(_flat_columns(schema.CLIPS.empty_table()))
    yield _check(
        "table.columns", "expect_table_columns_to_match_ordered_list",
        "A column more, less or elsewhere has no meaning, unit or sensitivity that anyone agreed on.",
        column_list=[*schema.CLIPS.names, *flat],
    )  # fmt: skip
    yield _check(
        "table.types", "expect_column_values_to_be_in_set", "A column of another type no longer means what the schema says.",
        column="arrow_types", value_set=[_types(schema.CLIPS)],
    )  # fmt: skip
    yield _check(ROW_COUNT_CHECK, "expect_table_row_count_to_be_between", "An empty table passes every check about rows.", min_value=1)
    yield _check(
        "clip_id.unique", "expect_column_values_to_be_unique", "A clip that stands twice is counted, released and trained on twice.",
        column="clip_id",
    )  # fmt: skip


def _column_checks() -> Iterator[_Check]:
    for field in schema.CLIPS:
        name = field.name
        if not field.nullable:
            notes = f"Every clip has {name}: {field.metadata[b'doc'].decode()}."
            yield _check(f"{name}.not_null", "expect_column_values_to_not_be_null", notes, column=name)
            if pa.types.is_string(field.type):
                text = "Empty text is a missing value in disguise."
                yield _check(f"{name}.not_empty", "expect_column_value_lengths_to_be_between", text, column=name, min_value=1)
        if name in _PATTERNS:
            pattern, notes = _PATTERNS[name]
            yield _check(f"{name}.pattern", "expect_column_values_to_match_regex", notes, column=name, regex=pattern)
        if name in _VOCABULARIES:
            notes = "A word outside the closed vocabulary matches no rule, no request and no reader's filter."
            yield _check(f"{name}.vocabulary", "expect_column_values_to_be_in_set", notes, column=name, value_set=list(_VOCABULARIES[name]))
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            low, high, notes = _range(field)
            kind = "expect_column_values_to_be_between"
            yield _check(f"{name}.range", kind, notes, column=name, min_value=low, max_value=high)


def _range(field: pa.Field) -> tuple[float, float, str]:
    if field.name in _RANGES:
        return _RANGES[field.name]
    if field.metadata[b"unit"] == b"ratio":
        return 0.0, 1.0, "A ratio lies between 0 and 1."
    return 0, _MAX_COUNT, "It counts or measures something that cannot be less than nothing."


def _row_rules() -> Iterator[_Check]:
    in_set, null, not_null = "expect_column_values_to_be_in_set", "expect_column_values_to_be_null", "expect_column_values_to_not_be_null"
    between = "expect_column_values_to_be_between"
    quarantined, accepted, rejected = (_where("verdict", "==", verdict) for verdict in ("quarantined", "accepted", "rejected"))
    yield _check("quarantined.error", not_null, "A clip that could not be measured says why.", column="error", row_condition=quarantined)
    measured = _where("verdict", "!=", "quarantined")
    yield _check("measured.no_error", null, "An error beside a measured verdict contradicts it.", column="error", row_condition=measured)
    yield _check(
        "accepted.no_reasons", in_set, "A reason to reject contradicts the verdict.",
        of="reasons", column="reasons_count", value_set=[0], row_condition=accepted,
    )  # fmt: skip
    yield _check(
        "rejected.reasons", between, "A clip that falls short says in what.",
        of="reasons", column="reasons_count", min_value=1, max_value=1000, row_condition=rejected,
    )  # fmt: skip
    for name in _MEASURED_IF_ACCEPTED:
        notes = "An accepted clip was measured, so this is known."
        yield _check(f"accepted.{name}", not_null, notes, column=name, row_condition=accepted)
    for name in schema.SIGNALS:
        notes = "A signal is measured, or unmeasured with a reason: never both, never neither."
        yield _check(f"{name}.measured_or_not", in_set, notes, of=name, column=f"{name}_state", value_set=["measured", "unmeasured"])
    empty: tuple[tuple[str, str, str, str], ...] = (
        ("values.finite", "nonfinite", "", "NaN and infinity are no measurements, and GX takes NaN for a missing value."),
        ("unmeasured.known", "unmeasured_unknown", "unmeasured", "A name that is no column excuses nothing."),
        ("unmeasured.explained", "unmeasured_unexplained", "unmeasured", "Unmeasured without a reason is a gap nobody answers for."),
        ("unmeasured.no_value", "unmeasured_with_value", "unmeasured", "A value beside its excuse is made up, or the excuse is."),
    )
    for check, column, of, notes in empty:
        yield _check(check, in_set, notes, of=of or None, column=column, value_set=[""])
    yield _check("reasons.not_blank", in_set, "A blank reason says nothing.", of="reasons", column="reasons_blank_count", value_set=[0])
    yield _check(
        "fix.complete", in_set, "Half a fix, or one without a datum, can be placed in the wrong province.",
        of="latitude_deg", column="fix_state", value_set=["complete", "none"],
    )  # fmt: skip
    yield _check(
        "track.on_globe", in_set, "A fix off the globe or before the clip is no fix of this clip.",
        of="track", column="track_wrong_count", value_set=[0],
    )  # fmt: skip
    yield _check(
        "object_uri.names_clip", in_set, "The bytes under another clip's name would be curated in its place.",
        of="object_uri", column="object_names_clip", value_set=["yes"],
    )  # fmt: skip


SUITES: Final = {"clips": clips_suite}


def suite_bytes(name: str) -> bytes:
    """What `expectations/<name>.json` must hold."""
    return (json.dumps(SUITES[name](), indent=2, ensure_ascii=False) + "\n").encode()


def main(arguments: Sequence[str]) -> int:
    """Rewrite the suites with `--write`; without it, 1 if a file differs from what the schema gives."""
    parser = argparse.ArgumentParser(prog="python -m curation.adapters.validator_gx", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="rewrite expectations/*.json")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[2] / "expectations")
    asked = parser.parse_args(arguments)
    stale = [name for name in SUITES if not _holds(asked.folder / f"{name}.json", suite_bytes(name))]
    for name in stale:
        file = asked.folder / f"{name}.json"
        if asked.write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(suite_bytes(name))
        sys.stdout.write(f"{file.name}: {'rewritten' if asked.write else 'differs from the schema; run `make expectations`'}\n")
    return 0 if asked.write or not stale else 1


def _holds(file: Path, data: bytes) -> bool:
    return file.is_file() and file.read_bytes() == data


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
