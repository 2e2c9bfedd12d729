"""Covered lenses, blocks, test pictures, cuts, shaking and broken layouts, on arrays and bytes whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.records import Packet
from curation.signals import coding, cuts, motion, picture, soiling
from curation.signals.nal import lays_out
from curation.signals.wholeness import missing_byte_count

RNG = np.random.default_rng(7)
TEXTURE = cv2.resize(RNG.integers(60, 200, (120, 400), dtype=np.uint8), (1600, 480), interpolation=cv2.INTER_CUBIC)
FRAMES = [TEXTURE[:360, 12 * index : 12 * index + 640].copy() for index in range(6)]


def _covered(frame: np.ndarray, share: float) -> np.ndarray:
    hidden = frame.copy()
    hidden[:, : round(640 * share)] = 128
    return hidden


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75])
def test_what_stays_flat_while_the_rest_moves_is_soiled(share: float):
    """The covered share of the tiles comes out, less the column that the cover's edge runs beside."""
    looks = [soiling.tile_look(_covered(frame, share)) for frame in FRAMES]
    assert soiling.soiled_ratio(looks) == pytest.approx(share, abs=1 / 16)


def test_nothing_tells_dirt_from_a_standing_or_a_dark_view():
    """A still scene, a night scene and a single look have no soiled ratio."""
    still = [soiling.tile_look(_covered(FRAMES[0], 0.5))] * 4
    dark = [soiling.tile_look((_covered(frame, 0.5) // 8).astype(np.uint8)) for frame in FRAMES]
    assert [soiling.soiled_ratio(looks) for looks in (still, dark, still[:1])] == [None, None, None]


def test_a_picture_smaller_than_its_tiles_is_refused():
    """8 x 8 px hold no 16 x 9 tiles."""
    with pytest.raises(ValueError, match="16 x 9"):
        soiling.tile_look(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("block", [5, 8, 12])
def test_a_mosaic_is_blocky_and_its_picture_is_not(block: int):
    """Blocks of any size gather the steps on their edges."""
    small = cv2.resize(FRAMES[0], (640 // block, 360 // block), interpolation=cv2.INTER_AREA)
    mosaic = cv2.resize(small, (640, 360), interpolation=cv2.INTER_NEAREST)
    assert coding.blockiness(mosaic) > 0.9
    assert coding.blockiness(FRAMES[0]) < 0.2
    assert coding.blockiness(np.full((360, 640), 90, np.uint8)) == 0.0


def test_bits_per_pixel_counts_the_packets_alone():
    """Two packets of 1,000 bytes for pictures of 100 x 80 px are one bit a pixel; no packet is no number."""
    packet = Packet(pts_s=0.0, duration_s=0.04, size_bytes=1_000, is_keyframe=True, is_corrupt=False)
    assert coding.bits_per_pixel([packet, packet], 100, 80) == 1.0
    assert coding.bits_per_pixel([], 100, 80) is None


def test_bars_are_a_test_pattern_and_a_view_or_one_colour_is_not():
    """Seven bars in full colours are; a textured view, a flat grey and a flat red are not."""
    colours = [(191, 191, 191), (0, 191, 191), (191, 191, 0), (0, 191, 0), (191, 0, 191), (0, 0, 191), (191, 0, 0)]
    bars = np.repeat(np.array([colours], np.uint8), 91, axis=1).repeat(360, axis=0)
    view = cv2.cvtColor(FRAMES[0], cv2.COLOR_GRAY2BGR)
    flat = [np.full((360, 640, 3), colour, np.uint8) for colour in ((128, 128, 128), (0, 0, 200))]
    assert [coding.is_test_pattern(one) for one in (bars, view, *flat)] == [True, False, False, False]


def _steps(frames: list[np.ndarray]) -> list[float]:
    thumbs = [cuts.thumb(frame) for frame in frames]
    return [cuts.step(earlier, later) for earlier, later in pairwise(thumbs)]


def test_a_cut_is_counted_and_driving_light_and_bridges_are_not():
    """Another scene from one frame to the next is one cut; a pan, a jump of exposure and a bar that passes in two steps are none."""
    other = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (360, 1))
    brighter = [*FRAMES[:3], *(cv2.add(frame, 50) for frame in FRAMES[3:])]
    half = FRAMES[3].copy()
    half[:180] = 10
    bridge = [*FRAMES[:3], half, np.flipud(half), *FRAMES[4:]]
    found = [cuts.scene_cut_count(_steps(frames)) for frames in ([*FRAMES[:3], *[other] * 3], FRAMES, brighter, bridge)]
    assert found == [1, 0, 0, 0]


def test_shake_is_what_no_movement_of_the_whole_explains():
    """A pan and a zoom leave nothing; vectors that point anywhere leave all of their length."""
    rows, columns = np.mgrid[0:180, 0:320].astype(np.float32)
    pan = np.dstack([np.full_like(columns, 3.0), np.zeros_like(rows)])
    zoom = np.dstack([(columns - 160) * 0.02, (rows - 90) * 0.02])
    anywhere = RNG.normal(0, 2, (180, 320, 2)).astype(np.float32)
    assert motion.shake_px(pan) == pytest.approx(0.0, abs=1e-4)
    assert motion.shake_px(zoom) == pytest.approx(0.0, abs=1e-4)
    assert motion.shake_px(anywhere) == pytest.approx(np.sqrt(8), rel=0.1)


def test_flow_follows_a_pan():
    """Texture that slides 4 px is measured as 4 px."""
    earlier, later = TEXTURE[:180, 20:340], TEXTURE[:180, 24:344]
    assert motion.motion_px(motion.flow_between(np.ascontiguousarray(earlier), np.ascontiguousarray(later))) == pytest.approx(4.0, rel=0.1)


def test_a_sliver_of_a_picture_does_not_grow():
    """2 x 2000 px are looked at at 1280 px height at most, and wide enough for flow to be searched."""
    found = [motion.at_motion_width(np.zeros(shape, np.uint8)).shape for shape in ((2000, 2), (360, 640), (2, 640))]
    assert found == [(1280, 16), (180, 320), (16, 320)]


def test_noise_shows_in_the_flattest_tiles_and_texture_does_not():
    """A half of texture leaves the floor at nothing; noise all over raises it to its own sigma."""
    half = np.where(np.arange(640) < 320, FRAMES[0], 128).astype(np.uint8)
    noisy = np.clip(half + RNG.normal(0, 10, half.shape), 0, 255).astype(np.uint8)
    assert picture.noise_floor_sigma(half) < 0.5
    assert picture.noise_floor_sigma(noisy) == pytest.approx(10.0, rel=0.15)
    assert picture.noise_floor_sigma(noisy[:8]) == 0.0


@pytest.mark.parametrize(
    ("data", "is_sound"),
    [
        (b"\0\0\0\2\x65\1\0\0\0\1\x41", True),
        (b"\0\0\0\2\x65\1\0\0\0\0", False),
        (b"\0\0\0\3\x65\1", False),
        (b"\0\0\0\1\xe5", False),
        (bytes(64), False),
    ],
    ids=["two units", "empty unit", "too long", "forbidden bit", "zeros"],
)
def test_units_fill_their_packet_or_it_is_damaged(data: bytes, *, is_sound: bool):
    """Lengths that do not add up, empty units and the forbidden bit show damage; a stream without lengths says nothing."""
    assert lays_out(memoryview(data), 4) == is_sound
    assert lays_out(memoryview(data), 0)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.ts", "clip.avi"])
def test_a_file_cut_off_lacks_bytes_that_its_container_announced(scene: Callable, encode: Callable, name: str):
    """Whole files lack none; cut in the middle of a box, packet, chunk or cluster they do."""
    path: Path = encode(scene(12), name=name)
    data = path.read_bytes()
    form = {"mp4": "mov,mp4,m4a", "mov": "mov,mp4,m4a", "mkv": "matroska,webm", "ts": "mpegts", "avi": "avi"}[name[5:]]

    def missing(kept: bytes) -> int | None:
        return missing_byte_count(form, len(kept), lambda offset, length: kept[offset : offset + length])

    cut = data[: len(data) // 2 // 188 * 188 + 97]
    assert missing(data) == 0
    assert missing(cut) == (91 if name == "clip.ts" else pytest.approx(len(data) - len(cut), abs=len(data) // 2))
    assert (missing(cut) or 0) > 0


def test_a_container_that_announces_nothing_lacks_nothing_known():
    """Raw streams and live Matroska state no size: None, not 0."""
    live = b"\x1a\x45\xdf\xa3\x80" + bytes(7) + b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    shifted = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7
    for data, form in ((b"\0\0\0\1\x67", "h264"), (live, "matroska,webm"), (shifted, "matroska,webm"), (b"no sync byte" * 90, "mpegts")):
        assert missing_byte_count(form, len(data), lambda offset, length, data=data: data[offset : offset + length]) is None
