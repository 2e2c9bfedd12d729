"""Decisions: every candidate row is released, or withheld with the ids of all rules that withheld it. Denies by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import NotConserved, PackRefused
from curation.residency import canaries, geofence
from curation.residency.expression import LOCKED, compile_expression
from curation.residency.generalise import CAPTURED_DAY_SQL, GENERALISATIONS
from curation.residency.pack import OUTPUT_NAMES, PACK_REFUSED, UNIQUE_CLIP, Pack, lint, rule_ids
from curation.schema import CLIPS, DECISIONS, MAPPING, RELEASE, SCHEMA_VERSION

# What comes out for a released row: the release without its random ids, and what the mapping keeps at home.
OUTPUTS: Final = pa.schema(
    [*(RELEASE.field(name) for name in OUTPUT_NAMES), *(MAPPING.field(name) for name in ("clip_id", "vehicle_id", "captured_day"))]
)


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
    lint(pack)
    _same_columns(clips, CLIPS, "candidates")
    if clips.column("clip_id").null_count:
        raise _refused("candidates", "hold a row without clip_id")
    parsed = geofence.parse_fences(fences, pack.geofence)
    counted = _published(published, pack)
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        _check_booleans(pack, connection)
        birds = canaries.make(pack, fences or b"", connection)
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
    return _evaluation(clips.num_rows, decisions.cast(DECISIONS), outputs.cast(OUTPUTS), pack, canary_count=count)


def _run(connection: duckdb.DuckDBPyConnection, pack: Pack) -> tuple[pa.Table, ...]:
    """Decisions and outputs of the real rows; then (position, released, withheld_by) and the outputs of the canaries, released or not."""
    connection.execute(_judged_sql(pack)).fetchall()
    connection.execute(_decided_sql(pack)).fetchall()
    names, shown = (", ".join(f'"{name}"' for name in listed) for listed in (OUTPUTS.names, OUTPUT_NAMES))
    real = f"bird = {canaries.REAL}"
    queries = (
        f"SELECT clip_id, released, withheld_by FROM decided WHERE {real} ORDER BY clip_id, withheld_by",  # noqa: S608
        f"SELECT {names} FROM judged WHERE position IN (SELECT position FROM decided WHERE released AND {real}) ORDER BY clip_id",  # noqa: S608
        f"SELECT position, released, withheld_by FROM decided WHERE NOT {real}",  # noqa: S608
        f"SELECT {shown} FROM judged WHERE NOT {real}",  # noqa: S608
    )
    return tuple(connection.sql(query).to_arrow_table() for query in queries)


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


def _check_booleans(pack: Pack, connection: duckdb.DuckDBPyConnection) -> None:
    """Binds every row rule over a table of its declared inputs alone.

    Raises:
        PackRefused: one does not bind there, or yields no boolean.
    """
    for rule in pack.row_rules:
        expression = compile_expression(rule.require, rule.inputs, subject=f"rule {rule.id}")
        connection.register("inputs", CLIPS.empty_table().select(list(rule.inputs)))
        try:
            bound = connection.sql(f"SELECT {expression} AS passes FROM inputs")  # noqa: S608 - checked nodes only
        except duckdb.Error as error:
            raise _refused(f"rule {rule.id}", f"cannot be evaluated: {' '.join(str(error).split())[:200]}") from error
        if str(bound.types[0]) != "BOOLEAN":
            raise _refused(f"rule {rule.id}", f"yields {bound.types[0]}, not a boolean")


def _judged_sql(pack: Pack) -> str:
    """One row per candidate: its outputs, and per rule whether the rule withholds it."""
    columns = [
        "bird",
        "position",
        "clip_id",
        "vehicle_id",
        CAPTURED_DAY_SQL.format('"captured_at"') + " AS captured_day",
        f'count(*) OVER (PARTITION BY bird, clip_id) > 1 AS "{UNIQUE_CLIP}"',
    ]
    for output in pack.outputs:
        value = GENERALISATIONS[output.generalisation].sql.format(*(f'candidates."{name}"' for name in output.inputs))
        columns.append(f'{value} AS "{output.name}"')
    columns.extend(
        f'NOT coalesce({compile_expression(rule.require, rule.inputs, subject=f"rule {rule.id}")}, FALSE) AS "{rule.id}"'
        for rule in pack.row_rules
    )
    columns.extend(f'"flag {rule_id}" AS "{rule_id}"' for rule_id in geofence.reasons_of(list(rule_ids(pack)), pack.geofence))
    return f"CREATE TEMP TABLE judged AS SELECT {', '.join(columns)} FROM candidates"  # noqa: S608 - our snippets and checked nodes only


def _decided_sql(pack: Pack) -> str:
    """Two passes: the rules of the row alone, then k over the rows that pass them and those still published."""
    alone = [rule_id for rule_id in rule_ids(pack) if rule_id != pack.combination.id]
    outputs = {rule.id: f'judged."{rule.name}" IS NULL' for rule in pack.outputs}
    hits = {rule_id: outputs.get(rule_id, f'judged."{rule_id}"') for rule_id in alone}
    cell = ", ".join(f'"{name}"' for name in pack.combination.quasi_identifiers)
    named = ", ".join(f"CASE WHEN {hit} THEN '{rule_id}' END" for rule_id, hit in hits.items())
    k = pack.combination
    return f"""
        CREATE TEMP TABLE decided AS
        WITH screened AS (
            SELECT judged.*, list_filter([{named}], lambda rule: rule IS NOT NULL) AS alone FROM judged
        ), counted AS (
            SELECT bird, {cell}, vehicle_id, captured_day FROM screened WHERE len(alone) = 0
            UNION ALL SELECT {canaries.REAL} AS bird, {cell}, vehicle_id, captured_day FROM published
        ), cells AS (
            SELECT bird, {cell}, count(DISTINCT vehicle_id) >= {k.min_vehicles} AND count(DISTINCT captured_day) >= {k.min_days} AS is_large
            FROM counted GROUP BY bird, {cell}
        ), joined AS (
            SELECT bird, position, clip_id, alone, coalesce(is_large, FALSE) AS is_large FROM screened LEFT JOIN cells USING (bird, {cell})
        )
        SELECT bird, position, clip_id, len(alone) = 0 AND is_large AS released,
               CASE WHEN len(alone) = 0 AND NOT is_large THEN ['{k.id}'] ELSE alone END AS withheld_by
        FROM joined
    """  # noqa: S608 - ids and names are checked by the pack's patterns and the schema


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
