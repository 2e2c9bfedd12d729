"""What a shard set says of itself: its index, and the dataset card made from that index alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import __version__
from curation.shards.request import PUBLIC_COLUMNS, ShardRequest
from curation.shards.selection import NONE, SPLIT_COLUMN, TAG_COLUMNS, Selection, check_nothing_told, choose

FILTER_WITHHELD: Final = "withheld:"  # begins what stands in the index instead of a filter that tells a vehicle, person or place
INDEX_FILE: Final = "index.json"
CARD_FILE: Final = "card.md"


def row_counts(selection: Selection) -> dict[str, int]:
    found = {
        "considered": selection.considered,
        "filtered_out": selection.filtered_out,
        "over_max_samples": selection.over_max_samples,
    }
    return found | ({"withdrawn": selection.withdrawn} if selection.withdrawn else {})


def split_counts(rows: pa.Table, request: ShardRequest) -> dict[str, dict[str, Any]]:
    """Per split, empty ones included: samples, bytes of their clips, and samples per tag value."""
    found = {}
    for split in request.splits:
        part = rows.filter(pc.equal(rows.column(SPLIT_COLUMN), split))
        found[split] = {
            "samples": part.num_rows,
            "clip_bytes": pc.sum(part.column("size_bytes")).as_py() or 0,
            "tags": {tag: _value_counts(part.column(tag)) for tag in TAG_COLUMNS},
        }
    return found


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column.fill_null("unmeasured")).to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in counted))


def index_of(
    request: ShardRequest,
    selection: Selection,
    shard_set_id: str,
    shards: Sequence[Mapping[str, Any]],
    *,
    filter_shown: bool,
) -> dict[str, Any]:
    asked = request.model_dump(mode="json")
    if not filter_shown:
        asked["filter"] = f"{FILTER_WITHHELD} it looks at {', '.join(sorted(request.filter_columns())) or 'no column'}"
    return {
        "shard_set_id": shard_set_id,
        "project_version": __version__,
        "residency": "stays home",
        "request": asked,
        "rows": row_counts(selection),
        "splits": split_counts(selection.rows, request),
        "shards": list(shards),
    }


def card(index: Mapping[str, Any]) -> str:
    """The dataset card in Markdown, made from the index alone."""
    request, rows = index["request"], index["rows"]
    named = sorted(set(request["columns"]) - set(PUBLIC_COLUMNS))
    lines = [
        f"# Shard set {index['shard_set_id']}",
        "",
        f"Built by curation {index['project_version']}. The ledger's entry of this set names the snapshot of curated.clips.",
        "",
        "**Stays home.** These shards hold clips. They may not leave the home store, nor may any copy of them.",
        "",
        "## Request",
        "",
        "```json",
        json.dumps(request, indent=2, sort_keys=True),
        "```",
        "",
        f"Columns that stand in a sample only because the request names them: {', '.join(named) or 'none'}.",
        "",
        "## Counts",
        "",
        f"{rows['considered']} accepted clips: {_left_out(rows)}, the rest:",
        "",
        "| split | samples | bytes of clips | shards |",
        "|---|---|---|---|",
    ]
    for split, found in index["splits"].items():
        shard_count = sum(shard["split"] == split for shard in index["shards"])
        lines.append(f"| {split} | {found['samples']} | {found['clip_bytes']} | {shard_count} |")
    for tag in TAG_COLUMNS:
        lines += ["", f"### {tag}", "", "| value | " + " | ".join(index["splits"]) + " |", "|---" * (len(index["splits"]) + 1) + "|"]
        for value in sorted({value for found in index["splits"].values() for value in found["tags"][tag]}):
            counts = (str(found["tags"][tag].get(value, 0)) for found in index["splits"].values())
            lines.append(f"| {value} | " + " | ".join(counts) + " |")
    return "\n".join([*lines, "", *_limits(request), ""])


def _left_out(rows: Mapping[str, int]) -> str:
    withdrawn = f"{rows['withdrawn']} withdrawn on request, " if "withdrawn" in rows else ""
    return f"{withdrawn}{rows['filtered_out']} filtered out, {rows['over_max_samples']} over max_samples"


def _limits(request: Mapping[str, Any]) -> list[str]:
    return [
        "## Known limits",
        "",
        "- Faces and plates are not masked.",
        f"- No {request['group_by']} straddles two splits; a clip without a known one stands alone.",
        "- Near-duplicates are in, unless the filter says `duplicate_of IS NULL`.",
        "- Splits follow a hash of the group, so with few groups their sizes differ from the ratios, and one may be empty.",
        "- Tags are a machine's; `undefined` means that it did not say, `unmeasured` that it could not look.",
    ]


def preview(request: ShardRequest, rows: pa.Table, *, withdrawn: pa.Array = NONE) -> dict[str, Any]:
    """What a request would give, before any copy: rows accounted for, and samples, bytes of clips and tags per split.

    Raises:
        UsageError: the filter fails on a value, or the name tells a vehicle, person or place.
        CurationError: the rows do not fit the schema, or a clip stands twice.
    """
    selection = choose(rows, request, withdrawn)
    check_nothing_told(request, rows)
    splits = split_counts(selection.rows, request)
    return {
        "name": request.name,
        **row_counts(selection),
        "samples": selection.rows.num_rows,
        "clip_bytes": sum(split["clip_bytes"] for split in splits.values()),
        "splits": splits,
    }
