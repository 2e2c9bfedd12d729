"""Releases as the ledger and their evidence tell of them: what waits, left, came back; and under which rule and article."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from curation import withdrawal_files
from curation.audit.batches import Document
from curation.audit.recorded import Recorded, accounted
from curation.errors import EvidenceBroken
from curation.layout import pack_key, release_key
from curation.records import LedgerEntry
from curation.release_files import APPROVAL_FILE, EVIDENCE_FILE, INTENT_FILE, PUBLISHED, REFUSED, RELEASED
from curation.residency import pack as packs
from curation.residency.counters import Standing
from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import Confidence, Wording
from curation.tables import from_parquet

State = Literal["waiting", "approved", "publishing", "published", "partly withdrawn", "withdrawn", "refused", "superseded", "empty"]
LEFT: Final = frozenset({"published", "partly withdrawn", "withdrawn"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a rule rests on, in two languages; `title` is the instrument's."""

    rule: str
    reason: Wording
    article: Wording
    title: Wording
    confidence: Confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHits:
    """A rule and how many rows it withheld; a row may fall under several. `basis` is None for the evaluator's own rules.

    An output rule withholds no row for its own sake, but for a gap: `column` could not be told, since one of `inputs` was missing or had no
    known value. Both are empty for every other rule.
    """

    rule: str
    row_count: int
    basis: Basis | None
    column: str = ""
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingColumn:
    """A column that leaves, the columns it is made of, how coarse it is in two languages, and the rule that lets it."""

    column: str
    inputs: tuple[str, ...]
    coarse: Wording
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLine:
    """A release: its window, state and counts; times are ISO 8601, empty where it did not come to that."""

    release_id: str
    window: str
    as_of: str
    state: State
    cut_at: str
    published_at: str
    rows_in: int
    released: int
    withheld: int
    withdrawn: int
    pack: str
    approver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release with everything that an auditor asks of it. `approval` is None where nobody approved."""

    line: ReleaseLine
    accounted: Mapping[str, int]
    columns: tuple[LeavingColumn, ...]
    rules: tuple[RuleHits, ...]
    recipient: str
    purpose: str
    requesters: tuple[str, ...]
    home_snapshot_id: str
    snapshot_id: str
    pack_digest: str
    pack_file_digest: str
    canary_count: int
    ticket: str
    approved_at: str
    refusal: str
    counters: tuple[Standing, ...]
    files: tuple[Document, ...]


def lines(on: Recorded) -> tuple[ReleaseLine, ...]:
    """Every release that was cut, the latest first.

    Raises:
        EvidenceBroken: what was withdrawn is not what the ledger recorded.
    """
    back = withdrawn_rows(on)
    cuts: dict[str, LedgerEntry] = {}
    own: dict[str, dict[str, LedgerEntry]] = {}
    for entry in on.entries:
        if entry.kind == RELEASED:
            cuts.setdefault(entry.subject, entry)
        own.setdefault(entry.subject, {})[entry.kind] = entry
    return tuple(_line(cut, own[name], back.get(name, 0), on) for name, cut in reversed(cuts.items()))


def withdrawn_rows(on: Recorded) -> Mapping[str, int]:
    """Release -> how many of its rows were withdrawn.

    Raises:
        EvidenceBroken: as `lines`.
    """
    kind = withdrawal_files.WITHDRAWN
    found: Counter[str] = Counter()
    for name in withdrawal_files.entries_of(kind, on.entries):
        data = withdrawal_files.read_recorded(name, withdrawal_files.ROWS_FILE, kind=kind, store=on.store, entries=on.entries)
        found.update(from_parquet(data, withdrawal_files.ROWS)["release_id"].to_pylist())
    return found


def _line(cut: LedgerEntry, own: Mapping[str, LedgerEntry], withdrawn: int, on: Recorded) -> ReleaseLine:
    released, published, approved = cut.counts.get("released", 0), own.get(PUBLISHED), own.get("approve")
    return ReleaseLine(
        release_id=cut.subject,
        window=cut.subject.rpartition("-")[0],
        as_of=cut.facts["as_of"],
        state=_state(cut.subject, own, released, withdrawn, on),
        cut_at=cut.at,
        published_at="" if published is None else published.at,
        rows_in=cut.counts["rows_in"],
        released=released,
        withheld=cut.counts.get("withheld", 0),
        withdrawn=withdrawn,
        pack=cut.facts["pack"],
        approver="" if approved is None else approved.facts.get("approver", ""),
    )


def _state(release_id: str, own: Mapping[str, LedgerEntry], released: int, withdrawn: int, on: Recorded) -> State:
    if PUBLISHED in own:
        return "published" if not withdrawn else "withdrawn" if withdrawn >= released else "partly withdrawn"
    if REFUSED in own:
        return "refused"
    if "supersede" in own:
        return "superseded"
    if not released:
        return "empty"
    if on.store.size(release_key(release_id, INTENT_FILE)) is not None:
        return "publishing"
    return "approved" if "approve" in own else "waiting"


def release(release_id: str, on: Recorded) -> Release | None:
    """One release, None where the ledger knows none of that id.

    Raises:
        EvidenceBroken: evidence, approval or pack is not what the ledger recorded.
    """
    line = next((one for one in lines(on) if one.release_id == release_id), None)
    if line is None:
        return None
    own = on.about(release_id)
    evidence = on.document(release_key(release_id, EVIDENCE_FILE))
    pack, pack_file_digest = pack_of(evidence, on)
    approval = on.document(release_key(release_id, APPROVAL_FILE)) if "approve" in own else {}
    files = {key for entry in on.entries if entry.subject == release_id for key in entry.files if key in on.digests}
    return Release(
        line=line,
        accounted=accounted(own[RELEASED]),
        columns=tuple(_leaving(one["column"], one["rule"], pack) for one in evidence["columns"]) if line.released else (),
        rules=rule_hits(evidence["rules"], pack),
        recipient=evidence["recipient"],
        purpose=evidence["purpose"],
        requesters=tuple(approval.get("requesters", evidence["requesters"])),
        home_snapshot_id=evidence["home_snapshot_id"],
        snapshot_id=own[PUBLISHED].facts["snapshot_id"] if PUBLISHED in own else "",
        pack_digest=evidence["pack"]["digest"],
        pack_file_digest=pack_file_digest,
        canary_count=evidence["canaries"],
        ticket=approval.get("ticket", ""),
        approved_at=approval.get("approved_at", ""),
        refusal=own[REFUSED].facts.get("reason", "") if REFUSED in own else "",
        counters=tuple(Standing(**one) for one in evidence["counters"]),
        files=tuple(Document(key=key, sha256=on.digests[key]) for key in sorted(files)),
    )


def last_cut_under(pack_file_digest: str, on: Recorded) -> Release | None:
    """The last release that was cut under the pack of that file, None where there is none.

    Raises:
        EvidenceBroken: as `release`.
    """
    key = pack_key(pack_file_digest)
    cut = next((entry for entry in reversed(on.entries) if entry.kind == RELEASED and key in entry.files), None)
    return None if cut is None else release(cut.subject, on)


def pack_of(evidence: Mapping[str, Any], on: Recorded) -> tuple[packs.Pack, str]:
    """The pack under which a release was cut, and the digest of its file.

    Raises:
        EvidenceBroken: the evidence names none, or the file is not what was recorded.
    """
    for key, digest in evidence["files"].items():
        if key == pack_key(digest):
            pack = packs.read(on.read(key))
            if isinstance(pack, packs.Pack):
                return pack, digest
    raise EvidenceBroken("names no pack of rules", subject=f"evidence of {evidence['release_id']}", fix="run `curation audit verify`")


def rule_hits(counts: Mapping[str, int], pack: packs.Pack) -> tuple[RuleHits, ...]:
    """Every rule that was asked, those that withheld most first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    outputs = {output.id: output for output in pack.outputs}
    return tuple(_hits(rule, rows, outputs.get(rule), pack) for rule, rows in ordered)


def _hits(rule: str, row_count: int, output: packs.OutputRule | None, pack: packs.Pack) -> RuleHits:
    column, inputs = ("", ()) if output is None else (output.name, output.inputs)
    return RuleHits(rule=rule, row_count=row_count, basis=basis_of(rule, pack), column=column, inputs=inputs)


def basis_of(rule_id: str, pack: packs.Pack) -> Basis | None:
    """What the rule of that id rests on; a reason of the geofence rests on what the geofence rests on."""
    by_id = {rule.id: rule for rule in pack.rules}
    rule = by_id.get(rule_id) or by_id.get(rule_id.partition(".")[0])
    if rule is None:
        return None
    article = rule.article if isinstance(rule.article, Wording) else Wording(en=rule.article, zh=rule.article)
    title = next(source.title for source in pack.sources if source.id == rule.source)
    return Basis(rule=rule.id, reason=rule.reason, article=article, title=title, confidence=rule.confidence)


def _leaving(column: str, rule_id: str, pack: packs.Pack) -> LeavingColumn:
    output = next(rule for rule in pack.outputs if rule.id == rule_id)
    said, basis = GENERALISATIONS[output.generalisation], basis_of(rule_id, pack)
    if basis is None:
        raise EvidenceBroken(f"has no rule {rule_id}", subject=f"pack {pack.id} {pack.version}", fix="run `curation audit verify`")
    return LeavingColumn(column=column, inputs=output.inputs, coarse=Wording(en=said.says_en, zh=said.says_zh), basis=basis)
