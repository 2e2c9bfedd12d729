"""The `curation` command. Exit 0 done, 1 a gate said no, 2 wrong use, 3 something outside failed and a retry may help."""

from __future__ import annotations

import errno
import gc
import io
import itertools
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from curation import __version__, cli_report, cli_review, cli_serve, pipeline
from curation.choices import Clips, Depth
from curation.cli_late import LateGroup
from curation.cli_text import folded, out, progress, shown
from curation.errors import CurationError, OutsideError

if TYPE_CHECKING:  # what a command returns is not needed to offer the command
    from curation.audit.trace import Row as TracedRow
    from curation.records import StageCount
    from curation.settings import SiteApproval
    from curation.stages.pull import Outlook, Prospect

_GARBAGE_AFTER: Final = 200_000  # new objects; after 700, looking for garbage among the modules takes an eighth of every start

_FIXES: Final = {
    errno.ENOENT: "make the folder that it is to lie in, or name another place",
    errno.ENOTDIR: "name a place below a folder",
    errno.ENOSPC: "make room on its disk, then run again",
    errno.EROFS: "have its disk mounted for writing, then run again",
    errno.EACCES: "give this user the right to it, then run again",
}

_LATE: Final = {  # name -> help of the commands of `curation/cli_<name>.py`
    "shards": "Training shards, built at home for a YAML request.",
    "residency": "Make, check, read and try residency packs.",
    "erase": "Erase clips from home: one person asks, another confirms; a receipt stays.",
    "withdraw": "Take rows back from overseas: one person asks, another confirms; a receipt stays at home.",
    "models": "Models that find faces and plates: pinned by SHA-256, kept in the home store.",
    "privacy": "How well faces and plates are found, by GB/T 44464-2024 Annex B.",
}

app = typer.Typer(name="curation", no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
audit_app = typer.Typer(no_args_is_help=True, help="Offline proof of what happened and what left.")
app.add_typer(audit_app, name="audit")
for _name, _help in _LATE.items():
    app.add_typer(typer.Typer(cls=LateGroup, no_args_is_help=True, help=_help), name=_name)
app.command()(cli_review.review)
app.command()(cli_review.adopt)
app.command()(cli_serve.serve)

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


def main() -> None:
    """Run the command; every error raised on purpose becomes one line and its exit code."""
    gc.set_threshold(_GARBAGE_AFTER)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name must not stop a terminal that cannot show it
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        app()
    except BrokenPipeError:  # whoever read us has seen enough (`| head`); what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except CurationError as error:
        _refuse(error)
    except OSError as error:  # a folder that cannot be written, a full disk: whichever stage met it
        problem = f"cannot be used: {error.strerror or type(error).__name__}"
        fix = _FIXES.get(error.errno or 0, "look at its permissions and at the disk, then run again")
        _refuse(OutsideError(problem, subject=str(error.filename or "disk"), fix=fix))
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: object) -> NoReturn:
    """End as a signal ends a process, but not before what was started is ended: workers have no other reason to stop early."""
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clearing up
    sys.exit(128 + number)


def _refuse(error: CurationError) -> NoReturn:
    Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(shown(f"curation: {error}"), style="red")
    sys.exit(error.exit_code)


def _say(count: StageCount, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"stage": count.stage, "subject": count.subject, "rows_in": count.rows_in, "accounted": dict(count.accounted)}))
        return
    accounted = ", ".join(f"{rows} {name}" for name, rows in count.accounted.items() if rows) or "nothing"
    out.print(f"{count.stage} {count.subject}: {count.rows_in} in = {accounted}")


@app.command()
def version() -> None:
    """The version of this program."""
    out.print(__version__)


@app.command()
def demo(
    clips: Annotated[
        Path | None, typer.Option(help="Folder of real clips; without it, clips are rendered.", exists=True, file_okay=False)
    ] = None,
    fleet: Annotated[Path | None, typer.Option(help="CSV with the telemetry of the clips.", exists=True, dir_okay=False)] = None,
    work: Annotated[Path, typer.Option(help="Where everything is kept.", file_okay=False)] = Path(".work/demo"),
    masked: Annotated[bool, typer.Option("--masked", help="Also a small masked shard set; in a new work folder.")] = False,
) -> None:
    """The main job end to end under a real Airflow on this machine: ingest, validate, release, approval, publish, shards."""
    from curation.demo import run_demo  # Airflow's client and the renderer are heavy, and only needed here

    run_demo.run(clips=clips, fleet=fleet, work=work, say=out, masked=masked)


@app.command()
def up(work: Annotated[Path, typer.Option(help="Work folder with curation.toml.", file_okay=False)] = Path(".work/up")) -> None:
    """Airflow with the project's DAGs on loopback, until Ctrl-C."""
    from curation.demo import run_demo

    run_demo.up(work=work, say=out)


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Video files, or folders of them.")],
    depth: Annotated[Depth, typer.Option(help="Decode nothing, key frames and what looks suspicious, or everything.")] = "keyframes",
    contact_sheet: Annotated[Path | None, typer.Option(help="PNG to draw: frames looked at, signals over time.", dir_okay=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Measure clips: any file, no store, no settings. With --json one object a line, keys = manifest columns."""
    from curation import loose_files

    rows = loose_files.inspect_files(paths, depth=depth, contact_sheet=contact_sheet)
    if as_json:
        for row in rows:
            print(_json_line(row), flush=True)
        return
    table = folded("clip", "verdict", "codec", "size", "length", "light", "sharp", "bright", "why")
    with progress("inspecting") as tell:
        for done, row in enumerate(rows, start=1):
            tell(done, None, "")
            table.add_row(*_inspection_cells(row))
    out.print(table)


def _json_line(row: Mapping[str, Any]) -> str:
    """The row as JSON; in ASCII escapes where standard output cannot carry its text, such as a file name that is no UTF-8."""
    line = json.dumps(row, default=str, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return json.dumps(row, default=str)
    return line


def _inspection_cells(row: Mapping[str, Any]) -> list[str]:
    size = f"{row['width_px']}x{row['height_px']}" if row["width_px"] else "-"
    numbers = [f"{row[name]:{shape}}" if row[name] is not None else "-" for name, shape in (("sharpness", ".0f"), ("brightness", ".2f"))]
    length = f"{row['duration_s']:.1f} s" if row["duration_s"] is not None else "-"
    why = ", ".join(row["reasons"]) or row["error"] or ""
    return [
        shown(Path(row["source_uri"]).name),
        row["verdict"],
        row["video_codec"] or "-",
        size,
        length,
        row["timeofday"] or "-",
        *numbers,
        shown(why),
    ]


@app.command()
def site(work: Work = None, as_json: AsJson = False) -> None:
    """Where data rests, the permissions it rests on, and until when each holds; exit 1 where new pulls are stopped."""
    from curation.residency import sites

    settings = pipeline.open_settings(work)
    found = pipeline.site_permissions(settings)
    if as_json:
        for one in found:
            approval = None if one.approval is None else one.approval.model_dump(mode="json")
            print(json.dumps({"kind": one.kind, "subject": one.subject, "state": one.state, "approval": approval}, ensure_ascii=False))
    elif settings.site is None:
        out.print("no site is declared in curation.toml: enough for a folder of this machine, and for nothing else")
    else:
        out.print(f"{settings.site.zone}, run by {settings.site.operator}")
        rows = [(one.subject, one.state, *_approval_cells(one.approval)) for one in found]
        _table(out, ("permission", "state", "until", "reference", "holder"), rows)
    if any(one.state in sites.STOPPED for one in found):
        raise typer.Exit(1)


@app.command()
def store(work: Work = None, as_json: AsJson = False) -> None:
    """What the home store is, and what asking it at the start of each writing process finds out; exit 1 where it is not at home."""
    found = pipeline.store_findings(pipeline.open_settings(work))
    if as_json:
        print(json.dumps(dict(found), ensure_ascii=False))
        return
    for name, words in found.items():
        out.print(f"{name:16}{shown(words)}")


def _approval_cells(approval: SiteApproval | None) -> tuple[str, str, str]:
    return ("-", "-", "-") if approval is None else (str(approval.expires_on), shown(approval.reference), shown(approval.holder))


@app.command(name="pull")
def pull_command(
    source: Annotated[str, typer.Argument(help="Name of a source in curation.toml.")],
    work: Work = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of every entry; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """List a source and pull every new clip into the home store."""
    from curation.records import StageCount

    settings = pipeline.open_settings(work)
    if dry_run:
        _show_outlook(pipeline.outlook(settings, source), source, as_json=as_json)
        return
    found = pipeline.discovery(settings, source)
    if not as_json:  # there each line is a batch
        _say(StageCount(stage="list", subject=source, rows_in=sum(found.fates.values()), accounted=found.fates), as_json=False)
        for name, reason in found.growing.items():
            out.print(shown(f"growing {name}: {reason}; the next pull looks at it again"))
        _say_unused(found.dropped_keys, found.malformed_values)
        if not found.batch_ids:
            out.print(f"pull {source}: nothing new")
    for batch_id in found.batch_ids:
        _say(pipeline.pull_batch(settings, batch_id), as_json=as_json)


def _show_outlook(outlook: Outlook, source: str, *, as_json: bool) -> None:
    from curation.records import StageCount

    if as_json:
        for prospect in outlook.prospects:
            telemetry = {key: value for key, value in asdict(prospect.entry.telemetry).items() if key != "track"}
            entry = {"name": prospect.entry.name, "fate": prospect.fate, "reason": prospect.reason, "size_bytes": prospect.entry.size_bytes}
            print(json.dumps(entry | telemetry, default=str, ensure_ascii=False))
        return
    rows = [("fate", "bytes", "captured at", "camera", "drive", "entry: why"), *map(_prospect_cells, outlook.prospects)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # in lines of any length: names must be whole, for eyes and for grep
        out.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    _say(StageCount(stage="list", subject=source, rows_in=len(outlook.prospects), accounted=outlook.fates), as_json=False)
    _say_unused(outlook.dropped_keys, outlook.malformed_values)


def _prospect_cells(prospect: Prospect) -> tuple[str, ...]:
    telemetry = prospect.entry.telemetry
    at = "-" if telemetry.captured_at is None else f"{telemetry.captured_at:%Y-%m-%dT%H:%M:%SZ}"
    name = prospect.entry.name if prospect.reason is None else f"{prospect.entry.name}: {prospect.reason}"
    said = (str(prospect.entry.size_bytes), at, telemetry.camera or "-", telemetry.drive_id or "-", name)
    return prospect.fate, *map(shown, said)


def _say_unused(dropped_keys: Mapping[str, int], malformed_values: Mapping[str, int]) -> None:
    for what, counts in (("unknown keys dropped", dropped_keys), ("values not believed", malformed_values)):
        if counts:
            out.print(shown(f"{what}: {', '.join(f'{key} ({count})' for key, count in counts.items())}"))


@app.command()
def manifest(batch: Annotated[str, typer.Argument(help="Id of a pulled batch.")], work: Work = None, as_json: AsJson = False) -> None:
    """Inspect a batch's clips, going on from finished ones, and write its manifest."""
    settings = pipeline.open_settings(work)
    with progress("inspecting", quiet=as_json) as tell:
        written = pipeline.write_manifest(settings, batch, progress=lambda done, total: tell(done, total, ""))
    _say(written, as_json=as_json)


@app.command()
def validate(
    batch: Annotated[str, typer.Argument(metavar="BATCH|PATH.parquet", help="Id of a batch with a manifest, or a Parquet file.")],
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Audit a batch on a branch of curated.clips; main advances only if every check ran and passed. Of a file, only say what is wrong.

    Exit 1 names the failing checks and how many rows each; with --json the whole result, counts and clip ids only.
    """
    from curation import cli_validate

    if batch.endswith(".parquet"):
        cli_validate.of_file(Path(batch), as_json=as_json)
    else:
        cli_validate.of_batch(pipeline.open_settings(work), batch, as_json=as_json, say=_say)


@app.command()
def reinspect(work: Work = None, as_json: AsJson = False) -> None:
    """Measure again what was measured under other settings or by another inspector, and replace those rows of curated.clips."""
    counts = list(pipeline.reinspect(pipeline.open_settings(work)))
    for count in counts:
        _say(count, as_json=as_json)
    if not counts and not as_json:
        out.print("reinspect: every curated row was made under these settings")


@app.command()
def release(
    work: Work = None,
    as_of: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Decide as of this day; default today in Shanghai.")] = None,
    requester: Annotated[list[str] | None, typer.Option(help="Who asks; default the scheduler.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List every release there is, and cut none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cut this window's release from curated.clips, deny by default."""
    settings = pipeline.open_settings(work)
    if list_all:
        cut = pipeline.releases(settings)
        if not cut and not as_json:
            out.print("no release was cut yet. Next: curation release")
        for summary in cut:
            state = "published" if summary["published"] else "not published"
            line = json.dumps(summary) if as_json else f"{summary['release_id']}: {summary['rows']} rows, {state}"
            print(line)
        return
    day: date | None = None if as_of is None else as_of.date()
    summary = pipeline.release_summary(settings, pipeline.cut_release(settings, requesters=requester or [], as_of=day))
    if as_json:
        print(json.dumps(summary))
        return
    show_release(summary, out)


def show_release(summary: Mapping[str, Any], console: Console) -> None:
    """Print what a release lets out, and under which rules."""
    state = "published" if summary["published"] else "waiting for approval" if summary["rows"] else "empty: nothing to publish"
    console.print(f"release {summary['release_id']} ({state}): {summary['rows']} rows leave, {summary['withheld']} withheld")
    _table(console, ("column that leaves", "rule that lets it"), [(c["column"], c["rule"]) for c in summary["columns"]])
    _table(console, ("rule that withholds", "rows"), [(rule, str(rows)) for rule, rows in summary["rules"].items() if rows])
    close = [one for one in summary["counters"] if one["level"] != "open"]
    figures = [(one["counter"], f"{one['after']} of {one['limit']}", one["level"]) for one in close]
    if figures:
        _table(console, ("counter close to its limit", "counted", "level"), figures)
    console.print(f"release.parquet {summary['release_digest']}\nevidence.json   {summary['evidence_digest']}")


def _table(console: Console, heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    table = folded(*heads, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


@app.command()
def approve(
    release_id: Annotated[str, typer.Argument(help="Id of the release.")],
    key: Annotated[Path, typer.Option(help=r"Your Ed25519 key; \[publish.approvers] says whose it is.", exists=True, dir_okay=False)],
    ticket: Annotated[str, typer.Option(help="Reference of the transfer assessment.")],
    release_digest: Annotated[str, typer.Option(help="SHA-256 of release.parquet as you saw it.")],
    evidence_digest: Annotated[str, typer.Option(help="SHA-256 of evidence.json as you saw it.")],
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Sign the approval of a release's very bytes outside Airflow; you must not be one of those who asked for it."""
    from curation.residency import signing

    settings, private = pipeline.open_settings(work), signing.private_key(key.read_bytes())
    approver = pipeline.approver_of(settings, private)
    digests = {"release": release_digest, "evidence": evidence_digest}
    pipeline.approve(settings, release_id, approver=approver, ticket=ticket, digests=digests, key=private)
    if as_json:
        print(json.dumps({"release_id": release_id, "approver": approver, "ticket": ticket, "digests": digests}, ensure_ascii=False))
        return
    out.print(f"release {release_id}: approved by {approver}. Next: curation publish {release_id}")


@app.command()
def publish(
    release_id: Annotated[str, typer.Argument(help="Id of an approved release.")], work: Work = None, as_json: AsJson = False
) -> None:
    """Commit an approved release to the overseas catalog, read it back, and record what left."""
    _say(pipeline.publish_release(pipeline.open_settings(work), release_id), as_json=as_json)


@app.command()
def upkeep(
    work: Work = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which masked copies would go; no catalog is looked at.")] = False,
    as_json: AsJson = False,
) -> None:
    """Each night: remove masked copies of models out of use, compact both catalogs, forget snapshots and files that nothing needs."""
    settings = pipeline.open_settings(work)
    copies = pipeline.prune_masked_copies(settings, dry_run=dry_run)
    if copies.rows_in and as_json:
        _say(copies, as_json=True)
    elif copies.rows_in:
        went = copies.accounted
        kept = f"{went['in_use']} of the models in use, {went['of_shard_sets']} of shard sets that stand"
        out.print(f"masked copies: {copies.rows_in} at home, {kept}, {went['removed']} {'would be removed' if dry_run else 'removed'}")
    for done in () if dry_run else pipeline.upkeep(settings):
        if as_json:
            print(json.dumps(asdict(done)))
            continue
        did = f"{done.compacted_files} files compacted, {done.expired_snapshots} snapshots forgotten, {done.removed_files} files removed"
        out.print(f"{done.table}: {did}; {done.snapshots} snapshots stay, {done.pinned} pins")
        for branch in done.dropped_branches:
            why = "its validation ended without a word over a week ago; `curation validate` writes it again"
            out.print(shown(f"  branch {branch} dropped: {why}"))


@audit_app.command("trace")
def audit_trace(
    subject: Annotated[str, typer.Argument(metavar="ID", help="Id of a clip, of a released row, or of a vehicle.")],
    withheld: Annotated[bool, typer.Option("--withheld", help="ID is a vehicle: also tell what stayed of it; takes longer.")] = False,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """What left of it, when, under which rule and pack, approved by whom, and whether it came back."""
    found = pipeline.trace(pipeline.open_settings(work), subject, withheld=withheld)
    if as_json:
        print(json.dumps(found, default=_parts, ensure_ascii=False))
        return
    left = [row for row in found.rows if row.at or row.state == "under way"]
    out.print(shown(f"{found.kind} {found.subject}: {len(found.clip_ids)} clips, {len(left)} rows left"))
    for row in found.rows:
        _show_traced(row)
    if found.withheld is None:
        out.print("Next: --withheld also tells what stayed of the vehicle, release by release")
    for one in found.withheld or ():
        out.print(shown(f"release {one.release_id} ({one.at}) withheld clip {one.clip_id} under {', '.join(one.rules)}"))


def _parts(one: Any) -> dict[str, Any]:
    """A frozen record by name, for JSON; `asdict` copies all that is below it, which takes a vehicle's trace half a second."""
    return {name: getattr(one, name) for name in one.__slots__}


def _show_traced(row: TracedRow) -> None:
    out.print(shown(f"row {row.release_row_id} of clip {row.clip_id}: {row.state}"))
    if row.at:
        out.print(shown(f"  left {row.at} in release {row.release_id}, snapshot {row.snapshot_id}, to {row.recipient} for {row.purpose}"))
    approval = f"approved by {row.approver} under ticket {row.ticket}" if row.approver else "approved by nobody"
    out.print(shown(f"  pack {row.pack} ({row.pack_digest}), {approval}, asked for by {', '.join(row.requesters)}"))
    back = row.came_back
    if back is not None:
        under = f", rules {', '.join(back.rules)}" if back.rules else ""
        who = f"asked for by {back.requester}" + (f", confirmed by {back.approver}" if back.approver else "")
        out.print(shown(f"  came back {back.at} by withdrawal {back.withdrawal_id} ({back.cause}: {back.reason}{under}), {who}"))
    _table(out, ("column", "value", "rule that let it"), [(one.column, str(one.value), one.rule) for one in row.fields])


audit_app.command("report")(cli_report.report)


@audit_app.command("verify")
def audit_verify(
    work: Work = None,
    head: Annotated[str | None, typer.Option(help="SEQUENCE:DIGEST noted earlier; proves that nothing was cut off since.")] = None,
    clips: Annotated[Clips | None, typer.Option(help="Of which clips the bytes are read; default all of up to 10 GB.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove chain, signatures, counts and files; exit 1 names the first thing that does not hold."""
    settings, files = pipeline.open_settings(work), itertools.count(1)
    with progress("files read", quiet=as_json) as tell:
        proof = pipeline.verify(settings, head=head, clips=clips, progress=lambda _: tell(next(files), None, ""))
    if as_json:
        counts = {"entries": proof.entry_count, "files": proof.file_count, "clips": proof.clip_count, "clips_read": proof.clips_read}
        print(json.dumps({**counts, "head": proof.head, "uncovered": list(proof.uncovered), "open": list(proof.open_publications)}))
        return
    out.print(f"the ledger holds: {proof.entry_count} entries, {proof.file_count} files, head {proof.head}")
    if proof.clips_read < proof.clip_count:
        out.print(f"of {proof.clip_count} clips {proof.clips_read} were read; that the others are there was looked up, not their bytes")
    for key in proof.uncovered:
        out.print(f"not covered by any entry: {key}")
    for release_id in proof.open_publications:
        out.print(f"release {release_id}: its publication is under way, or broke off. Next: `curation publish {release_id}` ends it")
