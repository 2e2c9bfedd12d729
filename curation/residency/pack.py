"""Residency packs: YAML bytes into frozen rules that account for every column, or a refusal that says why not."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Annotated, Any, Final, Literal, Self

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from curation.errors import PackRefused
from curation.residency.expression import compile_expression
from curation.residency.generalise import GENERALISATIONS, Generalisation
from curation.schema import CLIPS, RELEASE, Sensitivity, sensitivity_of

MAX_PACK_BYTES: Final = 1 << 20
ROW_ID: Final = "release_row_id"
OUTPUT_NAMES: Final = tuple(name for name in RELEASE.names if name != ROW_ID)
# What the mapping and the count of k rest on; every pack states these row rules, word for word, so that a reader finds them there.
REQUIRED_ROW_RULES: Final = {
    "row.accepted": "verdict = 'accepted'",
    "row.vehicle_known": "vehicle_id <> ''",
    "row.captured_at_known": "captured_at is not null",
}
# Rules of the evaluator itself, which no pack can switch off or take the id of.
UNIQUE_CLIP: Final = "row.unique_clip"
PACK_REFUSED: Final = "pack.refused"
GEOFENCE_REASONS: Final = ("missing_fix", "datum", "gnss_error", "gap", "inside")

_CLIPS_ALONE: Final[Mapping[str, pa.Schema]] = {"clips": CLIPS}

Confidence = Literal["R", "R2", "M", "U"]
Counted = Literal["people", "sensitive_people", "vehicles", "raw_hours", "images", "prefecture_flow_days"]
Period = Literal["calendar_year", "lifetime"]
_Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")]
_Text = Annotated[str, Field(min_length=1, max_length=2_000)]
_Day = Annotated[date, Field(strict=True)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wording(_Frozen):
    """The same sentence for an English and a Chinese reader."""

    en: _Text
    zh: _Text


class LegalSource(_Frozen):
    """An instrument that rules rest on. `source_sha256` is null where its text was not fetched."""

    id: _Text
    title: Wording
    address: _Text
    confidence: Confidence
    source_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None


class Rule(_Frozen):
    """What every rule carries: an id, the article it rests on, the source of that, and how surely it was read."""

    id: _Id
    article: Wording | _Text
    source: _Text
    confidence: Confidence
    reason: Wording


class OutputRule(Rule):
    """One column that leaves: a named generalisation over declared inputs."""

    name: _Text
    generalisation: _Text
    inputs: tuple[str, ...] = Field(min_length=1)


class WithholdRule(Rule):
    """Columns that never leave as they are, by name or by sensitivity class."""

    id: Annotated[str, Field(pattern=r"^withhold\.[a-z0-9_]{1,80}$")]
    columns: tuple[str, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()


class RowRule(Rule):
    """A row leaves only if `require`, a boolean expression over `inputs`, is true; false, null and unknown withhold it."""

    id: Annotated[str, Field(pattern=r"^row\.[a-z0-9_]{1,80}$")]
    inputs: tuple[str, ...] = Field(min_length=1)
    require: _Text


class CombinationRule(Rule):
    """A row leaves only if its cell of the quasi-identifiers holds enough vehicles and days, with what is still published."""

    id: Annotated[str, Field(pattern=r"^combination\.[a-z0-9_]{1,80}$")]
    min_vehicles: StrictInt = Field(ge=1)
    min_days: StrictInt = Field(ge=1)
    quasi_identifiers: tuple[str, ...] = Field(min_length=1)


class GeofenceRule(Rule):
    """A row leaves only if its fix and track stay clear of every fence; buffers in metres by fence class.

    `track_covers` says how much of a clip its track, where it has one, must cover. Packs from before it was asked for say nothing, and can
    only be replayed.
    """

    id: Literal["geofence"]
    default_buffer_m: dict[str, Annotated[float, Field(ge=100, le=100_000, allow_inf_nan=False)]]
    other_buffer_m: Annotated[float, Field(ge=100, le=100_000, allow_inf_nan=False)]
    max_gnss_error: Literal["smallest buffer"]
    track_covers: Literal["whole clip"] | None = None


class VolumeCap(Rule):
    """At most `max_rows` rows of one release leave for each joint value of the outputs `per`; with none named, in all."""

    id: Annotated[str, Field(pattern=r"^volume\.[a-z0-9_]{1,80}$")]
    max_rows: StrictInt = Field(ge=1)
    per: tuple[str, ...] = ()


class CounterRule(Rule):
    """What all releases together may speak of before the law asks for more; counted once each, by calendar year or for ever."""

    id: Annotated[str, Field(pattern=r"^counter\.[a-z0-9_]{1,80}$")]
    counts: Counted
    period: Period
    limit: StrictInt = Field(ge=1)
    at_limit: Wording


class Assessment(_Frozen):
    """What raises a counter's limit until a day: the filing's number, and legal's signature over counter, number, limit and day."""

    counter: _Text
    number: _Text
    new_limit: StrictInt = Field(ge=1)
    expires: _Day
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class ConditionRule(Rule):
    """What a list asks of the exporter: a fact of that name, with one of these values; a fact that is not stated fails."""

    id: Annotated[str, Field(pattern=r"^condition\.[a-z0-9_]{1,80}$")]
    fact: _Text
    one_of: tuple[StrictBool | str, ...] = Field(min_length=1)


class ListedField(Rule):
    """A column that a list names; `generalisation` says how coarsely, None as it is, which only `public` columns may be."""

    id: Annotated[str, Field(pattern=r"^listed\.[a-z0-9_]{1,80}$")]
    name: _Text
    generalisation: str | None


class PackHeader(_Frozen):
    """What every pack says of itself: who wrote it for which schema, under which law, for whom, and from when until when."""

    id: _Id
    version: Annotated[str, Field(min_length=1, max_length=40)]
    title: Wording
    schema_version: str
    demo: StrictBool
    jurisdiction: Annotated[str, Field(min_length=2, max_length=20)]
    legal_entity: _Text
    valid_from: _Day
    valid_to: _Day
    sources: tuple[LegalSource, ...] = Field(min_length=1)
    withhold: tuple[WithholdRule, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order of the kinds."""
        return self.withhold

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.valid_to < self.valid_from:
            raise ValueError("valid_to lies before valid_from")
        _no_doubles("rule id", [rule.id for rule in self.rules])
        _no_doubles("source id", [source.id for source in self.sources])
        known = {source.id for source in self.sources}
        for rule in self.rules:
            if rule.source not in known:
                raise ValueError(f"rule {rule.id} rests on source {rule.source!r}, which the pack does not list")
            if rule.id in {UNIQUE_CLIP, PACK_REFUSED}:
                raise ValueError(f"rule id {rule.id} belongs to the evaluator")
        return self


class Pack(PackHeader):
    """A dated, versioned set of residency rules, written for one schema version, that accounts for every column."""

    outputs: tuple[OutputRule, ...]
    row_rules: tuple[RowRule, ...]
    combination: CombinationRule
    geofence: GeofenceRule
    volume_caps: tuple[VolumeCap, ...] = ()
    counters: tuple[CounterRule, ...] = ()
    assessments: tuple[Assessment, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order of the kinds."""
        alone = (*self.outputs, *self.withhold, *self.row_rules)
        return (*alone, self.combination, self.geofence, *self.volume_caps, *self.counters)

    def quasi_identifiers(self) -> tuple[str, ...]:
        """Output columns whose joint cells must be large enough."""
        return self.combination.quasi_identifiers

    @model_validator(mode="after")
    def _kinds_hold_together(self) -> Self:
        _no_doubles("quasi-identifier", self.combination.quasi_identifiers)
        _check_assessments(self.counters, self.assessments)
        return self


class ListPack(PackHeader):
    """A general-data list of a trade: which of a table's fields a zone lets its exporters send, under which conditions. It answers; rows
    leave only under a `Pack`. `exporter` holds the facts that the three signatures vouch for.
    """

    kind: Literal["general-data-list"]
    table: _Text
    exporter: dict[str, StrictBool | str]
    conditions: tuple[ConditionRule, ...] = Field(min_length=1)
    fields: tuple[ListedField, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order of the kinds."""
        return (*self.conditions, *self.fields, *self.withhold)


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases, merge keys or duplicate keys: what a reader sees is what is loaded."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias is not allowed", None)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "(not a word)"
            if name in seen or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice or is no plain word", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def parse(data: bytes) -> Pack:
    """The rules that YAML bytes describe, every column of the clips table accounted for.

    Raises:
        PackRefused: as `read`, or it is a general-data list.
    """
    pack = read(data)
    if isinstance(pack, ListPack):
        raise PackRefused(
            "is a general-data list, which lets nothing out by itself",
            subject=f"pack {pack.id} {pack.version}",
            fix="cut releases under a pack of rules; ask the list with `curation residency check`",
        )
    return pack


def read(data: bytes, tables: Mapping[str, pa.Schema] = _CLIPS_ALONE) -> Pack | ListPack:
    """The rules or the general-data list that YAML bytes describe, every column of its table accounted for.

    Args:
        data: the file.
        tables: schema by name of the tables that a list may be of.

    Raises:
        PackRefused: not UTF-8 YAML, larger than 1 MiB, an alias or duplicate or unknown key, a value out of shape, a column that
            is not accounted for, outputs other than those of a release, or an expression that does more than compare.
    """
    return _read_before(data) if tables is _CLIPS_ALONE else _read(data, tables)


@functools.lru_cache(maxsize=8)  # a release, its publication and the review of both ask for the same pack again and again, and it is frozen
def _read_before(data: bytes) -> Pack | ListPack:
    return _read(data, _CLIPS_ALONE)


def _read(data: bytes, tables: Mapping[str, pa.Schema]) -> Pack | ListPack:
    raw = _yaml(data)
    if not isinstance(raw, dict):
        raise _refused("holds no pack: no mapping of keys to values", "pack")
    is_list = "kind" in raw
    try:
        pack = ListPack.model_validate(raw) if is_list else Pack.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise _refused(f"{where}: {first['msg']}", _subject(raw)) from error
    if isinstance(pack, ListPack):
        _lint_list(pack, tables)
    else:
        lint(pack)
    return pack


def _yaml(data: bytes) -> Any:
    if len(data) > MAX_PACK_BYTES:
        raise _refused(f"has {len(data)} bytes, more than {MAX_PACK_BYTES}", "pack")
    try:
        return yaml.load(data.decode("utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except UnicodeDecodeError as error:
        raise _refused(f"is not UTF-8: {error.reason}", "pack") from error
    except (yaml.YAMLError, ValueError) as error:
        raise _refused(f"is not YAML: {' '.join(str(error).split())}", "pack") from error
    except RecursionError as error:
        raise _refused("is nested too deeply", "pack") from error


def _lint_list(pack: ListPack, tables: Mapping[str, pa.Schema]) -> None:
    subject = f"pack {pack.id} {pack.version}"
    columns = tables.get(pack.table)
    if columns is None:
        raise _refused(f"there is no table {pack.table!r}", subject)
    _no_doubles_of(subject, [rule.name for rule in pack.fields])
    for rule in pack.fields:
        field = _known(columns, rule.name, rule.id, subject)
        if rule.generalisation is None:
            if sensitivity_of(field) != "public" or pa.types.is_nested(field.type):
                raise _refused(f"{rule.id}: {rule.name} is {sensitivity_of(field)} {field.type} and may not leave as it is", subject)
            continue
        _check_generalisation(rule.id, rule.generalisation, [field], subject)
    _account(pack.withhold, {rule.name for rule in pack.fields}, columns, subject)


def schema_version_of(table: pa.Schema) -> str:
    """The version that a table's schema, or a file that was written under it, says of itself; "" where it says none."""
    return bytes((table.metadata or {}).get(b"curation.schema_version", b"")).decode("utf-8", "replace")


def lint(pack: Pack, clips: pa.Schema = CLIPS) -> None:
    """Nothing, if the pack fits the schema of the clips table; another schema version is left to `signing.may_allow`.

    Raises:
        PackRefused: a column is unaccounted for or unknown, outputs are not exactly those of a release, a generalisation does not
            fit its inputs, an expression is out of bounds, or the quasi-identifiers are no outputs.
    """
    subject = f"pack {pack.id} {pack.version}"
    if pack.schema_version != schema_version_of(clips):
        return
    _check_outputs(pack, clips, subject)
    _check_row_rules(pack, clips, subject)
    _account(pack.withhold, {name for rule in pack.outputs for name in rule.inputs}, clips, subject)
    strangers = sorted(set(pack.combination.quasi_identifiers) - set(OUTPUT_NAMES))
    if strangers:
        raise _refused(f"{pack.combination.id}: quasi-identifiers {strangers} are no outputs", subject)
    for cap in pack.volume_caps:
        strangers = sorted(set(cap.per) - set(OUTPUT_NAMES))
        if strangers:
            raise _refused(f"{cap.id}: {strangers} are no outputs", subject)


def _check_outputs(pack: Pack, clips: pa.Schema, subject: str) -> None:
    if tuple(rule.name for rule in pack.outputs) != OUTPUT_NAMES:
        raise _refused(f"outputs {[rule.name for rule in pack.outputs]} are not exactly {list(OUTPUT_NAMES)} in this order", subject)
    for rule in pack.outputs:
        if rule.id != f"output.{rule.name}":
            raise _refused(f"{rule.id}: the id of output {rule.name} must be output.{rule.name}", subject)
        inputs = [_known(clips, name, rule.id, subject) for name in rule.inputs]
        generalisation = _check_generalisation(rule.id, rule.generalisation, inputs, subject)
        if RELEASE.field(rule.name).type != generalisation.output:
            raise _refused(f"{rule.id}: {rule.generalisation} yields {generalisation.output}, not the type of the column", subject)


def _check_generalisation(rule_id: str, name: str, inputs: Sequence[pa.Field], subject: str) -> Generalisation:
    generalisation = GENERALISATIONS.get(name)
    if generalisation is None:
        raise _refused(f"{rule_id}: generalisation {name!r} is unknown", subject)
    if len(inputs) != len(generalisation.inputs):
        raise _refused(f"{rule_id}: {name} takes {len(generalisation.inputs)} inputs", subject)
    for field, wanted in zip(inputs, generalisation.inputs, strict=True):
        if field.type != wanted.type or sensitivity_of(field) != wanted.sensitivity:
            problem = f"{rule_id}: {name} reads {wanted.sensitivity} {wanted.type}"
            raise _refused(f"{problem}, but {field.name} is {sensitivity_of(field)} {field.type}", subject)
    return generalisation


def _check_row_rules(pack: Pack, clips: pa.Schema, subject: str) -> None:
    for rule in pack.row_rules:
        for name in rule.inputs:
            if pa.types.is_nested(_known(clips, name, rule.id, subject).type):
                raise _refused(f"{rule.id}: input {name} is nested", subject)
        compile_expression(rule.require, rule.inputs, subject=f"{subject}, rule {rule.id}")
    stated = {rule.id: rule.require for rule in pack.row_rules}
    for rule_id, require in REQUIRED_ROW_RULES.items():
        if stated.get(rule_id) != require:
            raise _refused(f"row rule {rule_id} with `require: {require}` is missing or altered", subject)


def _account(withhold: Sequence[WithholdRule], emitted: AbstractSet[str], columns: pa.Schema, subject: str) -> None:
    named = {name for rule in withhold for name in rule.columns} | emitted
    classes = {sensitivity for rule in withhold for sensitivity in rule.sensitivities}
    for rule in withhold:
        for name in rule.columns:
            _known(columns, name, rule.id, subject)
    left_over = [field.name for field in columns if field.name not in named and sensitivity_of(field) not in classes]
    if left_over:
        raise _refused(f"columns {left_over} are neither an output's input nor withheld by name or class", subject)


def withheld_by(pack: PackHeader, column: pa.Field) -> WithholdRule | None:
    """The first rule that keeps a column at home, None where only an output accounts for it."""
    for rule in pack.withhold:
        if column.name in rule.columns or sensitivity_of(column) in rule.sensitivities:
            return rule
    return None


def canonical_bytes(pack: PackHeader) -> bytes:
    """The pack as canonical JSON: what is signed, whatever the YAML's layout and comments."""
    said = pack.model_dump(mode="json")
    if isinstance(pack, Pack) and pack.geofence.track_covers is None:
        del said["geofence"]["track_covers"]  # what an old pack does not say, its signers did not sign
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(pack: PackHeader) -> str:
    """SHA-256 over the canonical bytes, hex."""
    return hashlib.sha256(canonical_bytes(pack)).hexdigest()


def _known(clips: pa.Schema, name: str, rule_id: str, subject: str) -> pa.Field:
    if name not in clips.names:
        raise _refused(f"{rule_id}: there is no column {name!r}", subject)
    return clips.field(name)


def _no_doubles(what: str, values: Sequence[str]) -> None:
    doubles = sorted(value for value, count in Counter(values).items() if count > 1)
    if doubles:
        raise ValueError(f"{what} {doubles[0]!r} stands twice")


def _check_assessments(counters: Sequence[CounterRule], assessments: Sequence[Assessment]) -> None:
    limits = {rule.id: rule.limit for rule in counters}
    _no_doubles("assessment of counter", [one.counter for one in assessments])
    for one in assessments:
        if one.counter not in limits:
            raise ValueError(f"assessment {one.number} is of counter {one.counter!r}, which the pack does not list")
        if one.new_limit <= limits[one.counter]:
            raise ValueError(f"assessment {one.number} does not raise the limit {limits[one.counter]} of {one.counter}")


def _no_doubles_of(subject: str, columns: Sequence[str]) -> None:
    try:
        _no_doubles("column", columns)
    except ValueError as error:
        raise _refused(str(error), subject) from error


def _subject(raw: Any) -> str:
    name = raw.get("id") if isinstance(raw, dict) else None
    return f"pack {name}" if isinstance(name, str) and re.fullmatch(r"[a-z0-9_.-]{1,100}", name) else "pack"


def _refused(problem: str, subject: str) -> PackRefused:
    return PackRefused(problem, subject=subject, fix="correct the pack, have it signed again, and run `curation residency lint`")


def rule_ids(pack: Pack) -> Iterable[str]:
    """Ids of every rule that can withhold a row, the evaluator's own included, sorted."""
    fences = (f"{pack.geofence.id}.{reason}" for reason in GEOFENCE_REASONS)
    rules = (*(rule.id for rule in pack.outputs), *(rule.id for rule in pack.row_rules), pack.combination.id)
    return sorted({UNIQUE_CLIP, *rules, *fences})
