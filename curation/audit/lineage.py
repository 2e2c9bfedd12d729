"""What left, as lineage tools are told of it: a fold over the ledger that names tables, columns, rules and packs, and no clip or row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from curation.audit.trace import recorded_document
from curation.errors import EvidenceBroken
from curation.ports import ObjectStore
from curation.records import LedgerEntry, LineageColumn, LineageRun
from curation.release_files import EVIDENCE_FILE, PUBLISHED, REFUSED, RELEASED, ReleaseFolder
from curation.residency import pack as packs
from curation.schema import RELEASE
from curation.withdrawal_files import WITHDRAWN

PUBLISH_JOB: Final = "publish"
WITHDRAW_JOB: Final = "withdraw"
DRAWN_RULE: Final = "drawn at random"  # of the row id, which is made of nothing and which every pack lets out
_ROW_ID: Final = "release_row_id"


def runs(
    entries: Sequence[LedgerEntry], store: ObjectStore, *, curated_table: str, published_table: str, from_entry: int = 0
) -> Iterator[LineageRun]:
    """One run for each publication, refused publication and withdrawal, in the ledger's order; the same entry gives the same run.

    Args:
        entries: the ledger's, all of them, their chain already proved.
        store: the home store.
        curated_table: what publications are made of.
        published_table: the overseas table.
        from_entry: number of the first entry to tell of.

    Raises:
        EvidenceBroken: a release's evidence or pack is not what the ledger recorded.
    """
    cuts = {entry.subject: entry for entry in entries if entry.kind == RELEASED}
    for entry in entries[from_entry:]:
        if entry.kind in {PUBLISHED, REFUSED}:
            yield _publication(entry, cuts[entry.subject], store, curated_table, published_table)
        elif entry.kind == WITHDRAWN:
            facts = {"withdrawal_id": entry.subject, "cause": entry.facts["cause"]}
            row_count = entry.counts.get("withdrawn", 0)
            yield _run(entry, WITHDRAW_JOB, published_table, published_table, row_count=row_count, facts=facts)


def _publication(entry: LedgerEntry, cut: LedgerEntry, store: ObjectStore, curated_table: str, published_table: str) -> LineageRun:
    evidence = recorded_document(ReleaseFolder(store, entry.subject), EVIDENCE_FILE, cut)
    facts = {"release_id": entry.subject, "pack_digest": evidence["pack"]["digest"], "evidence_digest": _evidence_digest(cut)}
    facts |= {"snapshot_id": entry.facts["snapshot_id"]} if "snapshot_id" in entry.facts else {}
    return _run(
        entry,
        PUBLISH_JOB,
        curated_table,
        published_table,
        row_count=entry.counts.get("published", 0),
        succeeded=entry.kind == PUBLISHED,
        pack=f"{evidence['pack']['id']} {evidence['pack']['version']}",
        columns=_columns(evidence, store) if entry.kind == PUBLISHED else (),
        facts=facts,
    )


def _evidence_digest(cut: LedgerEntry) -> str:
    return next(digest for key, digest in cut.files.items() if key.endswith(EVIDENCE_FILE))


def _columns(evidence: Mapping[str, Any], store: ObjectStore) -> tuple[LineageColumn, ...]:
    """Every column of the release with the rule that let it out, as evidence names it, and what that rule of the pack makes it of."""
    key = next((name for name in evidence["files"] if name.startswith("packs/") and name.endswith(".yaml")), "")
    pack = packs.parse(store.read(key)) if key else None
    if pack is None or packs.digest(pack) != evidence["pack"]["digest"]:
        fix = "run `curation audit verify`; restore the file from a copy"
        raise EvidenceBroken("is not the pack that decided", subject=key or f"pack of release {evidence['release_id']}", fix=fix)
    sources = {rule.name: rule.inputs for rule in pack.outputs}
    rules = {one["column"]: one["rule"] for one in evidence["columns"]}
    named = (name for name in RELEASE.names if name != _ROW_ID)
    drawn = LineageColumn(column=_ROW_ID, rule=DRAWN_RULE, sources=())
    return (drawn, *(LineageColumn(column=name, rule=rules[name], sources=tuple(sources[name])) for name in named))


def _run(
    entry: LedgerEntry,
    job: str,
    source: str,
    target: str,
    *,
    row_count: int,
    facts: Mapping[str, str],
    succeeded: bool = True,
    pack: str = "",
    columns: tuple[LineageColumn, ...] = (),
) -> LineageRun:
    digest = entry.digest()
    return LineageRun(
        sequence=entry.sequence,
        run_id=str(uuid.uuid5(uuid.NAMESPACE_OID, digest)),
        job=job,
        succeeded=succeeded,
        at=entry.at,
        source=source,
        target=target,
        row_count=row_count,
        pack=pack,
        columns=columns,
        facts={**facts, "ledger_entry": f"{entry.sequence}:{digest}"},
    )
