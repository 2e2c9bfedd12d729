"""Masked copies of clips, written with PyAV: picture alone, every frame at its own time, nothing of the source's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast
from zlib import crc32

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.bitstream import BitStreamFilterContext

from curation.adapters.spool import open_locked
from curation.adapters.video_av import decoder_options
from curation.errors import ClipUnreadable, OutsideError
from curation.ports import Masking, ShownFrame
from curation.privacy.paint import paint_planes, painted

_OPTIONS: Final = {"protocol_whitelist": "file"}
# No frame waits for a later one, so that times are written as they are read; no captions that the decoder handed on; the same bytes
# whatever vector instructions the processor has.
_ENCODER: Final = {"crf": "20", "preset": "veryfast", "bf": "0", "a53cc": "0", "x264-params": "cpu-independent=1"}
_ENCODER_THREADS: Final = 2  # one codes while the next frame is read; a number of its own, for bytes depend on it
_DECODER_THREADS: Final = 2  # the next frame is decoded while one is looked at or coded
_WITHOUT_SEI: Final = "filter_units=remove_types=6"  # H.264 SEI: what encoders and recorders tell of themselves
_PLANAR: Final = frozenset({"yuv420p", "yuvj420p"})  # what nearly all recorders write
_MOVFLAGS: Final = "+faststart"


class AvMasker:
    """Implements `ports.Masker`."""

    @contextmanager
    def open(self, path: Path) -> Iterator[Iterator[ShownFrame]]:
        """Every frame that players show.

        Raises:
            ClipUnreadable: a frame cannot be decoded: what was not seen could not be masked.
        """
        with _clip(path) as (container, stream):
            yield map(_Shown, _frames(path, container, stream))

    def write(self, path: Path, target: Path, masking: Masking) -> int:
        """The number of frames written to `target`, an mp4 that appears whole or not at all.

        Raises:
            ClipUnreadable: a frame cannot be decoded or has no time, or two have the same.
            OutsideError: the encoder or the disk failed.
        """
        partial = target.with_name(f".{target.name}.partial")
        try:
            with open_locked(partial), _clip(path) as (container, stream):
                count = _written(partial, _timed(path, _frames(path, container, stream)), stream, masking)
            partial.replace(target)
        except (av.FFmpegError, OSError) as error:
            raise OutsideError(f"could not be masked: {error}", subject=path.name, fix="check the folder and the free space") from error
        finally:
            partial.unlink(missing_ok=True)
        return count


@contextmanager
def _clip(path: Path) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
    try:
        container = av.open(f"file:{path}", options=dict(_OPTIONS), metadata_errors="replace")
    except av.FFmpegError as error:
        raise _unreadable(path, f"cannot be opened: {error}") from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.video.VideoStream):
            raise _unreadable(path, "holds no video stream")
        stream.codec_context.options = decoder_options(stream.codec_context.name)
        stream.codec_context.thread_count, stream.codec_context.thread_type = _DECODER_THREADS, "FRAME"
        yield container, stream


def _frames(path: Path, container: av.container.InputContainer, stream: av.video.VideoStream) -> Iterator[av.video.VideoFrame]:
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise _unreadable(path, "has a frame that cannot be decoded")
            yield frame
    except av.FFmpegError as error:
        raise _unreadable(path, f"has a frame that cannot be decoded: {error}") from error


def _timed(path: Path, frames: Iterator[av.video.VideoFrame]) -> Iterator[av.video.VideoFrame]:
    """The frames, each later than the one before."""
    last: int | None = None
    for frame in frames:
        if frame.pts is None or (last is not None and frame.pts <= last):
            raise _unreadable(path, "has a frame whose time is missing, or no later than that of the one before")
        last = frame.pts
        yield frame


class _Shown:
    """Implements `ports.ShownFrame`."""

    def __init__(self, frame: av.video.VideoFrame) -> None:
        self._frame = frame

    @property
    def at_s(self) -> float | None:
        return self._frame.time

    @property
    def size_px(self) -> tuple[int, int]:
        wide, high = self._frame.width, self._frame.height
        return (high, wide) if _quarter_turns(self._frame) % 2 else (wide, high)

    @property
    def checksum(self) -> int:
        return crc32(np.ascontiguousarray(self._grey()).data)

    def luma(self, width_px: int) -> npt.NDArray[np.uint8]:
        turned = np.rot90(self._grey(), _quarter_turns(self._frame))
        height_px = max(1, round(turned.shape[0] * width_px / turned.shape[1]))
        return np.asarray(cv2.resize(np.ascontiguousarray(turned), (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)

    def picture(self) -> npt.NDArray[np.uint8]:
        return _upright(self._frame)

    def _grey(self) -> npt.NDArray[np.uint8]:
        frame = self._frame
        if frame.format.name not in _PLANAR:
            return np.asarray(frame.to_ndarray(format="gray", threads=1), np.uint8)
        plane = frame.planes[0]  # is the picture in grey
        return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


def _quarter_turns(frame: av.video.VideoFrame) -> int:
    return round(frame.rotation / 90)


def _upright(frame: av.video.VideoFrame) -> npt.NDArray[np.uint8]:
    """BGR as players show it: the container may ask for a turn by quarters."""
    picture = frame.to_ndarray(format="bgr24", threads=1)
    return np.ascontiguousarray(np.rot90(picture, _quarter_turns(frame)), np.uint8)


def _written(partial: Path, frames: Iterator[av.video.VideoFrame], source: av.video.VideoStream, masking: Masking) -> int:
    tick = source.time_base or Fraction(1, 90_000)
    count = 0
    options = {"movflags": _MOVFLAGS, "fflags": "+bitexact", "video_track_timescale": str(tick.denominator)}
    with av.open(str(partial), "w", format="mp4", options=options) as container:
        stream: Any = None
        strip: BitStreamFilterContext | None = None
        for frame in frames:
            coded = _masked(frame, masking(count, _Shown(frame)))
            if stream is None:
                stream = _stream(container, coded, source, tick)
                strip = BitStreamFilterContext(_WITHOUT_SEI, "h264")
            coded.pts, coded.time_base = frame.pts, tick
            _mux(container, strip, stream.encode(coded))
            count += 1
        if stream is not None:
            _mux(container, strip, stream.encode())
            _mux(container, strip, cast("list[av.packet.Packet[Any]]", []), ended=True)
    return count


def _mux(container: Any, strip: BitStreamFilterContext | None, packets: list[Any], *, ended: bool = False) -> None:
    if strip is None:
        return
    for packet in [*packets, *([None] if ended else [])]:
        for stripped in strip.filter(packet):
            container.mux(stripped)


def _stream(container: Any, coded: av.video.VideoFrame, source: av.video.VideoStream, tick: Fraction) -> Any:
    stream = container.add_stream("libx264", rate=source.average_rate or 30, options=dict(_ENCODER))
    stream.width, stream.height = coded.width, coded.height
    stream.pix_fmt = coded.format.name
    _as_coloured(stream, coded)
    stream.thread_count = _ENCODER_THREADS
    stream.time_base = stream.codec_context.time_base = tick
    return stream


def _masked(frame: av.video.VideoFrame, masks: npt.NDArray[np.float64]) -> av.video.VideoFrame:
    """A frame made anew, so that no side data of the source's goes on: of its own samples where they can be kept as they are."""
    if frame.format.name in _PLANAR and not (frame.width % 2 or frame.height % 2 or _quarter_turns(frame)):
        planes = np.asarray(frame.to_ndarray(), np.uint8)
        paint_planes(planes, masks, frame.height)
        coded = av.VideoFrame.from_ndarray(planes, format=frame.format.name)
        _as_coloured(coded, frame)
        return coded
    picture = painted(_upright(frame), masks)
    if picture.shape[0] % 2 or picture.shape[1] % 2:  # half as many colour samples need even sides
        return av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv444p")
    return av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), format="yuv420p")


def _as_coloured(copy: Any, of: av.video.VideoFrame) -> None:
    """Say of the copy what the samples of a frame mean, without which players guess other colours."""
    copy.color_range, copy.colorspace = of.color_range, of.colorspace
    copy.color_primaries, copy.color_trc = of.color_primaries, of.color_trc


def _unreadable(path: Path, problem: str) -> ClipUnreadable:
    return ClipUnreadable(problem, subject=path.name, fix="leave the clip out of masked shard sets")
