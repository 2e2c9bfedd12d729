"""Pictures of a clip are the frames that a full decode shows, whatever was skipped on the way, and the same bytes on every machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.adapters.video_av import AvVideoReader
from curation.errors import ClipUnreadable
from curation.records import Packet
from curation.shards.frames import moments, pictures, sides_px
from curation.shards.request import FrameRequest
from curation.signals import looks
from tests.shards.invented import FPS, FRAMES, write
from tests.turned import turned

# Name -> options of x264: groups of a second, of one with pictures that nothing depends on, open ones, and none but the first.
CODINGS = {
    "closed": {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=0"},
    "b-frames": {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=3:b-pyramid=none"},
    "open": {"x264-params": "keyint=20:min-keyint=20:scenecut=0:bframes=3:open-gop=1"},
    "one-key": {"x264-params": "keyint=9999:scenecut=0:bframes=2"},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip per coding."""
    folder = tmp_path_factory.mktemp("clips")
    return {name: write(folder / f"{name}.mp4", options) for name, options in CODINGS.items()}


def taken(path: Path, frames: FrameRequest) -> list[tuple[int, float, bytes]]:
    """Index, time and JPEG of a clip's pictures."""
    with AvVideoReader().open(path) as clip:
        return [(one.index, one.pts_s, one.jpeg) for one in pictures(clip, frames)]


def chosen_count(path: Path, fps: float) -> tuple[int, int]:
    """Packets that are decoded for so many pictures a second, and all of them."""
    with AvVideoReader().open(path) as clip:
        packets, _ = clip.packets()
    chosen = looks.needed_for(looks.Timeline(packets), [one.at for one in moments(packets, fps)])
    return len(packets if chosen is None else chosen), len(packets)


@pytest.mark.parametrize("fps", [1.0, 2.0, 2.7])
@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_skipped_changes_no_picture(clips: dict[str, Path], coding: str, fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding only what is needed gives the bytes of a full decode, for closed and open groups and for pictures nothing depends on."""
    frames = FrameRequest(fps=fps)
    sparse = taken(clips[coding], frames)
    monkeypatch.setattr(looks, "needed_for", lambda *_: None)
    assert sparse == taken(clips[coding], frames)
    assert [round(index / fps * FPS + 0.4999) for index, _, _ in sparse] == [round(pts_s * FPS) for _, pts_s, _ in sparse]


def test_little_is_decoded(clips: dict[str, Path]) -> None:
    """Of groups of a second half is needed for two pictures a second, and less where nothing depends on most of it."""
    needed, of = chosen_count(clips["closed"], 2.0)
    assert needed < 0.6 * of
    assert chosen_count(clips["b-frames"], 2.0)[0] < 0.35 * of


def test_a_picture_that_does_not_come_out_is_sought_by_a_full_decode(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that leaves out what a frame needs costs time, and no picture."""
    whole = taken(clips["closed"], FrameRequest())
    monkeypatch.setattr(looks, "needed_for", lambda *_: frozenset(range(30)))
    assert taken(clips["closed"], FrameRequest()) == whole


def packet(pts_s: float | None, *, is_discarded: bool = False) -> Packet:
    """A packet shown at that time."""
    return Packet(pts_s=pts_s, duration_s=None, size_bytes=1, is_keyframe=True, is_corrupt=False, is_discarded=is_discarded)


@pytest.mark.parametrize(
    ("shown_s", "fps", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2, [(0, 0.0), (1, 0.5)]),
        ([5.0, 5.4, 5.6, 6.1], 2, [(0, 5.0), (1, 5.6), (2, 6.1)]),
        ([0.0, 1.0, 2.0], 2, [(0, 0.0), (2, 1.0), (4, 2.0)]),
        ([0.0, 0.4, 3.3, 3.4], 2, [(0, 0.0), (6, 3.3)]),
        ([0.0, 0.1 + 0.2, 0.6 - 1e-9], 5, [(0, 0.0), (1, 0.1 + 0.2), (3, 0.6 - 1e-9)]),
        ([None, None], 2, []),
    ],
)
def test_moments_lie_on_a_grid(shown_s: list[float | None], fps: float, expected: list[tuple[int, float]]) -> None:
    """Each frame stands for the last moment that it is the first to reach; no frame is taken twice, and a hole has none."""
    assert [(one.index, one.shown_s) for one in moments([packet(one) for one in shown_s], fps)] == expected


def test_what_players_do_not_show_is_no_picture() -> None:
    """Frames that an edit list cuts off are left out."""
    assert [one.at for one in moments([packet(0.0, is_discarded=True), packet(0.1)], 2)] == [1]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, (320, 192)), ({"width_px": 160}, (160, 96)), ({"height_px": 96}, (160, 96)), ({"width_px": 64, "height_px": 64}, (64, 64))],
)
def test_pictures_have_the_size_asked_for(clips: dict[str, Path], asked: dict[str, int], expected: tuple[int, int]) -> None:
    """One side keeps the clip's shape, both are taken as they are."""
    frames = FrameRequest(fps=0.5, **asked)
    assert sides_px((320, 192), frames) == expected
    (_, _, data), *_ = taken(clips["closed"], frames)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1::-1] == expected


def test_a_picture_shows_its_frame(clips: dict[str, Path]) -> None:
    """Its pixels are close to those that OpenCV decodes at the same place."""
    video = cv2.VideoCapture(str(clips["b-frames"]))
    shown = [video.read()[1] for _ in range(FRAMES)]
    video.release()
    for _, pts_s, data in taken(clips["b-frames"], FrameRequest(jpeg_quality=95)):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(float)
        errors = [float(np.abs(picture - other).mean()) for other in shown]
        assert round(pts_s * FPS) == int(np.argmin(errors))
        assert min(errors) < 10.0 < sorted(errors)[1]  # the texture is of colours that JPEG halves


def test_no_frame_to_be_decoded_is_told(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip without a picture is unreadable, and not an empty list."""
    from curation.adapters.video_av import AvClipStream

    monkeypatch.setattr(AvClipStream, "frames", lambda *_: iter(()))
    with pytest.raises(ClipUnreadable, match="6 of 6 pictures asked of it do not decode"):
        taken(clips["closed"], FrameRequest())


PLAIN_MACHINE = """
import ctypes, hashlib, json, sys
from pathlib import Path
import av
from curation.adapters.video_av import AvVideoReader
from curation.shards.frames import pictures
from curation.shards.request import FrameRequest

path, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
library = ctypes.CDLL(next(line.split()[-1] for line in open("/proc/self/maps") if "libavutil" in line))
library.av_force_cpu_flags(ctypes.c_int(0))
library.av_get_cpu_flags.restype = ctypes.c_int
assert library.av_get_cpu_flags() == 0
with AvVideoReader().open(path) as clip:
    print(hashlib.sha256(b"".join(one.jpeg for one in pictures(clip, FrameRequest(**asked)))).hexdigest())
"""


def test_a_machine_without_vector_instructions_makes_the_same_bytes(clips: dict[str, Path]) -> None:
    """FFmpeg, OpenCV and libjpeg, all told to use none, give every byte that they give with all that this machine has."""
    asked = {"fps": 2.0, "width_px": 200, "height_px": 150}
    expected = hashlib.sha256(b"".join(data for _, _, data in taken(clips["open"], FrameRequest(**asked)))).hexdigest()
    plain = {**os.environ, "JSIMD_FORCENONE": "1", "OPENCV_CPU_DISABLE": "SSE4.1,SSE4.2,AVX,FP16,AVX2"}
    command = [sys.executable, "-c", PLAIN_MACHINE, str(clips["open"]), json.dumps(asked)]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_pictures_stand_as_players_show_the_clip(clips: dict[str, Path], tmp_path: Path, quarters: int) -> None:
    """A clip that says it lies on its side gives upright pictures, and the sides asked for are those of what is shown."""
    lying = turned(clips["one-key"], tmp_path / "lying.mp4", quarters)
    [plain, shown] = [
        cv2.imdecode(np.frombuffer(taken(path, FrameRequest(fps=1.0))[0][2], np.uint8), 1) for path in (clips["one-key"], lying)
    ]
    assert np.rot90(plain, quarters).shape == shown.shape
    assert np.abs(np.rot90(plain, quarters).astype(int) - shown).mean() < 3  # two JPEGs of one picture
    narrow = cv2.imdecode(np.frombuffer(taken(lying, FrameRequest(fps=1.0, width_px=48))[0][2], np.uint8), 1)
    assert 48 == narrow.shape[1]
