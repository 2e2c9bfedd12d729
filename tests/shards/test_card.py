"""The dataset card says what the set holds, in words and plots, and needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from curation.shards import plots
from curation.shards.card import card, page

SPLITS = ("train", "val")


def index(**changes: Any) -> dict[str, Any]:
    """An index as the stage writes it."""
    request = {"name": "night", "splits": {"train": 0.8, "val": 0.2}, "form": "clips", "format": "webdataset", "frames": None}
    tags = {"timeofday": {"night": 3}, "weather": {"<rainy>": 2, "clear": 1}, "scene": {"unmeasured": 3}}
    split = {"samples": 3, "clips": 3, "clip_bytes": 3_000_000, "tags": tags}
    shard = {"name": "train-000000.tar", "split": "train", "samples": 3, "clips": 3, "bytes": 3_001_000, "sha256": "0" * 64}
    return {
        "shard_set_id": "night-0123456789abcdef",
        "project_version": "0.1.0",
        "request": {**request, "columns": ["weather", "province"], "filter": "sharpness > 1 AND weather <> '</pre>'"},
        "rows": {"considered": 9, "filtered_out": 4, "near_duplicates": 2},
        "rows_digest": "f" * 64,
        "quotas": [{"tag": "timeofday", "value": "night", "wanted": 5, "passing": 3, "taken": 3, "shortfall": 2}],
        "groups": {"groups": 2, "largest_group": 2, "drives_in_two_splits": 0, "vehicle_days_in_two_splits": 0},
        "splits": {"train": split, "val": {"samples": 0, "clips": 0, "clip_bytes": 0, "tags": {tag: {} for tag in tags}}},
        "measured": {
            "sharpness": {"unmeasured": 1, "edges": [0.0, 1.0, 2.0], "counts": {"train": [1, 2], "val": [0, 0]}},
            "fps": {"unmeasured": 0, "edges": [30.0], "counts": {"train": [3], "val": [0]}},
            "duration_s": {"unmeasured": 3, "edges": [], "counts": {"train": [], "val": []}},
        },
        "masking": None,
        "unmaskable": {},
        "not_clean": {},
        "undecodable": {},
        "incomplete": {},
        "checks": {"suite": "shards", "suite_digest": "0" * 64, "checks": 14, "rows": 3},
        "shards": [shard],
        **changes,
    }


class Tags(HTMLParser):
    """Notes what a page opens and closes, and which addresses it names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "srcset", "data"}]
        if tag not in {"meta", "rect", "line"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element ends, which must be the last one begun."""
        if tag not in {"rect", "line"}:
            assert self.open.pop() == tag


@pytest.mark.parametrize("text", [card(index()), page(index())], ids=["markdown", "page"])
def test_the_card_says_what_there_is(text: str) -> None:
    """Counts, what was left out, quotas with what lacks, checks, residency, limits, the request, and how to load it."""
    for said in ("night-0123456789abcdef", "f" * 64, "filtered out", "near duplicates", "shortfall", "14 checks over 3 rows, all passed"):
        assert said in text
    for said in (
        "Stays home",
        "Leakage: no drive stands in two splits",
        "names them: province",
        "not masked",
        "train-000000.tar",
        "webdataset",
    ):
        assert said in text


def test_the_page_is_whole_and_needs_nothing() -> None:
    """Every element is closed, what a request holds is escaped, and no address is named."""
    read = Tags()
    read.feed(page(index()))
    assert (read.open, read.addresses) == ([], [])
    assert not re.search(r"https?:|@import|url\(", page(index()))
    assert "<rainy>" not in page(index())
    assert "&lt;rainy&gt;" in page(index())
    assert "prefers-color-scheme:dark" in page(index())
    assert "@media print" in page(index())


def test_every_tag_and_signal_has_its_plot() -> None:
    """Three tags as bars, a signal as a histogram; one value in every clip, and none at all, in words."""
    text = page(index())
    assert text.count("<svg") == 4
    assert "30 1/s in every clip" in text
    assert "unmeasured: 3 clips" in text


def test_pictures_and_clips_without_any_are_told() -> None:
    """A set of pictures says how they were made, and names the clips that gave none."""
    frames = {"fps": 2.0, "width_px": 640, "height_px": None, "jpeg_quality": 90}
    of_frames = index(undecodable={"a" * 64: "holds no | video"})
    of_frames["request"] |= {"form": "frames", "format": "mds", "frames": frames}
    of_frames["rows"] |= {"undecodable": 1}
    for text in (card(of_frames), page(of_frames)):
        assert "pictures: 2 a second, 640 px wide, JPEG quality 90" in text
        assert "gave no picture" in text
        assert "StreamingDataset" in text
    assert "holds no \\| video" in card(of_frames)


def test_bars_are_as_long_as_their_counts() -> None:
    """Widths are in proportion to counts, side by side, and the sums stand beside them."""
    drawn = plots.stacked_bars("weather", {"rainy": [30, 10], "clear": [10, 0]})
    widths = [float(one) for one in re.findall(r'width="([0-9.]+)"', drawn)]
    assert widths == pytest.approx([widths[0], widths[0] / 3, widths[0] / 3], abs=0.2)
    assert [">40</text>" in drawn, ">10</text>" in drawn] == [True, True]
    assert "<rect" not in plots.stacked_bars("none", {})


def test_a_histogram_names_its_ends() -> None:
    """Bars are as high as their stacks, and the first, middle and last edge are named."""
    drawn = plots.histogram("sharpness", [0.0, 5.0, 10.0], [[1, 4], [1, 0]])
    heights = [float(one) for one in re.findall(r'height="([0-9.]+)"', drawn)]
    assert heights == pytest.approx([heights[0], heights[0], 4 * heights[0]], abs=0.2)
    assert [f">{edge}</text>" in drawn for edge in ("0", "5", "10")] == [True, True, True]


def test_an_axis_is_read_without_powers() -> None:
    """Pixels are written out, ratios with three digits."""
    assert ">1,140<" in plots.histogram("height", [360.0, 1140.0, 1920.0], [[1, 1]])
    assert ">0.149<" in plots.histogram("ratio", [0.0, 0.0745, 0.14912], [[1, 1]])
