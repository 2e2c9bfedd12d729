"""Review what is overseas: decide every row again under today's pack, on today's curated clips, and name the rows that must come back.

Only a whole evaluation under a loadable, signed pack takes anything back, an expired one included. Where it fails, nothing is withdrawn and
nothing is published until a later review succeeds: an error must neither empty the overseas catalog nor let more into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import overseas_table, schema, withdrawal_files
from curation.digests import sha256_hex
from curation.errors import CurationError, EvidenceBroken, GateRefused, NotConserved, PackRefused, SettingsError
from curation.ports import Clock, Ledger, ObjectStore, OverseasCatalog
from curation.records import StageCount
from curation.release_files import PUBLISHED, REVIEW_FAILED, REVIEWED, ReleaseFolder, check_clock, kinds_of, left_releases
from curation.residency import evaluate, signing
from curation.residency import pack as packs

# What an evaluation may end in, beside the outside failing; SettingsError where a file of the law is missing.
FAILURES: Final = (PackRefused, SettingsError, NotConserved, EvidenceBroken, GateRefused)
NOT_CURATED_RULE: Final = "row.not_curated"  # the clip is not in curated.clips any more: nothing can let it out
CHANGED_RULE: Final = "row.changed"  # the rules let out another row than the one that is overseas
EXPIRED_RULE: Final = "pack.expired"
ALONE_MAX_SHARE: Final = 0.05  # of the rows overseas; above it, or for a whole publication, a second person must agree (issue E)
ANNOUNCED_DAYS: Final = 30  # the last of them included
_OUTPUTS: Final = tuple(name for name in schema.RELEASE.names if name != "release_row_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a review found.

    row_count: rows overseas by our books. missing_count: those of them that the catalog does not hold. asked: rows that must come back,
    schema withdrawal_files.ASKED, each with the rules that withhold it. rule_counts: rule -> rows. whole_releases: publications of which
    no row may stay. alone: whether no second person need agree. expires_on: the pack's last day, days_left days from today.
    """

    day: date
    pack: str
    pack_digest: str
    expires_on: date
    days_left: int
    row_count: int
    missing_count: int
    cause: str
    asked: pa.Table
    rule_counts: Mapping[str, int]
    whole_releases: tuple[str, ...]
    alone: bool

    @property
    def is_announced(self) -> bool:
        """Whether the pack expires within 30 days, or has: then all rows are withdrawn, by one person where it was told in time."""
        return self.days_left < ANNOUNCED_DAYS


def decide(
    home_rows: pa.Table,
    *,
    pack_bytes: bytes,
    signatures_bytes: bytes,
    fences_bytes: bytes | None,
    trusted_keys: Mapping[str, tuple[str, ...]],
    allow_demo_pack: bool,
    catalog: OverseasCatalog,
    table: str,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
) -> Review:
    """Which rows overseas may stay today. Nothing is changed.

    Args:
        home_rows: every row of curated.clips, schema CLIPS.
        pack_bytes: the pack in force.
        signatures_bytes: its signatures.
        fences_bytes: the geofences in force.
        trusted_keys: whom the operator trusts, by role.
        allow_demo_pack: whether a demo pack counts.
        table: of the overseas catalog.

    Raises:
        PackRefused: the pack cannot be loaded, is not signed or not yet valid, or a rule fails.
        GateRefused: the catalog holds rows that no release let out, or its table is not this home's.
        NotConserved, EvidenceBroken: the evaluation, or what it rests on, does not add up.
        CurationError: the clock stands before the ledger's last entry.
    """
    check_clock(ledger, clock)
    today = signing.shanghai_day(clock.now())
    pack = packs.parse(pack_bytes)
    signatures = signing.parse_signatures(signatures_bytes)
    # An expired pack is still law enough to take rows back: everything but its last day is asked.
    asked_of = min(today, pack.valid_to)
    signing.may_allow(pack, signatures, trusted_keys=trusted_keys, today=asked_of, allow_demo_pack=allow_demo_pack)
    overseas_table.check(table, catalog=catalog, store=store, ledger=ledger)
    left = left_releases(store, ledger)
    missing_count = _check_books(left, catalog, table, store=store, ledger=ledger)
    rows = _published_rows([folder for folder in left if PUBLISHED in kinds_of(folder.release_id, ledger)])
    expired = today > pack.valid_to
    withheld = dict.fromkeys(rows["clip_id"].to_pylist(), (EXPIRED_RULE,)) if expired else _judge(rows, home_rows, pack, fences_bytes)
    asked = _asked(rows, withheld)
    whole = _whole_releases(rows, asked)
    return Review(
        day=today,
        pack=f"{pack.id} {pack.version}",
        pack_digest=packs.digest(pack),
        expires_on=pack.valid_to,
        days_left=(pack.valid_to - today).days,
        row_count=rows.num_rows,
        missing_count=missing_count,
        cause=withdrawal_files.BY_EXPIRY if expired else withdrawal_files.BY_REVIEW,
        asked=asked,
        rule_counts=_counts(asked),
        whole_releases=whole,
        alone=_was_announced(pack, ledger) if expired else asked.num_rows <= ALONE_MAX_SHARE * rows.num_rows and not whole,
    )


def _was_announced(pack: packs.Pack, ledger: Ledger) -> bool:
    """Whether reviews recorded this last day when the pack had 30 days left, today's included, or more, and in the days when it is told.

    A clock that jumps past the last day finds the first and not the second: it does not empty the overseas catalog by itself.
    """
    begins = pack.valid_to - timedelta(days=ANNOUNCED_DAYS - 1)
    told = (entry for entry in ledger.entries() if entry.kind == REVIEWED and entry.facts["expires_on"] == pack.valid_to.isoformat())
    days = [date.fromisoformat(entry.subject) for entry in told]
    return any(day <= begins for day in days) and any(begins <= day <= pack.valid_to for day in days)


def _check_books(left: Sequence[ReleaseFolder], catalog: OverseasCatalog, table: str, *, store: ObjectStore, ledger: Ledger) -> int:
    """How many rows that ought to be overseas are not there.

    Raises:
        GateRefused: rows are there that ought not to be, and were so at a second look: a release that left between the first look into
            the books and that into the catalog is no stranger.
    """
    strangers, missing_count = _compared(left, catalog, table)
    if len(strangers):
        again, _ = _compared(left_releases(store, ledger), catalog, table)
        strangers = strangers.filter(pc.is_in(strangers, value_set=again))
    if len(strangers):
        raise GateRefused(
            f"holds {len(strangers)} rows that no release let out, or that were withdrawn",
            subject=f"overseas table {table}",
            fix="find out who put them there; nothing is published until a review finds none",
        )
    return missing_count


def _compared(left: Sequence[ReleaseFolder], catalog: OverseasCatalog, table: str) -> tuple[pa.Array, int]:
    """Ids of the catalog's rows that are not in the books, and how many rows of the books are not in the catalog."""
    known = pa.concat_arrays(
        [pa.array([], pa.string()), *(chunk for folder in left for chunk in folder.standing()["release_row_id"].chunks)]
    )
    found = catalog.read(table)["release_row_id"].combine_chunks()
    strangers = found.filter(pc.invert(pc.is_in(found, value_set=known)))
    return strangers, pc.sum(pc.invert(pc.is_in(known, value_set=found))).as_py() or 0


def _published_rows(published: Sequence[ReleaseFolder]) -> pa.Table:
    """Every row that is overseas and stays so far: its outputs, its id, its clip, and its release."""
    empty = pa.schema([*schema.RELEASE, schema.MAPPING.field("clip_id"), pa.field("release_id", pa.string())]).empty_table()
    parts = [empty]
    for folder in published:
        joined = folder.release().join(folder.staying().select(["release_row_id", "clip_id"]), "release_row_id", join_type="inner")
        release_id = pa.array([folder.release_id] * joined.num_rows, pa.string())
        parts.append(joined.append_column("release_id", release_id).select(empty.column_names).cast(empty.schema))
    return pa.concat_tables(parts)


def _judge(rows: pa.Table, home_rows: pa.Table, pack: packs.Pack, fences: bytes | None) -> dict[str, tuple[str, ...]]:
    """Clip -> the rules that withhold its row today; what goes may have been what made a cell large, so the rest is judged again."""
    overseas = rows["clip_id"].combine_chunks()
    candidates = home_rows.filter(pc.is_in(home_rows["clip_id"], value_set=overseas))
    gone = overseas.filter(pc.invert(pc.is_in(overseas, value_set=candidates["clip_id"].combine_chunks())))
    withheld: dict[str, tuple[str, ...]] = dict.fromkeys(gone.to_pylist(), (NOT_CURATED_RULE,))
    while candidates.num_rows:
        evaluation = evaluate.decide(candidates, pack=pack, fences=fences)
        kept = evaluation.decisions.filter(pc.invert(evaluation.decisions["released"]))
        found = {row["clip_id"]: tuple(row["withheld_by"]) for row in kept.to_pylist()}
        same = evaluation.outputs.select(["clip_id", *_OUTPUTS])
        others = same.join(rows.select(["clip_id", *_OUTPUTS]), ["clip_id", *_OUTPUTS], join_type="left anti")
        found |= dict.fromkeys(others["clip_id"].to_pylist(), (CHANGED_RULE,))
        if not found:
            break
        withheld |= found
        candidates = candidates.filter(pc.invert(pc.is_in(candidates["clip_id"], value_set=pa.array(list(found), pa.string()))))
    return withheld


def _asked(rows: pa.Table, withheld: Mapping[str, tuple[str, ...]]) -> pa.Table:
    meant = rows.filter(pc.is_in(rows["clip_id"], value_set=pa.array(list(withheld), pa.string()))).sort_by("clip_id")
    rules = pa.array([list(withheld[clip_id]) for clip_id in meant["clip_id"].to_pylist()], pa.list_(pa.string()))
    return pa.table([meant["clip_id"], meant["release_row_id"], rules], schema=withdrawal_files.ASKED)


def _counts(asked: pa.Table) -> dict[str, int]:
    counts = pc.value_counts(pc.list_flatten(asked["withheld_by"])).to_pylist()
    return {one["values"]: one["counts"] for one in sorted(counts, key=lambda one: str(one["values"]))}


def _whole_releases(rows: pa.Table, asked: pa.Table) -> tuple[str, ...]:
    stays = rows.filter(pc.invert(pc.is_in(rows["clip_id"], value_set=asked["clip_id"].combine_chunks())))
    return tuple(sorted(set(rows["release_id"].to_pylist()) - set(stays["release_id"].to_pylist())))


# --- the record ---------------------------------------------------------------------------------------------------------------------


def record(found: Review, *, withdrawal_id: str, withdrawn: bool, ledger: Ledger) -> StageCount:
    """Rows overseas: how many stay, and how many were withdrawn or wait for a second person; publishing may go on.

    Args:
        found: what the review found.
        withdrawal_id: the withdrawal that it asked for, empty for none.
        withdrawn: whether that was carried out.
        ledger: the ledger.
    """
    back = found.asked.num_rows
    accounted = {"stay": found.row_count - back, "withdrawn" if withdrawn else "waiting": back}
    count = StageCount(stage=REVIEWED, subject=found.day.isoformat(), rows_in=found.row_count, accounted=accounted)
    facts = {
        "pack": found.pack,
        "pack_digest": found.pack_digest,
        "expires_on": found.expires_on.isoformat(),
        "withdrawal_id": withdrawal_id,
        "after": _last(REVIEW_FAILED, ledger),
    }
    ledger.record(count, files={}, facts=facts)
    return count


def record_failure(problem: CurationError, *, pack_bytes: bytes, clock: Clock, ledger: Ledger) -> None:
    """A review that failed: nothing was withdrawn, and nothing is published until one succeeds."""
    day = signing.shanghai_day(clock.now()).isoformat()
    facts = {"reason": f"{problem.subject}: {problem.problem}", "error": type(problem).__name__, "pack": sha256_hex(pack_bytes)}
    facts["after"] = _last(REVIEWED, ledger)
    ledger.record(StageCount(stage=REVIEW_FAILED, subject=day, rows_in=0, accounted={}), files={}, facts=facts)


def _last(kind: str, ledger: Ledger) -> str:
    """Number of the last entry of this kind: equal events are recorded once, but not across a turn from success to failure."""
    return max((str(entry.sequence) for entry in ledger.entries() if entry.kind == kind), key=int, default="")
