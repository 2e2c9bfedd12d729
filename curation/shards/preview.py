"""What a request would give, before any copy: numbers for a program, a table for a terminal, bars for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

import pyarrow as pa

from curation.shards.masking import DETECTION_COLUMNS, not_looked_at
from curation.shards.request import TAGS, ShardRequest
from curation.shards.selection import NONE, TAG_COLUMNS, choose, columns_to_choose, split_counts
from curation.shards.telling import TOLD_COLUMNS, Told, check_nothing_told

_KEPT: Final = ("size_bytes", *TAG_COLUMNS)


# Columns that it looks at in which few values stand in many rows.
ENCODED_COLUMNS: Final = frozenset({*TOLD_COLUMNS, *TAGS, "verdict"})


def columns_of_preview(request: ShardRequest) -> tuple[str, ...]:
    """The columns that a preview reads."""
    return tuple(sorted({*_kept(request), *TOLD_COLUMNS, *columns_to_choose(request)}))


def _kept(request: ShardRequest) -> tuple[str, ...]:
    """The columns that are kept of each row taken."""
    return (*_KEPT, "clip_id", *DETECTION_COLUMNS) if request.masked else _KEPT


def preview(
    request: ShardRequest,
    rows: pa.Table | Iterable[pa.RecordBatch],
    *,
    withdrawn: pa.Array = NONE,
) -> dict[str, Any]:
    """What a request would give: rows accounted for; samples, bytes of clips and tags per split; quotas with what lacks; groups.

    Of a masked one also the clips that were `not_looked_at` for faces and plates, by clip_id.

    Args:
        rows: with `columns_of_preview` at least; batches are let go as soon as they are looked at.
        withdrawn: clips that a person had withdrawn.

    Raises:
        UsageError: the filter fails on a value, or the name tells a vehicle, person or place.
        CurationError: the rows do not fit the schema, or a clip stands twice.
    """
    told = Told()
    seen = told.seen(rows.to_batches() if isinstance(rows, pa.Table) else rows)
    selection = choose(seen, request, withdrawn, columns=_kept(request), in_order=False)
    check_nothing_told(request, told)
    splits = split_counts(selection.rows, request)
    return {
        "name": request.name,
        "considered": selection.considered,
        "left_out": dict(selection.left_out),
        "samples": selection.rows.num_rows,
        "clip_bytes": sum(split["clip_bytes"] for split in splits.values()),
        "splits": splits,
        "quotas": list(selection.quotas),
        "groups": dict(selection.groups),
        **({"not_looked_at": sorted(not_looked_at(selection.rows)["clip_id"].to_pylist())} if request.masked else {}),
    }


def tag_counts(seen: Mapping[str, Any], tag: str) -> dict[str, list[int]]:
    """Value of the tag -> samples in each split, in the splits' order; the most frequent value first."""
    values = {value for split in seen["splits"].values() for value in split["tags"][tag]}
    counts = {value: [split["tags"][tag].get(value, 0) for split in seen["splits"].values()] for value in values}
    return dict(sorted(counts.items(), key=lambda entry: (-sum(entry[1]), entry[0])))


_WIDTH_PX: Final = 760
_LABEL_PX: Final = 210
_NUMBER_PX: Final = 130
_BAR_PX: Final = _WIDTH_PX - _LABEL_PX - _NUMBER_PX
_ROW_PX: Final = 22
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # Okabe and Ito: told apart by colour-blind eyes
_STYLE: Final = (
    "svg{background:#fff;font:13px system-ui,sans-serif}text{fill:#1a1a1a}.dim{fill:#666}.out{fill:#b8b8b8}.want{stroke:#1a1a1a}"
    ".h{font-weight:600}@media (prefers-color-scheme:dark){svg{background:#16181c}text{fill:#ececec}.dim{fill:#a0a0a0}"
    ".out{fill:#555}.want{stroke:#ececec}}"
)


def picture(seen: Mapping[str, Any]) -> str:
    """The preview as a self-contained SVG of bars, light or dark as the reader's page is; quotas are marked by a line."""
    splits = list(seen["splits"])
    total = max(seen["considered"], 1)
    lines = [_heading(f"{seen['name']}: {seen['samples']:,} of {seen['considered']:,} clips, {sized(seen['clip_bytes'])}")]
    lines += [_bar(split, [(number, seen["splits"][split]["samples"])], total) for number, split in enumerate(splits)]
    lines += [_bar(name.replace("_", " "), [(-1, count)], total) for name, count in seen["left_out"].items() if count]
    wanted = {(quota["tag"], quota["value"]): quota["wanted"] for quota in seen["quotas"]}
    for tag in TAG_COLUMNS:
        counts = {value: [0] * len(splits) for named, value in wanted if named == tag} | tag_counts(seen, tag)
        if not counts:
            continue
        lines.append(_heading(tag))
        most = max(*(sum(count) for count in counts.values()), *(count for (named, _), count in wanted.items() if named == tag), 1)
        lines += [_bar(value, list(enumerate(count)), most, wanted.get((tag, value))) for value, count in counts.items()]
    height = _ROW_PX * (len(lines) + 1)
    body = "".join(f'<g transform="translate(12,{_ROW_PX * (number + 1)})">{line}</g>' for number, line in enumerate(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX + 24} {height}" width="{_WIDTH_PX + 24}" height="{height}" '
        f'role="img"><title>What the request {escape(seen["name"])} would give</title><style>{_STYLE}</style>{body}</svg>\n'
    )


def _heading(text: str) -> str:
    return f'<text class="h">{escape(text)}</text>'


def _bar(label: str, parts: list[tuple[int, int]], most: int, wanted: int | None = None) -> str:
    """One row: a label, parts side by side in the colours of their splits (-1: left out), and the sum."""
    drawn, at_px = [f'<text class="dim">{escape(label)}</text>'], float(_LABEL_PX)
    for number, count in parts:
        width_px = _BAR_PX * count / most
        colour = 'class="out"' if number < 0 else f'fill="{_COLOURS[number % len(_COLOURS)]}"'
        drawn.append(f'<rect x="{at_px:.1f}" y="-12" width="{width_px:.1f}" height="15" {colour}/>')
        at_px += width_px
    total = sum(count for _, count in parts)
    if wanted is not None:
        mark_px = _LABEL_PX + _BAR_PX * wanted / most
        drawn.append(f'<line class="want" x1="{mark_px:.1f}" x2="{mark_px:.1f}" y1="-15" y2="6" stroke-width="2"/>')
    told = f"{total:,}" if wanted is None else f"{total:,} of {wanted:,}"
    return "".join([*drawn, f'<text x="{_WIDTH_PX}" text-anchor="end">{told}</text>'])


def sized(size_bytes: int) -> str:
    """Bytes for a reader, such as 1.5 GB."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
