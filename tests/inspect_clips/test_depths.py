"""What each depth measures, how far the default goes where something looks wrong, and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.adapters.clock_system import PinnedClock
from curation.adapters.tagger_picture import PictureTagger
from curation.adapters.video_av import AvVideoReader
from curation.choices import Depth
from curation.records import Inspection
from curation.settings import InspectSettings
from curation.signals import sheet
from curation.stages.inspect_clips import inspect_clip
from curation.worker import build_inspector


@pytest.fixture
def at_depth(clock: PinnedClock) -> Callable[[Path, Depth], Inspection]:
    """Inspects one file in this process at a depth."""

    def call(path: Path, depth: Depth) -> Inspection:
        return inspect_clip(path, video=AvVideoReader(), tagger=PictureTagger(), policy=InspectSettings(depth=depth), clock=clock)

    return call


def test_packets_measure_the_timeline_and_say_what_they_cannot(scene: Callable, encode: Callable, at_depth: Callable):
    """No picture is decoded: signals of pictures and tags are unmeasured for that reason, and no number stands for them."""
    found = at_depth(encode(scene(40)), "packets")
    assert (found.verdict, found.inspect_depth, found.decoded_frame_count, found.tags) == ("accepted", "packets", None, None)
    assert found.signals["dropped_frame_count"] == 0
    for name in ("sharpness", "frozen_ratio", "decode_error_count", "decoded_frame_count", "timeofday"):
        assert name not in found.signals
        assert found.unmeasured[name] == "not measured at depth packets"


def test_keyframes_decode_little_of_a_good_clip(scene: Callable, encode: Callable, at_depth: Callable):
    """Three groups of a second: key frames and the frame after each; errors elsewhere are unmeasured, not none."""
    found = at_depth(encode(scene(75)), "keyframes")
    assert (found.verdict, found.decoded_because) == ("accepted", ())
    assert (found.decoded_frame_count or 99) <= 12
    assert found.unmeasured["decode_error_count"].startswith("not measured at depth keyframes: ")


def test_what_looks_wrong_is_settled_by_the_whole_clip(scene: Callable, encode: Callable, at_depth: Callable):
    """A freeze that no key frame shows is found by its packets, and numbers equal those of a full decode."""
    frames = scene(75)
    path = encode([*frames[:30], *[frames[30]] * 15, *frames[30:60]])
    found, whole = at_depth(path, "keyframes"), at_depth(path, "full")
    assert found.decoded_because == ("even_packets", "frozen")
    assert (found.verdict, found.reasons, found.signals) == ("rejected", ("frozen",), whole.signals)


def test_a_sheet_shows_frames_and_curves(scene: Callable, encode: Callable, tmp_path: Path):
    """The worker's job draws a strip of the sheet's width; strips stack with a line between them."""
    item = {"path": str(encode(scene(75))), "policy": InspectSettings().model_dump(mode="json"), "title": "行车.mp4"}
    build_inspector()({**item, "sheet": str(tmp_path / "strip.png")})
    strip = cv2.imread(str(tmp_path / "strip.png"))
    assert strip is not None
    assert strip.shape[1] == sheet.WIDTH_PX
    assert len(np.unique(strip)) > 50
    assert sheet.stack([strip, strip]).shape[0] == 2 * strip.shape[0] + 2
