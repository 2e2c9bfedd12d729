"""A report as PDF/A-2u: its one font is embedded, every text can be searched and copied, and the same report gives the same bytes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from fpdf import FPDF
from fpdf.enums import Align, TableBordersLayout, WrapMode, XPos, YPos
from fpdf.fonts import FontFace
from markupsafe import escape

from curation.audit.report_document import Document, Facts, Heading, Paragraph, Table
from curation.audit.report_font import known_signs, printable

_FONT: Final = "report"
_MARGIN_MM: Final = 18.0
_INK: Final = (23, 32, 42)
_QUIET: Final = (86, 97, 109)
_ACCENT: Final = (10, 88, 168)
_BAD: Final = (184, 49, 43)
_LINE: Final = (213, 219, 225)
_NAMES_MM: Final = 46.0
_ROOM_MM: Final = {1: 45.0, 2: 32.0}  # below a heading, so that none stands alone at the foot of a page


def render(told: Document, *, font: Path, made_at: datetime) -> bytes:
    """The document as PDF.

    Args:
        told: what is written.
        font: of `report_font.font_path`.
        made_at: the time that the file says it was made at.
    """
    pdf = _Report(told, font, made_at)
    for block in told.blocks:
        match block:
            case Heading():
                pdf.put_heading(block)
            case Paragraph():
                pdf.put_paragraph(block)
            case Facts():
                pdf.put_facts(block)
            case Table():
                pdf.put_table(block)
    return bytes(pdf.output())


def _metadata(title: str, made_at: datetime) -> str:
    """What the file says of itself in XMP; the library's own would name the instant at which it was written."""
    at = made_at.isoformat(timespec="seconds")
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/" xmp:CreateDate="{at}" xmp:ModifyDate="{at}" xmp:MetadataDate="{at}">'
        "<pdfaid:part>2</pdfaid:part><pdfaid:conformance>U</pdfaid:conformance>"
        f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{escape(title)}</rdf:li></rdf:Alt></dc:title>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


class _Report(FPDF):
    """Pages of A4 with a foot."""

    def __init__(self, told: Document, font: Path, made_at: datetime) -> None:
        super().__init__(format="A4", enforce_compliance="PDF/A-2U")
        self._foot = told.foot
        self._signs = known_signs(font)
        # Chinese has no spaces to break at.
        self._wrap = WrapMode.CHAR if told.lang == "zh" else WrapMode.WORD
        self.set_lang("zh-CN" if told.lang == "zh" else "en")
        self.set_title(self._drawn(told.foot))
        self.set_creation_date(made_at)
        self.set_xmp_metadata(_metadata(self._drawn(told.foot), made_at))
        self.set_margin(_MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=_MARGIN_MM + 6)
        self.add_font(_FONT, "", font)
        self.add_page()
        self._write(told.title, size_pt=22, height_mm=11)
        self.ln(3)

    def footer(self) -> None:
        """The foot of each page: what it belongs to, and its number."""
        self.set_y(-_MARGIN_MM)
        self.set_font(_FONT, size=7.5)
        self.set_text_color(*_QUIET)
        self.cell(self.epw - 20, 5, self._drawn(self._foot))
        self.cell(20, 5, f"{self.page_no()}", align=Align.R)

    def put_heading(self, block: Heading) -> None:
        """A heading, with room for what follows."""
        if self.will_page_break(_ROOM_MM[block.level]):
            self.add_page()
        self.ln(6 if block.level == 1 else 3)
        if block.level == 1:
            self.set_draw_color(*_ACCENT)
            self.set_line_width(0.5)
            self.line(self.l_margin, self.get_y(), self.l_margin + self.epw, self.get_y())
            self.ln(2)
        self._write(block.text, size_pt=14 if block.level == 1 else 11, height_mm=7, color=_ACCENT if block.level == 1 else _INK)
        self.ln(1)

    def put_paragraph(self, block: Paragraph) -> None:
        """A paragraph."""
        self._write(block.text, size_pt=9.5, height_mm=5, color=_BAD if block.grave else _QUIET)
        self.ln(1.5)

    def put_facts(self, block: Facts) -> None:
        """Names on the left, what is known on the right."""
        for name, text in block.pairs:
            if self.will_page_break(12):
                self.add_page()
            top = self.get_y()
            self._write(name, size_pt=9.5, height_mm=5.2, color=_QUIET, width_mm=_NAMES_MM)
            below = self.get_y()
            self.set_xy(self.l_margin + _NAMES_MM + 3, top)
            self._write(text, size_pt=9.5, height_mm=5.2, width_mm=self.epw - _NAMES_MM - 3)
            self.set_xy(self.l_margin, max(below, self.get_y()))
        self.ln(2)

    def put_table(self, block: Table) -> None:
        """A table whose head is repeated on each page."""
        self.set_font(_FONT, size=8)
        self.set_text_color(*_INK)
        self.set_draw_color(*_LINE)
        self.set_line_width(0.2)
        aligns = tuple(Align.R if place in block.numeric else Align.L for place in range(len(block.head)))
        with self.table(
            col_widths=block.widths,
            text_align=aligns,
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(color=_QUIET, size_pt=8),
            line_height=4.2,
            padding=(1.1, 1.2),
            v_align="T",
            wrapmode=self._wrap,
        ) as table:
            for cells in (block.head, *block.rows):
                row = table.row()
                for cell in cells:
                    row.cell(self._drawn(cell))
        self.ln(3)

    def _write(self, text: str, *, size_pt: float, height_mm: float, color: tuple[int, int, int] = _INK, width_mm: float = 0.0) -> None:
        self.set_font(_FONT, size=size_pt)
        self.set_text_color(*color)
        self.multi_cell(width_mm, height_mm, self._drawn(text), align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT, wrapmode=self._wrap)

    def _drawn(self, text: str) -> str:
        return printable(text, self._signs)
