"""Cut a release: the rows and columns that the rules let out, from a pinned snapshot of curated.clips, once per window."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import schema
from curation.digests import canonical_json, sha256_hex
from curation.errors import ConcurrentChange, EvidenceBroken, ImmutableConflict, PackRefused
from curation.layout import fences_key, pack_key, signatures_key
from curation.ports import Clock, Ledger, LedgerView, ObjectStore
from curation.records import StageCount
from curation.release_files import (
    APPROVAL_FILE,
    COUNTED_FILE,
    DECISIONS_FILE,
    EVIDENCE_FILE,
    INTENT_FILE,
    MAPPING_FILE,
    REFUSED,
    RELEASE_FILE,
    RELEASED,
    SUPERSEDED,
    SUPERSEDED_FILE,
    ReleaseFolder,
    check_clock,
    counted_releases,
    cut_releases,
    kinds_of,
    left_releases,
    published_cells,
    published_clip_ids,
)
from curation.residency import counters, evaluate, signing
from curation.residency import pack as packs
from curation.tables import to_parquet
from curation.withdrawal_files import barred_clip_ids

_ID_BYTES = 16
_BY_VEHICLE = [("vehicle_id", "ascending"), ("clip_id", "ascending")]
Audit = Callable[[str, Mapping[str, pa.Table]], None]
_OF_THE_RUN = frozenset({"as_of", "code_version", "counters", "home_snapshot_id", "requesters"})  # of evidence: may differ when run again
ALREADY_PUBLISHED_RULE = "row.already_published"
WITHDRAWN_RULE = "row.withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Everything that decides what may leave: the pack's bytes, its signatures, the fences, and whom the operator trusts."""

    pack_bytes: bytes
    signatures_bytes: bytes
    fences_bytes: bytes | None
    trusted_keys: Mapping[str, tuple[str, ...]]
    allow_demo_pack: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be cut, for whom, and who asked."""

    window: str
    as_of: date
    snapshot_id: int
    recipient: str
    purpose: str
    requesters: tuple[str, ...]
    code_version: str


def window_of(day: date) -> str:
    """The ISO week of a day, as 2026-W47."""
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02d}"


def load_law(law: Law, *, as_of: date) -> packs.Pack:
    """The pack, if it may allow anything on that day.

    Raises:
        PackRefused: missing, broken, unsigned, expired, not yet valid, or a demo pack outside the demo.
    """
    pack = packs.parse(law.pack_bytes)
    signatures = signing.parse_signatures(law.signatures_bytes)
    signing.may_allow(pack, signatures, trusted_keys=law.trusted_keys, today=as_of, allow_demo_pack=law.allow_demo_pack)
    return pack


def run(
    rows: pa.Table,
    *,
    law: Law,
    request: Request,
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
    draw_id: Callable[[], str] = lambda: secrets.token_hex(_ID_BYTES),
    audit: Audit = lambda *_: None,
) -> str:
    """Id of the window's release: cut now, or the one that was cut before from the same inputs.

    A release that was published in this window, or is on its way (approved, or being published), is the window's release; rows
    that came later wait for the next window. An open one whose inputs changed is superseded and can no longer be published.

    Args:
        rows: every row of the pinned snapshot, schema CLIPS.
        audit: looks at id and tables before they become a release; what it raises stops the cut.

    Raises:
        PackRefused: the pack may allow nothing; the refusal is in the ledger, and zero fields leave.
        ConcurrentChange: a release was published while this one was being cut.
        CurationError: the clock stands before the ledger's last entry.
    """
    check_clock(ledger, clock)
    published = left_releases(store, ledger)
    for folder in published:
        if folder.evidence()["window"] == request.window:
            return folder.release_id
    candidates, gone = _candidates(rows, published, barred_clip_ids(store, list(ledger.entries())))
    try:
        pack = _law_of_today(law, request, clock)
        limits = counters.limits(pack, trusted_keys=law.trusted_keys, today=signing.shanghai_day(clock.now()))
        held = reservations(store, ledger)
        identity = _identity(request, law, candidates, published, limits)
        release_id = _release_id(identity, request, [one.release_id for one in held], store=store, ledger=ledger)
        waiting = _close_open_releases(release_id, law, store=store, ledger=ledger, clock=clock)
        if waiting is not None:
            return waiting
        folder = ReleaseFolder(store, release_id)
        others = [one for one in held if one.release_id != release_id]
        evaluation, standings = _evaluated(candidates, published, law=law, pack=pack, limits=limits, others=others, as_of=request.as_of)
    except PackRefused as refusal:
        _record_refusal(refusal, rows.num_rows, window=request.window, law=law, ledger=ledger)
        raise
    if RELEASED not in kinds_of(release_id, ledger):  # until then nobody answers for what lies in its folder
        counted = counters.counted_rows(candidates, evaluation.outputs["clip_id"], pack)
        store.create(folder.key(COUNTED_FILE), to_parquet(counted, schema.COUNTED))
        _write(
            folder, evaluation, gone, standings=standings, law=law, pack=pack, request=request, store=store, draw_id=draw_id, audit=audit
        )
    _record(folder, ledger)
    return release_id


def _evaluated(
    candidates: pa.Table,
    published: Sequence[ReleaseFolder],
    *,
    law: Law,
    pack: packs.Pack,
    limits: Sequence[counters.Limit],
    others: Sequence[counters.Reservation],
    as_of: date,
) -> tuple[evaluate.Evaluation, tuple[counters.Standing, ...]]:
    """What the rules let out, within what the caps leave after all other releases; and how each counter stands then."""
    cells = published_cells(published, pack.quasi_identifiers())
    evaluation = evaluate.decide(candidates, pack=pack, fences=law.fences_bytes, published=cells)
    return counters.limit(evaluation, candidates, pack=pack, limits=limits, reservations=others, as_of=as_of, published=cells)


def _record_refusal(refusal: PackRefused, row_count: int, *, window: str, law: Law, ledger: Ledger) -> None:
    ledger.record(
        StageCount(stage="release_refused", subject=window, rows_in=row_count, accounted={"withheld": row_count}),
        files={},
        facts={"reason": refusal.problem, "pack_digest": sha256_hex(law.pack_bytes)},
    )


def _candidates(rows: pa.Table, published: Sequence[ReleaseFolder], barred: pa.Array) -> tuple[pa.Table, dict[str, pa.Table]]:
    """The rows that rules decide on; and those that may not leave whatever rules say, by why: withdrawn on request, or out already."""
    is_barred = pc.is_in(rows["clip_id"], value_set=barred)
    rest = rows.filter(pc.invert(is_barred))
    is_out = pc.is_in(rest["clip_id"], value_set=published_clip_ids(published))
    return rest.filter(pc.invert(is_out)), {WITHDRAWN_RULE: rows.filter(is_barred), ALREADY_PUBLISHED_RULE: rest.filter(is_out)}


def reservations(store: ObjectStore, ledger: LedgerView) -> list[counters.Reservation]:
    """What every release that was ever cut reserved of the counters, in the order of the ledger.

    Raises:
        EvidenceBroken: what one reserved is not what the ledger recorded.
    """
    return [
        counters.Reservation(release_id=release_id, as_of=as_of, counted=counted)
        for release_id, as_of, counted in counted_releases(store, ledger)
    ]


def check_assessments(law: Law, evidence: Mapping[str, Any], *, today: date) -> None:
    """Nothing, if every counter's limit is today at least what it was when the release was cut.

    Raises:
        PackRefused: an assessment that raised one has expired, or is no longer signed by a key that is trusted.
    """
    pack = packs.parse(law.pack_bytes)
    now = {one.rule.id: one.limit for one in counters.limits(pack, trusted_keys=law.trusted_keys, today=today)}
    for standing in evidence["counters"]:
        if now[standing["counter"]] < standing["limit"]:
            raise PackRefused(
                f"assessment {standing['assessment']} of {standing['counter']}, on which the release rests, has expired",
                subject=f"release {evidence['release_id']}",
                fix="cut the release again, under a pack with an assessment in force or below the limit of the law",
            )


def _release_id(identity: Mapping[str, object], request: Request, cut: Sequence[str], *, store: ObjectStore, ledger: Ledger) -> str:
    """The name of these inputs and of what was cut before them: the counters' state is an input like any other.

    A release that stands open under these inputs keeps the name it got from what was cut before it. What was superseded or taken back is
    never committed again; the same inputs get another name then, since it is among what was cut.
    """
    closed = {folder.release_id for folder in cut_releases(store) if folder.has(SUPERSEDED_FILE)}
    closed |= {entry.subject for entry in ledger.entries() if entry.kind == REFUSED}
    digest = sha256_hex(canonical_json(identity))
    names = [f"{request.window}-{sha256_hex(canonical_json([digest, *cut[:before]]))[:12]}" for before in range(len(cut) + 1)]
    standing = (found for name, found in zip(names, cut, strict=False) if name == found and found not in closed)
    return next(standing, names[-1])


def _identity(
    request: Request, law: Law, candidates: pa.Table, published: Sequence[ReleaseFolder], limits: Sequence[counters.Limit]
) -> dict[str, object]:
    return {
        "window": request.window,
        "recipient": request.recipient,
        "purpose": request.purpose,
        "pack": sha256_hex(law.pack_bytes),
        "signatures": sha256_hex(law.signatures_bytes),
        "fences": None if law.fences_bytes is None else sha256_hex(law.fences_bytes),
        "limits": {one.rule.id: one.limit for one in limits},
        "candidates": sha256_hex(to_parquet(candidates.sort_by("clip_id"), schema.CLIPS)),
        "published": sorted(folder.standing_name() for folder in published),
    }


def _law_of_today(law: Law, request: Request, clock: Clock) -> packs.Pack:
    """The pack, if it may allow something both on the day the release is dated and today: neither day helps the other out.

    Raises:
        PackRefused: it may not, or the release is dated later than today.
    """
    today = signing.shanghai_day(clock.now())
    pack = load_law(law, as_of=request.as_of)
    load_law(law, as_of=today)
    if request.as_of > today:
        raise PackRefused(
            f"a release of {request.as_of} is asked for, but today is {today}",
            subject=f"pack {pack.id} {pack.version}",
            fix="cut it when its day has come",
        )
    return pack


def _close_open_releases(release_id: str, law: Law, *, store: ObjectStore, ledger: Ledger, clock: Clock) -> str | None:
    """Supersede every other open release; the id of one that is approved under the law in force and must be finished first.

    Raises:
        ConcurrentChange: the publication of one began meanwhile.
    """
    for folder in cut_releases(store):
        if folder.release_id == release_id or folder.has(SUPERSEDED_FILE) or folder.has(INTENT_FILE):
            continue
        if folder.has(APPROVAL_FILE) and is_under(law, folder.evidence()):
            expires_at = datetime.fromisoformat(folder.document(APPROVAL_FILE)["expires_at"])
            if expires_at > clock.now():
                return folder.release_id
        store.create(folder.key(SUPERSEDED_FILE), canonical_json({"release_id": folder.release_id}))
        rows = folder.evidence()["counts"]["released"]
        ledger.record(
            StageCount(stage=SUPERSEDED, subject=folder.release_id, rows_in=rows, accounted={"superseded": rows}),
            files={folder.key(SUPERSEDED_FILE): folder.digest(SUPERSEDED_FILE)},
        )
        # A publication writes its intent and then looks for this file; we wrote this file and now look for an intent. So of two that
        # meet, at least one sees the other, and the rows cannot leave in both releases.
        if folder.has(INTENT_FILE):
            raise ConcurrentChange(
                "its publication began while it was being superseded",
                subject=f"release {folder.release_id}",
                fix="finish it (`curation publish`), then cut again",
            )
    return None


def is_under(law: Law, evidence: Mapping[str, Any]) -> bool:
    """Whether a release was cut under this very pack and these very fences; signatures and trust may have changed since."""
    wanted = {pack_key(sha256_hex(law.pack_bytes))}
    if law.fences_bytes is not None:
        wanted.add(fences_key(sha256_hex(law.fences_bytes)))
    return wanted == {key for key in evidence["files"] if key.startswith(("packs/", "fences/")) and not key.endswith(".json")}


def _write(
    folder: ReleaseFolder,
    evaluation: evaluate.Evaluation,
    gone: Mapping[str, pa.Table],
    *,
    standings: Sequence[counters.Standing],
    law: Law,
    pack: packs.Pack,
    request: Request,
    store: ObjectStore,
    draw_id: Callable[[], str],
    audit: Audit,
) -> None:
    outputs = evaluation.outputs.sort_by(_BY_VEHICLE)  # so that a vehicle is found by the bounds of row groups
    if not folder.has(MAPPING_FILE):
        ids = pa.array([draw_id() for _ in range(outputs.num_rows)], pa.string())
        drawn = to_parquet(_columns(outputs.append_column("release_row_id", ids), schema.MAPPING), schema.MAPPING)
        with contextlib.suppress(ImmutableConflict):  # of two cuts at once, the ids drawn first stand
            store.create(folder.key(MAPPING_FILE), drawn)
    mapping = folder.mapping().sort_by(_BY_VEHICLE)
    if mapping["clip_id"].to_pylist() != outputs["clip_id"].to_pylist():
        raise EvidenceBroken(
            "its mapping names other clips than the rules release",
            subject=f"release {folder.release_id}",
            fix="run `curation audit verify`",
        )
    release = outputs.append_column("release_row_id", mapping["release_row_id"])
    # Sorted by the random id, so that the order of rows says nothing of clips.
    released = _columns(release, schema.RELEASE).sort_by("release_row_id")
    decisions = _all_decisions(evaluation.decisions, gone)
    audit(folder.release_id, {"release": released, "decisions": decisions, "mapping": mapping})
    release_bytes, decisions_bytes = to_parquet(released, schema.RELEASE), to_parquet(decisions, schema.DECISIONS)
    store.create(folder.key(RELEASE_FILE), release_bytes)
    store.create(folder.key(DECISIONS_FILE), decisions_bytes)
    pack_digest, signatures_digest = sha256_hex(law.pack_bytes), sha256_hex(law.signatures_bytes)
    files = {
        folder.key(MAPPING_FILE): folder.digest(MAPPING_FILE),
        folder.key(COUNTED_FILE): folder.digest(COUNTED_FILE),
        folder.key(RELEASE_FILE): sha256_hex(release_bytes),
        folder.key(DECISIONS_FILE): sha256_hex(decisions_bytes),
        pack_key(pack_digest): pack_digest,
        signatures_key(pack_digest, signatures_digest): signatures_digest,
    }
    store.create(pack_key(pack_digest), law.pack_bytes)
    store.create(signatures_key(pack_digest, signatures_digest), law.signatures_bytes)
    if law.fences_bytes is not None:
        fences_digest = sha256_hex(law.fences_bytes)
        store.create(fences_key(fences_digest), law.fences_bytes)
        files[fences_key(fences_digest)] = fences_digest
    evidence = _evidence(evaluation, gone, release.num_rows, folder=folder, pack=pack, request=request, files=files)
    evidence["counters"] = [dataclasses.asdict(one) for one in standings]
    _keep(evidence, folder, store)


def _keep(evidence: Mapping[str, Any], folder: ReleaseFolder, store: ObjectStore) -> None:
    """The evidence in its folder, where what a killed cut left there is no other.

    Raises:
        EvidenceBroken: it is another.
    """
    if not folder.has(EVIDENCE_FILE):
        store.create(folder.key(EVIDENCE_FILE), canonical_json(evidence))
        return
    found = folder.evidence()  # of a cut that was killed before its entry, or put there by somebody
    if any(found.get(name) != value for name, value in evidence.items() if name not in _OF_THE_RUN):
        raise EvidenceBroken(
            "is not what the rules decide now, and no cut of it is in the ledger",
            subject=folder.key(EVIDENCE_FILE),
            fix="find out who writes into the store, remove the release's folder, and cut again",
        )


def _columns(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    return table.select(wanted.names).cast(wanted)


def _all_decisions(decided: pa.Table, gone: Mapping[str, pa.Table]) -> pa.Table:
    undecided = (
        pa.table(
            {
                "clip_id": rows["clip_id"],
                "released": pa.array([False] * rows.num_rows, pa.bool_()),
                "withheld_by": pa.array([[rule]] * rows.num_rows, pa.list_(pa.string())),
            },
            schema=schema.DECISIONS,
        )
        for rule, rows in gone.items()
    )
    return pa.concat_tables([decided.cast(schema.DECISIONS), *undecided]).sort_by("clip_id")


def _evidence(
    evaluation: evaluate.Evaluation,
    gone: Mapping[str, pa.Table],
    released: int,
    *,
    folder: ReleaseFolder,
    pack: packs.Pack,
    request: Request,
    files: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "release_id": folder.release_id,
        "window": request.window,
        "as_of": request.as_of.isoformat(),
        "home_snapshot_id": str(request.snapshot_id),
        "recipient": request.recipient,
        "purpose": request.purpose,
        "requesters": list(request.requesters),
        "pack": {"id": pack.id, "version": pack.version, "digest": packs.digest(pack), "demo": pack.demo},
        "columns": [{"column": name, "rule": rule} for name, rule in evaluation.columns.items()],
        "counts": {
            "rows_in": evaluation.decisions.num_rows + sum(rows.num_rows for rows in gone.values()),
            "released": released,
            "withheld": evaluation.decisions.num_rows - released,
            "already_published": gone[ALREADY_PUBLISHED_RULE].num_rows,
            "withdrawn": gone[WITHDRAWN_RULE].num_rows,
        },
        "rules": dict(sorted(evaluation.rule_counts.items())),
        "canaries": evaluation.canary_count,
        "files": dict(files),
        "code_version": request.code_version,
    }


def _record(folder: ReleaseFolder, ledger: Ledger) -> None:
    evidence = folder.evidence()
    counts = evidence["counts"]
    ledger.record(
        StageCount(
            stage="release",
            subject=folder.release_id,
            rows_in=counts["rows_in"],
            accounted={name: counts.get(name, 0) for name in ("released", "withheld", "already_published", "withdrawn")},
        ),
        files={**evidence["files"], folder.key(EVIDENCE_FILE): folder.digest(EVIDENCE_FILE)},
        facts={
            "pack": f"{evidence['pack']['id']} {evidence['pack']['version']}",
            "pack_digest": evidence["pack"]["digest"],
            "as_of": evidence["as_of"],
        },
    )
