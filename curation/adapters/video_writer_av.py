"""Clips written with PyAV: H.264 in mp4, equal bytes for equal frames."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
import numpy.typing as npt

from curation.errors import OutsideError, UsageError

_TICKS_PER_S: Final = 90_000  # the MPEG clock: 25, 30000/1001 and 15 frames a second all fall on whole ticks
_BT601: Final = 6  # primaries, transfer and matrix by their H.273 code: those that OpenCV converts BGR with
_LIMITED_RANGE: Final = 1  # luma 16-235, as recorders write it; libav's AVCOL_RANGE_MPEG


class PyAvVideoWriter:
    """`VideoWriter` over libx264: one thread, a keyframe a second, no times or versions in the container's metadata."""

    def __init__(self, *, crf: int = 23, preset: str = "superfast") -> None:
        # With mbtree a keyframe that stays in view is coded so well that repeated frames decode to equal ones.
        self._options = {"crf": str(crf), "preset": preset, "sc_threshold": "0", "mbtree": "1", "rc-lookahead": "10"}

    def write(
        self,
        path: Path,
        frames: Iterator[npt.NDArray[np.uint8]],
        *,
        fps: Fraction,
        skip: frozenset[int] = frozenset(),
    ) -> int:
        """The number of frames written to `path`, which appears whole or not at all.

        Args:
            path: the mp4 to make; an older one is replaced.
            frames: height x width x 3 BGR, 8 bit, all of one size, even in both directions.
            fps: nominal frame rate; frame i is presented at i / fps.
            skip: indices of frames left out; the others keep their times, as when a recorder drops frames.

        Raises:
            UsageError: no frame is left to write, `fps` is not positive, or a frame's shape or type does not fit.
            OutsideError: the encoder or the disk failed.
        """
        if not fps > 0:
            raise UsageError(f"fps must be above 0, got {fps}", subject=str(path), fix="give the frame rate of the clip")
        partial = path.with_name(f".{path.name}.partial")
        try:
            count = self._encode(partial, frames, fps=fps, skip=skip, subject=str(path))
            partial.replace(path)
        except (av.FFmpegError, OSError) as error:
            raise OutsideError(f"could not be written: {error}", subject=str(path), fix="check the folder and the free space") from error
        finally:
            partial.unlink(missing_ok=True)
        return count

    def _encode(self, partial: Path, frames: Iterator[npt.NDArray[np.uint8]], *, fps: Fraction, skip: frozenset[int], subject: str) -> int:
        kept = ((index, frame) for index, frame in enumerate(frames) if index not in skip)
        first = next(kept, None)
        if first is None:
            raise UsageError("there is no frame to write", subject=subject, fix="render at least one frame")
        index, picture = first
        shape = picture.shape
        _check(picture, shape, subject)
        count = 0
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264", rate=fps, options=self._options)
            stream.height, stream.width = shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.gop_size = max(1, round(fps))
            stream.thread_count = 1
            stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            stream.color_primaries = stream.color_trc = stream.colorspace = _BT601
            stream.color_range = _LIMITED_RANGE
            while True:
                frame = av.VideoFrame.from_ndarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
                frame.pts = round(index * _TICKS_PER_S / fps)
                frame.time_base = Fraction(1, _TICKS_PER_S)
                container.mux(stream.encode(frame))
                count += 1
                following = next(kept, None)
                if following is None:
                    break
                index, picture = following
                _check(picture, shape, subject)
            container.mux(stream.encode())
        return count


def _check(picture: npt.NDArray[np.uint8], shape: tuple[int, ...], subject: str) -> None:
    fits = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape == shape and shape[2] == 3
    if not fits or shape[0] % 2 or shape[1] % 2 or not picture.size:
        raise UsageError(
            f"a frame is {picture.dtype} {picture.shape}; the first one had shape {shape}",
            subject=subject,
            fix="give 8-bit BGR frames of one size with an even width and height",
        )
