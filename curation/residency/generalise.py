"""The named generalisations: what they may read, how they coarsen it, and the closed vocabulary that comes out.

Each is a DuckDB expression over its inputs that yields the place of a word in the vocabulary, counted from 0, or a plain number where there
is none: so no text of a clip can come out, and rows are decided on as small numbers. A null, or a value outside the vocabulary, becomes
null, which withholds the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from typing import Final

import pyarrow as pa

from curation.schema import PROVINCES, SCENE, TIMEOFDAY, WEATHER, Sensitivity

RESOLUTION_CLASSES: Final = ("below 480p", "480p", "720p", "1080p", "1440p", "2160p or more")
FPS_CLASSES: Final = ("below 20", "20 to below 28", "28 to below 45", "45 or more")
BANDS: Final = ("1 lowest", "2 low", "3 middle", "4 high", "5 highest")
VIDEO_CODECS: Final = ("av1", "h264", "hevc", "mjpeg", "mpeg2video", "mpeg4", "vp8", "vp9", "other")
MAX_DURATION_S: Final = 3600

# Inner edges of the five bands, ours. Sharpness: 100 is the customary limit below which the variance of the Laplacian means blur.
_SHARPNESS_EDGES: Final = (50, 100, 400, 1600)
_RATIO_EDGES: Final = (0.2, 0.4, 0.6, 0.8)
_NOISE_EDGES: Final = (1, 2, 4, 8)  # 8-bit luma steps, each band twice as wide as the one before

_TIME: Final = pa.timestamp("us", tz="UTC")
_LARGEST: Final = "1.7976931348623157e308::DOUBLE"  # DuckDB orders infinity and NaN above it
_HEIGHTS_PX: Final = (480, 720, 1080, 1440, 2160)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A column that a generalisation reads: its Arrow type and the one sensitivity it may have."""

    type: pa.DataType
    sensitivity: Sensitivity = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalisation:
    """A way to coarsen: `sql` yields the place in `vocabulary`, every text that can come out, or a number up to `largest` where it is None.

    In it `{0}`, `{1}` are the inputs in order; `{place}` is the place of the first one in the vocabulary, null where it is no word of it;
    and `{day}` is the first one's day in Asia/Shanghai, a place in `days()`, null outside them.
    """

    inputs: tuple[Input, ...]
    sql: str
    output: pa.DataType = field(default_factory=pa.string)
    vocabulary: tuple[str, ...] | None = None
    largest: int = 0
    says_en: str
    says_zh: str

    @property
    def reads_place(self) -> bool:
        """Whether the first input is looked up in the vocabulary before the SQL runs."""
        return "{place}" in self.sql

    @property
    def value_count(self) -> int:
        """How many values can come out."""
        return self.largest + 1 if self.vocabulary is None else len(self.vocabulary)


@cache
def days() -> pa.Array:
    """Every day that a clip may be of, as YYYY-MM-DD: what `{day}` counts."""
    return pa.array([(_FIRST_DAY + timedelta(days=day)).isoformat() for day in range(_DAYS)], pa.string())


def _closed(values: tuple[str, ...], says_en: str, says_zh: str, *, sensitivity: Sensitivity = "public") -> Generalisation:
    return Generalisation(
        inputs=(Input(type=pa.string(), sensitivity=sensitivity),),
        sql="{place}",
        vocabulary=values,
        says_en=says_en,
        says_zh=says_zh,
    )


def _steps(value: str, edges: tuple[float, ...], kind: str) -> str:
    return " + ".join(f"({value} >= {edge}::{kind})::SMALLINT" for edge in edges)


def _bands(edges: tuple[float, ...], unit_en: str, unit_zh: str) -> Generalisation:
    limits = ", ".join(f"{edge:g}" for edge in edges)
    return Generalisation(
        inputs=(Input(type=pa.float64()),),
        sql=f"CASE WHEN {{0}} BETWEEN 0 AND {_LARGEST} THEN {_steps('{0}', edges, 'DOUBLE')} END",
        vocabulary=BANDS,
        says_en=f"one of five bands with limits {limits} ({unit_en})",
        says_zh=f"五个等级之一,分界为 {limits}({unit_zh})",
    )


# From 1992 on China keeps UTC+8 without summer time, so Asia/Shanghai is a plain shift and no time zone table is asked.
_SHANGHAI: Final = "(epoch_us({0}) + 28800000000)"
_DATED: Final = "{0} >= TIMESTAMPTZ '1999-12-31 16:00:00+00' AND {0} < TIMESTAMPTZ '2099-12-31 16:00:00+00'"
_FIRST_DAY: Final = date(2000, 1, 1)
_DAYS: Final = (date(2100, 1, 1) - _FIRST_DAY).days
_EPOCH_DAYS: Final = (_FIRST_DAY - date(1970, 1, 1)).days
MONTHS: Final = tuple(f"{2000 + month // 12}-{month % 12 + 1:02d}" for month in range(1200))
CAPTURED_DAY_SQL: Final = f"CASE WHEN {_DATED} THEN strftime(make_timestamp({_SHANGHAI}), '%Y-%m-%d') END"
DAY_PLACE_SQL: Final = f"CASE WHEN {_DATED} THEN ({_SHANGHAI} // 86400000000)::INTEGER - {_EPOCH_DAYS} END"

GENERALISATIONS: Final[Mapping[str, Generalisation]] = {
    "month_in_shanghai": Generalisation(
        inputs=(Input(type=_TIME, sensitivity="person"),),
        sql=f"(year(make_date({{day}} + {_EPOCH_DAYS})) - 2000) * 12 + month(make_date({{day}} + {_EPOCH_DAYS})) - 1",
        vocabulary=MONTHS,
        says_en="year and month in Asia/Shanghai, nothing finer",
        says_zh="按北京时间的年和月,不含更细的时间",
    ),
    "province_code": _closed(PROVINCES, "code of one of 31 provinces", "31 个省级行政区代码之一", sensitivity="place"),
    "resolution_class": Generalisation(
        inputs=(Input(type=pa.int32()), Input(type=pa.int32())),
        sql=f"CASE WHEN {{0}} <= 0 OR {{1}} <= 0 OR {{0}} IS NULL OR {{1}} IS NULL THEN NULL "
        f"WHEN {{0}} < {{1}} THEN {_steps('{0}', _HEIGHTS_PX, 'INTEGER')} ELSE {_steps('{1}', _HEIGHTS_PX, 'INTEGER')} END",
        vocabulary=RESOLUTION_CLASSES,
        says_en="one of six classes by the shorter side",
        says_zh="按短边划分的六个等级之一",
    ),
    "fps_class": Generalisation(
        inputs=(Input(type=pa.float64()),),
        sql=f"CASE WHEN {{0}} > 0 AND {{0}} <= {_LARGEST} THEN {_steps('{0}', (20, 28, 45), 'DOUBLE')} END",
        vocabulary=FPS_CLASSES,
        says_en="one of four classes, limits 20, 28 and 45 frames per second",
        says_zh="四个等级之一,分界为每秒 20、28、45 帧",
    ),
    "whole_seconds": Generalisation(
        inputs=(Input(type=pa.float64()),),
        sql=f"CASE WHEN {{0}} >= {MAX_DURATION_S} AND {{0}} <= {_LARGEST} THEN {MAX_DURATION_S} "
        f"WHEN {{0}} BETWEEN 0 AND {MAX_DURATION_S} THEN round({{0}})::INTEGER END",
        output=pa.int64(),
        largest=MAX_DURATION_S,
        says_en=f"rounded to whole seconds, at most {MAX_DURATION_S}",
        says_zh=f"四舍五入到整秒,最多 {MAX_DURATION_S} 秒",
    ),
    "sharpness_band": _bands(_SHARPNESS_EDGES, "variance of the Laplacian", "拉普拉斯方差"),
    "ratio_band": _bands(_RATIO_EDGES, "share of full scale", "占满量程的比例"),
    "noise_band": _bands(_NOISE_EDGES, "8-bit luma steps", "8 位亮度级"),
    "video_codec": Generalisation(
        inputs=(Input(type=pa.string()),),
        sql=f"CASE WHEN {{place}} IS NOT NULL THEN {{place}} WHEN {{0}} <> '' THEN {VIDEO_CODECS.index('other')} END",
        vocabulary=VIDEO_CODECS,
        says_en="one of eight common codecs, else 'other'",
        says_zh="八种常见编码之一,否则为 other",
    ),
    "timeofday": _closed(TIMEOFDAY, "one of four BDD100K values", "BDD100K 的四个取值之一"),
    "weather": _closed(WEATHER, "one of seven BDD100K values", "BDD100K 的七个取值之一"),
    "scene": _closed(SCENE, "one of seven BDD100K values", "BDD100K 的七个取值之一"),
}
