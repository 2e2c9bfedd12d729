"""`curation review` decides again on everything that is overseas; `curation adopt` says which table that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curation import pipeline
from curation.cli_text import out


def review(
    requester: Annotated[str, typer.Option(help="Who runs it; somebody else must confirm what it may not take back alone.")] = "scheduler",
    work: Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Decide every row overseas again, under today's pack; exit 1 where it fails, or where a second person must confirm a withdrawal."""
    done = pipeline.review(pipeline.open_settings(work), requester=requester)
    found = done.found
    back, waits = found.asked.num_rows, bool(done.withdrawal_id) and not done.withdrawn
    if as_json:
        body = {
            "day": found.day.isoformat(),
            "pack": found.pack,
            "pack_digest": found.pack_digest,
            "expires_on": found.expires_on.isoformat(),
            "days_left": found.days_left,
            "expiry_announced": found.is_announced,
            "rows_overseas": found.row_count,
            "rows_missing": found.missing_count,
            "cause": found.cause,
            "rows_to_withdraw": back,
            "rules": dict(found.rule_counts),
            "whole_releases": list(found.whole_releases),
            "withdrawal_id": done.withdrawal_id,
            "withdrawn": done.withdrawn,
        }
        print(json.dumps(body))
    else:
        out.print(f"review of {found.day}: {found.row_count} rows overseas = {found.row_count - back} stay, {back} may not")
        for rule, rows in found.rule_counts.items():
            out.print(f"  {rule}: {rows} rows")
        if found.missing_count:
            out.print(f"  {found.missing_count} rows that were published are not in the overseas catalog")
        if found.is_announced:
            out.print(f"pack {found.pack} expires on {found.expires_on}, in {found.days_left} days: the day after, every row is withdrawn")
        if done.withdrawn:
            out.print(f"withdrawal {done.withdrawal_id}: {back} rows withdrawn")
        if waits:
            out.print(f"Next: somebody else than {requester} runs `curation withdraw confirm {done.withdrawal_id} --approver NAME`")
    if waits:
        raise typer.Exit(1)


def adopt(
    reason: Annotated[str, typer.Option(help="Why the table is another, or an older one.")],
    requester: Annotated[str, typer.Option(help="Who asks.")],
    work: Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)] = None,
) -> None:
    """Record the overseas table of the settings as this home's: after it was restored from an older copy, or took another's place."""
    settings = pipeline.open_settings(work)
    found, rows = pipeline.adopt_table(settings, reason=reason, requester=requester)
    out.print(
        f"overseas table {settings.publish.table} of UUID {found.table_uuid} is this home's; {rows} rows were withdrawn from it again"
    )
    out.print("Next: `curation review`, which tells what of it may not stay")
