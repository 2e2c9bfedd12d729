"""The report of a period: the same in both languages and both forms, with every sign drawn, and nothing of a sensitive column in it."""

from __future__ import annotations

import logging
import re
from datetime import date
from importlib import resources
from pathlib import Path

import pypdfium2
import pytest
from typer.testing import CliRunner

from curation import cli, pipeline
from curation.audit import report_font, report_html, report_pdf
from curation.audit.report_document import Document, Paragraph, Table, document
from curation.audit.words import names, texts
from curation.errors import EvidenceBroken, SettingsError, UsageError
from curation.residency import pack as packs
from curation.residency.generalise import GENERALISATIONS
from tests.portal.conftest import IMAGE, INJECTION, SCRIPT


@pytest.fixture(scope="module")
def told(recorded):
    """The report of the year so far."""
    return pipeline.Reading(recorded.settings).report(date(2026, 1, 1), date(2026, 11, 21))


@pytest.fixture(scope="module")
def filed(recorded, tmp_path_factory) -> Path:
    """The Chinese PDF and HTML as the command writes them."""
    folder = tmp_path_factory.mktemp("report")
    files = ["--pdf", str(folder / "report.pdf"), "--html", str(folder / "report.html")]
    done = CliRunner().invoke(cli.app, ["audit", "report", "--lang", "zh", "--work", str(recorded.settings.work), *files])
    assert 0 == done.exit_code, done.output
    return folder


@pytest.fixture(scope="module")
def font() -> Path:
    """The font of reports."""
    return report_font.font_path()


def test_a_report_tells_what_was_conserved_left_and_came_back(told, recorded):
    """Stages add up; both releases with state, approver and articles; the withdrawals; counters; and the head that seals it."""
    assert all(count.check() for count in told.ways)
    assert ["partly withdrawn", "waiting"] == [one.line.state for one in told.releases]
    assert [("officer", 1), ("", 0)] == [(one.approver, one.withdrawn) for one in told.withdrawals]
    assert told.ledger.head.startswith(f"{told.entry_count - 1}:")
    assert {"counter.vehicles_ever", "counter.raw_hours_ever"} <= {one.counter for one in told.counters}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_document_holds_articles_and_no_sensitive_value(told, recorded, lang):
    """Each column that left and each rule that withheld stands with its article; tables are as wide as the page; no value of home."""
    written = document(told, lang)
    everything = "\n".join(written.texts())
    assert [needle for needle in recorded.needles if needle in everything] == []
    for one in told.releases[0].columns:
        assert one.column in everything
        assert (one.basis.article.zh if lang == "zh" else one.basis.article.en) in everything
    for table in (block for block in written.blocks if isinstance(block, Table)):
        assert (len(table.head), 100) == (len(table.widths), sum(table.widths))
        assert {len(table.head)} == {len(row) for row in table.rows}


SAID = {
    "en": (
        "masked: 4,321 masks in 1,200 frames",
        "81 frames of the masked copies, nothing found",
        "passed, holds until 2027-11-21",
        "a demo",
    ),
    "zh": ("1,200 帧逐帧检查", "4,321 处遮盖", "遮盖后的视频共 81 帧", "有效期至 2027-11-21", "演示用评估"),
}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_shard_sets_say_whether_they_are_masked_by_what_and_what_that_left_out(told, recorded, lang):
    """One is not masked; of the other: its models, its evaluation and how long that holds, and clips left out, of either kind."""
    written = document(told, lang)
    [table] = [block for block in written.blocks if isinstance(block, Table) and block.rows and block.rows[0][0] == recorded.shard_set_id]
    plain, masked = table.rows
    assert [("-", "-"), ("2", "1")] == [plain[5:], masked[5:]]
    everything = "\n".join(written.texts())
    assert [] == [words for words in (*SAID[lang], "b" * 64, "c" * 64, "e" * 64) if words.lower() not in everything.lower()]


def test_a_period_without_anything_says_so(recorded):
    """No release, no withdrawal: the tables give way to a word."""
    told = pipeline.Reading(recorded.settings).report(date(2020, 1, 1), date(2020, 12, 31))
    assert (0, (), (), ()) == (told.entry_count, told.ways, told.releases, told.shard_sets)
    assert 4 == list(document(told, "en").texts()).count("Nothing in this period.")
    with pytest.raises(UsageError, match="before it begins"):
        pipeline.Reading(recorded.settings).report(date(2026, 2, 1), date(2026, 1, 1))


def test_the_command_writes_a_pdf_that_can_be_archived_searched_and_filed(filed):
    """PDF/A-2u with its one font embedded; the Chinese text comes out again; no sign was missing; the HTML says the same."""
    data = (filed / "report.pdf").read_bytes()
    assert b"+NotoSansSC" in data
    assert data.count(b"/FontFile3") == data.count(b"/FontDescriptor ") == 1
    assert b"<pdfaid:part>2</pdfaid:part><pdfaid:conformance>U</pdfaid:conformance>" in data
    pages = [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(data)]
    text = re.sub(r"\s", "", "".join(pages))
    for wanted in ("数据出境审计报告", "留存行的规则", "officer", "第三条", SCRIPT, "'OR1=1--"):
        assert wanted in text
    assert "[U+" not in text
    html = (filed / "report.html").read_text(encoding="utf-8")
    assert 'lang="zh-CN"' in html
    assert "数据出境审计报告" in html


def test_the_html_is_self_contained_and_hostile_names_are_text(filed, told):
    """Nothing is fetched, run or linked; what is markup in a name is escaped."""
    for html in ((filed / "report.html").read_text(encoding="utf-8"), report_html.render(document(told, "en"))):
        assert not re.search(r"<(script|img|link|iframe|a|form)\b|https?://|<[^>]*\bsrc=|url\(", html)
        assert SCRIPT not in html
        assert IMAGE not in html
        assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
        assert INJECTION.replace("'", "&#39;") in html


def shipped_texts() -> str:
    """Everything that a report can print of itself: its sentences and names, the packs' wordings, and how coarse columns are."""
    said = [sentence for both in (*texts().values(), *names().values()) for sentence in both]
    for file in resources.files("curation.residency").joinpath("packs").iterdir():
        if file.name.endswith(".yaml"):
            pack = packs.read(file.read_bytes())
            said += [text for rule in pack.rules for text in (rule.reason.en, rule.reason.zh)]
            said += [rule.article if isinstance(rule.article, str) else rule.article.en + rule.article.zh for rule in pack.rules]
            said += [source.title.en + source.title.zh for source in pack.sources] + [pack.title.en + pack.title.zh]
    said += [one.says_en + one.says_zh for one in GENERALISATIONS.values()]
    return "".join(said) + "".join(chr(sign) for sign in range(0x20, 0x7F))


def test_no_glyph_is_missing_for_anything_that_a_report_prints(font, told):
    """Every sign of every sentence, wording and document has a glyph in the pinned font."""
    signs = report_font.known_signs(font)
    printed = shipped_texts() + "".join(text for lang in ("en", "zh") for text in document(told, lang).texts())
    assert [] == sorted({sign for sign in printed if ord(sign) not in signs})
    assert len({sign for sign in printed if "\u4e00" <= sign <= "\u9fff"}) > 500


def test_a_sign_without_a_glyph_is_spelt_out_and_the_same_report_gives_the_same_bytes(font, told, caplog):
    """A name in signs that the font lacks, or that do not print, is not lost; nothing is warned of; twice is the same."""
    signs = report_font.known_signs(font)
    assert "a[U+1F697]b[U+202E][U+000A]" == report_font.printable("a\U0001f697b\u202e\n", signs)
    few = Document(title="\U0001f697", lang="en", foot="foot", blocks=(Paragraph(text="\u202e 第三条"),))
    with caplog.at_level(logging.WARNING):
        once, again = (report_pdf.render(few, font=font, made_at=told.made_at) for _ in range(2))
    assert [] == [record.message for record in caplog.records]
    assert once == again


def test_another_font_or_none_is_refused(monkeypatch):
    """A package that is missing, lacks the file, or holds another font stops the report with the fix."""
    monkeypatch.setattr(report_font, "SHA256", "0" * 64)
    with pytest.raises(EvidenceBroken, match="is not the font"):
        report_font.font_path()
    monkeypatch.setattr(report_font, "FILE", "no.otf")
    with pytest.raises(SettingsError, match="pip install pylopdf"):
        report_font.font_path()
    monkeypatch.setattr(report_font, "PACKAGE", "no-such-package")
    with pytest.raises(SettingsError, match="not installed"):
        report_font.font_path()


def test_the_command_refuses_what_it_cannot_write(recorded, tmp_path):
    """Another language, and a folder that is not there; without a file the page goes to standard output."""
    run = CliRunner().invoke
    work = ["--work", str(recorded.settings.work)]
    assert isinstance(run(cli.app, ["audit", "report", "--lang", "fr", *work]).exception, UsageError)
    nowhere = run(cli.app, ["audit", "report", *work, "--html", str(tmp_path / "no" / "x.html")])
    assert "cannot be written" in str(nowhere.exception)
    page = run(cli.app, ["audit", "report", *work, "--since", "2026-11-01", "--until", "2026-11-30"])
    assert page.output.startswith("<!doctype html>")
