"""`curation withdraw`: take rows back from overseas. One person asks, another confirms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curation import pipeline
from curation.cli_text import out, shown
from curation.errors import UsageError
from curation.stages.withdraw import Selection

app = typer.Typer()

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@app.command()
def request(
    reason: Annotated[str, typer.Option(help="Why, for the record; it stays, so name no person.")],
    requester: Annotated[str, typer.Option(help="Who asks.")],
    clip: Annotated[str | None, typer.Option(help="The row of one clip.")] = None,
    vehicle: Annotated[str | None, typer.Option(help="The rows of all clips of a vehicle.")] = None,
    device: Annotated[str | None, typer.Option(help="The rows of all clips of a device.")] = None,
    drive: Annotated[str | None, typer.Option(help="The rows of all clips of a drive.")] = None,
    release: Annotated[str | None, typer.Option(help="The rows of a release.")] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Record that rows are to be withdrawn. Nothing is taken back yet."""
    options = (("clip", clip), ("vehicle", vehicle), ("device", device), ("drive", drive), ("release", release))
    named = [Selection(by=by, value=value) for by, value in options if value]  # type: ignore[arg-type]  # the five names of Selection.by
    if len(named) != 1:
        raise UsageError(
            "needs one thing to withdraw", subject="withdrawal", fix="give one of --clip, --vehicle, --device, --drive, --release"
        )
    asked = pipeline.request_withdrawal(pipeline.open_settings(work), named[0], reason=reason, requester=requester)
    if as_json:
        print(json.dumps({"withdrawal_id": asked.withdrawal_id, "clips": asked.clip_count}))
        return
    out.print(f"withdrawal {asked.withdrawal_id}: {asked.clip_count} clips, none of which leaves again once it is confirmed")
    out.print(f"Next: somebody else than {asked.requester} runs `curation withdraw confirm {asked.withdrawal_id} --approver NAME`")


@app.command()
def confirm(
    withdrawal_id: Annotated[str, typer.Argument(help="Id that `curation withdraw request`, or `curation review`, gave.")],
    approver: Annotated[str, typer.Option(help="Who confirms; not the one who asked.")],
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw what was asked for: rows, snapshots and files overseas, and shard sets, go for good. An interrupted one is finished."""
    settings = pipeline.open_settings(work)
    pipeline.confirm_withdrawal(settings, withdrawal_id, approver=approver)
    receipt = pipeline.withdrawal_receipt(settings, withdrawal_id)
    rebuilt = pipeline.rebuild_shard_sets(settings, withdrawal_id)
    receipt["shard_sets_built_again"] = {name: one.shard_set_id for name, one in rebuilt.items()}
    receipt["shard_sets_not_built_again"] = {name: one.why for name, one in rebuilt.items() if one.shard_set_id is None}
    if as_json:
        print(json.dumps(receipt))
        return
    said = f"{receipt['asked']} clips asked for = {receipt['withdrawn']} withdrawn, {receipt['not_overseas']} not overseas"
    out.print(f"withdrawal {withdrawal_id}: {said}")
    for release_id, rows in sorted(receipt["rows_of_releases"].items()):
        out.print(f"  {rows} rows of release {release_id}; no file overseas holds one of their ids")
    for name, clips in receipt.get("shard_sets_removed", {}).items():
        again, why = receipt["shard_sets_built_again"].get(name), receipt["shard_sets_not_built_again"].get(name, "it was not finished")
        instead = f"built again without them as {again}" if again else f"nothing takes its place: {shown(why)}"
        out.print(f"  shard set {name} held {clips} of the clips and is removed; {instead}")


@app.command()
def show(withdrawal_id: Annotated[str, typer.Argument(help="Id of a finished withdrawal.")], work: Work = None) -> None:
    """The receipt, as JSON."""
    print(json.dumps(pipeline.withdrawal_receipt(pipeline.open_settings(work), withdrawal_id), indent=2))
