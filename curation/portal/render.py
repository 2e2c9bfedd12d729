"""Templates to pages: autoescaped, undefined names refused, in the reader's language."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markdown_it import MarkdownIt
from markupsafe import Markup

from curation.audit import formats, words
from curation.audit.overview import Day
from curation.audit.pack_register import PackLine
from curation.audit.shard_register import ShardSetLine
from curation.audit.words import LANGUAGES
from curation.portal import charts
from curation.residency.counters import HOLD_TENTHS, WARN_TENTHS
from curation.residency.explain import Language
from curation.residency.forecast import Forecast
from curation.residency.pack import Wording

PAGES: Final = (
    ("overview", "/"),
    ("batches", "/batches"),
    ("releases", "/releases"),
    ("trace", "/trace"),
    ("packs", "/packs"),
    ("counters", "/counters"),
    ("shard_sets", "/shard-sets"),
)
_EXPIRES_SOON: Final = 30  # days; `residency` announces an expiry as early


def page(template: str, *, lang: Language, base: str, nonce: str, path: str, query: Mapping[str, str], shown: Mapping[str, Any]) -> str:
    """The HTML of a template.

    Args:
        template: its name, without endings.
        lang: whose page.
        base: where the portal is mounted.
        nonce: of this response's style.
        path: of the page below `base`, for the links to its other language.
        query: of the request, kept in those links.
        shown: what the template is given besides.
    """
    kept = {name: value for name, value in query.items() if name != "lang"}
    return (
        _environment()
        .get_template(f"{template}.html.j2")
        .render(
            lang=lang,
            base=base,
            nonce=nonce,
            style=_style(),
            pages=PAGES,
            t=lambda key, **values: words.text(key, lang, **values),
            name=lambda word: words.name(word, lang),
            tone=formats.tone,
            ordered=formats.ordered,
            in_language=lambda code: f"{base}{path}?{urlencode({**kept, 'lang': code})}",
            account_bar=partial(_account_bar, lang),
            share_bar=_share_bar,
            days_chart=partial(_days_chart, lang),
            pack_bar=partial(_pack_bar, lang),
            counter_bar=partial(_counter_bar, lang),
            **shown,
        )
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("curation.portal"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {
        "number": formats.number,
        "moment": formats.moment,
        "day": formats.day,
        "size": formats.size,
        "short": formats.short,
        "coded": formats.coded,
        "wording": _wording,
        "plain": _plain,
        "shares": _shares,
    }
    return found


@cache
def _style() -> Markup:
    return Markup(resources.files("curation.portal").joinpath("templates", "style.css").read_text(encoding="utf-8"))  # noqa: S704 - ours


@pass_context
def _wording(context: Context, said: Wording) -> str:
    return said.zh if context["lang"] == "zh" else said.en


@pass_context
def _plain(context: Context, value: object) -> str:
    """What a pack says in a field: a wording in the reader's language, a text as it is, all else as JSON."""
    if isinstance(value, dict) and set(value) == set(LANGUAGES):
        return str(value[context["lang"]])
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shares(line: ShardSetLine) -> dict[str, int]:
    return {split.name: split.sample_count for split in line.splits} | dict(line.left_out)


def markdown(text: str) -> Markup:
    """Markdown as HTML, headings one level lower; neither HTML nor links nor pictures come through."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "autolink", "image", "html_inline", "html_block"])
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{int(token.tag[1]) + 1}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # noqa: S704 - rendered with HTML switched off


def _account_bar(lang: Language, accounted: Mapping[str, int], what: str) -> Markup:
    parts = [
        charts.Part(name=words.name(word, lang), size=rows, tone=formats.tone(word)) for word, rows in formats.ordered(accounted) if rows
    ]
    told = ", ".join(f"{part.name} {part.size:,}" for part in parts)
    return charts.stacked_bar(parts, f"{what}: {told}")


def _share_bar(rows: int, whole: int, what: str) -> Markup:
    return charts.marked_bar(rows, max(whole, rows), (), tone="held", title=f"{what}: {rows:,} / {whole:,}")


def _days_chart(lang: Language, days: Sequence[Day]) -> Markup:
    series = [
        charts.Series(name=words.text(key, lang), values=[getattr(one, key) for one in days], tone=tone)
        for key, tone in (("came_in", "accent"), ("accepted", "good"), ("left", "held"))
    ]
    return charts.day_columns([one.day for one in days], series, words.text("last_days", lang, count=len(days)))


def _pack_bar(lang: Language, line: PackLine) -> Markup:
    told = words.text("valid_days", lang, start=line.valid_from, end=line.valid_to)
    tone = "bad" if not line.days_left else "held" if line.days_left <= _EXPIRES_SOON else "good"
    return charts.validity_bar(line.valid_from, line.valid_to, line.today, tone=tone, title=told)


def _counter_bar(lang: Language, one: Forecast) -> Markup:
    marks = [(WARN_TENTHS / 10, words.text("mark_warn", lang)), (HOLD_TENTHS / 10, words.text("mark_hold", lang))]
    told = words.text("used_of", lang, used=f"{one.used:,}", limit=f"{one.limit:,}", unit=words.name(one.counts, lang))
    tone = {"open": "accent", "warn": "held", "hold": "held", "block": "bad"}[one.level]
    return charts.marked_bar(one.used, one.limit, [*marks, (1.0, words.text("mark_block", lang))], tone=tone, title=told)
