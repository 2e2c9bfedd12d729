"""What is held at home by class of data, since when, and what of it is past the term that the settings set. Told from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from curation.choices import DataClass
from curation.coverage import covered
from curation.records import LedgerEntry
from curation.settings import RetentionSettings

# Class of data -> the kinds of ledger entries that its term counts from, and where its objects lie.
_CLASSES: Final[Mapping[DataClass, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "clips": (("pull",), ("clips/", "quarantine/")),
    "shards": (("shards",), ("shards/",)),
    "evidence": (("validate", "proof"), ("validation/",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Objects of one class that came about together: a batch's clips, a shard set, or the audits of a batch or shard set that is gone."""

    data_class: DataClass
    subject: str
    since: datetime
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one class stands today: its term, None for no end; what is held and how much of it is past the term; when the next one is."""

    data_class: DataClass
    term_days: int | None
    held: int
    due: tuple[Holding, ...]
    next_due: datetime | None


def standings(entries: Sequence[LedgerEntry], retention: RetentionSettings, *, now: datetime) -> tuple[Standing, ...]:
    """How each class stands.

    Raises:
        EvidenceBroken: the ledger contradicts itself.
    """
    held = _holdings(entries)
    return tuple(_standing(data_class, held[data_class], retention.term_days(data_class), now) for data_class in _CLASSES)


def due_keys(entries: Sequence[LedgerEntry], retention: RetentionSettings, data_class: DataClass, *, now: datetime) -> frozenset[str]:
    """The objects of a class that are past their term."""
    found = next(one for one in standings(entries, retention, now=now) if one.data_class == data_class)
    return frozenset(key for holding in found.due for key in holding.keys)


def class_of(key: str) -> DataClass | None:
    """The class that an object's term is set for; None for what has no end: releases, approvals, packs, fences, receipts, the ledger."""
    return next((data_class for data_class, (_, folders) in _CLASSES.items() if key.startswith(folders)), None)


def _standing(data_class: DataClass, held: Iterable[Holding], term_days: int | None, now: datetime) -> Standing:
    held = sorted(held, key=lambda one: (one.since, one.subject))
    ends = [] if term_days is None else [one.since + timedelta(days=term_days) for one in held]
    due = tuple(one for one, end in zip(held, ends, strict=False) if end < now)
    return Standing(
        data_class=data_class, term_days=term_days, held=len(held), due=due, next_due=min((end for end in ends if end >= now), default=None)
    )


def _holdings(entries: Sequence[LedgerEntry]) -> dict[DataClass, list[Holding]]:
    """By class, each subject with the objects that still stand, since it was last recorded.

    Audits only of batches that hold no clip and of shard sets that are gone; those of a release have no end, as the release.
    """
    standing, _ = covered(entries)
    found: dict[DataClass, dict[str, Holding]] = {data_class: {} for data_class in _CLASSES}
    for entry in entries:
        for data_class, (kinds, folders) in _CLASSES.items():
            keys = {key for key in entry.files if key.startswith(folders) and key in standing} if entry.kind in kinds else set()
            before = found[data_class].get(entry.subject)
            if keys:
                # A batch's clips count from their first pull, so that pulling again what is held lengthens nothing.
                since = datetime.fromisoformat(entry.at) if before is None or data_class != "clips" else before.since
                keys |= set(() if before is None else before.keys)
                found[data_class][entry.subject] = Holding(
                    data_class=data_class, subject=entry.subject, since=since, keys=tuple(sorted(keys))
                )
    releases = {entry.subject for entry in entries if entry.kind == "release"}
    for subject in (*found["clips"], *found["shards"], *releases):
        found["evidence"].pop(subject, None)
    return {data_class: list(holdings.values()) for data_class, holdings in found.items()}
