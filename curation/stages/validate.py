"""Validate a batch on a branch of the home table, and make the branch main only if every declared check ran and passed.

Rerun or killed at any point, the same manifest leads to the same state: main carries the digest of each manifest that it took in.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import schema
from curation.errors import ConcurrentChange, ImmutableConflict, NotConserved, OutsideError, ValidationFailed
from curation.layout import manifest_key, validation_key
from curation.ports import HomeCatalog, Ledger, ObjectStore, Validator
from curation.records import SnapshotInfo, StageCount, ValidationResult
from curation.tables import as_written, from_parquet

STAGE: Final = "validate"
PROOF: Final = "proof"  # kind of a ledger entry about a table that is no manifest
SUITE: Final = "clips"
BATCH_ID: Final = "curation.batch-id"
MANIFEST_DIGEST: Final = "curation.manifest-digest"
# A clip that another batch brought, or that was measured again, is the same row as long as all but these are equal.
OF_THE_RUN: Final = ("batch_id", "source_uri", "inspected_at")
# Said of a clip by whichever batch brings what shows the same; its own batch's first manifest does not take it back.
OF_OTHERS: Final = ("duplicate_of", "near_group")
_COUNTED: Final = ("added", "replaced", "already_curated")
_ATTEMPTS: Final = 32  # a batch loses at most one round to each batch that runs beside it

Report = Callable[[str, ValidationResult], str]
Turn = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a manifest brings to main as it was at `head`."""

    head: int | None
    write: pa.Table
    replace: tuple[str, ...]
    counts: Mapping[str, int]


def run(
    batch_id: str,
    manifest: pa.Table,
    *,
    catalog: HomeCatalog,
    table: str,
    validator: Validator,
    store: ObjectStore,
    ledger: Ledger,
    report: Report,
    key: str | None = None,
    related: Mapping[str, pa.Table] | None = None,
    turn: Turn = nullcontext,
) -> StageCount:
    """Where each row of the manifest went: added, replaced or already_curated.

    Args:
        manifest: the rows of the manifest in the store, under `schema.CLIPS`.
        report: renders a result as a page of HTML.
        key: where the manifest rests, if it is not the batch's first: then its rows replace what is curated of those clips.
        related: tables that the manifest is held against: `stored` and `history`, as `expectations/` names them.
        turn: keeps other batches away from main during a round, so that none audits in vain; compare-and-set alone keeps main right, so
            whoever cannot have it goes on without.

    Raises:
        ValidationFailed: names the failing checks; the branch is dropped, main stays as it was, result and report are kept.
        NotConserved: `manifest` is not what the store holds, or the branch gave other rows back than were written.
        ConcurrentChange: other batches were faster again and again.
    """
    key = key or manifest_key(batch_id)
    data = store.read(key)
    if _texts(from_parquet(data, schema.CLIPS)) != _texts(manifest):
        raise NotConserved("the rows given are not those of its manifest", subject=f"batch {batch_id}", fix="read the manifest again")
    digest = hashlib.sha256(data).hexdigest()
    books = _Books(batch_id=batch_id, manifest_key=key, manifest_digest=digest, store=store, ledger=ledger, report=report)

    def audited(rows: pa.Table) -> ValidationResult:
        return validator.validate(SUITE, as_written(rows, data), related)

    rounds = _Rounds(
        catalog=catalog, table=table, manifest=manifest, books=books, audited=audited, is_revision=key != manifest_key(batch_id)
    )
    for _ in range(_ATTEMPTS):
        with ExitStack() as held:
            try:
                held.enter_context(turn())
            except OutsideError:  # its holder hangs, or its database does: compare-and-set needs neither
                turn = nullcontext
            found = rounds.one()
        if found is not None:
            result, counts = found
            return books.passed(result or audited(manifest), counts)
    raise ConcurrentChange(
        f"main moved on {_ATTEMPTS} times", subject=f"batch {batch_id}", fix="validate it again when fewer batches run at once"
    )


def _taken_in(catalog: HomeCatalog, table: str, batch_id: str, digest: str, *, last_only: bool) -> Mapping[str, int] | None:
    """The counts with which main took this very manifest in, None if it never did.

    Args:
        last_only: only if nothing of the batch came after it: whoever goes back to earlier settings wants the rows of then again.
    """
    of_batch = [snapshot for snapshot in catalog.snapshots(table) if snapshot.properties.get(BATCH_ID) == batch_id]
    for snapshot in of_batch[-1:] if last_only else of_batch:
        if snapshot.properties.get(MANIFEST_DIGEST) == digest:
            return {name: int(snapshot.properties[f"curation.{name}"]) for name in _COUNTED}
    return None


def _plan(catalog: HomeCatalog, table: str, manifest: pa.Table, *, of_the_run: tuple[str, ...]) -> _Plan:
    head = catalog.head(table)
    clip_ids = manifest.column("clip_id").to_pylist()
    curated = catalog.read(table, snapshot_id=head, clip_ids=clip_ids) if head is not None else schema.CLIPS.empty_table()
    known = dict(zip(curated.column("clip_id").to_pylist(), _contents(curated, of_the_run), strict=True))
    often = Counter(clip_ids)
    fates = [
        # A clip that stands twice in the manifest is written twice, for the audit to see.
        "added" if clip_id not in known or often[clip_id] > 1 else "already_curated" if known[clip_id] == content else "replaced"
        for clip_id, content in zip(clip_ids, _contents(manifest, of_the_run), strict=True)
    ]
    return _Plan(
        head=head,
        write=manifest.filter(pa.array([fate != "already_curated" for fate in fates], pa.bool_())),
        replace=tuple(clip_id for clip_id, fate in zip(clip_ids, fates, strict=True) if fate == "replaced"),
        counts={name: fates.count(name) for name in _COUNTED},
    )


def _contents(rows: pa.Table, of_the_run: tuple[str, ...]) -> list[str]:
    return _texts(rows.drop_columns(list(of_the_run)))


def _texts(rows: pa.Table) -> list[str]:
    """Each row as text; equal rows give equal text, NaN included."""

    def plain(row: Mapping[str, Any]) -> str:
        unordered = {**row, "unmeasured": sorted(row["unmeasured"] or ())}
        return json.dumps(unordered, sort_keys=True, default=str)

    return [plain(row) for row in rows.to_pylist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rounds:
    """Plan, branch, audit, advance: one round of a manifest against main as it finds it."""

    catalog: HomeCatalog
    table: str
    manifest: pa.Table
    books: _Books
    audited: Callable[[pa.Table], ValidationResult]
    is_revision: bool

    def one(self) -> tuple[ValidationResult | None, Mapping[str, int]] | None:
        """The result under which main took the manifest in, and its counts; no result where main holds it already.

        None if main moved on meanwhile.
        """
        catalog, table, books = self.catalog, self.table, self.books
        done = _taken_in(catalog, table, books.batch_id, books.manifest_digest, last_only=self.is_revision)
        if done is not None:
            return None, done
        plan = _plan(catalog, table, self.manifest, of_the_run=OF_THE_RUN if self.is_revision else (*OF_THE_RUN, *OF_OTHERS))
        # Main forgets snapshots after a while, the ledger does not: an older manifest must not bring its rows back.
        recorded = None if plan.counts["added"] else books.taken_in(catalog.snapshots(table), last_only=self.is_revision)
        if recorded is not None or not plan.write.num_rows:
            return None, recorded or plan.counts
        result = self._audit(plan)
        return None if result is None else (result, plan.counts)

    def _audit(self, plan: _Plan) -> ValidationResult | None:
        """The result under which the branch became main; None if main moved on meanwhile."""
        catalog, table, books = self.catalog, self.table, self.books
        branch = f"batch-{books.batch_id}"
        properties = {BATCH_ID: books.batch_id, MANIFEST_DIGEST: books.manifest_digest}
        properties |= {f"curation.{name}": str(plan.counts[name]) for name in _COUNTED}
        catalog.write_branch(table, branch, plan.write, replace=plan.replace, properties=properties)
        if catalog.head(table) != plan.head:  # the branch may have grown from rows that the plan has not seen
            catalog.drop_branch(table, branch)
            return None
        rows = catalog.read(table, branch=branch, clip_ids=sorted(set(self.manifest.column("clip_id").to_pylist())))
        result = self.audited(rows)
        if not result.passed:
            catalog.drop_branch(table, branch)
            books.refused(result, self.manifest.num_rows)
        written = rows.filter(pc.is_in(rows.column("clip_id"), plan.write.column("clip_id")))
        if rows.num_rows != self.manifest.num_rows or not written.equals(plan.write.sort_by("clip_id")):
            catalog.drop_branch(table, branch)
            raise NotConserved(
                f"{self.manifest.num_rows} rows in, {rows.num_rows} came back from the branch, or not as they were written",
                subject=f"batch {books.batch_id}",
                fix="report this as a defect of the catalog; main stays as it was",
            )
        books.keep(result)  # before main advances: a row of main always has its proof
        return result if catalog.advance(table, branch) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Books:
    """Keeps a batch's results and reports, and records what became of it."""

    batch_id: str
    manifest_key: str
    manifest_digest: str
    store: ObjectStore
    ledger: Ledger
    report: Report

    def taken_in(self, known: Sequence[SnapshotInfo], *, last_only: bool) -> Mapping[str, int] | None:
        """The counts with which the ledger says that main took this manifest in, None if it never did.

        Args:
            known: main's snapshots, which know of what a killed run did not record.
            last_only: as `_taken_in`.
        """
        if last_only and any(snapshot.properties.get(BATCH_ID) == self.batch_id for snapshot in known):
            return None
        passed = [entry for entry in self.ledger.entries() if (entry.kind, entry.subject) == (STAGE, self.batch_id)]
        passed = [entry for entry in passed if entry.facts.get("passed") == "true"]
        for entry in passed[-1:] if last_only else passed:
            if entry.files.get(self.manifest_key) == self.manifest_digest:
                return {name: entry.counts.get(name, 0) for name in _COUNTED}
        return None

    def keep(self, result: ValidationResult) -> dict[str, str]:
        """Key -> SHA-256 of the result and its report, written once.

        A result that differs from an earlier one (another suite, or another fate of the rows) stands beside it under its own digest.
        """
        return _kept(self.batch_id, result, store=self.store, report=self.report)

    def passed(self, result: ValidationResult, counts: Mapping[str, int]) -> StageCount:
        """The recorded count of a batch that main holds.

        Raises:
            ValidationFailed: the result did not pass after all.
        """
        if not result.passed:
            self.refused(result, sum(counts.values()))
        return self._record(result, StageCount(stage=STAGE, subject=self.batch_id, rows_in=sum(counts.values()), accounted=counts))

    def refused(self, result: ValidationResult, rows_in: int) -> None:
        """Record that the batch was refused.

        Raises:
            ValidationFailed: always; names the failing checks and how many rows each.
        """
        self._record(result, StageCount(stage=STAGE, subject=self.batch_id, rows_in=rows_in, accounted={"refused": rows_in}))
        raise ValidationFailed(
            f"{_summary(result)}; main stays as it was",
            subject=f"batch {self.batch_id}",
            fix=f"read {validation_key(self.batch_id, 'report.html')}, mend the cause and make the manifest anew",
        )

    def _record(self, result: ValidationResult, count: StageCount) -> StageCount:
        files = {**self.keep(result), self.manifest_key: self.manifest_digest}
        self.ledger.record(count.check(), files=files, facts=_facts(result))
        return count


def prove(
    suite: str,
    rows: pa.Table,
    *,
    subject: str,
    related: Mapping[str, pa.Table],
    validator: Validator,
    store: ObjectStore,
    ledger: Ledger,
    report: Report,
) -> ValidationResult:
    """The passed result of a table that is no manifest, kept with its report and recorded.

    Args:
        suite: listing, decisions, release or shards.
        subject: the batch, release or shard set that the table is of.
        related: every table that the suite's checks need.

    Raises:
        ValidationFailed: names the failing checks and how many rows each; result and report are kept all the same.
    """
    result = validator.validate(suite, rows, related)
    files = _kept(subject, result, store=store, report=report, before=f"{suite}-")
    fate = "proven" if result.passed else "refused"
    count = StageCount(stage=PROOF, subject=subject, rows_in=rows.num_rows, accounted={fate: rows.num_rows})
    ledger.record(count.check(), files=files, facts=_facts(result))
    if not result.passed:
        page = next(key for key in files if key.endswith(".html"))
        raise ValidationFailed(_summary(result), subject=f"{suite} of {subject}", fix=f"read {page} and mend the cause")
    return result


def _kept(subject: str, result: ValidationResult, *, store: ObjectStore, report: Report, before: str = "") -> dict[str, str]:
    data = (json.dumps(as_json(result), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    page = report(subject, result).encode()

    def write(mark: str) -> dict[str, str]:
        files = {f"{before}result{mark}.json": data, f"{before}report{mark}.html": page}
        for name, content in files.items():
            store.create(validation_key(subject, name), content)
        return {validation_key(subject, name): hashlib.sha256(content).hexdigest() for name, content in files.items()}

    try:
        return write("")
    except ImmutableConflict:
        return write(f"-{hashlib.sha256(data + page).hexdigest()[:16]}")


def as_json(result: ValidationResult) -> dict[str, Any]:
    """The result as plain values, `passed` with it: counts and clip ids only."""
    return dataclasses.asdict(result) | {"passed": result.passed}


def _facts(result: ValidationResult) -> dict[str, str]:
    facts = {name: str(getattr(result, name)) for name in ("suite", "suite_digest", "declared", "executed", "skipped", "errored")}
    facts |= {"warned": str(len(result.warnings))} if result.warnings else {}
    return facts | {"rows_examined": str(result.rows_examined), "passed": str(result.passed).lower()}


def _summary(result: ValidationResult) -> str:
    ran = f"{result.executed} of {result.declared} checks ran over {result.rows_examined} of {result.rows_present} rows"
    failing = ", ".join(f"{failure.check} ({failure.problem}, {failure.row_count} rows)" for failure in result.failures)
    return f"{ran}; failing: {failing or 'none named'}"
