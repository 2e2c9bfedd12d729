"""`curation erase`: take clips off the home store. One person asks, another confirms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from curation import pipeline
from curation.errors import UsageError
from curation.stages.erase import Selection

app = typer.Typer(no_args_is_help=True, help="Erase clips from home: one person asks, another confirms; a receipt stays.")
out: Final = Console(markup=False, highlight=False, soft_wrap=True)

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@app.command()
def request(
    reason: Annotated[str, typer.Option(help="Why, for the record; it stays, so name no person.")],
    requester: Annotated[str, typer.Option(help="Who asks.")],
    clip: Annotated[str | None, typer.Option(help="Id of one clip.")] = None,
    vehicle: Annotated[str | None, typer.Option(help="All clips of a vehicle.")] = None,
    drive: Annotated[str | None, typer.Option(help="All clips of a drive.")] = None,
    past_term: Annotated[bool, typer.Option("--past-term", help="All clips past the term that [retention] sets.")] = False,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be erased, and record that it was asked for. Nothing is removed yet."""
    named = [Selection(by="clip", value=clip)] if clip else []
    named += [Selection(by="vehicle", value=vehicle)] if vehicle else []
    named += [Selection(by="drive", value=drive)] if drive else []
    if len(named) + past_term != 1:
        raise UsageError("needs one thing to erase", subject="erasure", fix="give one of --clip, --vehicle, --drive, --past-term")
    asked = pipeline.request_erasure(pipeline.open_settings(work), named[0] if named else None, reason=reason, requester=requester)
    listed = sum(map(len, asked.listed.values()))
    if as_json:
        print(json.dumps({"erasure_id": asked.erasure_id, "clip_ids": asked.clip_ids, "listed_entries": listed}))
        return
    out.print(f"erasure {asked.erasure_id}: {len(asked.clip_ids)} clips, {listed} listed entries of {len(asked.listed)} batches")
    out.print(f"Next: somebody else than {asked.requester} runs `curation erase confirm {asked.erasure_id} --approver NAME`")


@app.command()
def confirm(
    erasure_id: Annotated[str, typer.Argument(help="Id that `curation erase request` gave.")],
    approver: Annotated[str, typer.Option(help="Who confirms; not the one who asked.")],
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Erase what was asked for: bytes, rows and shard sets go for good. An interrupted erasure is finished."""
    settings = pipeline.open_settings(work)
    pipeline.confirm_erasure(settings, erasure_id, approver=approver)
    receipt = pipeline.erasure_receipt(settings, erasure_id)
    if as_json:
        print(json.dumps(receipt))
        return
    out.print(f"erasure {erasure_id}: {len(receipt['clip_ids'])} clips erased, {receipt['curated_rows']} rows of curated.clips,")
    out.print(f"  {len(receipt['removed'])} objects removed, {len(receipt['scrubbed'])} tables of batches rewritten without them")
    for release_id, rows in receipt["rows_overseas"].items():
        out.print(f"  {rows} rows of release {release_id} are still overseas: they hold no id, and stay until they are withdrawn")


@app.command()
def show(
    erasure_id: Annotated[str, typer.Argument(help="Id of a finished erasure.")],
    work: Work = None,
) -> None:
    """The receipt, as JSON."""
    print(json.dumps(pipeline.erasure_receipt(pipeline.open_settings(work), erasure_id), indent=2))
