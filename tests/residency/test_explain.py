"""The lawyer's page: what leaves and why, how much in all, until when, on whose signature; what never leaves; in both languages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from curation.residency import assessment, signing
from curation.residency import pack as packs
from curation.residency.explain import explain
from curation.schema import CLIPS

Signed = Callable[[packs.Pack], tuple[list[signing.Signature], dict[str, list[str]]]]
DAY = date(2026, 11, 21)


def page_of(pack: packs.Pack, lang: Any, today: date | None = DAY) -> str:
    """The page of an unsigned pack."""
    return explain(pack, signing.verify(pack, [], {}), lang, today=today)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_rule_is_told_with_reason_article_and_mark(lang: str, base_pack: packs.Pack) -> None:
    """Each rule's reason, article, source and mark stand on the page, in its language."""
    page = page_of(base_pack, lang)
    for rule in base_pack.rules:
        assert isinstance(rule.article, packs.Wording)
        assert f"{rule.source}, {getattr(rule.article, lang)} [{rule.confidence}]" in page
        if rule.id not in {base_pack.combination.id, base_pack.geofence.id}:
            assert getattr(rule.reason, lang) in page


@pytest.mark.parametrize(("lang", "units"), [("en", "2,000 hours of raw video ever"), ("zh", "2,000 小时原始视频 累计")])
def test_counters_are_told_with_limits_and_what_the_law_asks_then(lang: str, units: str, base_pack: packs.Pack) -> None:
    """Each limit stands with its unit and period, beside what the law asks at it; so does the cap."""
    page = page_of(base_pack, lang)
    assert units in page
    assert "1,000,000" in page
    for rule in base_pack.counters:
        assert f"{rule.limit:,}" in page
        assert getattr(rule.at_limit, lang) in page
    assert {"en": "This pack counts nothing", "zh": "不设累计上限"}[lang] in page_of(base_pack.model_copy(update={"counters": ()}), lang)


@pytest.mark.parametrize(
    ("lang", "told"), [("en", "raised to 5,000 until 2027-01-31 by CAC-1"), ("zh", "经 CAC-1 提高至 5,000,至 2027-01-31 止")]
)
def test_a_raised_limit_is_told_with_its_number(lang: str, told: str, base_pack: packs.Pack) -> None:
    """Who reads the page sees which limit is raised, to what, until when and by which filing."""
    words = {"number": "CAC-1", "new_limit": 5_000, "expires": date(2027, 1, 31), "private_pem": signing.keygen()[0]}
    entry = assessment.assess(base_pack, "counter.raw_hours_ever", **words)
    assert told in page_of(base_pack.model_copy(update={"assessments": (entry,)}), lang)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_column_that_no_output_reads_is_named_as_staying(lang: str, base_pack: packs.Pack) -> None:
    """In the part on what never leaves each column of the table stands once, under its class."""
    never = page_of(base_pack, lang).split({"en": "## What never leaves", "zh": "## 绝不以原样出境"}[lang])[1].split("\n## ")[0]
    words = never.replace(",", " ").split()
    assert {*CLIPS.names} <= {*words}


@pytest.mark.parametrize(
    ("day", "lang", "told"),
    [
        (DAY, "en", "within its days"),
        (date(2026, 11, 20), "en", "not yet valid. Nothing leaves"),
        (date(2027, 2, 19), "en", "expired. Nothing leaves"),
        (date(2027, 2, 19), "zh", "已到期,任何数据不得出境"),
    ],
)
def test_the_page_tells_whether_the_pack_is_in_force(day: date, lang: str, told: str, base_pack: packs.Pack) -> None:
    """The day it is read decides, its last day included."""
    assert told in page_of(base_pack, lang, day)


def test_signatures_are_told_by_role_with_key_and_time(base_pack: packs.Pack, signed: Signed) -> None:
    """Whose signature the pack rests on: role, key and time of each; one missing, and the page says that nothing leaves."""
    signatures, trusted = signed(base_pack)
    page = explain(base_pack, signing.verify(base_pack, signatures, trusted))
    for one in signatures:
        assert f"signed {one.signed_at} with key {one.public_key[:16]}" in page
    assert "nothing leaves under this pack" not in page
    assert "nothing leaves under this pack" in explain(base_pack, signing.verify(base_pack, signatures[:2], trusted))


def test_a_pack_cannot_draw_tables_of_its_own(base_pack: packs.Pack) -> None:
    """A pipe or line break in a pack's words stays inside its cell."""
    rule = base_pack.outputs[0].model_copy(update={"article": "a | b\n## Signatures"})
    page = page_of(base_pack.model_copy(update={"outputs": (rule, *base_pack.outputs[1:])}), "en")
    assert r"a \| b ## Signatures" in page
    assert 1 == page.count("\n## Signatures\n")


@pytest.mark.parametrize(
    ("lang", "told"),
    [
        (
            "en",
            ("a province stands for all of its own", "no template of a face is ever made", "no coordinate can leave", "before its first"),
        ),
        ("zh", ("以所在省计入其全部地市", "不提取人脸特征", "均不允许坐标出境", "首点之前及末点之后")),
    ],
)
def test_the_page_says_what_is_counted_strictly_or_not_at_all(lang: str, told: tuple[str, ...], base_pack: packs.Pack) -> None:
    """A reader learns where a province stands for a prefecture, which limits of the law have no counter, and how far a track must reach."""
    page = page_of(base_pack, lang)
    assert [] == [words for words in told if words not in page]
