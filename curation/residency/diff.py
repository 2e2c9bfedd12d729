"""What changes when one pack takes the place of another: its rules, its columns, and the rows that leave, stay or have to come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.residency import evaluate
from curation.residency.pack import ListPack, Pack, PackHeader, withheld_by
from curation.schema import CLIPS

HEADER: Final = "(pack)"
_NONE: Final = pa.nulls(0, pa.string())
ERASED_AT_HOME: Final = "erased at home"
_KINDS: Final = ("withhold", "outputs", "row_rules", "combination", "geofence", "volume_caps", "counters", "conditions", "fields")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """A rule that came, went or changed; `fields` maps what changed to the old and the new value. `(pack)` is the pack's own head."""

    rule: str
    change: Literal["added", "removed", "changed"]
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChange:
    """A column of the clips table that is treated otherwise than before."""

    column: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChanges:
    """Rows by what becomes of them under the new pack; all of them together are the rows looked at.

    newly_leave: at home now. stay_abroad, come_back: abroad now. stay_home: at home now. come_back_by: rule id -> rows abroad that it
    withholds (a row may count under several); `erased at home` are rows abroad that no rule can be asked about any more.
    """

    newly_leave: int
    stay_abroad: int
    come_back: int
    stay_home: int
    come_back_by: Mapping[str, int]


def rules(old: PackHeader, new: PackHeader) -> tuple[RuleChange, ...]:
    """Every rule that differs, by id, the head of the pack first."""
    before, after = _by_id(old), _by_id(new)
    changes = []
    for rule_id in sorted({*before, *after}, key=lambda name: (name != HEADER, name)):
        if rule_id not in before:
            changes.append(RuleChange(rule=rule_id, change="added"))
        elif rule_id not in after:
            changes.append(RuleChange(rule=rule_id, change="removed"))
        else:
            was, now = before[rule_id], after[rule_id]
            fields = {name: (was.get(name), now.get(name)) for name in sorted({*was, *now}) if was.get(name) != now.get(name)}
            if fields:
                changes.append(RuleChange(rule=rule_id, change="changed", fields=fields))
    return tuple(changes)


def _by_id(pack: PackHeader) -> dict[str, dict[str, Any]]:
    said = pack.model_dump(mode="json")
    head = {name: value for name, value in said.items() if name not in {*_KINDS, "sources", "assessments"}}
    sources = {f"source {one['id']}": one for one in said["sources"]}
    assessments = {f"assessment of {one['counter']}": one for one in said.get("assessments", [])}
    return {HEADER: head, **sources, **assessments, **{rule.id: rule.model_dump(mode="json") for rule in pack.rules}}


def columns(old: Pack | ListPack, new: Pack | ListPack, clips: pa.Schema = CLIPS) -> tuple[ColumnChange, ...]:
    """Every column of the table that is treated otherwise, in the order of the table."""
    changes = ((one.name, _treatment(old, one), _treatment(new, one)) for one in clips)
    return tuple(ColumnChange(column=name, old=was, new=now) for name, was, now in changes if was != now)


def _treatment(pack: Pack | ListPack, column: pa.Field) -> str:
    if isinstance(pack, Pack):
        made = [f"{rule.name} ({rule.generalisation})" for rule in pack.outputs if column.name in rule.inputs]
    else:
        made = [f"{rule.name} ({rule.generalisation or 'as it is'})" for rule in pack.fields if rule.name == column.name]
    kept = withheld_by(pack, column)
    leaves = f"leaves as {', '.join(made)}" if made else "never leaves"
    return leaves if kept is None else f"{leaves}; withheld as it is by {kept.id}"


def abroad_under(pack: Pack, clips: pa.Table, *, fences: bytes | None) -> pa.Array:
    """Clip ids that the pack lets out of a table from which nothing left before.

    Raises:
        PackRefused: as `evaluate.decide`.
    """
    return evaluate.decide(clips, pack=pack, fences=fences).outputs["clip_id"].combine_chunks()


def rows(clips: pa.Table, abroad: pa.Array, *, new: Pack, fences: bytes | None, barred: pa.Array = _NONE) -> RowChanges:
    """What the new pack does with rows at home and abroad; signatures, caps and counters are not asked.

    The rows abroad are decided on alone, so that none stays for the sake of rows that have not left; those at home then count k with
    what stays.

    Args:
        clips: every row at home, schema CLIPS.
        abroad: ids of the clips whose rows are abroad.
        new: the rules.
        fences: bytes of the fences file.
        barred: ids of clips that were withdrawn on request: they stay at home under any pack.

    Raises:
        PackRefused: as `evaluate.decide`.
    """
    is_out = pc.is_in(clips["clip_id"], value_set=abroad)
    out, home = clips.filter(is_out), clips.filter(pc.invert(is_out))
    stays = evaluate.decide(out, pack=new, fences=fences)
    free = home.filter(pc.invert(pc.is_in(home["clip_id"], value_set=barred)))
    leaves = evaluate.decide(free, pack=new, fences=fences, published=stays.outputs)
    erased = pc.sum(pc.invert(pc.is_in(abroad, value_set=clips["clip_id"].combine_chunks()))).as_py() or 0
    withheld = {rule_id: hits for rule_id, hits in sorted(stays.rule_counts.items()) if hits}
    return RowChanges(
        newly_leave=leaves.released_count,
        stay_abroad=stays.released_count,
        come_back=stays.row_count - stays.released_count + erased,
        stay_home=home.num_rows - leaves.released_count,
        come_back_by=withheld | ({ERASED_AT_HOME: erased} if erased else {}),
    )
