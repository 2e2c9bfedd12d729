"""A report as headings, paragraphs, facts and tables in one language: what is written is decided here, how it looks is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation.audit import formats, words
from curation.audit.releases import Basis, Release, RuleHits
from curation.audit.report import PeriodReport
from curation.audit.shard_register import Masking
from curation.residency.explain import Language
from curation.residency.pack import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading of level 1 (a chapter) or 2."""

    text: str
    level: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph; one that is `grave` must not be overlooked."""

    text: str
    grave: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known, by name."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head; `widths` are shares of the page, and columns in `numeric` hold numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    numeric: tuple[int, ...] = ()


Block = Heading | Paragraph | Facts | Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A title, the language, one line for the foot of each page, and the blocks in order."""

    title: str
    lang: Language
    foot: str
    blocks: tuple[Block, ...]

    def texts(self) -> Iterator[str]:
        """Everything that is written in it."""
        yield from (self.title, self.foot)
        for block in self.blocks:
            match block:
                case Heading() | Paragraph():
                    yield block.text
                case Facts():
                    yield from (text for pair in block.pairs for text in pair)
                case Table():
                    yield from (*block.head, *(cell for row in block.rows for cell in row))


def document(report: PeriodReport, lang: Language) -> Document:
    """The report in a language."""
    writer = _Writer(lang)
    days = writer.t("valid_days", start=report.since, end=report.until)
    head = report.ledger.head[:24] if report.ledger.head else writer.t("none")
    return Document(
        title=writer.t("report_title"),
        lang=lang,
        foot=f"{writer.t('report_title')} · {days} · {writer.t('ledger_head')} {head}",
        blocks=tuple(writer.blocks(report, days)),
    )


class _Writer:
    """Writes in one language."""

    def __init__(self, lang: Language) -> None:
        self._lang = lang

    def t(self, key: str, **values: object) -> str:
        """The sentence of that key."""
        return words.text(key, self._lang, **values).replace("`", "")

    def name(self, word: str) -> str:
        """What a reader calls it."""
        return words.name(word, self._lang)

    def said(self, wording: Wording) -> str:
        """The wording in the language."""
        return wording.zh if self._lang == "zh" else wording.en

    def blocks(self, report: PeriodReport, days: str) -> Iterator[Block]:
        """The whole report."""
        yield from self._summary(report, days)
        yield Heading(text=self.t("conserved"))
        yield Paragraph(text=self.t("report_conserved_lead"))
        yield from self._ways(report)
        yield Heading(text=self.t("releases"))
        yield from self._releases(report)
        yield Heading(text=self.t("report_withdrawals"))
        yield from self._withdrawals(report)
        yield Heading(text=self.t("shard_sets"))
        yield from self._shard_sets(report)
        yield Heading(text=self.t("counters"))
        yield Paragraph(text=self.t("counters_lead"))
        yield from self._counters(report)
        yield Heading(text=self.t("packs"))
        yield from self._packs(report)
        for one in report.releases:
            yield from self._release(one)
        yield Heading(text=self.t("report_sign"))
        yield Paragraph(text=self.t("report_sign_lead"))
        yield Facts(pairs=tuple((self.t(key), "_" * 36) for key in ("report_sign_name", "report_sign_day")))

    def _summary(self, report: PeriodReport, days: str) -> Iterator[Block]:
        sums = {count.stage: count.accounted for count in report.ways}
        came_back = sum(one.withdrawn for one in report.withdrawals)
        pairs = {
            "report_period": days,
            "report_made_at": formats.moment(report.made_at.isoformat()),
            "came_in": f"{formats.number(sums.get('pull', {}).get('stored', 0))} {self.t('clips')}",
            "accepted": f"{formats.number(sums.get('manifest', {}).get('accepted', 0))} {self.t('clips')}",
            "left": f"{formats.number(sums.get('publish', {}).get('published', 0))} {self.t('rows')}",
            "came_back": f"{formats.number(came_back)} {self.t('rows')}",
            "report_recipients": self._joined({one.recipient for one in report.releases if one.line.published_at}),
            "report_entries": f"{formats.number(report.entry_count)} / {formats.number(report.ledger.entry_count)}",
            "ledger_head": report.ledger.head or self.t("none"),
        }
        yield Facts(pairs=tuple((self.t(key), text) for key, text in pairs.items()))
        yield Paragraph(text=self.t("report_proof"))
        if any(page.line.demo for page in report.packs):
            yield Paragraph(text=self.t("demo_pack"), grave=True)

    def _joined(self, found: set[str]) -> str:
        return ", ".join(sorted(found)) or self.t("none")

    def _accounted(self, accounted: Mapping[str, int]) -> str:
        return ", ".join(f"{self.name(word)} {formats.number(rows)}" for word, rows in formats.ordered(accounted) if rows) or "0"

    def _ways(self, report: PeriodReport) -> Iterator[Block]:
        rows = tuple((self.name(one.stage), formats.number(one.rows_in), self._accounted(one.accounted)) for one in report.ways)
        yield self._table(("stage", "rows_in", "report_where"), rows, widths=(20, 15, 65), numeric=(1,))

    def _table(self, head: Sequence[str], rows: tuple[tuple[str, ...], ...], *, widths: tuple[int, ...], numeric: tuple[int, ...]) -> Block:
        """The table, or a word where it would be empty."""
        if not rows:
            return Paragraph(text=self.t("report_nothing"))
        return Table(head=tuple(self.t(key) for key in head), rows=rows, widths=widths, numeric=numeric)

    def _releases(self, report: PeriodReport) -> Iterator[Block]:
        rows = tuple(
            (
                one.line.release_id,
                self.name(one.line.state),
                one.line.pack,
                *(formats.number(count) for count in (one.line.rows_in, one.line.released, one.line.withheld, one.line.withdrawn)),
                formats.moment(one.line.published_at) or self.t("unknown"),
            )
            for one in report.releases
        )
        head = ("release", "state", "under_pack", "rows_in", "released", "withheld", "withdrawn", "published_at")
        yield self._table(head, rows, widths=(21, 14, 12, 9, 9, 9, 10, 16), numeric=(3, 4, 5, 6))

    def _release(self, one: Release) -> Iterator[Block]:
        yield Heading(text=f"{self.t('release')} {one.line.release_id}")
        pairs = {
            "state": self.name(one.line.state),
            "recipient": one.recipient,
            "purpose": one.purpose,
            "requesters": ", ".join(one.requesters),
            "approver": f"{one.line.approver}, {formats.moment(one.approved_at)}" if one.line.approver else self.t("nobody"),
            "ticket": one.ticket or self.t("none"),
            "published_at": formats.moment(one.line.published_at) or self.t("unknown"),
            "snapshot": one.snapshot_id or self.t("unknown"),
            "under_pack": f"{one.line.pack}, {one.pack_digest}",
            "rows_in": f"{formats.number(one.line.rows_in)} = {self._accounted(one.accounted)}",
        }
        files = {file.key.rpartition("/")[2]: file.sha256 for file in one.files}
        kept = ((name, files[name]) for name in ("evidence.json", "release.parquet", "approval.json") if name in files)
        yield Facts(pairs=(*((self.t(key), text) for key, text in pairs.items()), *kept))
        yield Heading(text=self.t("what_leaves"), level=2)
        leaving = tuple((column.column, self.said(column.coarse), *self._basis(column.basis)) for column in one.columns)
        yield self._table(("column", "coarse", "why", "article"), leaving, widths=(17, 25, 24, 34), numeric=())
        yield Heading(text=self.t("rules_that_withheld"), level=2)
        hits = tuple((hit.rule, formats.number(hit.row_count), *self._why(hit)) for hit in one.rules if hit.row_count)
        yield self._table(("rule", "rows", "why", "article"), hits, widths=(22, 8, 32, 38), numeric=(1,))
        yield Paragraph(text=self.t("several_rules"))

    def _why(self, hit: RuleHits) -> tuple[str, str]:
        reason, article = self._basis(hit.basis)
        if not hit.column:
            return reason, article
        key, inputs = "value_missing" if len(hit.inputs) == 1 else "values_missing", ", ".join(hit.inputs)
        told = self.t(key, column=hit.column, inputs=inputs).replace("`", "")
        return told, f"{self.t('column_rests_on', column=hit.column)} {article}"

    def _basis(self, basis: Basis | None) -> tuple[str, str]:
        if basis is None:
            return self.t("own_rule"), ""
        return self.said(basis.reason), f"{self.said(basis.article)} ({self.said(basis.title)}) [{basis.confidence}]"

    def _withdrawals(self, report: PeriodReport) -> Iterator[Block]:
        rows = tuple(
            (
                one.withdrawal_id,
                self.name(one.cause),
                formats.moment(one.asked_at),
                formats.moment(one.done_at) or self.t("unknown"),
                formats.number(one.asked),
                formats.number(one.withdrawn),
                one.approver or self.t("nobody"),
            )
            for one in report.withdrawals
        )
        head = ("report_withdrawal", "why", "report_asked_at", "report_done_at", "report_asked", "withdrawn", "report_confirmed_by")
        yield self._table(head, rows, widths=(20, 16, 16, 16, 10, 10, 12), numeric=(4, 5))

    def _shard_sets(self, report: PeriodReport) -> Iterator[Block]:
        """Each set, whether its faces and plates are masked, and how many clips that left out; then what masked each that is."""
        if report.shard_sets:
            yield Paragraph(text=self.t("shard_sets_lead"))
        rows = tuple(
            (
                line.shard_set_id,
                formats.moment(line.built_at),
                self.t("removed" if line.is_removed else "standing"),
                formats.number(line.sample_count),
                self.t("not_masked" if line.masking is None else "masked"),
                "-" if line.masking is None else formats.number(line.masking.unmaskable),
                "-" if line.masking is None else formats.number(line.masking.not_clean),
            )
            for line in report.shard_sets
        )
        head = ("shard_set", "built_at", "state", "samples", "faces_and_plates", "report_unmaskable", "report_not_clean")
        yield self._table(head, rows, widths=(28, 14, 10, 10, 14, 12, 12), numeric=(3, 5, 6))
        for line in report.shard_sets:
            if line.masking is not None:
                yield Heading(text=line.shard_set_id, level=2)
                yield from self._masking(line.masking)

    def _masking(self, how: Masking) -> Iterator[Block]:
        models = ((self.t("found_by", what=self.name(kind)), said) for kind, said in how.models.items())
        provers = ((self.t("looked_for_by", what=self.name(part)), said) for part, said in how.provers.items())
        held = self.t("evaluation_held", result=self.name(how.result), until=formats.moment(how.expires_at))
        yield Facts(
            pairs=(
                (
                    self.t("faces_and_plates"),
                    self.t("masked_so", masks=formats.number(how.mask_count), frames=formats.number(how.frame_count)),
                ),
                *models,
                (self.t("looked_again"), self.t("nothing_found", count=formats.number(how.proved_frame_count))),
                *provers,
                (self.t("evaluation"), f"{held}; {how.evaluation}"),
            )
        )
        if how.is_demo:
            yield Paragraph(text=self.t("evaluation_demo"), grave=True)

    def _counters(self, report: PeriodReport) -> Iterator[Block]:
        if report.refusal:
            yield Paragraph(text=report.refusal, grave=True)
        rows = tuple(
            (
                f"{self.name(one.counts)}, {self.name(one.period)}",
                formats.number(one.used),
                formats.number(one.limit),
                self.name(one.level),
                one.assessment or self.t("none"),
                formats.day(one.blocks_on) or self.t("unknown" if one.pace_per_day is None else "never"),
            )
            for one in report.counters
        )
        head = ("report_counter", "report_used", "limit", "state", "report_assessment", "report_blocks_on")
        yield self._table(head, rows, widths=(28, 13, 13, 12, 16, 18), numeric=(1, 2))

    def _packs(self, report: PeriodReport) -> Iterator[Block]:
        rows = tuple(
            (
                f"{page.line.pack_id} {page.line.version}",
                self.name(page.line.standing),
                self.t("valid_days", start=page.line.valid_from, end=page.line.valid_to),
                ", ".join(f"{self.name(role.role)}: {self.name(role.standing)}" for role in page.roles) or self.t("report_in_release"),
                page.line.digest,
            )
            for page in report.packs
        )
        yield self._table(("pack", "state", "report_valid", "report_signatures", "digest"), rows, widths=(11, 10, 22, 26, 31), numeric=())
