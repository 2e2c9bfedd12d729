"""Decisions: every candidate row is released, or withheld with the ids of all rules that withheld it. Denies by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import NotConserved, PackRefused
from curation.residency import canaries, geofence
from curation.residency.expression import LOCKED, compile_expression
from curation.residency.generalise import CAPTURED_DAY_SQL, GENERALISATIONS, quoted_words
from curation.residency.pack import OUTPUT_NAMES, PACK_REFUSED, UNIQUE_CLIP, OutputRule, Pack, lint, rule_ids, schema_version_of
from curation.schema import CLIPS, DECISIONS, MAPPING, RELEASE, SCHEMA_VERSION

# What comes out for a released row: the release without its random ids, and what the mapping keeps at home.
OUTPUTS: Final = pa.schema(
    [*(RELEASE.field(name) for name in OUTPUT_NAMES), *(MAPPING.field(name) for name in ("clip_id", "vehicle_id", "captured_day"))]
)

_DAY: Final = CAPTURED_DAY_SQL.format('"captured_at"') + " AS captured_day"
_MASK_BITS: Final = 62  # rules whose hits fit into one 64-bit number, sign and one more left alone


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
    if pack.schema_version != SCHEMA_VERSION:
        raise _refused(f"pack {pack.id}", f"was written for schema version {pack.schema_version!r}, the tables have {SCHEMA_VERSION!r}")
    return _decide(clips, CLIPS, pack=pack, fences=fences, published=published)


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
        raise _refused("candidates", f"are of schema version {found!r}, pack {pack.id} was written for {pack.schema_version!r}")
    return _decide(clips, clips.schema, pack=pack, fences=fences, published=published).decisions


def _decide(clips: pa.Table, schema: pa.Schema, *, pack: Pack, fences: bytes | None, published: pa.Table | None) -> Evaluation:
    lint(pack, schema)
    _same_columns(clips, schema, "candidates")
    if clips.column("clip_id").null_count:
        raise _refused("candidates", "hold a row without clip_id")
    parsed = geofence.parse_fences(fences, pack.geofence)
    counted = _published(published, pack)
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        _check_booleans(pack, schema, connection)
        birds = canaries.make(pack, fences or b"", connection, schema)
        tables = [_candidates(table, pack, geofence.flags(table, parsed, pack.geofence)) for table in (clips, birds.rows)]
        groups = np.concatenate([np.full(clips.num_rows, canaries.REAL, np.int32), np.array(birds.groups, np.int32)])
        candidates = pa.concat_tables(tables).append_column("bird", pa.array(groups))
        connection.register("candidates", candidates.append_column("position", pa.array(np.arange(len(groups)))))
        connection.register("published", counted)
        try:
            decisions, outputs, decided, shown = _run(connection, pack)
        except duckdb.Error as error:
            # DuckDB's message may quote a cell.
            raise _refused(f"pack {pack.id}", f"a rule cannot be evaluated on a row ({type(error).__name__})") from error
    positions = pc.subtract(decided.column("position"), clips.num_rows)
    decided = decided.set_column(0, "position", positions)
    count = canaries.check(birds, pack, decided, shown)
    return _evaluation(clips.num_rows, decisions.cast(DECISIONS), outputs.select(OUTPUTS.names).cast(OUTPUTS), pack, canary_count=count)


def _run(connection: duckdb.DuckDBPyConnection, pack: Pack) -> tuple[pa.Table, ...]:
    """Decisions and outputs of the real rows; then (position, released, withheld_by) and the outputs of the canaries, released or not."""
    for statement in (_TWICE_SQL, _judged_sql(pack), _cells_sql(pack), _decided_sql(pack)):
        connection.execute(statement).fetchall()
    said = ", ".join(["released", *_masks(pack)])
    shown = ", ".join(f'{_value_sql(output)} AS "{output.name}"' for output in pack.outputs)
    real = f"bird = {canaries.REAL}"
    released = f"SELECT position FROM decided WHERE released AND {real}"  # noqa: S608
    queries = (
        f"SELECT clip_id, {said} FROM decided WHERE {real} ORDER BY clip_id",  # noqa: S608
        f"SELECT {shown}, clip_id, vehicle_id, {_DAY} FROM candidates WHERE position IN ({released}) ORDER BY clip_id",  # noqa: S608
        f"SELECT position, {said} FROM decided WHERE NOT {real}",  # noqa: S608
        f"SELECT {shown} FROM candidates WHERE NOT {real}",  # noqa: S608
    )
    decisions, outputs, decided, seen = (connection.sql(query).to_arrow_table() for query in queries)
    decisions = _named(decisions, pack)
    if connection.execute(f"SELECT count(*) FROM twice WHERE {real}").fetchall() != [(0,)]:  # noqa: S608
        connection.register("decisions", decisions)
        decisions = connection.sql("FROM decisions ORDER BY clip_id, withheld_by").to_arrow_table()
    return decisions, outputs, _named(decided, pack), seen


def _masks(pack: Pack) -> Mapping[str, Sequence[str]]:
    """Column -> the rules whose hits are its bits, from the lowest on."""
    alone = [rule_id for rule_id in rule_ids(pack) if rule_id != pack.combination.id]
    return {f"mask_{start}": alone[start : start + _MASK_BITS] for start in range(0, len(alone), _MASK_BITS)}


def _named(decided: pa.Table, pack: Pack) -> pa.Table:
    """The table with `withheld_by` in place of its masks. Few combinations of rules occur, so each is spelt once."""
    masks = _masks(pack)
    codes = np.zeros(decided.num_rows, np.int64)
    for name in ("released", *masks):
        encoded = decided.column(name).cast(pa.int64()).combine_chunks().dictionary_encode()
        codes = codes * max(1, len(encoded.dictionary)) + encoded.indices.to_numpy()
    _, first, combination = np.unique(codes, return_index=True, return_inverse=True)
    spelt = []
    for row in decided.select(["released", *masks]).take(first).to_pylist():
        hits = [rule_id for name, listed in masks.items() for bit, rule_id in enumerate(listed) if row[name] >> bit & 1]
        spelt.append(hits if hits or row["released"] else [pack.combination.id])
    withheld_by = pa.array(spelt, pa.list_(pa.string())).take(pa.array(combination, pa.int64()))
    return decided.drop_columns(list(masks)).append_column("withheld_by", withheld_by)


def withhold_all(clips: pa.Table, *, rule_id: str = PACK_REFUSED) -> Evaluation:
    """Every row withheld under one rule: what is decided when the pack itself is refused."""
    ids = pc.take(clips.column("clip_id"), pc.sort_indices(clips.column("clip_id")))
    rows = len(ids)
    offsets = pa.array(range(rows + 1), pa.int32())
    rules = pa.ListArray.from_arrays(offsets, pa.array([rule_id] * rows, pa.string()))
    decisions = pa.table([ids, pa.array([False] * rows, pa.bool_()), rules], schema=DECISIONS)
    return Evaluation(decisions=decisions, outputs=OUTPUTS.empty_table(), rule_counts={rule_id: rows}, columns={})


def _refused(subject: str, problem: str) -> PackRefused:
    return PackRefused(problem, subject=subject, fix="nothing may leave; give tables under curation/schema.py and a pack written for them")


def _same_columns(found: pa.Table, wanted: pa.Schema, subject: str) -> None:
    strangers, missing = sorted(set(found.column_names) - set(wanted.names)), sorted(set(wanted.names) - set(found.column_names))
    if found.column_names != wanted.names:
        raise _refused(subject, f"columns differ (unknown: {strangers}, missing: {missing}), stand twice, or stand in another order")
    for have, want in zip(found.schema, wanted, strict=True):
        if have.type != want.type:
            raise _refused(subject, f"column {have.name} is {have.type}, not {want.type}")


def _candidates(clips: pa.Table, pack: Pack, flags: Mapping[str, geofence.Flags]) -> pa.Table:
    """The columns that rules read, and one boolean per geofence reason."""
    needed = {"clip_id", "vehicle_id", "captured_at"}
    needed.update(name for output in pack.outputs for name in output.inputs)
    needed.update(name for rule in pack.row_rules for name in rule.inputs)
    table = clips.select(sorted(needed))
    for rule_id, flag in flags.items():
        table = table.append_column(f"flag {rule_id}", pa.array(flag))
    return table


def _published(published: pa.Table | None, pack: Pack) -> pa.Table:
    wanted = [*pack.combination.quasi_identifiers, "vehicle_id", "captured_day"]
    if published is None:
        return pa.schema([OUTPUTS.field(name) for name in wanted]).empty_table()
    missing = [name for name in wanted if name not in published.column_names]
    if missing:
        raise _refused("published cells", f"lack columns {missing}, so k cannot be counted")
    for name in wanted:
        if published.schema.field(name).type != OUTPUTS.field(name).type:
            raise _refused("published cells", f"column {name} is {published.schema.field(name).type}, not {OUTPUTS.field(name).type}")
    return published.select(wanted)


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
            raise _refused(f"rule {rule.id}", f"cannot be evaluated: {' '.join(str(error).split())[:200]}") from error
        if str(bound.types[0]) != "BOOLEAN":
            raise _refused(f"rule {rule.id}", f"yields {bound.types[0]}, not a boolean")


_TWICE_SQL: Final = """
    CREATE TEMP TABLE twice AS
    WITH hashed AS (SELECT bird, hash(clip_id) AS hash FROM candidates)
    SELECT bird, clip_id FROM candidates
    WHERE hash(clip_id) IN (SELECT hash FROM hashed GROUP BY bird, hash HAVING count(*) > 1)
    GROUP BY bird, clip_id HAVING count(*) > 1
"""


def _judged_sql(pack: Pack) -> str:
    """First pass, per candidate: its cell, and the rules that withhold it alone as masks. Words are stored as their place in a list."""
    columns = ["bird", "position", "clip_id", "vehicle_id", _DAY]
    hits = {UNIQUE_CLIP: "(bird, clip_id) IN (FROM twice)"}
    for output in pack.outputs:
        value = _value_sql(output)
        hits[output.id] = f"({value}) IS NULL"
        if output.name in pack.combination.quasi_identifiers:
            columns.append(f'{_as_word(output, value)} AS "{output.name}"')
    for rule in pack.row_rules:
        hits[rule.id] = f"NOT coalesce({compile_expression(rule.require, rule.inputs, subject=f'rule {rule.id}')}, FALSE)"
    for rule_id in geofence.reasons_of(list(rule_ids(pack)), pack.geofence):
        hits[rule_id] = f'"flag {rule_id}"'
    for name, listed in _masks(pack).items():
        bits = " | ".join(f"(({hits[rule_id]})::BIGINT << {bit})" for bit, rule_id in enumerate(listed))
        columns.append(f"{bits} AS {name}")
    is_good = " AND ".join(f"{name} = 0" for name in _masks(pack))
    judged = f"SELECT {', '.join(columns)} FROM candidates"  # noqa: S608 - our snippets and checked nodes only
    return f"CREATE TEMP TABLE judged AS SELECT *, {is_good} AS is_good FROM ({judged})"  # noqa: S608 - same


def _value_sql(output: OutputRule) -> str:
    return GENERALISATIONS[output.generalisation].sql.format(*(f'candidates."{name}"' for name in output.inputs))


def _as_word(output: OutputRule, value: str) -> str:
    words = GENERALISATIONS[output.generalisation].vocabulary
    return value if words is None else f"TRY_CAST({value} AS ENUM({quoted_words(words)}))"


def _cells_sql(pack: Pack) -> str:
    """Second pass: the cells large enough for k, over the rows that pass the other rules and those still published."""
    k, cell = pack.combination, _cell(pack)
    rules = [rule for name in k.quasi_identifiers for rule in pack.outputs if rule.name == name]
    words = ", ".join(f'{_as_word(rule, f"published.{chr(34)}{rule.name}{chr(34)}")} AS "{rule.name}"' for rule in rules)
    is_known = " AND ".join(f'"{name}" IS NOT NULL' for name in k.quasi_identifiers)
    return f"""
        CREATE TEMP TABLE cells AS
        WITH counted AS (
            SELECT bird, {cell}, vehicle_id, captured_day FROM judged WHERE is_good
            UNION ALL SELECT {canaries.REAL} AS bird, {words}, vehicle_id, captured_day FROM published
        )
        SELECT bird, {cell} FROM counted WHERE {is_known} GROUP BY bird, {cell}
        HAVING count(DISTINCT vehicle_id) >= {k.min_vehicles} AND count(DISTINCT captured_day) >= {k.min_days}
    """  # noqa: S608 - ids and names are checked by the pack's patterns and the schema


def _decided_sql(pack: Pack) -> str:
    """A row leaves that passes the other rules and stands in one of those cells."""
    released = f"is_good AND (bird, {_cell(pack)}) IN (FROM cells)"
    return f"CREATE TEMP VIEW decided AS SELECT *, coalesce({released}, FALSE) AS released FROM judged"  # noqa: S608 - checked as above


def _cell(pack: Pack) -> str:
    return ", ".join(f'"{name}"' for name in pack.combination.quasi_identifiers)


def _evaluation(rows_in: int, decisions: pa.Table, outputs: pa.Table, pack: Pack, *, canary_count: int) -> Evaluation:
    released = pc.sum(decisions.column("released")).as_py() or 0
    if decisions.num_rows != rows_in or outputs.num_rows != released:
        raise NotConserved(
            f"{rows_in} candidates, {decisions.num_rows} decisions, {released} released, {outputs.num_rows} outputs",
            subject="residency evaluation",
            fix="report this as a defect; nothing may leave",
        )
    counts = dict.fromkeys(rule_ids(pack), 0)
    for found in pc.value_counts(pc.list_flatten(decisions.column("withheld_by"))).to_pylist():
        counts[found["values"]] += found["counts"]
    columns = {rule.name: rule.id for rule in pack.outputs}
    return Evaluation(decisions=decisions, outputs=outputs, rule_counts=counts, columns=columns, canary_count=canary_count)
