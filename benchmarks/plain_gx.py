"""The suites as Great Expectations alone runs them: over a DataFrame of all rows, with what is nested or related worked out in Python.

Written without a look at `validator_counters`, so that the two can be held against each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd
import pyarrow as pa

from curation import schema
from curation.adapters.validator_counters import DRIFT_BATCHES_MIN, DRIFT_CLIPS_MIN, DRIFT_RATIO, DRIFT_SIGMAS
from curation.adapters.validator_gx import gx_noise_off
from curation.adapters.validator_suites import types_of
from curation.privacy.census import COUNTS

Check = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Great Expectations says of one check. count: None where it tells none."""

    success: bool
    errored: bool
    count: int | None
    clip_ids: tuple[str, ...]


def validate(
    checks: Sequence[Check], frame: pd.DataFrame, keys: Mapping[str, Sequence[str]] | None = None, *, detail: str = "COMPLETE"
) -> dict[str, Answer]:
    """Name of each check -> the answer. keys: name of a related table -> what tells its rows apart. detail: BOOLEAN_ONLY costs least."""
    with gx_noise_off():
        import great_expectations as gx  # noqa: PLC0415 - warns while it is imported
        from great_expectations.data_context.types.base import (  # noqa: PLC0415
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        from curation.adapters import validator_expectations  # noqa: F401, PLC0415 - makes ours known

        in_memory = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
        config = DataContextConfig(store_backend_defaults=in_memory, progress_bars=ProgressBarsConfig(globally=False))
        asset = gx.get_context(mode="ephemeral", project_config=config).data_sources.add_pandas("rows").add_dataframe_asset("rows")
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": frame})
        ids = ["clip_id"] if "clip_id" in frame.columns and detail == "COMPLETE" else []
        wanted = {"result_format": detail} | ({"unexpected_index_column_names": ids} if ids else {})
        asked = [{**check, "kwargs": _asked(check, list(frame.columns), keys or {})} for check in checks]
        results = batch.validate(gx.ExpectationSuite(name="plain", expectations=asked), result_format=wanted).results
    return {result.expectation_config.meta["check"]: _answer(result) for result in results}


def _asked(check: Check, columns: list[str], keys: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    kwargs = dict(check["kwargs"])
    if "column_list" in kwargs:  # the frame has columns of ours behind those of the table
        kwargs["column_list"] = [*kwargs["column_list"], *columns[len(kwargs["column_list"]) :]]
    return kwargs | ({"keys": list(keys[kwargs["other"]])} if kwargs.get("other") in keys else {})


def _answer(result: Any) -> Answer:
    info, found = result.exception_info or {}, result.result or {}
    parts = [info] if "raised_exception" in info else list(info.values())
    ids = {str(row["clip_id"]) for row in found.get("unexpected_index_list") or [] if isinstance(row, Mapping)}
    return Answer(
        success=bool(result.success),
        errored=any(part.get("raised_exception") for part in parts),
        count=found.get("unexpected_count"),
        clip_ids=tuple(sorted(ids)),
    )


def plain_frame(rows: pa.Table) -> pd.DataFrame:
    """The columns of the table that are not nested."""
    return rows.drop_columns([field.name for field in rows.schema if pa.types.is_nested(field.type)]).to_pandas()


def frame(rows: pa.Table, history: Sequence[Row] = ()) -> pd.DataFrame:
    """All columns of the table, nested ones as JSON, and what `validator_counters.derived` lists, worked out row by row."""
    plain = rows.to_pylist(maps_as_pydicts=None)
    columns: dict[str, Any] = {}
    for field, values in zip(rows.schema, rows.columns, strict=True):
        nested = pa.types.is_nested(field.type)
        texts = [None if one is None else json.dumps(one, default=str) for one in values.to_pylist()] if nested else None
        columns[field.name] = pd.Series(texts, dtype=object) if nested else values.to_pandas()
    kinds = types_of(rows.schema)
    steady = _drift(plain, history)
    worked_out = [{"arrow_types": kinds, **_worked_out(row, rows.schema.names), **drift} for row, drift in zip(plain, steady, strict=True)]
    for name in worked_out[0]:
        columns[name] = pd.Series([one[name] for one in worked_out], dtype=object)
    return pd.DataFrame(columns)


def _worked_out(row: Row, names: Sequence[str]) -> dict[str, Any]:
    floats = [value for value in row.values() if isinstance(value, float)]
    found: dict[str, Any] = {"nonfinite": "" if all(math.isfinite(one) for one in floats) else "some"}
    for name in ("reasons", "withheld_by"):
        if name in row:
            found[f"{name}_count"] = None if row[name] is None else len(row[name])
            found[f"{name}_blank_count"] = sum(not one for one in row[name] or ())
    if "unmeasured" in row:
        found |= _excuses(row, names)
    if "datum" in row:
        given = sum(_has(row[name]) for name in ("latitude_deg", "longitude_deg")) + (row["datum"] is not None)
        found["fix_state"] = {3: "complete", 0: "none"}.get(given, "partial")
        found["track_wrong_count"] = sum(not _on_globe(fix) for fix in row["track"] or ())
    if "object_uri" in row:
        found["object_names_clip"] = "yes" if row["object_uri"] and row["clip_id"] and row["clip_id"] in row["object_uri"] else "no"
    if "released" in row:
        is_right = row["withheld_by"] is not None and row["released"] == (not row["withheld_by"])
        found["released_state"] = ("released" if row["released"] else "withheld") if is_right else "contradicted"
        found["released_clip_id"] = row["clip_id"] if row["released"] else None
    if "shard" in row:
        found["shard_state"] = "of its split" if row["shard"][: -len("-000000.tar")] == row["split"] else "of another"
    return found


def _has(value: object) -> bool:
    return value is not None and value != "undefined" and not (isinstance(value, float) and math.isnan(value))


def _excuses(row: Row, names: Sequence[str]) -> dict[str, Any]:
    excuses = dict(row["unmeasured"] or ())
    others = [name for name in names if name not in schema.SIGNALS and name != "unmeasured"]
    found = {
        "unmeasured_unknown": "some" if set(excuses) - set(names) else "",
        "unmeasured_unexplained": "some" if any(not reason for reason in excuses.values()) else "",
        "unmeasured_with_value": "some" if any(name in excuses and _has(row[name]) for name in others) else "",
    }
    states = {(True, False): "measured", (False, True): "unmeasured", (True, True): "both", (False, False): "neither"}
    counts = {f"{name}_state": _count_state(row, name, name in excuses) for name in COUNTS}
    return found | counts | {f"{name}_state": states[_has(row[name]), name in excuses] for name in schema.SIGNALS}


def _count_state(row: Row, name: str, is_excused: bool) -> str:  # noqa: FBT001 - a row of the table above
    if row[name] is None:
        return "unmeasured" if is_excused else "neither"
    if is_excused:
        return "both"
    return "measured" if (row["detector_versions"] or "").strip() else "counted by none"


def _on_globe(fix: Mapping[str, float | None] | None) -> bool:
    if fix is None or any(part is None for part in fix.values()):
        return False
    parts = {name: float(part) for name, part in fix.items() if part is not None}
    return abs(parts["latitude_deg"]) <= 90 and abs(parts["longitude_deg"]) <= 180 and 0 <= parts["offset_s"] < math.inf


def _drift(rows: Sequence[Row], history: Sequence[Row]) -> list[dict[str, str | None]]:
    if not history:
        return [{} for _ in rows]
    told = {device: {name: _moved(rows, history, device, name) for name in schema.SIGNALS} for device in {row["device_id"] for row in rows}}
    return [{f"{name}_drift": told[row["device_id"]][name] for name in schema.SIGNALS} for row in rows]


def _moved(rows: Sequence[Row], history: Sequence[Row], device: str | None, name: str) -> str | None:
    def of_device(some: Sequence[Row]) -> list[Row]:
        return [row for row in some if row["device_id"] == device and row[name] is not None and not math.isnan(row[name])]

    batches: dict[str, list[float]] = {}
    for row in of_device(history):
        batches.setdefault(row["batch_id"], []).append(row[name])
    usual = [median(values) for values in batches.values() if len(values) >= DRIFT_CLIPS_MIN]
    now = [row[name] for row in of_device(rows)]
    if len(usual) < DRIFT_BATCHES_MIN or len(now) < DRIFT_CLIPS_MIN:
        return None
    centre = median(usual)
    spread = 1.4826 * median(abs(one - centre) for one in usual)
    return "moved" if abs(median(now) - centre) > max(DRIFT_SIGMAS * spread, DRIFT_RATIO * abs(centre)) else "steady"
