"""A release's folder at home: what is in it, in which order it comes about, and what state that means.

mapping.parquet (ids drawn once) → counted.parquet → release.parquet → decisions.parquet → evidence.json (the release is cut) →
approval.json → intent.json (publishing began) → sent/… → a `publish` entry in the ledger. `superseded.json` closes a release that was
never published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from curation import schema, withdrawal_files
from curation.digests import sha256_hex
from curation.errors import CurationError, EvidenceBroken, GateRefused, LedgerUnreachable, OutsideError, UsageError
from curation.layout import release_key
from curation.ports import Clock, Ledger, LedgerView, ObjectStore
from curation.records import LedgerEntry
from curation.tables import from_parquet, to_parquet

MAPPING_FILE: Final = "mapping.parquet"
COUNTED_FILE: Final = "counted.parquet"
RELEASE_FILE: Final = "release.parquet"
DECISIONS_FILE: Final = "decisions.parquet"
EVIDENCE_FILE: Final = "evidence.json"
APPROVAL_FILE: Final = "approval.json"
INTENT_FILE: Final = "intent.json"
SUPERSEDED_FILE: Final = "superseded.json"
SENT_FOLDER: Final = "sent/"
RELEASED: Final = "release"  # kinds of ledger entries
SUPERSEDED: Final = "supersede"
PUBLISHED: Final = "publish"
REFUSED: Final = "publish_refused"
FAILED: Final = "publish_failed"  # after its commit: from here on it gets no receipt and is taken back; then REFUSED follows
REVIEWED: Final = "review"
REVIEW_FAILED: Final = "review_failed"


SKEW: Final = timedelta(seconds=5)  # between machines that keep their time by NTP; another may have appended a moment ago
_NONE: Final = pa.nulls(0, pa.string())  # pa.array of a list imports pandas: half a second of every command


class ReleaseFolder:
    """Reads the files of one release."""

    def __init__(
        self,
        store: ObjectStore,
        release_id: str,
        *,
        withdrawn: pa.Array = _NONE,
        going: pa.Array = _NONE,
        recorded: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """A release's folder.

        Args:
            store: the home store.
            release_id: which release.
            withdrawn: ids of rows that are not overseas any more, of this or other releases.
            going: clips whose rows are being withdrawn.
            recorded: key -> digest of files that the ledger recorded; under those names these bytes are read, or none.
        """
        self.store = store
        self._store = store
        self.release_id = release_id
        self._withdrawn = withdrawn
        self._going = going
        self._recorded = {key.removeprefix(self.key("")): digest for key, digest in recorded.items() if key.startswith(self.key(""))}
        self._digests: dict[str, str] = {}

    def key(self, name: str) -> str:
        """Key of a file of this release."""
        return release_key(self.release_id, name)

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return self._store.size(self.key(name)) is not None

    def digest(self, name: str) -> str:
        """SHA-256 of the file, hex; from now on this object reads these bytes under that name, or none.

        Raises:
            EvidenceBroken: the file was exchanged since.
        """
        data = self._read(name)
        return self._recorded.get(name) or self._digests.setdefault(name, sha256_hex(data))

    def _read(self, name: str) -> bytes:
        if name in self._recorded and not self.has(name):
            raise EvidenceBroken("is gone, though the ledger recorded it", subject=self.key(name), fix="restore it from a copy")
        data = self._store.read(self.key(name))
        known = self._recorded.get(name, self._digests.get(name))
        if known is not None and sha256_hex(data) != known:
            problem = "is not what the ledger recorded" if name in self._recorded else "was exchanged while it was read"
            fix = "run `curation audit verify`, restore the file from a copy, and find out who writes into the store"
            raise EvidenceBroken(problem, subject=self.key(name), fix=fix)
        return data

    def evidence(self) -> Mapping[str, Any]:
        """What was decided, on which inputs.

        Raises:
            UsageError: there is no such release.
        """
        if not self.has(EVIDENCE_FILE):
            raise UsageError("does not exist", subject=f"release {self.release_id}", fix="list them with `curation release --list`")
        return self.document(EVIDENCE_FILE)

    def document(self, name: str) -> Mapping[str, Any]:
        """A JSON file of the release."""
        value: Mapping[str, Any] = json.loads(self._read(name))
        return value

    def release(self) -> pa.Table:
        """The rows and columns that may leave."""
        return from_parquet(self._read(RELEASE_FILE), schema.RELEASE)

    def mapping(self) -> pa.Table:
        """Whose rows they are."""
        return from_parquet(self._read(MAPPING_FILE), schema.MAPPING)

    def standing(self) -> pa.Table:
        """Whose rows they are of those that were not withdrawn."""
        mapping = self.mapping()
        return _without(mapping, "release_row_id", self._withdrawn)

    def staying(self) -> pa.Table:
        """Whose rows they are of those that nothing takes away now."""
        standing = self.standing()
        return _without(standing, "clip_id", self._going)

    def is_begun(self) -> bool:
        """Whether its publication was begun."""
        return self.has(INTENT_FILE)

    def standing_name(self) -> str:
        """Names the release and which of its rows stay: its id alone where none was withdrawn."""
        mapping, staying = self.mapping(), self.staying()
        if mapping.num_rows == staying.num_rows:
            return self.release_id
        return f"{self.release_id} {sha256_hex(to_parquet(staying, schema.MAPPING))}"

    def counted(self) -> pa.Table:
        """What counters count of them."""
        return from_parquet(self._store.read(self.key(COUNTED_FILE)), schema.COUNTED)

    def decisions(self) -> pa.Table:
        """The decision on every row."""
        return from_parquet(self._store.read(self.key(DECISIONS_FILE)), schema.DECISIONS)


def _without(rows: pa.Table, column: str, values: pa.Array) -> pa.Table:
    import pyarrow.compute as pc  # noqa: PLC0415 - a trace, which an auditor waits for, takes no table apart

    return rows.filter(pc.invert(pc.is_in(rows[column], value_set=values)))


def cut_releases(store: ObjectStore) -> Iterator[ReleaseFolder]:
    """Every release that was cut completely, by id."""
    suffix = "/" + EVIDENCE_FILE
    for key in store.keys("releases/"):
        if key.endswith(suffix):
            yield ReleaseFolder(store, key.removeprefix("releases/").removesuffix(suffix))


def kinds_of(release_id: str, ledger: Ledger) -> frozenset[str]:
    """Kinds of the ledger entries about a release."""
    return frozenset(entry.kind for entry in ledger.entries() if entry.subject == release_id)


def open_publications(store: ObjectStore, entries: Sequence[LedgerEntry]) -> tuple[str, ...]:
    """Ids of releases whose publication began and has neither receipt nor refusal: under way, or broken off with rows abroad or not."""
    ended = {entry.subject for entry in entries if entry.kind in {PUBLISHED, REFUSED}}
    prefix, suffix = "releases/", "/" + INTENT_FILE
    begun = (key.removeprefix(prefix).removesuffix(suffix) for key in store.keys(prefix) if key.endswith(suffix))
    return tuple(sorted(release_id for release_id in begun if release_id not in ended))


def left_releases(store: ObjectStore, ledger: Ledger) -> list[ReleaseFolder]:
    """Every release whose rows are abroad, or may be, by id; each knows which of its rows were withdrawn.

    Published, or begun and not refused: between intent and receipt the rows may be abroad already. The ledger says which releases there
    are, and their files are those that it recorded at the cut: nobody who can write into the store hides one, or makes one up.

    Raises:
        EvidenceBroken: what was withdrawn is not what the ledger recorded; or, when it is read, what was cut.
    """
    entries = list(ledger.entries())
    withdrawn = withdrawal_files.withdrawn_row_ids(store, entries)
    going = withdrawal_files.going(store, entries)["clip_id"].combine_chunks()
    cuts = {entry.subject: entry.files for entry in entries if entry.kind == RELEASED}
    left = {entry.subject for entry in entries if entry.kind == PUBLISHED} | set(open_publications(store, entries))
    return [ReleaseFolder(store, name, withdrawn=withdrawn, going=going, recorded=cuts[name]) for name in sorted(left & cuts.keys())]


def recorded_folder(store: ObjectStore, release_id: str, ledger: Ledger) -> ReleaseFolder:
    """The release's folder, which reads what the ledger recorded at its cut; as it lies there where none was recorded."""
    cuts = (entry.files for entry in ledger.entries() if (entry.kind, entry.subject) == (RELEASED, release_id))
    return ReleaseFolder(store, release_id, recorded=next(cuts, {}))


def counted_releases(store: ObjectStore, ledger: LedgerView) -> Iterator[tuple[str, date, pa.Table]]:
    """Id, day and what counters count (schema COUNTED) of every release that the ledger says was ever cut, in its order.

    A superseded, refused or withdrawn release stays counted: what was reserved once is never given back.

    Raises:
        EvidenceBroken: what was counted is not what the ledger recorded.
    """
    for entry in ledger.entries():
        if entry.kind != RELEASED:
            continue
        folder = ReleaseFolder(store, entry.subject)
        key = folder.key(COUNTED_FILE)
        if key not in entry.files or not folder.has(COUNTED_FILE) or folder.digest(COUNTED_FILE) != entry.files[key]:
            raise EvidenceBroken(
                "is not what the ledger recorded, so nothing can be counted",
                subject=key,
                fix="restore the file from a copy; then cut again",
            )
        yield entry.subject, date.fromisoformat(entry.facts["as_of"]), from_parquet(store.read(key), schema.COUNTED)


def published_clip_ids(left: Sequence[ReleaseFolder]) -> pa.Array:
    """Clips whose rows are in one of the releases and were not withdrawn."""
    return pa.concat_arrays([_NONE, *(chunk for folder in left for chunk in folder.standing()["clip_id"].chunks)])


def published_cells(left: Sequence[ReleaseFolder], quasi_identifiers: Sequence[str]) -> pa.Table | None:
    """What k counts of the releases: quasi-identifiers, vehicle_id and captured_day of every row that stays; None for no release."""
    parts = [folder.release().join(folder.staying(), "release_row_id", join_type="inner") for folder in left]
    if not parts:
        return None
    return pa.concat_tables(parts).select([*quasi_identifiers, "vehicle_id", "captured_day"])


def check_review(ledger: Ledger) -> None:
    """Nothing, unless the last review of what is overseas failed: then nobody knows whether the rules still hold.

    Raises:
        GateRefused: it did.
    """
    reviews = [entry for entry in ledger.entries() if entry.kind in {REVIEWED, REVIEW_FAILED}]
    if reviews and reviews[-1].kind == REVIEW_FAILED:
        raise GateRefused(
            f"the last one failed ({reviews[-1].facts['reason']}), so nothing is published",
            subject="review of what is overseas",
            fix="mend its cause and run `curation review`",
        )


def check_clock(ledger: Ledger, clock: Clock) -> None:
    """Nothing, unless time runs backwards: what has expired must not become valid again by setting a clock.

    Raises:
        LedgerUnreachable: nobody can tell.
        CurationError: the clock stands before the ledger's last entry.
    """
    try:
        last, now = ledger.head(), clock.now()
    except OutsideError as error:
        raise LedgerUnreachable(
            f"cannot be read, so nothing leaves: {error.problem}", subject="ledger", fix="bring its store back, then run this again"
        ) from error
    if last is not None and datetime.fromisoformat(last.at) > now + SKEW:
        raise CurationError(
            f"the clock says {now.isoformat()}, but the ledger's last entry is of {last.at}",
            subject="clock",
            fix="set the machine's clock; nothing is released until then",
        )
