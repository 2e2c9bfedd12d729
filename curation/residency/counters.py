"""Volume caps and counters: how many rows one release may hold, and of how much all releases together may speak.

Both come after every other rule. Which rows go first is told by clip ids, hashes of bytes: cell by cell, the one first that holds the
lowest, so the choice is the same again; k is then counted anew over the rows that leave. Used up is what any release ever cut holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.residency.assessment import in_force
from curation.residency.evaluate import Evaluation
from curation.residency.expression import LOCKED
from curation.residency.generalise import CAPTURED_DAY_SQL, GENERALISATIONS
from curation.residency.pack import Counted, CounterRule, Pack, Period, VolumeCap
from curation.schema import COUNTED, DECISIONS

Level = Literal["open", "warn", "hold", "block"]

WARN_TENTHS: Final = 7  # of the limit; 70 %, 90 % and the limit itself stand in issue D and in regulation.md, "Stateful rules"
HOLD_TENTHS: Final = 9
HOUR_MS: Final = 3_600_000
# Pictures at least this far apart are stills, not video: GB/T 44464-2024, Annex B, takes pictures >= 1 s apart.
STILLS_MAX_FPS: Final = 1
_NO_PLACE: Final = ""
# What is counted once each: its subject, the group whose limit it is, and which rows speak of it.
_SUBJECTS: Final[Mapping[Counted, tuple[str, str, str]]] = {
    "people": ("person", f"'{_NO_PLACE}'", "TRUE"),
    "sensitive_people": ("person", f"'{_NO_PLACE}'", "is_sensitive"),
    "vehicles": ("vehicle_id", f"'{_NO_PLACE}'", "TRUE"),
    "prefecture_flow_days": ("captured_day", "place", "TRUE"),
}
_READS: Final = ("clip_id", "vehicle_id", "driver_id", "province", "city", "captured_at", "duration_s", "fps", "frame_count")
_AMOUNTS: Final[Mapping[Counted, tuple[str, int]]] = {"raw_hours": ("raw_ms", HOUR_MS), "images": ("image_count", 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one release that was cut speaks of: schema COUNTED, on the day it is dated."""

    release_id: str
    as_of: date
    counted: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A counter's limit on a day, and the number of the assessment that raised it, None where none did."""

    rule: CounterRule
    limit: int
    assessment: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a counter stood before a cut and stands after it, in whole units begun; of places, the one that is furthest."""

    counter: str
    counts: Counted
    period: Period
    before: int
    after: int
    limit: int
    level: Level
    assessment: str | None


def level_of(amount: int, limit: int) -> Level:
    """`block` at the limit, `hold` from 90 % of it, `warn` from 70 %, else `open`; both in the same unit."""
    if amount >= limit:
        return "block"
    if amount * 10 >= limit * HOLD_TENTHS:
        return "hold"
    return "warn" if amount * 10 >= limit * WARN_TENTHS else "open"


def limits(pack: Pack, *, trusted_keys: Mapping[str, Sequence[str]], today: date) -> tuple[Limit, ...]:
    """Every counter's limit today.

    Raises:
        PackRefused: an assessment in force does not carry legal's signature.
    """
    raised = in_force(pack, trusted_keys=trusted_keys, today=today)
    return tuple(
        Limit(rule=rule, limit=raised[rule.id].new_limit, assessment=raised[rule.id].number)
        if rule.id in raised
        else Limit(rule=rule, limit=rule.limit, assessment=None)
        for rule in pack.counters
    )


def counted_rows(clips: pa.Table, clip_ids: pa.Array | pa.ChunkedArray, pack: Pack) -> pa.Table:
    """What rows of these clips speak of, schema COUNTED, by clip_id.

    Args:
        clips: schema CLIPS, holding each of the clips once, its vehicle, day, province, rate and length known.
        clip_ids: clips whose rows leave.
        pack: the rules; they tell whether an output is made of a picture or a track.
    """
    prefecture = "city" if "city" in clips.column_names else "NULL"
    stills = "greatest(coalesce(frame_count, 0), CAST(ceil(duration_s * fps) AS BIGINT) + 1)"
    sql = f"""
        SELECT clip_id, vehicle_id,
               sha256(CASE WHEN driver_id <> '' THEN 'driver:' || driver_id ELSE 'vehicle:' || vehicle_id END) AS person,
               {"TRUE" if has_sensitive_output(pack) else "FALSE"} AS is_sensitive,
               CASE WHEN {prefecture} <> '' THEN province || '/' || {prefecture} ELSE province END AS place,
               {CAPTURED_DAY_SQL.format("captured_at")} AS captured_day,
               CAST(ceil(duration_s * 1000) AS BIGINT) AS raw_ms,
               CASE WHEN fps <= {STILLS_MAX_FPS} THEN {stills} ELSE 0 END AS image_count
        FROM clips ORDER BY clip_id
    """  # noqa: S608 - our own snippets
    needed = [name for name in clips.column_names if name in _READS]
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        connection.register("clips", clips.filter(pc.is_in(clips["clip_id"], value_set=_flat(clip_ids))).select(needed))
        return connection.sql(sql).to_arrow_table().cast(COUNTED)


def _flat(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids


def has_sensitive_output(pack: Pack) -> bool:
    """Whether an output is made of a picture or a track, which AUTO-2021 Art. 3 calls sensitive whatever is done to them."""
    inputs = [wanted for rule in pack.outputs for wanted in GENERALISATIONS[rule.generalisation].inputs]
    return any(wanted.sensitivity == "picture" or pa.types.is_nested(wanted.type) for wanted in inputs)


def used(reservations: Sequence[Reservation], rule: CounterRule, as_of: date) -> pa.Table:
    """What the releases before used up of a counter's period, schema COUNTED, a row per clip and release."""
    parts = [one.counted for one in reservations if one.as_of <= as_of and (rule.period == "lifetime" or one.as_of.year == as_of.year)]
    return pa.concat_tables([COUNTED.empty_table(), *parts])


def limit(
    evaluation: Evaluation,
    clips: pa.Table,
    *,
    pack: Pack,
    limits: Sequence[Limit],
    reservations: Sequence[Reservation],
    as_of: date,
    published: pa.Table | None,
) -> tuple[Evaluation, tuple[Standing, ...]]:
    """The evaluation with the rows withheld that a cap or counter keeps back, and where every counter stands then.

    A row is withheld that would take a counter to 90 % of its limit or over; from the limit on every row is, new to the counter or not.

    Args:
        evaluation: what every other rule said of `clips`.
        clips: the candidates, schema CLIPS.
        pack: the rules.
        limits: today's.
        reservations: every other release that was ever cut.
        as_of: the day the release is dated.
        published: as `evaluate.decide`.
    """
    fresh = counted_rows(clips, evaluation.outputs["clip_id"], pack) if limits else COUNTED.empty_table()
    before = {one.rule.id: used(reservations, one.rule, as_of) for one in limits}
    caps = [cap for cap in pack.volume_caps if evaluation.released_count > cap.max_rows]
    reached = [one for one in limits if _standing(one, before[one.rule.id], fresh).level in {"hold", "block"}]
    hits = dict.fromkeys((*(cap.id for cap in pack.volume_caps), *(one.rule.id for one in limits)), pa.array([], pa.string()))
    if caps or reached:
        hits |= _hits(evaluation.outputs, fresh, pack=pack, caps=caps, limits=reached, before=before)
    left = _withhold(evaluation, hits)
    if left.released_count < evaluation.released_count:  # what went may have been what made a cell large
        left = _k_again(left, pack, published)
    stays = fresh.filter(pc.is_in(fresh["clip_id"], value_set=_flat(left.outputs["clip_id"])))
    return left, tuple(_standing(one, before[one.rule.id], stays) for one in limits)


def _hits(
    outputs: pa.Table, counted: pa.Table, *, pack: Pack, caps: Sequence[VolumeCap], limits: Sequence[Limit], before: Mapping[str, pa.Table]
) -> dict[str, pa.Array]:
    """Rule id -> clips that it withholds. Rows go first cell by cell, so that what stays behind is whole cells and k is kept."""
    cell = ", ".join(f'"{name}"' for name in pack.combination.quasi_identifiers)
    ranked = f"""
        CREATE TEMP TABLE ranked AS SELECT *, row_number() OVER (ORDER BY first_of_cell, clip_id) AS position
        FROM (SELECT *, min(clip_id) OVER (PARTITION BY {cell}) AS first_of_cell FROM outputs)
    """  # noqa: S608 - names are checked by the pack's patterns and the schema
    hits = {}
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        connection.register("outputs", outputs)
        connection.register("counted", counted)
        connection.execute(ranked)
        connection.execute("CREATE TEMP TABLE fresh AS SELECT counted.*, position FROM counted JOIN ranked USING (clip_id)")
        for cap in caps:
            per = ", ".join(f'"{name}"' for name in cap.per)
            rank = f"row_number() OVER ({f'PARTITION BY {per} ' if per else ''}ORDER BY position)"
            hits[cap.id] = _ids(connection, f"SELECT clip_id FROM ranked QUALIFY {rank} > {cap.max_rows}")  # noqa: S608 - names of outputs
        for one in limits:
            connection.register("used", before[one.rule.id])
            hits[one.rule.id] = _ids(connection, _withheld_sql(one))
    return hits


def _ids(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Array:
    return connection.sql(sql).to_arrow_table()["clip_id"].combine_chunks()


def _withheld_sql(one: Limit) -> str:
    """Clips of `fresh` whose rows would take the counter of `used` to its hold mark or over."""
    counts = one.rule.counts
    if counts in _AMOUNTS:
        column, unit = _AMOUNTS[counts]
        most = one.limit * unit
        return f"""
            WITH spent AS (SELECT coalesce(sum(amount), 0) AS amount FROM (SELECT max({column}) AS amount FROM used GROUP BY clip_id)),
            added AS (
                SELECT clip_id, clip_id NOT IN (SELECT clip_id FROM used) AS is_new,
                       sum(CASE WHEN clip_id IN (SELECT clip_id FROM used) THEN 0 ELSE {column} END) OVER (ORDER BY position) AS amount
                FROM fresh
            )
            SELECT clip_id FROM added, spent
            WHERE spent.amount >= {most} OR (is_new AND (spent.amount + added.amount) * 10 >= {most} * {HOLD_TENTHS})
        """  # noqa: S608 - our own snippets and numbers
    subject, group, is_spoken_of = _SUBJECTS[counts]
    return f"""
        WITH known AS (SELECT DISTINCT {group} AS place, {subject} AS subject FROM used WHERE {is_spoken_of}),
        spent AS (SELECT place, count(*) AS amount FROM known GROUP BY place),
        asked AS (SELECT clip_id, position, {group} AS place, CASE WHEN {is_spoken_of} THEN {subject} END AS subject FROM fresh),
        newcomers AS (
            SELECT place, subject, row_number() OVER (PARTITION BY place ORDER BY min(position)) AS rank
            FROM asked ANTI JOIN known USING (place, subject) WHERE subject IS NOT NULL GROUP BY place, subject
        )
        SELECT clip_id FROM asked LEFT JOIN newcomers USING (place, subject) LEFT JOIN spent USING (place)
        WHERE coalesce(spent.amount, 0) >= {one.limit}
           OR (rank IS NOT NULL AND (coalesce(spent.amount, 0) + rank) * 10 >= {one.limit} * {HOLD_TENTHS})
    """  # noqa: S608 - our own snippets and numbers


def _withhold(evaluation: Evaluation, hits: Mapping[str, pa.Array]) -> Evaluation:
    """The evaluation with these released clips withheld under the rules that hit them; rules that hit none are told with 0."""
    counts = dict(evaluation.rule_counts)
    for rule_id, ids in hits.items():
        counts[rule_id] = counts.get(rule_id, 0) + len(ids)
    clip_ids = pa.concat_arrays([pa.array([], pa.string()), *hits.values()])
    if not len(clip_ids):
        return dataclasses.replace(evaluation, rule_counts=counts)
    rules = pa.array([rule_id for rule_id, ids in hits.items() for _ in range(len(ids))], pa.string())
    sql = """
        WITH withheld AS (SELECT clip_id, list(rule ORDER BY rule) AS rules FROM hits GROUP BY clip_id)
        SELECT clip_id, released AND rules IS NULL AS released, coalesce(rules, withheld_by) AS withheld_by
        FROM decisions LEFT JOIN withheld USING (clip_id) ORDER BY clip_id, withheld_by
    """
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        connection.register("hits", pa.table({"clip_id": clip_ids, "rule": rules}))
        connection.register("decisions", evaluation.decisions)
        decisions = connection.sql(sql).to_arrow_table().cast(DECISIONS)
    outputs = evaluation.outputs.filter(pc.invert(pc.is_in(evaluation.outputs["clip_id"], value_set=clip_ids)))
    return dataclasses.replace(evaluation, decisions=decisions, outputs=outputs, rule_counts=counts)


def _k_again(evaluation: Evaluation, pack: Pack, published: pa.Table | None) -> Evaluation:
    """The evaluation without the cells that hold too few vehicles or days now."""
    k = pack.combination
    cell = ", ".join(f'"{name}"' for name in k.quasi_identifiers)
    wanted = [*k.quasi_identifiers, "vehicle_id", "captured_day"]
    abroad = evaluation.outputs.select(wanted).slice(0, 0) if published is None else published.select(wanted)
    sql = f"""
        WITH counted AS (SELECT {cell}, vehicle_id, captured_day FROM outputs UNION ALL SELECT * FROM abroad),
        small AS (
            SELECT {cell} FROM counted GROUP BY {cell}
            HAVING count(DISTINCT vehicle_id) < {k.min_vehicles} OR count(DISTINCT captured_day) < {k.min_days}
        )
        SELECT clip_id FROM outputs JOIN small USING ({cell})
    """  # noqa: S608 - names are checked by the pack's patterns and the schema
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        connection.register("outputs", evaluation.outputs)
        connection.register("abroad", abroad)
        return _withhold(evaluation, {k.id: _ids(connection, sql)})


def amount(counts: Counted, counted: pa.Table) -> int:
    """How much rows of schema COUNTED speak of, each clip and subject once: milliseconds of `raw_hours`, days of the furthest place."""
    if counts in _AMOUNTS:
        column, _ = _AMOUNTS[counts]
        return int(pc.sum(counted.group_by("clip_id").aggregate([(column, "max")])[f"{column}_max"]).as_py() or 0)
    subject, group, is_spoken_of = _SUBJECTS[counts]
    rows = counted.filter(counted["is_sensitive"]) if is_spoken_of == "is_sensitive" else counted
    if group != "place":
        return int(pc.count_distinct(rows[subject]).as_py())
    return int(pc.max(rows.group_by("place").aggregate([(subject, "count_distinct")])[f"{subject}_count_distinct"]).as_py() or 0)


def unit_of(counts: Counted) -> int:
    """How many of what `amount` counts make one of what a limit counts."""
    return _AMOUNTS[counts][1] if counts in _AMOUNTS else 1


def _standing(one: Limit, before: pa.Table, added: pa.Table) -> Standing:
    counts, unit = one.rule.counts, unit_of(one.rule.counts)
    was, now = amount(counts, before), amount(counts, pa.concat_tables([before, added]))
    return Standing(
        counter=one.rule.id,
        counts=counts,
        period=one.rule.period,
        before=-(-was // unit),
        after=-(-now // unit),
        limit=one.limit,
        level=level_of(now, one.limit * unit),
        assessment=one.assessment,
    )
