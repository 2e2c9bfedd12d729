"""The law of `residency.pack` as one plain DuckDB statement, written as anybody would who knows SQL: strings, CASE, lists of rule ids."""

from __future__ import annotations

from typing import Final

from benchmarks import rows
from curation.residency import pack as packs
from curation.residency.generalise import BANDS, CAPTURED_DAY_SQL, FPS_CLASSES, MAX_DURATION_S, RESOLUTION_CLASSES, VIDEO_CODECS
from curation.schema import PROVINCES, SCENE, TIMEOFDAY, WEATHER

BUFFER_M: Final = 1_000.0  # around the one fence; also the largest error of a fix that the pack then accepts
_RULES: Final = {
    "geofence.datum": "coalesce(datum <> 'WGS-84', TRUE)",
    "geofence.gnss_error": f"NOT coalesce(gnss_error_m BETWEEN 0 AND {BUFFER_M}, FALSE)",
    "geofence.inside": "coalesce(longitude_deg BETWEEN {0} AND {2} AND latitude_deg BETWEEN {1} AND {3}, FALSE)".format(*rows.FENCE_DEG),
    "geofence.missing_fix": "latitude_deg IS NULL OR longitude_deg IS NULL",
    packs.UNIQUE_CLIP: "count(*) OVER (PARTITION BY clip_id) > 1",
}


def _one_of(column: str, words: tuple[str, ...]) -> str:
    return f"CASE WHEN {column} IN {words} THEN {column} END"


def _stepped(value: str, edges: tuple[float, ...], words: tuple[str, ...], otherwise_null: str) -> str:
    steps = " ".join(f"WHEN {value} < {edge} THEN '{word}'" for edge, word in zip(edges, words[:-1], strict=True))
    return f"CASE WHEN {otherwise_null} THEN NULL {steps} ELSE '{words[-1]}' END"


def _banded(column: str, *edges: float) -> str:
    return _stepped(column, edges, BANDS, f"{column} IS NULL OR NOT isfinite({column}) OR {column} < 0")


_VALUES: Final = {
    "province": _one_of("province", PROVINCES),
    "month": CAPTURED_DAY_SQL.format("captured_at").replace("-%d", ""),
    "resolution_class": _stepped(
        "least(width_px, height_px)",
        (480, 720, 1080, 1440, 2160),
        RESOLUTION_CLASSES,
        "width_px IS NULL OR height_px IS NULL OR least(width_px, height_px) <= 0",
    ),
    "video_codec": f"CASE WHEN video_codec <> '' THEN coalesce({_one_of('video_codec', VIDEO_CODECS)}, 'other') END",
    "fps_class": _stepped("fps", (20, 28, 45), FPS_CLASSES, "fps IS NULL OR NOT isfinite(fps) OR fps <= 0"),
    "duration_s": f"CASE WHEN isfinite(duration_s) AND duration_s >= 0 THEN CAST(round(least(duration_s, {MAX_DURATION_S})) AS BIGINT) END",
    "sharpness": _banded("sharpness", 50, 100, 400, 1600),
    "brightness": _banded("brightness", 0.2, 0.4, 0.6, 0.8),
    "contrast": _banded("contrast", 0.2, 0.4, 0.6, 0.8),
    "noise": _banded("noise_sigma", 1, 2, 4, 8),
    "timeofday": _one_of("timeofday", TIMEOFDAY),
    "weather": _one_of("weather", WEATHER),
    "scene": _one_of("scene", SCENE),
}


def statement(law: packs.Pack) -> str:
    """Plain SQL of the law's rules over a relation `clips` without tracks; by clip_id."""
    rules = _RULES | {rule.id: f"NOT coalesce({rule.require}, FALSE)" for rule in law.row_rules}
    flags = ", ".join(f'{hit} AS "{rule_id}"' for rule_id, hit in rules.items())
    hits = {rule_id: f'"{rule_id}"' for rule_id in rules} | {rule.id: f"{rule.name} IS NULL" for rule in law.outputs}
    listed = ", ".join(f"CASE WHEN {hits[rule_id]} THEN '{rule_id}' END" for rule_id in sorted(hits))
    values = ", ".join(f"{value} AS {name}" for name, value in _VALUES.items())
    k, cell = law.combination, ", ".join(law.combination.quasi_identifiers)
    return f"""
        WITH flagged AS (
            SELECT clip_id, vehicle_id, {CAPTURED_DAY_SQL.format("captured_at")} AS captured_day, {flags}, {values} FROM clips
        ),
        judged AS (SELECT *, list_filter([{listed}], lambda rule: rule IS NOT NULL) AS alone FROM flagged),
        cells AS (
            SELECT {cell}, TRUE AS is_large FROM judged WHERE len(alone) = 0 GROUP BY {cell}
            HAVING count(DISTINCT vehicle_id) >= {k.min_vehicles} AND count(DISTINCT captured_day) >= {k.min_days}
        )
        SELECT judged.*, len(alone) = 0 AND coalesce(is_large, FALSE) AS released,
            CASE WHEN len(alone) = 0 AND is_large IS NULL THEN ['{k.id}'] ELSE alone END AS withheld_by
        FROM judged LEFT JOIN cells USING ({cell}) ORDER BY clip_id
    """  # noqa: S608
