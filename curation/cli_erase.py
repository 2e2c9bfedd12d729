"""`curation erase`: take clips off the home store. One person asks, another confirms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curation import pipeline
from curation.choices import DataClass
from curation.cli_text import out, shown
from curation.errors import UsageError
from curation.stages.erase import Selection

app = typer.Typer()

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line, for programs.")]


@app.command()
def due(work: Work = None, as_json: AsJson = False) -> None:
    """How long each class of data is kept, and what is past its term. Nothing is removed without two people's word."""
    for one in pipeline.retention_standings(pipeline.open_settings(work)):
        next_due = None if one.next_due is None else one.next_due.isoformat()
        if as_json:
            told = {"class": one.data_class, "term_days": one.term_days, "held": one.held, "next_due": next_due}
            print(json.dumps(told | {"due": [holding.subject for holding in one.due]}))
            continue
        term = "no end" if one.term_days is None else f"{one.term_days} days"
        out.print(f"{one.data_class}: kept {term}, {one.held} held, {len(one.due)} due, the next on {(next_due or '-')[:10]}")
        for holding in one.due:
            out.print(f"  due: {holding.subject}")


@app.command()
def request(
    reason: Annotated[str, typer.Option(help="Why, for the record; it stays, so name no person.")],
    requester: Annotated[str, typer.Option(help="Who asks.")],
    clip: Annotated[str | None, typer.Option(help="Id of one clip.")] = None,
    vehicle: Annotated[str | None, typer.Option(help="All clips of a vehicle.")] = None,
    drive: Annotated[str | None, typer.Option(help="All clips of a drive.")] = None,
    past_term: Annotated[
        DataClass | None, typer.Option(help=r"All of a class that is past the term that \[retention] sets for it.")
    ] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be erased, and record that it was asked for. Nothing is removed yet."""
    named = [Selection(by="clip", value=clip)] if clip else []
    named += [Selection(by="vehicle", value=vehicle)] if vehicle else []
    named += [Selection(by="drive", value=drive)] if drive else []
    if len(named) + (past_term is not None) != 1:
        raise UsageError("needs one thing to erase", subject="erasure", fix="give one of --clip, --vehicle, --drive, --past-term")
    settings = pipeline.open_settings(work)
    if past_term is not None:
        asked = pipeline.request_expiry(settings, past_term, reason=reason, requester=requester)
    else:
        asked = pipeline.request_erasure(settings, named[0], reason=reason, requester=requester)
    listed = sum(map(len, asked.listed.values()))
    if as_json:
        told = {"clip_ids": asked.clip_ids, "listed_entries": listed, "objects": asked.objects}
        print(json.dumps({"erasure_id": asked.erasure_id, **told}))
        return
    clips = f"{len(asked.clip_ids)} clips, {listed} listed entries of {len(asked.listed)} batches"
    out.print(f"erasure {asked.erasure_id}: {f'{len(asked.objects)} objects' if asked.objects else clips}")
    out.print(f"Next: somebody else than {asked.requester} runs `curation erase confirm {asked.erasure_id} --approver NAME`")


@app.command()
def confirm(
    erasure_id: Annotated[str, typer.Argument(help="Id that `curation erase request` gave.")],
    approver: Annotated[str, typer.Option(help="Who confirms; not the one who asked.")],
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Erase what was asked for: it goes for good. An interrupted erasure is finished."""
    settings = pipeline.open_settings(work)
    pipeline.confirm_erasure(settings, erasure_id, approver=approver)
    receipt = pipeline.erasure_receipt(settings, erasure_id)
    rebuilt = pipeline.rebuild_shard_sets(settings, erasure_id)
    receipt["shard_sets_built_again"] = {name: one.shard_set_id for name, one in rebuilt.items()}
    receipt["shard_sets_not_built_again"] = {name: one.why for name, one in rebuilt.items() if one.shard_set_id is None}
    if as_json:
        print(json.dumps(receipt))
        return
    out.print(f"erasure {erasure_id}: {len(receipt['clip_ids'])} clips erased, {receipt['curated_rows']} rows of curated.clips,")
    out.print(f"  {len(receipt['removed'])} objects removed, {len(receipt['scrubbed'])} tables of batches rewritten without them")
    for name in receipt.get("shard_sets_removed", ()):
        again, why = receipt["shard_sets_built_again"].get(name), receipt["shard_sets_not_built_again"].get(name)
        instead = f"; built again without the clips as {again}" if again else f"; nothing takes its place: {shown(why)}" if why else ""
        out.print(f"  shard set {name} is removed{instead}")
    for release_id, rows in receipt["rows_overseas"].items():
        out.print(f"  {rows} rows of release {release_id} are still overseas: they hold no id, and stay until they are withdrawn")


@app.command()
def show(
    erasure_id: Annotated[str, typer.Argument(help="Id of a finished erasure.")],
    work: Work = None,
) -> None:
    """The receipt, as JSON."""
    print(json.dumps(pipeline.erasure_receipt(pipeline.open_settings(work), erasure_id), indent=2))
