"""What a withdrawal leaves at home, in the order in which it comes about, and which clips and rows that makes withdrawn.

request.json and asked.parquet (a `withdraw_request` entry) → a `withdraw_confirm` entry (from here on it is carried out) → rows.parquet
→ shards.json and a `removed` entry, where shard sets hold the clips → receipt.json (a `withdraw` entry: none of it is left).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from curation.digests import sha256_hex
from curation.errors import EvidenceBroken, UsageError
from curation.layout import withdrawal_key
from curation.ports import ObjectStore
from curation.records import LedgerEntry
from curation.schema import column
from curation.tables import from_parquet

REQUEST_FILE: Final = "request.json"
ASKED_FILE: Final = "asked.parquet"
ROWS_FILE: Final = "rows.parquet"
SHARDS_FILE: Final = "shards.json"
RECEIPT_FILE: Final = "receipt.json"
ASKED_FOR: Final = "withdraw_request"  # kinds of ledger entries
CONFIRMED: Final = "withdraw_confirm"
WITHDRAWN: Final = "withdraw"
ON_REQUEST: Final = "request"  # causes: a person asked, and the clips never leave again; or today's rules do not let the rows out
BY_REVIEW: Final = "review"
BY_EXPIRY: Final = "expiry"

ASKED: Final = pa.schema(
    [
        column("clip_id", pa.string(), "internal", "the clip whose row is to be withdrawn", nullable=False),
        column("release_row_id", pa.string(), "internal", "the one row meant; none where every row of the clip is"),
        column("withheld_by", pa.list_(pa.string()), "internal", "ids of the rules that withhold it now; none on request", nullable=False),
    ],
    metadata={"curation.table": "asked"},
)
ROWS: Final = pa.schema(
    [
        column("release_row_id", pa.string(), "internal", "random id of a row that was overseas", nullable=False),
        column("release_id", pa.string(), "internal", "the release that it left in", nullable=False),
        column("clip_id", pa.string(), "internal", "the clip it spoke of", nullable=False),
    ],
    metadata={"curation.table": "rows"},
)


def entries_of(kind: str, entries: Sequence[LedgerEntry]) -> Mapping[str, LedgerEntry]:
    """The first entry of this kind of each withdrawal, by its id."""
    found: dict[str, LedgerEntry] = {}
    for entry in entries:
        if entry.kind == kind:
            found.setdefault(entry.subject, entry)
    return found


def read_recorded(withdrawal_id: str, name: str, *, kind: str, store: ObjectStore, entries: Sequence[LedgerEntry]) -> bytes:
    """A file of a withdrawal, as an entry of this kind recorded it.

    Raises:
        UsageError: no such withdrawal was recorded.
        EvidenceBroken: the file is not what was recorded.
    """
    entry = entries_of(kind, entries).get(withdrawal_id)
    if entry is None:
        raise UsageError("was never asked for", subject=f"withdrawal {withdrawal_id}", fix="ask first (`curation withdraw request`)")
    key = withdrawal_key(withdrawal_id, name)
    data = store.read(key) if store.size(key) is not None else b""
    if entry.files.get(key) != sha256_hex(data):
        raise EvidenceBroken("is not what the ledger recorded", subject=key, fix="restore the file from a copy; find out who changed it")
    return data


def read_asked(withdrawal_id: str, *, store: ObjectStore, entries: Sequence[LedgerEntry]) -> pa.Table:
    """What was asked for, schema ASKED.

    Raises:
        UsageError, EvidenceBroken: as `read_recorded`.
    """
    return from_parquet(read_recorded(withdrawal_id, ASKED_FILE, kind=ASKED_FOR, store=store, entries=entries), ASKED)


def cause_of(entry: LedgerEntry) -> str:
    """Why a withdrawal came about, by any of its entries."""
    return entry.facts["cause"]


def barred_clip_ids(store: ObjectStore, entries: Sequence[LedgerEntry]) -> pa.Array:
    """Clips that a person had withdrawn, or is having withdrawn: their rows never leave again."""
    confirmed = [name for name, entry in entries_of(CONFIRMED, entries).items() if cause_of(entry) == ON_REQUEST]
    return _joined(read_asked(name, store=store, entries=entries)["clip_id"] for name in confirmed)


def withdrawn_row_ids(store: ObjectStore, entries: Sequence[LedgerEntry]) -> pa.Array:
    """Ids of all rows that were withdrawn: none of them is overseas any more."""
    done = entries_of(WITHDRAWN, entries)
    read = (read_recorded(name, ROWS_FILE, kind=WITHDRAWN, store=store, entries=entries) for name in done)
    return _joined(from_parquet(data, ROWS)["release_row_id"] for data in read)


def going(store: ObjectStore, entries: Sequence[LedgerEntry]) -> pa.Table:
    """What withdrawals that are confirmed and not finished are taking away, schema ASKED."""
    done = entries_of(WITHDRAWN, entries)
    under_way = [name for name in entries_of(CONFIRMED, entries) if name not in done]
    return pa.concat_tables([ASKED.empty_table(), *(read_asked(name, store=store, entries=entries) for name in under_way)])


def _joined(columns: Iterator[pa.ChunkedArray]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *(chunk for one in columns for chunk in one.chunks)])


def read_document(withdrawal_id: str, name: str, *, kind: str, store: ObjectStore, entries: Sequence[LedgerEntry]) -> Mapping[str, Any]:
    """A JSON file of a withdrawal, as `read_recorded`."""
    value: Mapping[str, Any] = json.loads(read_recorded(withdrawal_id, name, kind=kind, store=store, entries=entries))
    return value
