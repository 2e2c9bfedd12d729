"""A manifest file decided on: release and decisions files written a stretch at a time, whatever the manifest's size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa

from curation.residency import evaluate, gate
from curation.residency.candidates import columns_read
from curation.residency.counters import Limit, Reservation, Standing
from curation.residency.counters import limit as limit_rows
from curation.residency.pack import Pack
from curation.schema import DECISIONS, RELEASE
from curation.tables import ParquetRows, from_parquet, write_parquet


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What left before, as counters and k see it: every other release that was cut, rows still published, and today's limits."""

    limits: tuple[Limit, ...]
    reservations: Sequence[Reservation]
    published: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How many rows went in and may leave, which rules withheld how many, which rule let each column, and where counters stand."""

    row_count: int
    released_count: int
    rule_counts: Mapping[str, int]
    columns: Mapping[str, str]
    standings: tuple[Standing, ...] = ()


def check(
    clips: ParquetRows, *, pack: Pack, fences: bytes | None, past: Past | None, as_of: date, decisions: Path, release: Path
) -> Checked:
    """What may leave of a manifest, written to two new files; rows spill into the folder of `decisions`, which is at home.

    Where a volume cap is exceeded or counters are asked, all rows are held in memory: which of them go first is told by comparing them.

    Args:
        clips: the manifest.
        pack: rules that may allow something, as `signing.may_allow` found.
        fences: as `evaluate.decide`.
        past: None asks no counter and counts k over this file alone.
        as_of: the day that the release would be dated.
        decisions: file to write.
        release: file to write; it has passed the gate when this returns.

    Raises:
        PackRefused, NotConserved: as `evaluate.decide`.
        GateRefused: as `gate.check_table`.
    """
    found = write(clips, pack=pack, fences=fences, past=past, as_of=as_of, decisions=decisions, release=release)
    gate.check_table(from_parquet(release.read_bytes(), RELEASE), clips)
    return found


def write(
    clips: ParquetRows, *, pack: Pack, fences: bytes | None, past: Past | None, as_of: date, decisions: Path, release: Path
) -> Checked:
    """As `check`, but for the gate, which holds the whole release in memory."""
    published = None if past is None else past.published
    with (
        tempfile.TemporaryDirectory(dir=decisions.parent, prefix=".spill-") as spill,
        evaluate.stream(
            clips.batches(columns_read(pack, clips.schema)),
            clips.schema,
            pack=pack,
            fences=fences,
            published=published,
            spill=Path(spill),
            draws_ids=True,
        ) as decided,
    ):
        if past is None and all(decided.released_count <= cap.max_rows for cap in pack.volume_caps):
            found = _counted(decided)
            _write(decided.decisions(), decided.release(), decisions, release)
        else:
            evaluation, standings = limit_rows(
                decided.whole(),
                clips.table(),
                pack=pack,
                limits=() if past is None else past.limits,
                reservations=() if past is None else past.reservations,
                as_of=as_of,
                published=published,
            )
            found = _counted(evaluation, standings)
            _write([evaluation.decisions], [evaluate.with_row_ids(evaluation.outputs)], decisions, release)
    return found


def _counted(found: evaluate.Stream | evaluate.Evaluation, standings: tuple[Standing, ...] = ()) -> Checked:
    return Checked(
        row_count=found.row_count,
        released_count=found.released_count,
        rule_counts=found.rule_counts,
        columns=found.columns,
        standings=standings,
    )


def _write(decided: Iterable[pa.Table], released: Iterable[pa.Table], decisions: Path, release: Path) -> None:
    write_parquet(decisions, decided, DECISIONS)
    write_parquet(release, released, RELEASE)
