"""`curation audit report`: a period on paper, for whoever must file it."""

from __future__ import annotations

import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from curation import pipeline
from curation.cli_text import out, shown
from curation.errors import OutsideError, UsageError

if TYPE_CHECKING:
    from curation.residency.explain import Language

_Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day in Asia/Shanghai; default the year so far.")]


def report(
    work: Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    since: _Day = None,
    until: _Day = None,
    pdf: Annotated[Path | None, typer.Option(help="File to write as PDF/A with its font in it.", dir_okay=False)] = None,
    html: Annotated[Path | None, typer.Option(help="File to write as one HTML page.", dir_okay=False)] = None,
) -> None:
    """What left in a period, under which rule and article, what came back, how counters stand; without --pdf or --html as HTML here."""
    if lang not in {"en", "zh"}:
        raise UsageError(f"there is no report in {lang!r}", subject="--lang", fix="use en or zh")
    from curation.audit import report_document, report_html

    reading = pipeline.Reading(pipeline.open_settings(work))
    first, last = _day(since) or date(reading.today.year, 1, 1), _day(until) or reading.today
    told = reading.report(first, last)
    document = report_document.document(told, cast("Language", lang))
    if pdf is not None:
        from curation.audit import report_font, report_pdf

        _write(pdf, report_pdf.render(document, font=report_font.font_path(), made_at=told.made_at))
    if html is not None:
        _write(html, report_html.render(document).encode())
    if pdf is None and html is None:
        print(report_html.render(document))


def _day(given: datetime | None) -> date | None:
    return None if given is None else given.date()


def _write(path: Path, data: bytes) -> None:
    """The file, whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as staged:
            staged.write(data)
        Path(staged.name).chmod(0o644)
        Path(staged.name).replace(path)
    except OSError as error:
        raise OutsideError(f"cannot be written: {error.strerror}", subject=str(path), fix="choose another place") from error
    out.print(shown(f"report: {path}"))
