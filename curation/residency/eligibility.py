"""What a general-data list answers an exporter on a day: whether it may use the list at all, and which fields the list names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from curation.residency.pack import ConditionRule, ListPack

Said = Literal["not yet valid", "expired", "not eligible", "eligible, no listed field", "eligible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`said` in the list's words, ids of the conditions that fail, and the columns that it names; none unless `said` is `eligible`."""

    said: Said
    failed: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


def answer(pack: ListPack, today: date) -> Answer:
    """The list's answer on a day of Asia/Shanghai, its last day included; it is about the exporter as the pack states it.

    An answer is no permission: rows leave under a pack of rules alone.
    """
    if today < pack.valid_from:
        return Answer(said="not yet valid")
    if today > pack.valid_to:
        return Answer(said="expired")
    failed = tuple(rule.id for rule in pack.conditions if not _holds(rule, pack.exporter))
    if failed:
        return Answer(said="not eligible", failed=failed)
    fields = tuple(rule.name for rule in pack.fields)
    return Answer(said="eligible", fields=fields) if fields else Answer(said="eligible, no listed field")


def _holds(rule: ConditionRule, exporter: Mapping[str, bool | str]) -> bool:
    """Whether the fact is stated, one of the values, and of its kind: the word `false` is not the answer no."""
    fact = exporter.get(rule.fact)
    return any(type(fact) is type(value) and fact == value for value in rule.one_of)
