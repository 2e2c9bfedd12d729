"""What a shard set says of itself: its index, and the dataset card made from that index alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from curation import __version__
from curation.shards.request import PUBLIC_COLUMNS, ShardRequest
from curation.shards.selection import TAG_COLUMNS, Selection, split_counts

FILTER_WITHHELD: Final = "withheld:"  # begins what stands in the index instead of a filter that tells a vehicle, person or place
INDEX_FILE: Final = "index.json"
CARD_FILE: Final = "card.md"


def row_counts(selection: Selection) -> dict[str, int]:
    return {"considered": selection.considered, **selection.left_out}


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
        "quotas": list(selection.quotas),
        "groups": dict(selection.groups),
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
    return "\n".join([*lines, "", *_limits(), ""])


def _left_out(rows: Mapping[str, int]) -> str:
    words = {"withdrawn": "withdrawn on request"}
    names = sorted(rows.keys() - {"considered"}, key=lambda name: (name != "withdrawn", name))
    return ", ".join(f"{rows[name]} {words.get(name, name.replace('_', ' '))}" for name in names)


def _limits() -> list[str]:
    return [
        "## Known limits",
        "",
        "- Faces and plates are not masked.",
        "- No drive, no day of a vehicle and no two near-duplicates straddle two splits; a clip of unknown drive and vehicle stands alone.",
        "- Splits follow a hash of the group, so with few groups their sizes differ from the ratios, and one may be empty.",
        "- Tags are a machine's; `undefined` means that it did not say, `unmeasured` that it could not look.",
    ]
