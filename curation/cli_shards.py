"""`curation shards`: what a request for training shards would give, and the shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from curation import pipeline
from curation.cli_text import out, progress
from curation.errors import MaskingRefused, UsageError
from curation.shards.preview import picture, sized, tag_counts
from curation.shards.request import ShardRequest, parse
from curation.shards.selection import TAG_COLUMNS

if TYPE_CHECKING:  # it comes with libraries of pictures, which a preview needs none of
    from curation.shards.masked_copies import MaskingStep

app = typer.Typer()

Request = Annotated[Path, typer.Argument(help="Request in YAML.")]
Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
_BAR_CELLS: Final = 32


@app.command("preview")
def preview(
    request: Request,
    work: Work = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    drawn: Annotated[Path | None, typer.Option("--picture", help="SVG to draw: the same as bars.", dir_okay=False)] = None,
) -> None:
    """What a request would give, before any copy: samples and bytes per split and tag, what is left out and why, what quotas lack.

    1 where faces and plates must be masked and a build would be refused.
    """
    seen = pipeline.preview_shards(pipeline.open_settings(work), _request(request))
    if drawn is not None:
        drawn.write_text(picture(seen), encoding="utf-8")
    refused = seen.get("masking", {}).get("refused")
    if as_json:
        print(json.dumps(seen))
        raise typer.Exit(1 if refused else 0)
    out.print(f"{seen['name']}: {seen['samples']:,} of {seen['considered']:,} accepted clips, {sized(seen['clip_bytes'])}\n")
    for table in _tables(seen):
        out.print(table)
        out.print()
    lacking = [quota for quota in seen["quotas"] if quota["shortfall"]]
    for quota in lacking:
        out.print(f"quota {quota['tag']} {quota['value']}: {quota['shortfall']:,} short ({quota['passing']:,} pass filter and quality)")
    groups = seen["groups"]
    out.print(
        f"{groups['groups']:,} groups, the largest of {groups['largest_group']:,} clips; drives, vehicle-days and near-duplicates in two "
        f"splits: {groups['drives_in_two_splits']}, {groups['vehicle_days_in_two_splits']}, {groups['near_duplicates_in_two_splits']}"
    )
    if refused:
        raise MaskingRefused(refused["problem"], subject=refused["subject"], fix=refused["fix"])
    if "masking" in seen:
        evaluation = seen["masking"]["evaluation"]
        out.print(f"faces and plates will be masked; evaluation {evaluation['id']}: {evaluation['result']}")


@app.command("build")
def build(
    request: Request, work: Work = None, as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False
) -> None:
    """Build the shards at home from a pinned snapshot; of a masked set, say on standard error which clip of how many is being masked."""
    asked = _request(request)
    steps: list[MaskingStep] = []
    with progress("building shards", quiet=as_json) as tell:

        def told(step: MaskingStep) -> None:
            steps[:] = [step]
            tell(step.done, step.total, str(step))

        shard_set_id = pipeline.build_shards(pipeline.open_settings(work), asked, progress=told)
    copies = {"clips": steps[0].total, "standing": steps[0].standing} if steps else None
    if as_json:
        print(json.dumps({"shard_set_id": shard_set_id, "masked_copies": copies}))
        return
    stood = f"; of {copies['clips']:,} clips {copies['standing']:,} had their masked copies already" if copies else ""
    out.print(f"shards {shard_set_id}: built{stood}")


def _request(path: Path) -> ShardRequest:
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", subject=str(path), fix="give the path of a shard request in YAML") from error


def _tables(seen: Mapping[str, Any]) -> list[Table]:
    return [_of_rows(seen), *([_of_quotas(seen)] if seen["quotas"] else []), *(_of_tag(seen, tag) for tag in TAG_COLUMNS)]


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if not name or number == 0 else "right")
    return table


def _bar(count: int, most: int) -> str:
    return "█" * round(_BAR_CELLS * count / most) if most else ""


def _of_rows(seen: Mapping[str, Any]) -> Table:
    """Every accepted clip, by the split that it is in or by why it is in none."""
    table = _table("accepted clips", "clips", "bytes", "")
    for split, found in seen["splits"].items():
        table.add_row(split, f"{found['samples']:,}", sized(found["clip_bytes"]), _bar(found["samples"], seen["considered"]))
    for name, count in seen["left_out"].items():
        table.add_row(f"- {name.replace('_', ' ')}", f"{count:,}", "", _bar(count, seen["considered"]))
    return table


def _of_quotas(seen: Mapping[str, Any]) -> Table:
    table = _table("quota", "wanted", "passing", "taken", "short")
    for quota in seen["quotas"]:
        numbers = (f"{quota[name]:,}" for name in ("wanted", "passing", "taken", "shortfall"))
        table.add_row(f"{quota['tag']} {quota['value']}", *numbers)
    return table


def _of_tag(seen: Mapping[str, Any], tag: str) -> Table:
    counts = tag_counts(seen, tag)
    most = max((sum(count) for count in counts.values()), default=0)
    table = _table(tag, *seen["splits"], "")
    for value, count in counts.items():
        table.add_row(value, *(f"{one:,}" for one in count), _bar(sum(count), most))
    return table
