"""A preview tells the same numbers as a table, as JSON and as a picture, without a byte of a clip."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from curation import pipeline
from curation.cli import app
from curation.errors import UsageError
from curation.schema import CLIPS
from curation.shards.preview import columns_of_preview, picture, preview, sized, tag_counts
from curation.shards.request import ShardRequest, from_mapping
from curation.shards.telling import TOLD_COLUMNS

ASKED = {
    "name": "night-rain",
    "splits": {"train": 0.5, "val": 0.5},
    "quality": {"sharpness": {"min": 4}},
    "quotas": {"weather": {"rainy": 5, "foggy": 3}},
    "max_samples": 12,
}


@pytest.fixture
def rows(make_row: Any) -> pa.Table:
    """Twenty accepted clips of ten drives."""
    return pa.Table.from_pylist([make_row(number, f"{number:064x}", 1_000 * number) for number in range(20)], schema=CLIPS)


@pytest.fixture
def work(rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a request in it, whose preview is that of the rows."""

    def previewed(settings: Any, request: ShardRequest) -> dict[str, Any]:
        return preview(request, rows)

    monkeypatch.setattr(pipeline, "preview_shards", previewed)
    (tmp_path / "request.yaml").write_text(json.dumps(ASKED), encoding="utf-8")
    return tmp_path


def test_only_what_is_needed_is_looked_at(rows: pa.Table) -> None:
    """The columns that choose, those that tell, sizes and tags are enough; the same comes of all columns and of these alone."""
    request = from_mapping(ASKED)
    columns = columns_of_preview(request)
    assert {"clip_id", "size_bytes", "verdict", "sharpness", "weather", *TOLD_COLUMNS} <= set(columns)
    assert {"signature", "object_uri", "source_uri", "unmeasured", "track"} & set(columns) == set()
    assert preview(request, rows) == preview(request, iter(rows.select(columns).to_batches(max_chunksize=3)))


def test_a_name_that_tells_is_refused_in_a_preview_too(rows: pa.Table) -> None:
    """Values are gathered while batches pass, so that the name is checked before anything is shown."""
    with pytest.raises(UsageError, match="repeats a value"):
        preview(from_mapping({"name": "for-vehicle-3"}), iter(rows.to_batches()))


def test_the_command_prints_tables_and_what_lacks(work: Path) -> None:
    """Splits, reasons, quotas, tags and groups stand in the table, and each shortfall in a line of its own."""
    told = CliRunner().invoke(app, ["shards", "preview", str(work / "request.yaml"), "--work", str(work)], catch_exceptions=False).output
    assert "night-rain: 12 of 20 accepted clips" in told
    for line in (r"- below sharpness +4 ", r"- over max samples +4 ", r"weather foggy +3 +0 +0 +3", r"train +\d+", r"night +\d+ +\d+ +█+"):
        assert re.search(line, told), line
    assert "quota weather foggy: 3 short (0 pass filter and quality)" in told
    assert "near-duplicates in two splits: 0, 0, 0" in told


def test_the_command_prints_one_json_object(work: Path) -> None:
    """With --json the preview itself, on one line; what is taken and left out add up."""
    words = ["shards", "preview", str(work / "request.yaml"), "--json", "--work", str(work)]
    (line,) = CliRunner().invoke(app, words, catch_exceptions=False).output.splitlines()
    seen = json.loads(line)
    assert seen["considered"] == seen["samples"] + sum(seen["left_out"].values())
    assert {"name", "considered", "left_out", "samples", "clip_bytes", "splits", "quotas", "groups"} == seen.keys()
    assert seen["clip_bytes"] == sum(split["clip_bytes"] for split in seen["splits"].values())


def test_the_picture_stands_by_itself(work: Path, rows: pa.Table) -> None:
    """An SVG without a script or an address to fetch, light and dark, with a bar as long as its number and a line where a quota ends."""
    words = ["shards", "preview", str(work / "request.yaml"), "--picture", str(work / "p.svg"), "--work", str(work)]
    assert 0 == CliRunner().invoke(app, words, catch_exceptions=False).exit_code
    drawn = (work / "p.svg").read_text(encoding="utf-8")
    root = ET.fromstring(drawn)  # noqa: S314 - our own picture
    assert "prefers-color-scheme:dark" in drawn
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"https?://[^\"]*", drawn)
    assert not re.search(r"<script|href|url\(|@import", drawn)
    widths = {
        group[0].text: sum(float(part.get("width", 0)) for part in group if part.tag.endswith("rect"))
        for group in root.iter("{http://www.w3.org/2000/svg}g")
        if len(group) > 1
    }
    seen = preview(from_mapping(ASKED), rows)
    counts = {value: sum(count) for value, count in tag_counts(seen, "weather").items()}
    assert counts["rainy"] / counts["clear"] == pytest.approx(widths["rainy"] / widths["clear"], abs=0.02)
    assert widths["below sharpness"] == pytest.approx(420 * 4 / 20, abs=0.2)
    assert 0.0 == widths["foggy"]
    assert 2 == drawn.count('class="want"')


def test_a_picture_shows_no_markup_of_the_request(rows: pa.Table) -> None:
    """Whatever stands in a name or value is text."""
    seen = preview(from_mapping(ASKED), rows) | {"name": "<b>&"}
    assert "<b>" not in picture(seen)
    assert "&lt;b&gt;&amp;" in picture(seen)


def test_a_preview_of_nothing_can_be_shown(rows: pa.Table) -> None:
    """Without a row there are zeros, in every form."""
    seen = preview(from_mapping({"name": "none"}), rows.slice(0, 0))
    assert (0, 0, {"filtered_out": 0, "near_duplicates": 0, "over_max_samples": 0}) == (
        seen["considered"],
        seen["samples"],
        seen["left_out"],
    )
    ET.fromstring(picture(seen))  # noqa: S314 - our own picture


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (3_044_819_090_831, "3.0 TB"), (10**16, "10000.0 TB")]
)
def test_sizes_are_for_readers(size_bytes: int, text: str) -> None:
    """Three digits before the unit, up to terabytes."""
    assert text == sized(size_bytes)
