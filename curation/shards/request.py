"""What an ML engineer asks for: a shard request, read from YAML or from a form, checked before any row is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError, ValidationInfo, field_validator, model_validator

from curation.digests import canonical_json, sha256_hex
from curation.errors import UsageError
from curation.schema import CLIPS, EGO_MOTION, SCENE, SIGNALS, TIMEOFDAY, WEATHER, sensitivity_of
from curation.shards.filter import MAX_FILTER_CHARS, check_filter, near_columns

MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_REQUEST_DEPTH: Final = 8
QUALITY_COLUMNS: Final[tuple[str, ...]] = (*SIGNALS, "fps", "duration_s", "width_px", "height_px")
TAGS: Final[Mapping[str, tuple[str, ...]]] = {"timeofday": TIMEOFDAY, "weather": WEATHER, "scene": SCENE, "ego_motion": EGO_MOTION}
_SLUG: Final = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_SPLIT: Final = re.compile(r"[a-z0-9]{1,24}")
# Of clips that are left out; all other names of these hold an underscore.
_TAKEN_NAMES: Final = frozenset({"considered", "withdrawn", "undecodable", "unmaskable"})
_RATIO_TOLERANCE: Final = 1e-9

PUBLIC_COLUMNS: Final[tuple[str, ...]] = tuple(sorted(field.name for field in CLIPS if sensitivity_of(field) == "public"))
TELLING_COLUMNS: Final[frozenset[str]] = frozenset(
    field.name for field in CLIPS if sensitivity_of(field) in {"place", "person", "vehicle", "device"}
)


def _split_name(split: str) -> str:
    if not _SPLIT.fullmatch(split):
        raise ValueError(f"{split!r} cannot name a split: up to 24 lower-case letters and digits can")
    if split in _TAKEN_NAMES:
        raise ValueError(f"{split!r} cannot name a split: in the counts it names clips that are left out")
    return split


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower(), list(known), n=2, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"use only {', '.join(known)}"


def _quality_column(column: str) -> str:
    if column not in QUALITY_COLUMNS:
        raise ValueError(f"there is no signal {column!r}; {_near(column, QUALITY_COLUMNS)}")
    return column


def _tag_value(tag: str, value: str) -> str:
    if value not in TAGS[tag]:
        raise ValueError(f"{tag} is never {value!r}; {_near(value, TAGS[tag])}")
    return value


def _known_column(column: str) -> str:
    if column not in CLIPS.names:
        raise ValueError(f"there is no column {column!r} ({near_columns(column)})")
    return column


Split = Annotated[str, AfterValidator(_split_name)]
Column = Annotated[str, AfterValidator(_known_column)]


class FrameRequest(BaseModel):
    """Which pictures of a clip become samples. A side that is not given follows the clip's own shape."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fps: float = Field(default=2.0, gt=0, le=240, allow_inf_nan=False, description="pictures per second of the clip, above 0 to 240")
    width_px: int | None = Field(default=None, ge=16, le=8192, description="whole pixels from 16 to 8192, or nothing")
    height_px: int | None = Field(default=None, ge=16, le=8192, description="whole pixels from 16 to 8192, or nothing")
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="a whole number from 1 to 100")


class QualityLimit(BaseModel):
    """Between what a signal must lie. A clip of which it could not be measured passes no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min: float | None = Field(default=None, allow_inf_nan=False, description="the least value that passes, in the signal's unit")
    max: float | None = Field(default=None, allow_inf_nan=False, description="the largest value that passes, in the signal's unit")

    @model_validator(mode="after")
    def _limits_something(self) -> QualityLimit:
        if self.min is None and self.max is None:
            raise ValueError("limits nothing: min, max or both are missing")
        if self.min is not None and self.max is not None and not self.min <= self.max:
            raise ValueError(f"nothing lies between min {self.min:g} and max {self.max:g}")
        return self


_Count = Annotated[int, Strict(), Field(ge=1)]
_Ratio = Annotated[float, Field(ge=1, allow_inf_nan=False)]
_TimeOfDay = Annotated[str, AfterValidator(partial(_tag_value, "timeofday")), Field(json_schema_extra={"enum": [*TIMEOFDAY]})]
_Weather = Annotated[str, AfterValidator(partial(_tag_value, "weather")), Field(json_schema_extra={"enum": [*WEATHER]})]
_Scene = Annotated[str, AfterValidator(partial(_tag_value, "scene")), Field(json_schema_extra={"enum": [*SCENE]})]
_EgoMotion = Annotated[str, AfterValidator(partial(_tag_value, "ego_motion")), Field(json_schema_extra={"enum": [*EGO_MOTION]})]


class Quotas(BaseModel):
    """Of which tag values at least how many clips are wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    timeofday: Mapping[_TimeOfDay, _Count] = Field(default_factory=dict, description="clips wanted at least, by time of day")
    weather: Mapping[_Weather, _Count] = Field(default_factory=dict, description="clips wanted at least, by weather")
    scene: Mapping[_Scene, _Count] = Field(default_factory=dict, description="clips wanted at least, by scene")
    ego_motion: Mapping[_EgoMotion, _Count] = Field(default_factory=dict, description="clips wanted at least, by ego motion")

    def wanted(self) -> tuple[tuple[str, str, int], ...]:
        """(tag, value, clips), in the order of tags and values."""
        return tuple((tag, value, count) for tag in sorted(TAGS) for value, count in sorted(getattr(self, tag).items()))


class Balance(BaseModel):
    """How many times the clips of its rarest value a tag's most frequent value may have."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    timeofday: _Ratio | None = Field(default=None, description="most over fewest clips of a time of day, 1 or more")
    weather: _Ratio | None = Field(default=None, description="most over fewest clips of a weather, 1 or more")
    scene: _Ratio | None = Field(default=None, description="most over fewest clips of a scene, 1 or more")
    ego_motion: _Ratio | None = Field(default=None, description="most over fewest clips of an ego motion, 1 or more")

    def ratios(self) -> tuple[tuple[str, float], ...]:
        """(tag, ratio) of the tags that are balanced, in their order."""
        return tuple((tag, getattr(self, tag)) for tag in sorted(TAGS) if getattr(self, tag) is not None)


GroupBy = Literal["drive", "vehicle_day", "vehicle", "time", "clip"]


class ShardRequest(BaseModel):
    """A checked request. Equal requests have equal digests; the order of splits and columns carries no meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(
        pattern=_SLUG, max_length=48, description="a slug of lower-case letters, digits and inner hyphens, at most 48, such as night-rain"
    )
    filter: str | None = Field(
        default=None,
        max_length=MAX_FILTER_CHARS,
        description="one true-or-false SQL expression over manifest columns, such as timeofday = 'night' AND sharpness > 40",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="a whole number from 0 to 2^63 - 1; another seed draws and splits anew")
    splits: Mapping[Split, Annotated[float, Strict(), Field(gt=0, le=1, allow_inf_nan=False)]] = Field(
        default_factory=lambda: {"train": 1.0},
        description="names with ratios above 0 that add up to 1, such as {train: 0.8, val: 0.1, test: 0.1}",
    )
    group_by: GroupBy = Field(
        default="drive",
        description="vehicle, time (blocks of days), vehicle_day, drive or clip; drives, vehicle-days and near-duplicates never straddle",
    )
    time_block_days: int = Field(default=1, ge=1, le=366, description="whole days of a block, from 1 to 366; only with group_by: time")
    near_duplicates: Literal["drop", "keep_together"] = Field(
        default="drop", description="drop (the best of those that pass stays) or keep_together (all stay, in one split)"
    )
    quality: Mapping[
        Annotated[str, AfterValidator(_quality_column), Field(json_schema_extra={"enum": [*QUALITY_COLUMNS]})], QualityLimit
    ] = Field(default_factory=dict, description="a mapping of signals to limits, such as {sharpness: {min: 40}, blockiness: {max: 3}}")
    quotas: Quotas = Field(
        default_factory=Quotas,
        description="the least clips wanted of tag values, such as {timeofday: {night: 500}, weather: {rainy: 200}}",
    )
    balance: Balance = Field(
        default_factory=Balance, description="a mapping of tags to the most that one value may outnumber another, such as {weather: 2}"
    )
    max_per_vehicle: int | None = Field(default=None, ge=1, description="a whole number of at least 1, or nothing for no cap")
    max_per_drive: int | None = Field(default=None, ge=1, description="a whole number of at least 1, or nothing for no cap")
    max_samples: int | None = Field(default=None, ge=1, description="a whole number of at least 1, or nothing for all")
    shard_size_bytes: int = Field(
        default=256 * 1024 * 1024, ge=10_240, le=2**40, description="a whole number of bytes from 10240 to 2^40, such as 268435456"
    )
    format: Literal["webdataset", "mds"] = Field(
        default="webdataset", description="webdataset (tars for the webdataset library) or mds (shards of MosaicML Streaming)"
    )
    form: Literal["clips", "frames"] = Field(default="clips", description="clips (whole clips) or frames (JPEG pictures of them)")
    frames: FrameRequest | None = Field(
        default=None,
        description="a mapping of fps, width_px, height_px and jpeg_quality, such as {fps: 2, width_px: 640}; only with form: frames",
    )
    columns: tuple[Column, ...] = Field(
        default=PUBLIC_COLUMNS,
        min_length=1,
        description="a list of manifest columns; without it the tags and the public signals; others enter only if named",
    )
    masked: bool = Field(
        default=False,
        description="true for faces and plates masked in every frame, without sound and metadata, or false for clips as they are",
    )

    @field_validator("filter")
    @classmethod
    def _safe_filter(cls, text: str | None) -> str | None:
        if text is not None:
            check_filter(text)
        return text

    @field_validator("splits")
    @classmethod
    def _whole_splits(cls, splits: Mapping[str, float]) -> Mapping[str, float]:
        total = sum(splits.values())
        if not abs(total - 1) <= _RATIO_TOLERANCE:
            raise ValueError(f"the ratios add up to {total:.6g}, not 1")
        return dict(sorted(splits.items()))

    @field_validator("quality", "quotas", "balance", mode="before")
    @classmethod
    def _nothing_asked(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("quality")
    @classmethod
    def _quality_in_order(cls, quality: Mapping[str, QualityLimit]) -> Mapping[str, QualityLimit]:
        return dict(sorted(quality.items()))

    @field_validator("time_block_days")
    @classmethod
    def _days_of_blocks(cls, days: int, info: ValidationInfo) -> int:
        if days != 1 and info.data.get("group_by") != "time":
            raise ValueError("is asked for, but group_by is not time")
        return days

    @field_validator("columns", mode="before")
    @classmethod
    def _default_columns(cls, columns: object) -> object:
        if columns is None:
            return PUBLIC_COLUMNS
        return tuple(columns) if isinstance(columns, list) else columns

    @field_validator("columns")
    @classmethod
    def _each_column_once(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(columns)) != len(columns):
            raise ValueError("a column is named twice")
        return tuple(sorted(columns))

    @model_validator(mode="before")
    @classmethod
    def _frames_where_asked(cls, value: Any) -> Any:
        """Frames are asked for with defaults where the form alone says so."""
        if isinstance(value, dict) and value.get("form") == "frames" and value.get("frames") is None:
            return {**value, "frames": {}}
        return value

    @field_validator("frames")
    @classmethod
    def _no_frames_of_whole_clips(cls, frames: FrameRequest | None, info: ValidationInfo) -> FrameRequest | None:
        if frames is not None and info.data.get("form") == "clips":
            raise ValueError("is asked for, but the form is clips")
        return frames

    def digest(self) -> str:
        """SHA-256 over the request, hex. Telling: it must not leave the ledger where the filter names a vehicle or place."""
        return sha256_hex(canonical_json(self.model_dump(mode="json")))

    def filter_columns(self) -> frozenset[str]:
        """The manifest columns that the filter looks at."""
        return check_filter(self.filter) if self.filter is not None else frozenset()


def parse(data: bytes, name: str) -> ShardRequest:
    """The request in YAML bytes; `name` is the file's, for messages.

    Raises:
        UsageError: the bytes are no request; names the line and what would be right.
    """
    with _yaml_errors(name):
        lines = _lines(data, name)
        value = yaml.safe_load(data)
    return _validated(value, name, lines)


def from_mapping(value: Mapping[str, Any], name: str = "request") -> ShardRequest:
    """The request in a plain mapping, such as a form's.

    Raises:
        UsageError: it is no request; names the field and what would be right.
    """
    return _validated(dict(value), name, {})


_EXAMPLE: Final = "write key: value lines, beginning with a name, as docs/shards.md shows"
_Path = tuple[str | int, ...]


def _validated(value: Any, name: str, lines: Mapping[_Path, int]) -> ShardRequest:
    if not isinstance(value, dict):
        raise UsageError("is not a mapping of keys to values", subject=_subject(name, lines, ()), fix=_EXAMPLE)
    try:
        return ShardRequest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    # Raised out here, without a cause: pydantic's error is opaque to the garbage collector and would keep the filter's database alive.
    loc = tuple(part for part in first["loc"] if part != "[key]")
    raise UsageError(_problem(first, loc), subject=_subject(name, lines, loc), fix=_right(loc))


def _problem(first: Mapping[str, Any], loc: _Path) -> str:
    where = ".".join(map(str, loc))
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "extra_forbidden":
        return f"there is no key {where}"
    return f"{where}: {str(first['msg']).removeprefix('Value error, ')}"


def _right(loc: _Path) -> str:
    """What would be right at `loc`, in the words of the innermost field that stands there."""
    model: type[BaseModel] | None = ShardRequest
    words, is_free = _near("", ShardRequest.model_fields), False
    for depth, part in enumerate(loc):
        if is_free or model is None:
            is_free = False
            continue
        field = model.model_fields.get(str(part))
        if field is None:
            return _near(str(part), model.model_fields)
        words = f"give {'.'.join(map(str, loc[: depth + 1]))} as {field.description}"
        model, is_free = _below(field.annotation)
    return words


def _below(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model of what stands below a field, and whether a key that the request chooses comes first; None where there is no model."""
    parts = get_args(annotation)
    found = [one for one in (annotation, *parts) if isinstance(one, type) and issubclass(one, BaseModel)]
    return (found[0], get_origin(annotation) is Mapping) if found else (None, False)


def _subject(name: str, lines: Mapping[_Path, int], loc: _Path) -> str:
    """`name` with the line of the innermost part of `loc` that stands in the file."""
    for depth in range(len(loc), -1, -1):
        if loc[:depth] in lines:
            return f"{name} line {lines[loc[:depth]]}"
    return name


@contextmanager
def _yaml_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-01, or bytes in no encoding
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) and error.problem else str(error).splitlines()[0]
        where = name if mark is None else f"{name} line {mark.line + 1}"
        raise UsageError(f"is not YAML: {problem}", subject=where, fix=_EXAMPLE) from error


def _lines(data: bytes, name: str) -> Mapping[_Path, int]:
    """Line, from 1, of every key and list item of a YAML document, by path.

    Raises:
        UsageError: too large, too deep, an alias, or a key twice.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise UsageError(f"has {len(data)} bytes", subject=name, fix=f"keep a request within {MAX_REQUEST_BYTES} bytes")
    _refuse_nesting(data, name)
    root = yaml.compose(data, Loader=yaml.SafeLoader)
    lines: dict[_Path, int] = {}
    pending: list[tuple[_Path, yaml.Node | None]] = [((), root)]
    while pending:
        path, node = pending.pop()
        if node is None:
            continue
        lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            pending.extend(((*path, index), child) for index, child in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                inner = (*path, str(key.value))
                if inner in lines:
                    raise UsageError(f"{key.value} stands twice", subject=f"{name} line {key.start_mark.line + 1}", fix="keep one of them")
                lines[inner] = key.start_mark.line + 1
                pending.append((inner, child))
    return lines


def _refuse_nesting(data: bytes, name: str) -> None:
    depth = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_REQUEST_DEPTH:
            what = "uses an alias" if isinstance(event, yaml.AliasEvent) else f"is nested deeper than {MAX_REQUEST_DEPTH}"
            where = f"{name} line {event.start_mark.line + 1}" if event.start_mark else name
            raise UsageError(what, subject=where, fix="write the values out, one level per key")
