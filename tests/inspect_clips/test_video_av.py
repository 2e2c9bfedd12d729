"""The video reader on good, cut, flipped and meaningless bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from curation.adapters.video_av import WORKING_WIDTH_PX, AvVideoReader
from curation.errors import ClipUnreadable


def _counts(path: Path) -> tuple[int, int, int]:
    """Packets, decoded frames, decode errors."""
    with AvVideoReader().open(path) as clip:
        packets, _ = clip.packets()
        return len(packets), sum(1 for _ in clip.frames()), clip.decode_errors


def test_a_good_clip_is_read_whole(scene: Callable, encode: Callable):
    """Header, packets and frames of 30 encoded pictures are all there, in presentation order, at the working width."""
    path = encode([frame[:180, :320] for frame in scene(30)])
    with AvVideoReader().open(path) as clip:
        packets, _ = clip.packets()
        frames = list(clip.frames())
        assert (clip.container.video_codec, clip.container.width_px, clip.container.height_px) == ("h264", 320, 180)
        assert clip.container.duration_s == pytest.approx(1.2, abs=0.05)
        assert clip.decode_errors == 0
    assert [len(packets), len(frames)] == [30, 30]
    assert packets[0].is_keyframe
    assert {frame.bgr.shape for frame in frames} == {(360, WORKING_WIDTH_PX, 3)}
    assert [frame.pts_s for frame in frames] == sorted(frame.pts_s for frame in frames)


def test_a_broken_slice_of_hevc_is_counted(scene: Callable, encode: Callable):
    """Its decoder goes on and says nothing of itself: pictures from nowhere would have been measured as the clip's."""
    path = encode([frame[:180, :320] for frame in scene(30)], encoder="libx265")
    with AvVideoReader().open(path) as clip:
        assert "hevc" == clip.container.video_codec
    assert (30, 30, 0) == _counts(path)
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        middles = [packet.pos + packet.size // 2 for packet in container.demux(video=0) if packet.pos and not packet.is_keyframe]
    for middle in middles:  # not each breaks what can be parsed
        data[middle] ^= 0x24
    path.write_bytes(data)
    packets, _, errors = _counts(path)
    assert packets == 30
    assert 0 < errors <= len(middles)


def test_colours_come_out_as_they_went_in(scene: Callable, encode: Callable):
    """Channels are blue, green, red: a blue sky stays blue."""
    with AvVideoReader().open(encode(scene(3))) as clip:
        sky = next(iter(clip.frames())).bgr[20:100].reshape(-1, 3).mean(axis=0)
    assert np.abs(sky - (230, 200, 180)).max() < 8


def test_the_packet_digest_covers_the_video_packets_alone(scene: Callable, encode: Callable):
    """It is SHA-256 over the packets' bytes, the same again for the same stream in another container."""
    path = encode(scene(12))
    expected = hashlib.sha256()
    rewrapped = path.with_suffix(".mov")
    with av.open(path) as source, av.open(rewrapped, "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            expected.update(bytes(packet))
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    found = []
    for file in (path, rewrapped):
        with AvVideoReader().open(file) as clip:
            found.append(clip.packets()[1])
    assert found == [expected.hexdigest()] * 2


def test_the_same_clip_can_be_passed_over_twice(scene: Callable, encode: Callable):
    """Every pass starts at the beginning; an abandoned one leaves nothing behind."""
    with AvVideoReader().open(encode(scene(10))) as clip:
        next(iter(clip.frames()))
        assert [sum(1 for _ in clip.frames()), sum(1 for _ in clip.frames())] == [10, 10]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"hello, not a video\n", "cannot be read as video"),
        (bytes(1 << 20), "cannot be read as video"),
        (np.random.default_rng(9).bytes(300_000), "cannot be read as video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "cannot be read as video"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "cannot be read as video"),
    ],
    ids=["empty", "text", "zeros", "random", "playlist", "concat"],
)
def test_meaningless_bytes_are_unreadable(tmp_path: Path, data: bytes, problem: str):
    """Bytes that are no clip, playlists that would open other files included, are refused by name with a fix."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(ClipUnreadable, match=problem) as caught, AvVideoReader().open(path):
        pass
    assert (caught.value.subject, bool(caught.value.fix), str(tmp_path) in str(caught.value)) == ("clip.mp4", True, False)


def test_a_picture_is_no_clip(scene: Callable, tmp_path: Path):
    """A PNG named .mp4 is refused: its demuxer is not one that recorders need."""
    import cv2

    path = tmp_path / "clip.mp4"
    path.write_bytes(cv2.imencode(".png", scene(1)[0])[1].tobytes())
    with pytest.raises(ClipUnreadable), AvVideoReader().open(path):
        pass


def test_sound_alone_is_no_clip(tmp_path: Path):
    """A container without a video stream says so."""
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ClipUnreadable, match="no video stream"), AvVideoReader().open(path):
        pass


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path):
    """A folder, a missing file and a FIFO (which would block) are refused."""
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path, tmp_path / "missing.mp4", tmp_path / "pipe.mp4"):
        with pytest.raises(ClipUnreadable, match="no regular file"), AvVideoReader().open(path):
            pass


def test_awkward_names_are_plain_files(scene: Callable, encode: Callable):
    """A leading dash, a colon, a percent sign and Chinese characters are part of a name, not options or protocols."""
    frames = scene(3)
    for name in ("-dash first.mp4", "concat:a|b.mp4", "frame%03d.mp4", "行车记录仪 №1'é.mp4"):
        path = encode(frames)
        assert _counts(path.rename(path.with_name(name)))[:2] == (3, 3)


def test_a_clip_without_its_index_is_unreadable(scene: Callable, encode: Callable):
    """An mp4 cut before its moov box holds nothing that can be found."""
    path = encode(scene(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ClipUnreadable), AvVideoReader().open(path):
        pass


def test_a_cut_transport_stream_is_read_as_far_as_it_goes(scene: Callable, encode: Callable):
    """A TS cut inside a packet still gives most of its frames and no exception."""
    path = encode(scene(30), name="clip.ts")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10 // 188 * 188 + 97])
    packets, frames, _ = _counts(path)
    assert 10 < frames <= packets < 30


def test_zeroed_packets_are_counted_and_decoding_goes_on(scene: Callable, encode: Callable):
    """A hole of zeros in the middle costs errors, not the frames behind it."""
    path = encode(scene(60))
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + (len(data) - data.find(b"mdat")) * 2 // 5
    data[start : start + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    packets, frames, errors = _counts(path)
    assert packets == 60
    assert errors > 0
    assert frames > 30


def test_flipped_and_cut_bytes_raise_nothing_else(scene: Callable, encode: Callable):
    """Forty ways to break a clip end in frames, counted errors or `ClipUnreadable`, never in another exception."""
    path = encode(scene(8))
    good = path.read_bytes()
    rng = np.random.default_rng(11)
    for _ in range(40):
        broken = bytearray(good[: rng.integers(1, len(good) + 1)] if rng.random() < 0.3 else good)
        for position in rng.integers(0, len(broken), 30):
            broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            packets, frames, _ = _counts(path)
        except ClipUnreadable:
            continue
        assert frames <= packets + 8


def test_a_sliver_of_a_picture_stays_small(encode: Callable):
    """A picture of 16 x 4096 px is not blown up to 640 px width."""
    with AvVideoReader().open(encode([np.full((4096, 16, 3), 90, np.uint8)] * 2)) as clip:
        assert next(iter(clip.frames())).bgr.shape == (2560, 10, 3)


@pytest.mark.parametrize(("width_px", "height_px"), [(70_000, 16), (8_192, 4_368)])
def test_pictures_that_no_recorder_codes_are_refused(tmp_path: Path, width_px: int, height_px: int):
    """A lossless picture 70,000 px wide, or of more pixels than the highest level of any recorder's codec, is not taken for a clip."""
    path = tmp_path / "large.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((height_px, width_px), np.uint8), format="gray")))
        container.mux(stream.encode())
    with pytest.raises(ClipUnreadable, match=f"claims pictures of {width_px} x {height_px} px"), AvVideoReader().open(path):
        pass


def test_large_pictures_stay_within_the_limit_of_memory(encode: Callable):
    """Where the next picture of 2560 x 1920 px might exceed the limit, nothing is decoded, and no damage is made up; small ones pass."""
    large, small = (
        encode([np.full((height, width, 3), 90, np.uint8)] * 2, name=f"{width}.mp4") for width, height in ((2560, 1920), (320, 180))
    )
    reader = AvVideoReader(resident_limit_bytes=1)
    with reader.open(small) as clip:
        assert len(list(clip.frames())) == 2
    with reader.open(large) as clip, pytest.raises(MemoryError, match=r"2560\.mp4"):
        list(clip.frames())


def test_every_frame_is_glanced_at_through_its_own_pixels(scene: Callable, encode: Callable):
    """A glance at 640 x 360 px is every fourth pixel each way of the luma, exactly; a tall sliver's is no larger."""
    with AvVideoReader().open(encode(scene(2))) as clip:
        frame = next(iter(clip.frames()))
        assert np.array_equal(frame.luma[::4, ::4], frame.glance)
    with AvVideoReader().open(encode([np.full((4096, 16, 3), 90, np.uint8)] * 2)) as clip:
        assert next(iter(clip.frames())).glance.size < 20_000
