"""Masked copies of clips, written with PyAV: picture alone, every frame at its own time, nothing of the source's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.bitstream import BitStreamFilterContext

from curation.adapters.spool import open_locked
from curation.errors import ClipUnreadable, OutsideError
from curation.ports import Masking

_OPTIONS: Final = {"protocol_whitelist": "file"}
# No frame waits for a later one, so that times are written as they are read; no captions that the decoder handed on; the same bytes
# whatever vector instructions the processor has.
_ENCODER: Final = {"crf": "20", "preset": "veryfast", "bf": "0", "a53cc": "0", "x264-params": "cpu-independent=1"}
_WITHOUT_SEI: Final = "filter_units=remove_types=6"  # H.264 SEI: what encoders and recorders tell of themselves
_MOVFLAGS: Final = "+faststart"


class AvMasker:
    """Implements `ports.Masker`."""

    @contextmanager
    def open(self, path: Path) -> Iterator[Iterator[npt.NDArray[np.uint8]]]:
        """Every frame that players show, BGR, upright, at full size.

        Raises:
            ClipUnreadable: a frame cannot be decoded: what was not seen could not be masked.
        """
        with _clip(path) as (container, stream):
            yield (_upright(frame) for frame in _frames(path, container, stream))

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
        stream.codec_context.thread_count = 1
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


def _upright(frame: av.video.VideoFrame) -> npt.NDArray[np.uint8]:
    """BGR as players show it: the container may ask for a turn by quarters."""
    picture = frame.to_ndarray(format="bgr24", threads=1)
    turned = np.rot90(picture, round(frame.rotation / 90)) if frame.rotation else picture
    return np.ascontiguousarray(turned, np.uint8)


def _written(partial: Path, frames: Iterator[av.video.VideoFrame], source: av.video.VideoStream, masking: Masking) -> int:
    tick = source.time_base or Fraction(1, 90_000)
    count = 0
    options = {"movflags": _MOVFLAGS, "fflags": "+bitexact", "video_track_timescale": str(tick.denominator)}
    with av.open(str(partial), "w", format="mp4", options=options) as container:
        stream: Any = None
        strip: BitStreamFilterContext | None = None
        for frame in frames:
            picture = masking(count, _upright(frame))
            if stream is None:
                stream = _stream(container, picture, source, tick)
                strip = BitStreamFilterContext(_WITHOUT_SEI, "h264")
            coded = _coded(picture, stream)
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


def _stream(container: Any, picture: npt.NDArray[np.uint8], source: av.video.VideoStream, tick: Fraction) -> Any:
    height_px, width_px = picture.shape[:2]
    is_even = not (height_px % 2 or width_px % 2)
    stream = container.add_stream("libx264", rate=source.average_rate or 30, options=dict(_ENCODER))
    stream.width, stream.height = width_px, height_px
    stream.pix_fmt = "yuv420p" if is_even else "yuv444p"  # half as many chroma samples need even sides
    stream.thread_count = 1
    stream.time_base = stream.codec_context.time_base = tick
    return stream


def _coded(picture: npt.NDArray[np.uint8], stream: Any) -> av.video.VideoFrame:
    """A frame made anew, so that no side data of the source's goes on."""
    if stream.pix_fmt == "yuv420p":
        return av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
    return av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv444p")


def _unreadable(path: Path, problem: str) -> ClipUnreadable:
    return ClipUnreadable(problem, subject=path.name, fix="leave the clip out of masked shard sets")
