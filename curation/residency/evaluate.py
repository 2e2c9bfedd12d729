"""Decisions: every candidate row is released, or withheld with the ids of all rules that withheld it. Denies by default.

Two passes over small numbers: what is decided on is never text but clip and vehicle ids. Batches go in, batches come out in the order of
clip ids; between them rows stand in a database of this process, which spills into a folder where one is given.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CurationError, NotConserved, OutsideError
from curation.residency import canaries, geofence
from curation.residency.candidates import BATCH_ROWS, Candidates, columns_read, masks, published_cells, refused, same_columns
from curation.residency.expression import LOCKED, compile_expression
from curation.residency.generalise import DAY_PLACE_SQL, GENERALISATIONS, days
from curation.residency.pack import OUTPUT_NAMES, PACK_REFUSED, ROW_ID, UNIQUE_CLIP, OutputRule, Pack, lint, rule_ids, schema_version_of
from curation.schema import CLIPS, DECISIONS, MAPPING, RELEASE, SCHEMA_VERSION

# What comes out for a released row: the release without its random ids, and what the mapping keeps at home.
OUTPUTS: Final = pa.schema(
    [*(RELEASE.field(name) for name in OUTPUT_NAMES), *(MAPPING.field(name) for name in ("clip_id", "vehicle_id", "captured_day"))]
)
# Memory for rows where more of them may go into files; the interpreter and its libraries come on top.
SPILL_FROM: Final = "1GB"
_DRAWN: Final = ("id_high", "id_low")  # the 128 random bits of a row's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The outcome over all candidates.

    decisions: schema DECISIONS, by clip_id. outputs: schema OUTPUTS, by clip_id, released rows only. rule_counts: rule id -> rows
    that it withheld (a row may count under several). columns: output column -> id of the rule that let it. canary_count: made-up rows
    that were decided on too, each as it had to be; they stand in none of the others.
    """

    decisions: pa.Table
    outputs: pa.Table
    rule_counts: Mapping[str, int]
    columns: Mapping[str, str]
    canary_count: int = 0

    @property
    def row_count(self) -> int:
        """Rows decided on."""
        return int(self.decisions.num_rows)

    @property
    def released_count(self) -> int:
        """Rows whose outputs may leave."""
        return int(self.outputs.num_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The same outcome, decided whole before the first row is handed out: as `Evaluation`, with the rows still in the database.

    spelt: every combination of rules that withholds a row; the place of a row's among them is its `code`.
    """

    row_count: int
    released_count: int
    rule_counts: Mapping[str, int]
    columns: Mapping[str, str]
    canary_count: int
    pack: Pack
    spelt: Sequence[tuple[str, ...]]
    connection: duckdb.DuckDBPyConnection

    def decisions(self) -> Iterator[pa.Table]:
        """Schema DECISIONS, by clip_id, a stretch at a time.

        Raises:
            NotConserved: others came out than went in.
        """
        rows = 0
        for found in self._read("clip_id, code", "TRUE", "clip_id, code"):
            rows += found.num_rows
            yield _decisions(found, self.spelt)
        _conserved(self.row_count, rows, "written")

    def release(self) -> Iterator[pa.Table]:
        """Schema RELEASE: released rows under the ids that were drawn for them, in the order of those, so that it says nothing of clips.

        Raises:
            NotConserved: others came out than were released.
        """
        rows = 0
        for found in self._read(f"{', '.join(_DRAWN)}, {_outs()}", "released", ", ".join(_DRAWN)):
            rows += found.num_rows
            yield _words(found, self.pack).append_column(ROW_ID, _row_ids(found)).select(RELEASE.names).cast(RELEASE)
        _conserved(self.released_count, rows, "let out")

    def whole(self) -> Evaluation:
        """All of it in memory."""
        decisions, outputs = [DECISIONS.empty_table()], [OUTPUTS.empty_table()]
        for found in self._read(f"clip_id, vehicle_id, captured_day, code, {_outs()}", "TRUE", "clip_id, code"):
            decisions.append(_decisions(found, self.spelt))
            outputs.append(_outputs(found.filter(decisions[-1]["released"]), self.pack))
        evaluation = Evaluation(
            decisions=pa.concat_tables(decisions),
            outputs=pa.concat_tables(outputs),
            rule_counts=self.rule_counts,
            columns=self.columns,
            canary_count=self.canary_count,
        )
        _conserved(self.row_count, evaluation.row_count, "written")
        _conserved(self.released_count, evaluation.released_count, "let out")
        return evaluation

    def _read(self, columns: str, which: str, order: str) -> Iterator[pa.Table]:
        """Columns of some real rows, in an order; one reading at a time.

        Raises:
            OutsideError: there is no room for rows that spill.
            PackRefused: the database fails otherwise.
        """
        query = f"SELECT {columns} FROM coded WHERE {which} AND bird = {canaries.REAL} ORDER BY {order}"  # noqa: S608 - our own names
        try:
            for batch in self.connection.sql(query).to_arrow_reader(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
        except duckdb.Error as error:
            raise _failed(self.pack, error) from error


def decide(clips: pa.Table, *, pack: Pack, fences: bytes | None, published: pa.Table | None = None) -> Evaluation:
    """The decision on every row of `clips`, and the outputs of those released; independent of row order.

    Ask `signing.may_allow` first: this reads rules, not signatures.

    Args:
        clips: candidates, schema CLIPS: accepted rows that are not published now.
        pack: the rules.
        fences: bytes of the fences file; without it nothing may leave.
        published: rows still published (the quasi-identifiers, vehicle_id, captured_day), which count towards k.

    Raises:
        PackRefused: no fences or broken ones, a table's or the pack's columns are not those of the schema, a rule fails on a row, or a
            canary comes out; nothing may leave then.
        NotConserved: decisions differ from candidates in number.
    """
    with stream(_batches(clips, pack), clips.schema, pack=pack, fences=fences, published=published) as decided:
        return decided.whole()


@contextlib.contextmanager
def stream(
    batches: Iterable[pa.RecordBatch],
    found: pa.Schema,
    *,
    pack: Pack,
    fences: bytes | None,
    published: pa.Table | None = None,
    spill: Path | None = None,
    draws_ids: bool = False,
) -> Iterator[Stream]:
    """As `decide`, over batches of rows that need not fit into memory, to be read within the `with`.

    Args:
        batches: candidates, at least the columns of `candidates.columns_read`; read once, before this returns.
        found: schema of the table or file that they come from, which must be CLIPS.
        pack: as `decide`.
        fences: as `decide`.
        published: as `decide`.
        spill: folder at home for rows that do not fit into memory, this evaluation's alone; None keeps all rows in memory.
        draws_ids: whether `Stream.release` will be asked for.

    Raises:
        PackRefused, NotConserved: as `decide`.
        OutsideError: there is no room for rows that spill.
        CurationError: whatever ended the batches.
    """
    if pack.schema_version != SCHEMA_VERSION:
        raise refused(f"pack {pack.id}", f"was written for schema version {pack.schema_version!r}, the tables have {SCHEMA_VERSION!r}")
    if pack.geofence.track_covers is None:
        raise refused(f"pack {pack.id}", "does not say that a track must cover its whole clip (geofence: `track_covers: whole clip`)")
    same_columns(found, CLIPS, "candidates")
    with _decided(batches, CLIPS, pack=pack, fences=fences, published=published, spill=spill, draws_ids=draws_ids) as decided:
        yield decided


def replay(clips: pa.Table, *, pack: Pack, fences: bytes | None, published: pa.Table | None = None) -> pa.Table:
    """The decisions of an old pack, schema DECISIONS, over rows of the schema version that it was written for. Nothing leaves by them.

    Args:
        clips: rows as an old manifest holds them: the schema says its version, and each column its sensitivity.
        pack: the rules, of whatever schema version and validity.
        fences: bytes of the fences file of then.
        published: rows that were published then.

    Raises:
        PackRefused: as `decide`, or the rows are of another schema version than the pack was written for.
        SettingsError: a column says no sensitivity.
    """
    found = schema_version_of(clips.schema)
    if found != pack.schema_version:
        raise refused("candidates", f"are of schema version {found!r}, pack {pack.id} was written for {pack.schema_version!r}")
    with _decided(_batches(clips, pack), clips.schema, pack=pack, fences=fences, published=published) as decided:
        return decided.whole().decisions


def _batches(clips: pa.Table, pack: Pack) -> Iterator[pa.RecordBatch]:
    yield from clips.select(columns_read(pack, clips.schema)).to_batches(max_chunksize=BATCH_ROWS)


@contextlib.contextmanager
def _decided(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    pack: Pack,
    fences: bytes | None,
    published: pa.Table | None,
    spill: Path | None = None,
    draws_ids: bool = False,
) -> Iterator[Stream]:
    lint(pack, schema)
    parsed = geofence.parse_fences(fences, pack.geofence)
    cells = published_cells(published, pack)
    files: dict[str, str | bool] = {} if spill is None else {"temp_directory": str(spill), "memory_limit": SPILL_FROM}
    with duckdb.connect(":memory:", config=LOCKED | {"preserve_insertion_order": False} | files) as connection:
        _check_booleans(pack, schema, connection)
        birds = canaries.make(pack, fences or b"", connection, schema)
        drawn = _DRAWN if draws_ids else ()
        candidates = Candidates(pack, parsed, schema, drawn)
        connection.register("candidates", candidates.reader(batches, birds.rows, birds.groups))
        connection.register("published", cells)
        try:
            for statement in (_judged_sql(pack, drawn), _TWICE_SQL, _twins_sql(pack), _cells_sql(pack), _decided_sql(pack)):
                connection.execute(statement).fetchall()
            spelt, counts = _spelt(connection, pack)
            canary_count = canaries.check(birds, pack, *_of_canaries(connection, pack, spelt))
        except duckdb.Error as error:
            raise candidates.error or _failed(pack, error) from error
        _conserved(candidates.row_count, sum(counts.values()), "decided on")
        yield Stream(
            row_count=candidates.row_count,
            released_count=counts.get((), 0),
            rule_counts=_rule_counts(counts, pack),
            columns={rule.name: rule.id for rule in pack.outputs},
            canary_count=canary_count,
            pack=pack,
            spelt=spelt,
            connection=connection,
        )


def _failed(pack: Pack, error: duckdb.Error) -> CurationError:
    # DuckDB's message may quote a cell.
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
        problem = f"ran out of memory, or of room for rows that spill ({type(error).__name__})"
        return OutsideError(problem, subject="residency evaluation", fix="make room and try again; nothing left")
    return refused(f"pack {pack.id}", f"a rule cannot be evaluated on a row ({type(error).__name__})")


def _spelt(connection: duckdb.DuckDBPyConnection, pack: Pack) -> tuple[Sequence[tuple[str, ...]], Mapping[tuple[str, ...], int]]:
    """Every combination of rules that withholds a row, spelt once and in order; and how many real rows each withholds.

    A row's `code` in the database is the place of its combination among them. Rows leave under the one without a rule.
    """
    listed = masks(pack)
    real = f"FILTER (bird = {canaries.REAL})"
    counts = f"count(*) {real} AS row_count, count(clip_id) {real} AS named_count"
    query = f"SELECT {_said(pack)}, {counts} FROM decided GROUP BY ALL"  # noqa: S608 - our own names
    found = []
    for row in connection.sql(query).to_arrow_table().to_pylist():
        if row["named_count"] != row["row_count"]:
            raise refused("candidates", "hold a row without clip_id")
        hits = tuple(rule_id for name, rules in listed.items() for bit, rule_id in enumerate(rules) if row[name] >> bit & 1)
        if hits and row["released"]:
            raise refused(f"pack {pack.id}", f"a row was let out that {', '.join(hits)} withhold")
        found.append((hits if hits or row["released"] else (pack.combination.id,), row))
    found.sort(key=lambda one: one[0])
    places = [{"code": code, "released": row["released"], **{name: row[name] for name in listed}} for code, (_, row) in enumerate(found)]
    kinds = pa.schema([("code", pa.int32()), ("released", pa.bool_()), *((name, pa.int32()) for name in listed)])
    connection.register("spelt", pa.Table.from_pylist(places, schema=kinds))
    connection.execute(f"CREATE TEMP VIEW coded AS SELECT * FROM decided JOIN spelt USING ({_said(pack)})").fetchall()  # noqa: S608 - our own names
    return [rules for rules, _ in found], {rules: row["row_count"] for rules, row in found}


def _rule_counts(counts: Mapping[tuple[str, ...], int], pack: Pack) -> Mapping[str, int]:
    found = dict.fromkeys(rule_ids(pack), 0)
    for rules, rows in counts.items():
        for rule_id in rules:
            found[rule_id] += rows
    return found


def _of_canaries(connection: duckdb.DuckDBPyConnection, pack: Pack, spelt: Sequence[tuple[str, ...]]) -> tuple[pa.Table, pa.Table]:
    """(position, released, withheld_by) of the canaries, and their outputs, released or not."""
    query = f"SELECT position, code, {_outs()} FROM coded WHERE bird <> {canaries.REAL}"  # noqa: S608 - our own names
    found = connection.sql(query).to_arrow_table()
    released, withheld_by = _by_code(found["code"], spelt)
    return pa.table({"position": found["position"], "released": released, "withheld_by": withheld_by}), _words(found, pack)


def _decisions(found: pa.Table, spelt: Sequence[tuple[str, ...]]) -> pa.Table:
    return pa.table([found["clip_id"], *_by_code(found["code"], spelt)], schema=DECISIONS)


def _outputs(leaving: pa.Table, pack: Pack) -> pa.Table:
    captured = days().take(leaving["captured_day"])
    table = _words(leaving, pack).append_column("clip_id", leaving["clip_id"]).append_column("vehicle_id", leaving["vehicle_id"])
    return table.append_column("captured_day", captured).cast(OUTPUTS)


def with_row_ids(outputs: pa.Table) -> pa.Table:
    """Outputs as a release, schema RELEASE: under ids drawn now, in the order of those."""
    ids = _hex(secrets.token_bytes(16 * outputs.num_rows), outputs.num_rows)
    table = outputs.append_column(ROW_ID, ids).select(RELEASE.names).cast(RELEASE)
    return table.take(pc.sort_indices(ids))


def _row_ids(found: pa.Table) -> pa.Array:
    """The drawn numbers as ids of 32 hexadecimal digits, in the same order as the numbers."""
    numbers = np.stack([found[name].to_numpy() for name in _DRAWN], axis=1).astype(">u8")
    return _hex(numbers.tobytes(), found.num_rows)


def _hex(data: bytes, rows: int) -> pa.Array:
    offsets = np.arange(rows + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data.hex().encode()))


def _by_code(codes: pa.ChunkedArray, spelt: Sequence[tuple[str, ...]]) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Per row whether it is released, and the rules that withhold it."""
    is_released = pa.array([not rules for rules in spelt], pa.bool_())
    return pa.chunked_array(is_released.take(codes)), pa.chunked_array(pa.array(spelt, DECISIONS.field("withheld_by").type).take(codes))


def _words(found: pa.Table, pack: Pack) -> pa.Table:
    """The output columns, from places in their vocabularies.

    Raises:
        PackRefused: a place is none of its vocabulary.
    """
    columns = {}
    for rule in pack.outputs:
        words, places = GENERALISATIONS[rule.generalisation].vocabulary, found[f"out {rule.name}"]
        try:
            columns[rule.name] = places.cast(pa.int64()) if words is None else pa.array(words, pa.string()).take(places)
        except IndexError as error:
            raise refused(f"pack {pack.id}", f"{rule.id} yields what is no word of its vocabulary") from error
    return pa.table(columns)


def _outs() -> str:
    return ", ".join(f'"out {name}"' for name in OUTPUT_NAMES)


def _said(pack: Pack) -> str:
    return ", ".join(["released", *masks(pack)])


def _conserved(wanted: int, found: int, what: str) -> None:
    if found != wanted:
        fix = "report this as a defect; nothing may leave"
        raise NotConserved(f"{wanted} rows went in or leave, {found} were {what}", subject="residency evaluation", fix=fix)


def withhold_all(clips: pa.Table, *, rule_id: str = PACK_REFUSED) -> Evaluation:
    """Every row withheld under one rule: what is decided when the pack itself is refused."""
    ids = pc.take(clips.column("clip_id"), pc.sort_indices(clips.column("clip_id")))
    rows = len(ids)
    offsets = pa.array(range(rows + 1), pa.int32())
    rules = pa.ListArray.from_arrays(offsets, pa.array([rule_id] * rows, pa.string()))
    decisions = pa.table([ids, pa.array([False] * rows, pa.bool_()), rules], schema=DECISIONS)
    return Evaluation(decisions=decisions, outputs=OUTPUTS.empty_table(), rule_counts={rule_id: rows}, columns={})


def _check_booleans(pack: Pack, schema: pa.Schema, connection: duckdb.DuckDBPyConnection) -> None:
    """Binds every row rule over a table of its declared inputs alone.

    Raises:
        PackRefused: one does not bind there, or yields no boolean.
    """
    for rule in pack.row_rules:
        expression = compile_expression(rule.require, rule.inputs, subject=f"rule {rule.id}")
        connection.register("inputs", schema.empty_table().select(list(rule.inputs)))
        try:
            bound = connection.sql(f"SELECT {expression} AS passes FROM inputs")  # noqa: S608 - checked nodes only
        except duckdb.Error as error:
            raise refused(f"rule {rule.id}", f"cannot be evaluated: {' '.join(str(error).split())[:200]}") from error
        if str(bound.types[0]) != "BOOLEAN":
            raise refused(f"rule {rule.id}", f"yields {bound.types[0]}, not a boolean")


_TWICE_SQL: Final = """
    CREATE TEMP TABLE twice AS
    WITH hashed AS (SELECT bird, hash(clip_id) AS hash FROM judged)
    SELECT bird, clip_id FROM judged
    WHERE hash(clip_id) IN (SELECT hash FROM hashed GROUP BY bird, hash HAVING count(*) > 1)
    GROUP BY bird, clip_id HAVING count(*) > 1
"""


def judged_columns(pack: Pack, drawn: Sequence[str] = ()) -> str:
    """SELECT of the first pass: per candidate its outputs as places, and the rules that withhold it alone as bits of masks."""
    coarse, hits = [], dict[str, str]()
    for output in pack.outputs:
        coarse.append(f'({_value_sql(output)})::SMALLINT AS "out {output.name}"')
        hits[output.id] = f'"out {output.name}" IS NULL'
    for rule in pack.row_rules:
        hits[rule.id] = f"NOT coalesce({compile_expression(rule.require, rule.inputs, subject=f'rule {rule.id}')}, FALSE)"
    masked = ", ".join(f"{_bits(name, listed, hits)} AS {name}" for name, listed in masks(pack).items())
    read = sorted({"captured_at", *(output.inputs[0] for output in pack.outputs if "{day}" in GENERALISATIONS[output.generalisation].sql)})
    days = ", ".join(f'{DAY_PLACE_SQL.format(f"{chr(34)}{name}{chr(34)}")} AS "day {name}"' for name in read)
    seen = f"SELECT *, {', '.join(coarse)} FROM (SELECT *, {days} FROM candidates) AS candidates"  # noqa: S608 - our own snippets
    kept = ", ".join(["bird", "position", "clip_id", "vehicle_id", '"day captured_at" AS captured_day', *drawn])
    return f"SELECT {kept}, {_outs()}, {masked} FROM ({seen}) AS candidates"  # noqa: S608 - our own names


def _bits(mask: str, listed: Sequence[str], hits: Mapping[str, str]) -> str:
    """The bits of a mask: those of fences, which are known before, and one for each rule that a row breaks; few rows break any."""
    asked = {rule_id: bit for bit, rule_id in enumerate(listed) if rule_id in hits}
    broken = " | ".join([f'"fences {mask}"', *(f"(({hits[rule_id]})::INTEGER << {bit})" for rule_id, bit in asked.items())])
    is_broken = " OR ".join([f'"fences {mask}" <> 0', *(f"({hits[rule_id]})" for rule_id in asked)])
    return f"CASE WHEN {is_broken} THEN {broken} ELSE 0 END"


def _judged_sql(pack: Pack, drawn: Sequence[str] = ()) -> str:
    """First pass, kept: with each candidate's cell of quasi-identifiers as one number."""
    return f"CREATE TEMP TABLE judged AS SELECT *, {_cell(pack)} AS cell FROM ({judged_columns(pack, drawn)})"  # noqa: S608 - our snippets


def _twins_sql(pack: Pack) -> str:
    """A clip that stands twice is withheld wherever it stands, which is known only when all rows are."""
    [(mask, bit)] = [(name, listed.index(UNIQUE_CLIP)) for name, listed in masks(pack).items() if UNIQUE_CLIP in listed]
    return f"UPDATE judged SET {mask} = {mask} | (1 << {bit}) WHERE (bird, clip_id) IN (FROM twice)"  # noqa: S608 - our own names


def _value_sql(output: OutputRule) -> str:
    inputs = [f'candidates."{name}"' for name in output.inputs]
    places = {"place": f'"place {output.name}"', "day": f'"day {output.inputs[0]}"'}
    return GENERALISATIONS[output.generalisation].sql.format(*inputs, **places)


def _cell(pack: Pack) -> str:
    """One number for each joint value of the quasi-identifiers, null where one of them is."""
    counts = {rule.name: GENERALISATIONS[rule.generalisation].value_count for rule in pack.outputs}
    cell = "0::BIGINT"
    for name in pack.combination.quasi_identifiers:
        cell = f'({cell}) * {counts[name]} + "out {name}"'
    return cell


def _cells_sql(pack: Pack) -> str:
    """Second pass: the cells large enough for k, over the rows that pass the other rules and those still published."""
    k = pack.combination
    return f"""
        CREATE TEMP TABLE cells AS
        WITH counted AS (
            SELECT bird, cell, vehicle_id, captured_day FROM judged WHERE {_is_good(pack)}
            UNION ALL SELECT {canaries.REAL} AS bird, {_cell(pack)} AS cell, vehicle_id, captured_day FROM published
        )
        SELECT bird, cell FROM counted WHERE cell IS NOT NULL GROUP BY bird, cell
        HAVING count(DISTINCT vehicle_id) >= {k.min_vehicles} AND count(DISTINCT captured_day) >= {k.min_days}
    """  # noqa: S608 - names are checked by the pack's patterns and the schema


def _is_good(pack: Pack) -> str:
    return " AND ".join(f"{name} = 0" for name in masks(pack))


def _decided_sql(pack: Pack) -> str:
    """A row leaves that passes the other rules and stands in one of those cells."""
    released = f"{_is_good(pack)} AND (bird, cell) IN (FROM cells)"
    return f"CREATE TEMP VIEW decided AS SELECT *, coalesce({released}, FALSE) AS released FROM judged"  # noqa: S608 - as above
