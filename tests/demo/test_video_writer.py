"""Clips written with PyAV: equal bytes for equal frames, whole or absent, and gaps where frames are left out."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from curation.adapters.video_writer_av import PyAvVideoWriter
from curation.errors import OutsideError, UsageError


def pictures(count, *, width=96, height=64):
    """Frames that move."""
    base = np.random.default_rng(3).integers(0, 255, (height, width, 3), np.uint8)
    return [np.roll(base, 3 * index, axis=1) for index in range(count)]


def packets(path):
    """Presentation times in seconds in order, and which packets are keyframes."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [packet for packet in container.demux(stream) if packet.pts is not None]
        return sorted(float(packet.pts * stream.time_base) for packet in found), sum(packet.is_keyframe for packet in found)


def test_equal_frames_give_equal_bytes(tmp_path):
    """Two writes of the same frames differ in no byte."""
    for name in ("a.mp4", "b.mp4"):
        assert PyAvVideoWriter().write(tmp_path / name, iter(pictures(20)), fps=Fraction(10)) == 20
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_what_was_written_can_be_read_back(tmp_path):
    """H.264 in 4:2:0 with its index in front, one keyframe a second, every frame at its time, colours kept."""
    flat = [np.full((64, 96, 3), (40, 90, 200), np.uint8)] * 30
    PyAvVideoWriter().write(tmp_path / "clip.mp4", iter(flat), fps=Fraction(30000, 1001))
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    times, keyframes = packets(tmp_path / "clip.mp4")
    assert [pytest.approx(index * 1001 / 30000, abs=1e-4) for index in range(30)] == times
    assert keyframes == 1
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frame = next(container.decode(stream)).to_ndarray(format="bgr24")
    assert np.allclose(frame.mean(axis=(0, 1)), (40, 90, 200), atol=4)


def test_left_out_frames_leave_a_gap(tmp_path):
    """The others keep their times."""
    written = PyAvVideoWriter().write(tmp_path / "clip.mp4", iter(pictures(20)), fps=Fraction(10), skip=frozenset({0, 7, 8}))
    times, _ = packets(tmp_path / "clip.mp4")
    assert written == len(times) == 17
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    assert gaps.count(0.3) == 1
    assert gaps.count(0.1) == 15


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [np.zeros((63, 96, 3), np.uint8)],
        [np.zeros((64, 96), np.uint8)],
        [np.zeros((64, 96, 3), np.float32)],
        [np.zeros((64, 96, 3), np.uint8), np.zeros((32, 96, 3), np.uint8)],
    ],
    ids=["none", "odd", "grey", "float", "two sizes"],
)
def test_unfit_frames_are_refused_and_leave_nothing(tmp_path, frames):
    """An older clip stays as it was, and no partial file remains."""
    (tmp_path / "clip.mp4").write_bytes(b"older")
    with pytest.raises(UsageError, match=r"clip\.mp4"):
        PyAvVideoWriter().write(tmp_path / "clip.mp4", iter(frames), fps=Fraction(10))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"older"


def test_a_rate_of_zero_is_refused(tmp_path):
    """A clip without a frame rate has no time."""
    with pytest.raises(UsageError, match="fps"):
        PyAvVideoWriter().write(tmp_path / "clip.mp4", iter(pictures(1)), fps=Fraction(0))


def test_a_missing_folder_is_an_outside_error(tmp_path):
    """The message names the clip, and a retry may help."""
    with pytest.raises(OutsideError, match=r"clip\.mp4"):
        PyAvVideoWriter().write(tmp_path / "missing" / "clip.mp4", iter(pictures(2)), fps=Fraction(10))
