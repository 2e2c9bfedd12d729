"""What a shard set says of itself: its index, and the dataset card, in Markdown and as a page, made from that index alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import __version__
from curation.schema import CLIPS
from curation.shards import plots
from curation.shards.preview import sized, tag_counts
from curation.shards.request import PUBLIC_COLUMNS, ShardRequest
from curation.shards.selection import SPLIT_COLUMN, TAG_COLUMNS, Selection, split_counts

FILTER_WITHHELD: Final = "withheld:"  # begins what stands in the index instead of a filter that tells a vehicle, person or place
INDEX_FILE: Final = "index.json"
CARD_FILE: Final = "card.md"
PAGE_FILE: Final = "card.html"
MEASURED_COLUMNS: Final = tuple(
    name for name in PUBLIC_COLUMNS if pa.types.is_floating(CLIPS.field(name).type) or pa.types.is_integer(CLIPS.field(name).type)
)
_BINS: Final = 24
_SIGNIFICANT: Final = 6
STAYS_HOME: Final = "Stays home. These shards hold clips. They may not leave the home store, nor may any copy of them."


def index_of(
    request: ShardRequest,
    selection: Selection,
    taken: pa.Table,
    shard_set_id: str,
    shards: Sequence[Mapping[str, Any]],
    *,
    rows_digest: str,
    checks: Mapping[str, Any],
    filter_shown: bool,
    masking: Mapping[str, Any] | None = None,
    unmaskable: Mapping[str, str] = MappingProxyType({}),
    not_clean: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """All that is told of a finished set.

    Args:
        request: what was asked for.
        selection: what it takes, and where the other rows went.
        taken: the rows that are in the shards, with `MEASURED_COLUMNS`.
        shard_set_id: the set.
        shards: the line of each shard, as the stage wrote it.
        rows_digest: SHA-256 over all that rows bring into the shards.
        checks: what the suite of shard sets said.
        filter_shown: whether the filter may be told.
        masking: what masked the set, and how much; None for one that is not masked.
        unmaskable: clips that are left out because they cannot be masked, with the reason.
        not_clean: those that are because something was found when their masked copy was looked at again, or nobody could look.
    """
    asked = request.model_dump(mode="json")
    if not filter_shown:
        asked["filter"] = f"{FILTER_WITHHELD} it looks at {', '.join(sorted(request.filter_columns())) or 'no column'}"
    undecodable, incomplete = (
        dict(sorted((clip_id, problem) for shard in shards for clip_id, problem in shard[name].items()))
        for name in ("undecodable", "incomplete")
    )
    splits = split_counts(taken, request)
    for split, found in splits.items():
        found |= {"clips": found["samples"], "samples": sum(shard["samples"] for shard in shards if shard["split"] == split)}
    rows = {"considered": selection.considered, **selection.left_out}
    return {
        "shard_set_id": shard_set_id,
        "project_version": __version__,
        "residency": "stays home",
        "request": asked,
        "masking": None if masking is None else dict(masking),
        "rows": rows
        | ({"unmaskable": len(unmaskable), "not_clean": len(not_clean)} if request.masked else {})
        | ({"undecodable": len(undecodable)} if request.form == "frames" else {}),
        "rows_digest": rows_digest,
        "quotas": list(selection.quotas),
        "groups": dict(selection.groups),
        "splits": splits,
        "measured": {name: _distribution(taken, name, request) for name in MEASURED_COLUMNS},
        "unmaskable": dict(unmaskable),
        "not_clean": dict(not_clean),
        "undecodable": undecodable,
        "incomplete": incomplete,  # these stand in the set, with the pictures that came out
        "checks": dict(checks),
        "shards": [
            {key: shard[key] for key in ("name", "split", "samples", "clips", "bytes", "sha256")} for shard in shards if shard["samples"]
        ],
    }


def _clips_named(index: Mapping[str, Any]) -> list[tuple[str, Mapping[str, str]]]:
    """Clips that are missing, or of which pictures are, with the reason, under a heading each."""
    told = [
        ("Clips that could not be masked", index["unmaskable"]),
        ("Clips that were not clean when their masked copy was looked at again", index["not_clean"]),
        ("Clips that gave no picture", index["undecodable"]),
        ("Clips that gave some pictures only", index["incomplete"]),
    ]
    return [(title, named) for title, named in told if named]


def _distribution(taken: pa.Table, name: str, request: ShardRequest) -> dict[str, Any]:
    """Bins of equal width over the values that were measured, and how many clips of each split fall into each."""
    column = taken[name].cast(pa.float64())
    is_measured = pc.fill_null(pc.is_finite(column), fill_value=False)
    values = column.filter(is_measured).to_numpy()
    told: dict[str, Any] = {"unmeasured": taken.num_rows - len(values), "edges": [], "counts": {split: [] for split in request.splits}}
    if not len(values):
        return told
    low, high = float(values.min()), float(values.max())
    if low == high:
        of_split = taken.filter(is_measured)[SPLIT_COLUMN].to_pylist()
        return told | {"edges": [low], "counts": {split: [of_split.count(split)] for split in request.splits}}
    edges = [low + (high - low) * at / _BINS for at in range(_BINS + 1)]
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BINS - 1)
    of_split = taken[SPLIT_COLUMN].filter(is_measured).to_numpy(zero_copy_only=False)
    counts = {split: np.bincount(bins[of_split == split], minlength=_BINS).tolist() for split in request.splits}
    return told | {"edges": [float(f"{edge:.{_SIGNIFICANT}g}") for edge in edges], "counts": counts}


def cards(index: Mapping[str, Any]) -> dict[str, str]:
    """File -> text of the dataset card, made from the index alone."""
    return {CARD_FILE: card(index), PAGE_FILE: page(index)}


# --- what both say ------------------------------------------------------------------------------------------------------------------


def _facts(index: Mapping[str, Any]) -> list[tuple[str, str]]:
    request, splits = index["request"], index["splits"].values()
    frames = request["frames"]
    made_of = "whole clips"
    if frames is not None:
        sides = {"wide": frames["width_px"], "high": frames["height_px"]}
        size = " and ".join(f"{px} px {word}" for word, px in sides.items() if px is not None) or "as large as the clip"
        made_of = f"pictures: {frames['fps']:g} a second, {size}, JPEG quality {frames['jpeg_quality']}"
    return [
        ("samples", f"{sum(found['samples'] for found in splits):,} from {sum(found['clips'] for found in splits):,} clips"),
        ("made of", made_of),
        ("format", {"webdataset": "WebDataset tars", "mds": "MosaicML Streaming (MDS)"}[request["format"]]),
        *_masking(index["masking"]),
        ("shards", f"{len(index['shards']):,}, {sized(sum(shard['bytes'] for shard in index['shards']))}"),
        ("built by", f"curation {index['project_version']}"),
        ("rows", f"SHA-256 {index['rows_digest']} over all that they bring in"),
        (
            "snapshot",
            f"of curated.clips: the ledger's entry `shards` of {index['shard_set_id']} names it; upkeep keeps it while the set stands",
        ),
    ]


def _masking(masking: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Whether faces and plates are masked; if so by which models, on the word of which evaluation, and how much."""
    if masking is None:
        return [("faces and plates", "not masked")]
    evaluation, tracks = masking["evaluation"], masking["tracks"].items()
    seen = " and ".join(f"{count:,} {kind}s" for kind, count in tracks) or "nothing"
    proof = f"{evaluation['id']}, SHA-256 {evaluation['sha256']}: {evaluation['result']}, held until {evaluation['expires_at'][:10]}"
    return [
        ("faces and plates", f"masked: {masking['masks']:,} masks over {seen}, in {masking['frames']:,} frames, each looked at"),
        *((f"found {kind}s", f"{one['version']}, SHA-256 {one['sha256']}") for kind, one in masking["models"].items()),
        (
            "looked at again",
            f"{masking['proved_frames']:,} frames, nothing found, by {', '.join(one['version'] for one in masking['proof'].values())}",
        ),
        ("evaluation", f"a demo's, which proves nothing: {proof}" if evaluation["demo"] else proof),
    ]


def _rows_accounted(index: Mapping[str, Any]) -> list[tuple[str, int]]:
    words = {
        "withdrawn": "withdrawn on request",
        "undecodable": "gave no picture",
        "unmaskable": "could not be masked",
        "not_clean": "not clean when the masked copy was looked at again",
    }
    left_out = [(words.get(name, name.replace("_", " ")), count) for name, count in index["rows"].items() if name != "considered"]
    return [("accepted clips considered", index["rows"]["considered"]), *left_out]


def _checks(index: Mapping[str, Any]) -> list[str]:
    said, groups = index["checks"], index["groups"]
    lines = ["Every clip's bytes were checked against its id when they were read."]
    if said:
        lines.append(f"Great Expectations suite `{said['suite']}`: {said['checks']} checks over {said['rows']:,} rows, all passed.")
    for name, words in (("drives", "drive"), ("vehicle_days", "vehicle-day"), ("near_duplicates", "set of near-duplicates")):
        count = groups.get(f"{name}_in_two_splits")
        if count is not None:
            lines.append(f"Leakage: {count or 'no'} {words} stands in two splits.")
    if "groups" in groups:
        lines.append(f"{groups['groups']:,} groups, the largest of {groups['largest_group']:,} clips.")
    return lines


def _residency(index: Mapping[str, Any]) -> list[str]:
    named = sorted(set(index["request"]["columns"]) - set(PUBLIC_COLUMNS))
    return [
        "Clips and shards rest in the home store. What may leave is metadata that a signed pack releases, and never a shard.",
        "No name of a file, and no line of index or card, tells a vehicle, person, device or place.",
        f"Columns that stand in a sample only because the request names them: {', '.join(named) or 'none'}.",
    ]


_MASKED_LIMITS: Final = [
    "Models miss some faces and plates; the evaluation says how many. What they miss is not masked.",
    "Sound, metadata and messages of the recorder are not in these clips; pictures are coded anew.",
]


def _limits(index: Mapping[str, Any]) -> list[str]:
    lines = [
        *(["Faces and plates are not masked."] if index["masking"] is None else _MASKED_LIMITS),
        "No drive, no day of a vehicle and no two near-duplicates straddle two splits; a clip of unknown drive and vehicle stands alone.",
        "Splits follow a hash of the group, so with few groups their sizes differ from the ratios, and one may be empty.",
        "Tags are a machine's; `undefined` means that it did not say, `unmeasured` that it could not look.",
    ]
    if index["request"]["form"] == "frames":
        lines.append(
            "A moment at which no frame was shown, or whose frame does not decode, has no picture: indexes of a clip may leave one out."
        )
    return lines


def _loading(index: Mapping[str, Any]) -> str:
    split = next(iter(index["splits"]))
    if index["request"]["format"] == "mds":
        column = "jpg" if index["request"]["form"] == "frames" else "clip"
        return (
            "from streaming import StreamingDataset\n\n"
            f'dataset = StreamingDataset(local="{index["shard_set_id"]}", split="{split}", shuffle=True, batch_size=32)\n'
            f'sample = dataset[0]  # sample["__key__"], sample["json"], sample["{column}"]'
        )
    of_split = [shard for shard in index["shards"] if shard["split"] == split]
    name = of_split[0]["name"] if of_split else f"{split}-000000.tar"
    names = name if len(of_split) < 2 else f"{split}-{{000000..{len(of_split) - 1:06d}}}.tar"
    part = "jpg" if index["request"]["form"] == "frames" else "mp4"
    return (
        "import webdataset\n\n"
        f'dataset = webdataset.WebDataset("{names}", shardshuffle=False)\n'
        f'sample = next(iter(dataset))  # sample["__key__"], sample["json"], sample["{part}"]: bytes'
    )


def _split_rows(index: Mapping[str, Any]) -> Iterator[list[str]]:
    for split, found in index["splits"].items():
        of_split = [shard for shard in index["shards"] if shard["split"] == split]
        asked = index["request"]["splits"][split]
        yield [
            split,
            f"{asked:.0%}",
            f"{found['samples']:,}",
            f"{found['clips']:,}",
            sized(found["clip_bytes"]),
            str(len(of_split)),
            sized(sum(shard["bytes"] for shard in of_split)),
        ]


_SPLIT_HEAD: Final = ["split", "asked", "samples", "clips", "bytes of clips", "shards", "bytes of shards"]
_QUOTA_HEAD: Final = ["tag", "value", "wanted", "taken", "shortfall"]


def _quota_rows(index: Mapping[str, Any]) -> list[list[str]]:
    return [[str(quota[name]) for name in _QUOTA_HEAD] for quota in index["quotas"]]


# --- Markdown -----------------------------------------------------------------------------------------------------------------------


def card(index: Mapping[str, Any]) -> str:
    """The dataset card in Markdown."""
    lines = [f"# Shard set {index['shard_set_id']}", "", f"**{STAYS_HOME}**", "", *_markdown_table(["", ""], map(list, _facts(index))), ""]
    lines += ["## Counts", "", *_markdown_table(["rows", "clips"], ([name, f"{count:,}"] for name, count in _rows_accounted(index))), ""]
    lines += _markdown_table(_SPLIT_HEAD, _split_rows(index))
    if index["quotas"]:
        lines += ["", "### Quotas", "", *_markdown_table(_QUOTA_HEAD, _quota_rows(index))]
    for tag in TAG_COLUMNS:
        counts = ([value, *map(str, each)] for value, each in tag_counts(index, tag).items())
        lines += ["", f"### {tag}, clips", "", *_markdown_table(["value", *index["splits"]], counts)]
    for title, named in _clips_named(index):
        lines += ["", f"### {title}", "", *_markdown_table(["clip", "why"], map(list, named.items()))]
    for title, said in (("Residency", _residency(index)), ("Checks that ran", _checks(index)), ("Known limits", _limits(index))):
        lines += ["", f"## {title}", "", *(f"- {line}" for line in said)]
    lines += ["", "## How to load it", "", "```python", _loading(index), "```"]
    lines += ["", "## Request", "", "```json", json.dumps(index["request"], indent=2, sort_keys=True), "```", ""]
    return "\n".join(lines)


def _markdown_table(head: Sequence[str], rows: Any) -> list[str]:
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body]


# --- the page -----------------------------------------------------------------------------------------------------------------------

# Series in the colours of Okabe and Ito, told apart by colour-blind eyes.
_STYLE: Final = """
:root{color-scheme:light dark;--page:#fbfaf8;--card:#fff;--ink:#1d2025;--dim:#666b73;--line:#e2dfd9;
--warn:#8a2f00;--warnback:#fdf0e6}
@media (prefers-color-scheme:dark){:root{--page:#14161a;--card:#1c1f24;--ink:#ebebe8;--dim:#a2a6ad;--line:#33373e;
--warn:#ffb27d;--warnback:#33231a}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1060px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:24px;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:18px;margin:36px 0 10px}
h3{font-size:14px;margin:0 0 8px;font-weight:600}p{margin:0 0 12px}.dim{color:var(--dim)}
.home{background:var(--warnback);color:var(--warn);border-radius:8px;padding:10px 14px;margin:16px 0;font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.tile,.plot{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:22px;line-height:1.2}.tile span{color:var(--dim);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}.scroll{overflow-x:auto;margin-bottom:14px}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{color:var(--dim);font-weight:500;font-size:13px}dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}ul{margin:0;padding-left:20px}li{margin:3px 0}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;font-size:13px;line-height:1.45}
.key{display:flex;flex-wrap:wrap;gap:6px 18px;margin:0 0 12px;color:var(--dim);font-size:13px}
.key i{display:inline-block;width:11px;height:11px;
border-radius:2px;margin-right:6px}svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .count{fill:var(--dim);font-size:10.5px}.plot p{margin:6px 0 0}.axis{stroke:var(--line)}
.s0{fill:#0072b2;background:#0072b2}.s1{fill:#e69f00;background:#e69f00}
.s2{fill:#009e73;background:#009e73}.s3{fill:#cc79a7;background:#cc79a7}.s4{fill:#56b4e9;background:#56b4e9}.s5{fill:#d55e00;background:#d55e00}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--dim:#444;--line:#bbb;--warn:#000;--warnback:#fff}main{max-width:none;padding:0}
.plot,.tile,tr{break-inside:avoid}h2{break-after:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def page(index: Mapping[str, Any]) -> str:
    """The dataset card as a page that needs nothing else: light, dark, or printed."""
    title = f"Shard set {index['shard_set_id']}"
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{_words(text)}</dd>" for name, text in _facts(index))
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="home">{STAYS_HOME}</p>',
        _tiles(index),
        f"<dl>{facts}</dl>",
        "<h2>Counts</h2>",
        _html_table(_SPLIT_HEAD, _split_rows(index)),
        _html_table(["rows", "clips"], ([name, f"{count:,}"] for name, count in _rows_accounted(index))),
        *(["<h3>Quotas</h3>", _html_table(_QUOTA_HEAD, _quota_rows(index))] if index["quotas"] else []),
        "<h2>Tags</h2>",
        _key(index),
        f'<div class="plots">{"".join(_tag_plots(index))}</div>',
        "<h2>Measured</h2>",
        _key(index),
        f'<div class="plots">{"".join(_measured_plots(index))}</div>',
    ]
    for title, named in _clips_named(index):
        parts += [f"<h2>{title}</h2>", _html_table(["clip", "why"], map(list, named.items()))]
    for heading, said in (("Residency", _residency(index)), ("Checks that ran", _checks(index)), ("Known limits", _limits(index))):
        parts.append(f"<h2>{heading}</h2><ul>{''.join(f'<li>{_words(line)}</li>' for line in said)}</ul>")
    request = json.dumps(index["request"], indent=2, sort_keys=True)
    parts.append(f"<h2>How to load it</h2><pre>{escape(_loading(index))}</pre><h2>Request</h2><pre>{escape(request)}</pre>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body><main>{"".join(parts)}</main></body></html>\n'


def _words(text: str) -> str:
    """Text with what stands between backticks as code."""
    return "".join(f"<code>{escape(part)}</code>" if at % 2 else escape(part) for at, part in enumerate(text.split("`")))


def _tiles(index: Mapping[str, Any]) -> str:
    splits = index["splits"].values()
    told = [
        (f"{sum(found['samples'] for found in splits):,}", "samples"),
        (f"{sum(found['clips'] for found in splits):,}", f"clips of {index['rows']['considered']:,} accepted"),
        (f"{len(index['shards']):,}", "shards"),
        (sized(sum(shard["bytes"] for shard in index["shards"])), "of shards"),
        (f"{len(index['splits']):,}", f"splits: {', '.join(index['splits'])}"),
    ]
    return (
        '<div class="tiles">' + "".join(f'<div class="tile"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in told) + "</div>"
    )


def _key(index: Mapping[str, Any]) -> str:
    splits = "".join(f'<span><i class="s{at % 6}"></i>{escape(split)}</span>' for at, split in enumerate(index["splits"]))
    return f'<p class="key">{splits}<span>in clips</span></p>'


def _tag_plots(index: Mapping[str, Any]) -> Iterator[str]:
    for tag in TAG_COLUMNS:
        yield f'<div class="plot"><h3>{tag}</h3>{plots.stacked_bars(f"{tag}: clips of each value", tag_counts(index, tag))}</div>'


def _measured_plots(index: Mapping[str, Any]) -> Iterator[str]:
    for name, told in index["measured"].items():
        unit = (CLIPS.field(name).metadata or {}).get(b"unit", b"").decode()
        heading = f"<h3>{name}{f' <span class=dim>in {escape(unit)}</span>' if unit else ''}</h3>"
        note = f'<p class="dim">unmeasured: {told["unmeasured"]:,} clips</p>' if told["unmeasured"] else ""
        drawn = ""
        if len(told["edges"]) == 1:
            drawn = f"<p>{told['edges'][0]:g} {escape(unit)} in every clip</p>"
        elif told["edges"]:
            drawn = plots.histogram(f"{name}: clips by value", told["edges"], list(told["counts"].values()))
        yield f'<div class="plot">{heading}{drawn}{note}</div>'


def _html_table(head: Sequence[str], rows: Any) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{"".join(f"<th>{escape(cell)}</th>" for cell in head)}</tr>{body}</table></div>'
