"""Packs: strict reading, full accounting, canonical bytes."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from curation.errors import PackRefused
from curation.residency import pack as packs
from curation.residency.expression import compile_expression
from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import Pack
from curation.schema import CLIPS, RELEASE, SENSITIVITIES, column


@pytest.mark.parametrize("name", ["cn-baseline", "cn-demo"])
def test_shipped_packs_are_whole(name: str, pack_bytes: Callable[[str], bytes]) -> None:
    """Both shipped packs parse, withhold every class, and let out exactly the columns of a release."""
    pack = packs.parse(pack_bytes(name))
    assert set(SENSITIVITIES) == {one for rule in pack.withhold for one in rule.sensitivities}
    assert RELEASE.names[1:] == [rule.name for rule in pack.outputs]
    assert {None} == {source.source_sha256 for source in pack.sources}


def test_the_same_bytes_are_read_once(pack_bytes: Callable[[str], bytes]) -> None:
    """A pack is frozen, so asking again gives it again; other bytes are read anew, and refused as often as they are asked for."""
    data = pack_bytes("cn-baseline")
    assert packs.parse(data) is packs.parse(bytes(bytearray(data)))
    assert packs.parse(data) is not packs.parse(data + b"\n")
    for _ in range(2):
        with pytest.raises(PackRefused):
            packs.parse(data[: len(data) // 2])


def test_baseline_asks_for_fifty_vehicles_and_seven_days(base_pack: Pack) -> None:
    """The baseline's k and quasi-identifiers are those of the design."""
    wanted = (50, 7, ("province", "month", "resolution_class", "video_codec", "timeofday", "weather", "scene"))
    k = base_pack.combination
    assert wanted == (k.min_vehicles, k.min_days, k.quasi_identifiers)
    assert base_pack.demo is False


def test_new_column_stays_home_without_an_edit(base_pack: Pack) -> None:
    """A column added to the schema is withheld by its class, whatever the class is."""
    for sensitivity in SENSITIVITIES:
        grown = CLIPS.append(column("lidar_hint", pa.string(), sensitivity, "new"))  # type: ignore[arg-type]
        packs.lint(base_pack, grown)
        assert packs.withheld_by(base_pack, grown.field("lidar_hint")) is not None


def test_layout_and_comments_do_not_change_the_digest(pack_bytes: Callable[[str], bytes]) -> None:
    """Canonical bytes depend on what the pack says alone."""
    data = pack_bytes("cn-demo")
    assert packs.digest(packs.parse(data)) == packs.digest(packs.parse(b"# note\n" + data + b"\n\n"))
    assert packs.digest(packs.parse(data)) != packs.digest(packs.parse(data.replace(b"min_vehicles: 2", b"min_vehicles: 3")))


MUTATIONS = {
    "duplicate key": ("demo: true", "demo: true\ndemo: false", "stands twice"),
    "unknown key": ("demo: true", "demo: true\nallow: all", "allow"),
    "no demo flag": ("demo: true\n", "", "demo"),
    "demo as text": ("demo: true", "demo: 'true'", "demo"),
    "no end": ("valid_to: 2027-12-31\n", "", "valid_to"),
    "end before start": ("valid_to: 2027-12-31", "valid_to: 2025-12-31", "valid_to lies before"),
    "end as time": ("valid_to: 2027-12-31", "valid_to: 2027-12-31T10:00:00Z", "valid_to"),
    "unknown confidence": ("confidence: R2", "confidence: A", "confidence"),
    "invented digest": ("source_sha256: null", "source_sha256: abc", "source_sha256"),
    "unknown source": ("source: GUIDE-2026", "source: NOWHERE", "NOWHERE"),
    "unknown generalisation": ("generalisation: noise_band", "generalisation: as_is", "as_is"),
    "wrong input class": ("inputs: [sharpness]", "inputs: [latitude_deg]", "latitude_deg is place"),
    "wrong input type": ("inputs: [sharpness]", "inputs: [weather]", "weather is public string"),
    "unknown input": ("inputs: [sharpness]", "inputs: [sharpnes]", "sharpnes"),
    "too many inputs": ("inputs: [sharpness]", "inputs: [sharpness, contrast]", "takes 1 inputs"),
    "output renamed": ("name: sharpness", "name: sharp", "not exactly"),
    "output of an id": ("name: sharpness", "name: vin", "not exactly"),
    "output id of another": ("id: output.noise", "id: output.noize", "output.noise"),
    "class not withheld": ("sensitivities: [picture]", "columns: [motion_px]", "packet_digest"),
    "withheld stranger": ("sensitivities: [picture]", "columns: [nowhere]", "nowhere"),
    "rule id twice": ("id: withhold.device", "id: withhold.place", "stands twice"),
    "accepted rule altered": ("verdict = 'accepted'", "verdict <> ''", "row.accepted"),
    "vehicle rule gone": ("id: row.vehicle_known", "id: row.other", "row.vehicle_known"),
    "nested row input": ("inputs: [verdict]", "inputs: [verdict, track]", "track is nested"),
    "k of nothing": ("min_vehicles: 2", "min_vehicles: 0", "min_vehicles"),
    "k as truth": ("min_vehicles: 2", "min_vehicles: yes", "min_vehicles"),
    "no days": ("min_days: 1", "min_days: -1", "min_days"),
    "quasi-identifier that is no output": ("[province, month]\n  article", "[province, vin]\n  article", "vin"),
    "tiny buffer": ("other_buffer_m: 500", "other_buffer_m: 1", "other_buffer_m"),
    "infinite buffer": ("other_buffer_m: 500", "other_buffer_m: .inf", "other_buffer_m"),
    "no geofence": ("\ngeofence:", "\nfences:", "geofence"),
    "evaluator's own id": ("id: row.accepted", "id: row.unique_clip", "row.unique_clip"),
    "id with SQL": ("id: row.accepted", "id: 'row.a\" or 1=1 --'", "id"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_broken_pack_is_refused_by_name(name: str, pack_bytes: Callable[[str], bytes]) -> None:
    """Each flaw stops the pack from loading, and the refusal says what it is."""
    old, new, named = MUTATIONS[name]
    text = pack_bytes("cn-demo").decode()
    assert old in text
    with pytest.raises(PackRefused) as refusal:
        packs.parse(text.replace(old, new, 1).encode())
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"a: &x [1]\nb: *x\n",
        b"<<: {a: 1}\n",
        b"? [a]\n: 1\n",
        b"!!python/object:os.system {}",
        b"[" * 50_000,
        b"id: cn\n" * 200_000,
        b"valid_from: 2026-02-31\n",
        b"a: 1\n---\nb: 2\n",
    ],
    ids=["empty", "list", "utf-16", "alias", "merge", "list key", "object", "deep", "large", "no such day", "two documents"],
)
def test_hostile_yaml_is_refused(data: bytes) -> None:
    """Nothing but one plain mapping of words loads."""
    with pytest.raises(PackRefused):
        packs.parse(data)


LAUNDERING = [
    "case when a > 31 then true else false end", "(select count(*) from candidates) > 1", "a in (select b from t)", "vin = 'x'",
    "cast(a as varchar) = '1'", "a::int = 1", "getenv('HOME') = ''", "read_text('/etc/passwd') is not null", "count(*) > 1",
    "sum(a) over () > 1", "a is distinct from 1", "a like '3%'", "regexp_matches(b, '.')", "candidates.a = 1", "* is null",
    "columns('.*') is null", "a = $1", "a[1] = 2", "a = null", "list_contains([1], a)", "a = 1) from candidates --", "a = 1 union select 1",
    "a = 1; drop table t", "a, b", "", "current_date > date '2020-01-01'", "random() > 0.5", "length(b, b) = 1", "lower(distinct b) = 'x'",
    "a = 1e999", "a = 1 as c", "a > 1) from declared where (a < 2", "a = 1) from declared limit (1", "a " + "or a = 1 " * 400,
    "a = {'x': 1}", "a in (1) from declared", "try(a = 1)", "a ->> 'x' = '1'", "exists (select 1)",
]  # fmt: skip


@pytest.mark.parametrize("text", LAUNDERING)
def test_laundering_expression_is_refused(text: str) -> None:
    """An expression that is more than comparisons over its declared inputs never reaches the evaluator."""
    with pytest.raises(PackRefused):
        compile_expression(text, ("a", "b"), subject="rule row.x")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a >= 3 and b is not null", '(("a" >= 3) AND ("b" IS NOT NULL))'),
        ("not (b in ('x''y', 'z') or a between -1.5 and 2)", """(NOT (("b" IN ('x''y', 'z')) OR ("a" BETWEEN -1.5 AND 2)))"""),
        ("lower(trim(b)) = 'x' -- a remark\n", None),
        ("length(b) = 17", '(length("b") = 17)'),
        ("a = true", '("a" = TRUE)'),
    ],
)
def test_plain_expression_is_written_anew(text: str, written: str | None) -> None:
    """What runs is written from the checked tree, so text the parser skipped cannot run."""
    compiled = compile_expression(text, ("a", "b"), subject="rule row.x")
    assert "--" not in compiled
    assert written is None or written == compiled


def test_generalisations_yield_only_release_types() -> None:
    """Every built-in has a closed vocabulary, but for whole seconds, which are a number up to an hour."""
    open_ended = {name: one.largest for name, one in GENERALISATIONS.items() if one.vocabulary is None}
    assert {"whole_seconds": 3600} == open_ended
