"""General-data lists: Lingang answers by the day and the exporter's facts, and the format serves another trade's table."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation.cli_residency import app
from curation.errors import PackRefused
from curation.residency import pack as packs
from curation.residency import signing
from curation.residency.eligibility import answer
from curation.residency.explain import explain
from curation.schema import CLIPS, column
from curation.tables import to_parquet

runner = CliRunner()
IN_FORCE = date(2024, 9, 1)


@pytest.fixture
def lingang(pack_bytes: Callable[[str], bytes]) -> packs.ListPack:
    """The shipped list."""
    pack = packs.read(pack_bytes("lingang-2024"))
    assert isinstance(pack, packs.ListPack)
    return pack


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (date(2024, 5, 16), "not yet valid"),
        (date(2024, 5, 17), "eligible, no listed field"),
        (IN_FORCE, "eligible, no listed field"),
        (date(2025, 5, 16), "eligible, no listed field"),
        (date(2025, 5, 17), "expired"),
        (date(2026, 11, 21), "expired"),
    ],
)
def test_lingang_answers_by_the_day(day: date, said: str, lingang: packs.ListPack) -> None:
    """In its one year the exporter it was made for is eligible and finds no field; before and after there is no list."""
    assert said == answer(lingang, day).said
    assert () == answer(lingang, day).fields


@pytest.mark.parametrize(
    ("facts", "failed"),
    [
        ({"registered_in_zone": False}, ("condition.registered",)),
        ({"transfers_from_zone": False}, ("condition.place_of_transfer",)),
        ({"critical_infrastructure_operator": True}, ("condition.no_critical_infrastructure",)),
        ({"registered_in_zone": "true"}, ("condition.registered",)),
        ({"critical_infrastructure_operator": None}, ("condition.no_critical_infrastructure",)),
        ({"registered_in_zone": None, "transfers_from_zone": None}, ("condition.registered", "condition.place_of_transfer")),
    ],
)
def test_an_exporter_outside_the_conditions_is_not_eligible(
    facts: dict[str, bool | str | None], failed: tuple[str, ...], lingang: packs.ListPack
) -> None:
    """Another entity, place or kind of operator, a word for a truth value, or a fact not stated: the condition is named."""
    stated = {name: value for name, value in {**lingang.exporter, **facts}.items() if value is not None}
    found = answer(lingang.model_copy(update={"exporter": stated}), IN_FORCE)
    assert ("not eligible", failed) == (found.said, found.failed)


def test_lingang_withholds_every_class_and_invents_no_digest(lingang: packs.ListPack) -> None:
    """No column of the manifest is named, and no source that was not fetched has a digest."""
    assert () == lingang.fields
    assert {packs.withheld_by(lingang, field).id for field in CLIPS} == {"withhold.everything"}  # type: ignore[union-attr]
    assert {None} == {source.source_sha256 for source in lingang.sources}


def test_a_list_is_no_pack_of_rules(pack_bytes: Callable[[str], bytes]) -> None:
    """A release is never cut under a list, eligible or not."""
    with pytest.raises(PackRefused, match="lets nothing out by itself"):
        packs.parse(pack_bytes("lingang-2024"))


@pytest.mark.parametrize(("as_of", "said"), [("2024-09-01", "eligible, no listed field"), ("2026-11-21", "expired")])
def test_check_says_the_answer_and_withholds_every_row(
    as_of: str,
    said: str,
    tmp_path: Path,
    pack_bytes: Callable[[str], bytes],
    clip_row: Callable[..., dict[str, Any]],
    clips: Callable[..., pa.Table],
) -> None:
    """`check` under the list exits 1 with the list's answer, writes no release, and withholds every row."""
    (tmp_path / "lingang.yaml").write_bytes(pack_bytes("lingang-2024"))
    (tmp_path / "clips.parquet").write_bytes(to_parquet(clips(clip_row(1), clip_row(2)), CLIPS))
    words = ["check", tmp_path / "clips.parquet", "--pack", tmp_path / "lingang.yaml", "--as-of", as_of, "--out", tmp_path, "--json"]
    result = runner.invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, PackRefused)
    assert result.exception.problem.startswith(said)
    facts = json.loads(result.output)
    assert (2, 0, 2) == (facts["rows_in"], facts["released"], facts["withheld"])
    assert said in facts["refused"]
    assert not (tmp_path / "release.parquet").exists()
    assert [False, False] == pq.read_table(tmp_path / "decisions.parquet")["released"].to_pylist()


# --- another trade over another table ---------------------------------------------------------------------------------------------

FUNDS = pa.schema(
    [
        column("fund_id", pa.string(), "internal", "the fund"),
        column("investor", pa.string(), "person", "who holds it"),
        column("traded_at", pa.timestamp("us", tz="UTC"), "person", "when an order was given"),
        column("strategy", pa.string(), "public", "published strategy of the fund"),
        column("leverage", pa.float64(), "public", "published share of borrowed money", unit="ratio"),
        column("seat", pa.string(), "place", "province of the manager's seat"),
    ]
)
FUNDS_LIST = """
id: funds-test
kind: general-data-list
version: "1"
title: {en: "Invented list for fund research", zh: "虚构的基金研究清单"}
schema_version: "7"
table: funds
demo: false
jurisdiction: CN-SH
legal_entity: "a fund manager"
valid_from: 2024-05-17
valid_to: 2025-05-16
sources: [{id: T, title: {en: "no law", zh: "并非法律"}, address: "nowhere", confidence: U, source_sha256: null}]
exporter: {licensed: "fund manager"}
conditions:
  - {id: condition.licensed, fact: licensed, one_of: ["fund manager", bank], article: "1", source: T, confidence: U, reason: {en: a, zh: b}}
fields:
  - {id: listed.strategy, name: strategy, generalisation: null, article: "2", source: T, confidence: U, reason: {en: a, zh: a}}
  - {id: listed.leverage, name: leverage, generalisation: ratio_band, article: "3", source: T, confidence: U, reason: {en: a, zh: a}}
  - {id: listed.month, name: traded_at, generalisation: month_in_shanghai, article: "4", source: T, confidence: U, reason: {en: a, zh: a}}
  - {id: listed.seat, name: seat, generalisation: province_code, article: "5", source: T, confidence: U, reason: {en: a, zh: a}}
withhold:
  - {id: withhold.people, sensitivities: [person, internal], article: "6", source: T, confidence: U, reason: {en: a, zh: a}}
"""


def test_the_format_serves_another_trades_table() -> None:
    """A list of funds over its own schema is read, answers with its fields, and is explained; nothing in it is of clips."""
    pack = packs.read(FUNDS_LIST.encode(), {"funds": FUNDS})
    assert isinstance(pack, packs.ListPack)
    found = answer(pack, IN_FORCE)
    assert ("eligible", ("strategy", "leverage", "traded_at", "seat")) == (found.said, found.fields)
    page = explain(pack, signing.verify(pack, [], {}), today=IN_FORCE)
    for words in (
        "the list answers: eligible",
        "strategy: as it is",
        "traded_at: year and month",
        "`licensed` must be fund manager / bank",
    ):
        assert words in page


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("table: funds", "table: drugs", "no table 'drugs'"),
        ("name: strategy", "name: investor", "is person string and may not leave as it is"),
        ("generalisation: ratio_band", "generalisation: as_is", "'as_is' is unknown"),
        ("generalisation: province_code", "generalisation: ratio_band", "ratio_band reads public double, but seat is place string"),
        ("generalisation: month_in_shanghai", "generalisation: null", "may not leave as it is"),
        ("name: seat", "name: strategy", "stands twice"),
        ("[person, internal]", "[person]", "fund_id"),
        ("kind: general-data-list", "kind: white-list", "kind"),
        ("fact: licensed, one_of: [\"fund manager\", bank]", "fact: licensed, one_of: []", "one_of"),
        ("name: leverage", "name: yield", "no column 'yield'"),
    ],
)  # fmt: skip
def test_a_broken_list_is_refused_by_name(old: str, new: str, named: str) -> None:
    """Lists are read as strictly as rules: tables, columns, classes, generalisations and accounting."""
    assert old in FUNDS_LIST
    with pytest.raises(PackRefused) as refusal:
        packs.read(FUNDS_LIST.replace(old, new, 1).encode(), {"funds": FUNDS})
    assert named in str(refusal.value)
