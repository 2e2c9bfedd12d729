"""Rows that rules decide on, batch by batch: checked against their schema, words as places in their vocabularies, fences as bits."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CurationError, PackRefused
from curation.residency import geofence
from curation.residency.generalise import GENERALISATIONS, days
from curation.residency.pack import OutputRule, Pack, rule_ids

BATCH_ROWS: Final = 131_072
# Rules whose hits fit into one 32-bit number, sign and one more left alone.
MASK_BITS: Final = 30
_GEOFENCE_INPUTS: Final = ("latitude_deg", "longitude_deg", "datum", "gnss_error_m", "track", "duration_s")
_READ_ALWAYS: Final = ("clip_id", "vehicle_id", "captured_at")


def refused(subject: str, problem: str) -> PackRefused:
    """The refusal of an evaluation, under which nothing may leave."""
    return PackRefused(problem, subject=subject, fix="nothing may leave; give tables under curation/schema.py and a pack written for them")


def same_columns(found: pa.Schema, wanted: pa.Schema, subject: str) -> None:
    """Nothing, if the columns are those wanted, by name, order and type.

    Raises:
        PackRefused: names the column that is not.
    """
    strangers, missing = sorted(set(found.names) - set(wanted.names)), sorted(set(wanted.names) - set(found.names))
    if found.names != wanted.names:
        raise refused(subject, f"columns differ (unknown: {strangers}, missing: {missing}), stand twice, or stand in another order")
    for have, want in zip(found, wanted, strict=True):
        if have.type != want.type:
            raise refused(subject, f"column {have.name} is {have.type}, not {want.type}")


def columns_read(pack: Pack, schema: pa.Schema) -> list[str]:
    """The columns that an evaluation reads, in the order of the schema; all others may be left unread."""
    needed = {*_READ_ALWAYS, *_GEOFENCE_INPUTS, *_named(pack)}
    return [name for name in schema.names if name in needed]


def masks(pack: Pack) -> Mapping[str, Sequence[str]]:
    """Column -> the rules whose hits are its bits, from the lowest on; k, which no row breaks alone, has none."""
    alone = [rule_id for rule_id in rule_ids(pack) if rule_id != pack.combination.id]
    return {f"mask_{start}": alone[start : start + MASK_BITS] for start in range(0, len(alone), MASK_BITS)}


class Candidates:
    """Batches of rows on their way into the evaluator's database, counted; and the error that ended them, if one did."""

    def __init__(self, pack: Pack, fences: geofence.Fences, schema: pa.Schema, drawn: Sequence[str] = ()) -> None:
        """Prepares for rows under `schema`, of which those of `columns_read` come; each gets a random number in every column of `drawn`."""
        self._pack, self._fences, self._drawn = pack, fences, drawn
        self._columns = columns_read(pack, schema)
        self._looked_up = [rule for rule in pack.outputs if GENERALISATIONS[rule.generalisation].reads_place]
        self.schema = pa.schema(
            [schema.field(name).remove_metadata() for name in self._columns if name not in set(_GEOFENCE_INPUTS) - _named(pack)]
            + [pa.field(f"place {rule.name}", pa.int16()) for rule in self._looked_up]
            + [pa.field(f"fences {name}", pa.int32()) for name in masks(pack)]
            + [pa.field("bird", pa.int32()), pa.field("position", pa.int32())]
            + [pa.field(name, pa.uint64()) for name in drawn]
        )
        self.row_count = 0
        self.error: CurationError | None = None

    def reader(self, batches: Iterable[pa.RecordBatch], birds: pa.Table, groups: Sequence[int]) -> pa.RecordBatchReader:
        """All batches, then the canaries, each in its group and at its position; real rows stand in group and position 0."""
        return pa.RecordBatchReader.from_batches(self.schema, self._prepared(batches, birds, groups))

    def _prepared(self, batches: Iterable[pa.RecordBatch], birds: pa.Table, groups: Sequence[int]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                self.row_count += batch.num_rows
                zeros = pa.array(np.zeros(batch.num_rows, np.int32))
                yield self._prepare(batch, zeros, zeros)
        except CurationError as error:
            self.error = error  # the database that asks for batches tells no more than that they ended badly
            raise
        for batch in birds.select(self._columns).combine_chunks().to_batches():
            yield self._prepare(batch, pa.array(groups, pa.int32()), pa.array(range(len(groups)), pa.int32()))

    def _prepare(self, batch: pa.RecordBatch, bird: pa.Array, position: pa.Array) -> pa.RecordBatch:
        flags = geofence.flags(pa.Table.from_batches([batch]), self._fences, self._pack.geofence)
        arrays = {name: batch.column(name) for name in self._columns}
        arrays |= {f"place {rule.name}": place(batch.column(rule.inputs[0]), rule) for rule in self._looked_up}
        for name, listed in masks(self._pack).items():
            bits = np.zeros(batch.num_rows, np.int32)
            for rule_id in flags.keys() & set(listed):
                bits |= flags[rule_id].astype(np.int32) << listed.index(rule_id)
            arrays[f"fences {name}"] = pa.array(bits)
        arrays |= {"bird": bird, "position": position}
        arrays |= {name: pa.array(np.frombuffer(secrets.token_bytes(8 * batch.num_rows), np.uint64)) for name in self._drawn}
        return pa.RecordBatch.from_arrays([arrays[name] for name in self.schema.names], schema=self.schema)


def _named(pack: Pack) -> set[str]:
    inputs = [*(rule.inputs for rule in pack.outputs), *(rule.inputs for rule in pack.row_rules)]
    return {name for names in inputs for name in names}


def place(words: pa.Array, rule: OutputRule) -> pa.Array:
    """Per word its place in the vocabulary of an output, null where it is none of it."""
    return pc.index_in(words, value_set=pa.array(GENERALISATIONS[rule.generalisation].vocabulary, pa.string())).cast(pa.int16())


def published_cells(published: pa.Table | None, pack: Pack) -> pa.Table:
    """What counts towards k of rows still published: per row the places of its quasi-identifiers, its vehicle and its day's place.

    Raises:
        PackRefused: a column that k needs is missing, or of another type than a release's.
    """
    rules = [next(rule for rule in pack.outputs if rule.name == name) for name in pack.combination.quasi_identifiers]
    kinds = {rule.name: GENERALISATIONS[rule.generalisation].output for rule in rules} | {
        "vehicle_id": pa.string(),
        "captured_day": pa.string(),
    }
    if published is None:
        published = pa.schema(list(kinds.items())).empty_table()
    missing = [name for name in kinds if name not in published.column_names]
    if missing:
        raise refused("published cells", f"lack columns {missing}, so k cannot be counted")
    for name, kind in kinds.items():
        if published.schema.field(name).type != kind:
            raise refused("published cells", f"column {name} is {published.schema.field(name).type}, not {kind}")
    columns = {
        f"out {rule.name}": published[rule.name] if rule.name not in _worded(pack) else place(published[rule.name], rule) for rule in rules
    }
    day = pc.index_in(published["captured_day"], value_set=days())
    return pa.table(columns | {"vehicle_id": published["vehicle_id"], "captured_day": day})


def _worded(pack: Pack) -> set[str]:
    return {rule.name for rule in pack.outputs if GENERALISATIONS[rule.generalisation].vocabulary is not None}
