"""Video through PyAV: one thread, local files and known containers only; whatever FFmpeg says becomes a count or `ClipUnreadable`."""

from __future__ import annotations

import hashlib
import math
import resource
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error
import av.packet
import av.video
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from curation.errors import ClipUnreadable
from curation.records import Container, Embedded, Packet
from curation.signals.nal import is_disposable_h264, lays_out
from curation.signals.wholeness import missing_byte_count
from curation.telemetry.embedded import Collection as TelemetryCollection
from curation.telemetry.embedded import h264_length_bytes
from curation.telemetry.mp4_header import camera_model

WORKING_WIDTH_PX: Final = 640
RESIDENT_LIMIT_BYTES: Final = 600 * 1024 * 1024
_LARGE_PICTURE_BYTES: Final = 12 * 1024 * 1024  # seventeen of anything smaller, the most that a codec refers to, stay far from the limit
_WORKING_HEIGHT_MAX_PX: Final = 2560  # a picture of 16 x 20000 px must not grow to gigabytes on its way to 640 px
_HVCC_LENGTH_AT: Final = 21  # ISO 14496-15, HEVCDecoderConfigurationRecord: lengthSizeMinusOne in the two lowest bits
_SIDE_MAX_PX: Final = 65_535  # no codec of a recorder codes a longer side
_PICTURE_MAX_PX: Final = 35_651_584  # level 6.2 of H.264 and HEVC, level 6 of AV1: 8K; a decoder holds a dozen pictures of any size

_EXACT: Final = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_GLANCE_PX: Final = 160 * 90
_PLANAR: Final = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12"})
_WIDENED: Final = np.clip(np.round((np.arange(256) - 16.0) * 255.0 / 219.0), 0, 255).astype(np.uint8)  # BT.601: 16 to 235 is black to white

# Containers that recorders write. Playlists, concatenations and devices stay out: they make FFmpeg open other files.
_FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,avi,matroska,webm,gif,hevc,h264,flv,asf,ogg,mxf,dv,m4v,mpegvideo,ivf"
_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}


_Opened = tuple[av.container.InputContainer, av.video.VideoStream]


class AvVideoReader:
    """Opens clips with PyAV.

    Args:
        resident_limit_bytes: memory that the process may hold; pictures so large that a few of them would exceed it end in MemoryError.
    """

    def __init__(self, *, resident_limit_bytes: int = RESIDENT_LIMIT_BYTES) -> None:
        self._resident_limit_bytes = resident_limit_bytes

    @contextmanager
    def open(self, path: Path) -> Iterator[AvClipStream]:
        """An open clip.

        Raises:
            ClipUnreadable: no video stream can be found in the bytes.
        """
        with _unreadable_if_failing(path):
            container, stream = _opened(path)
        try:
            with _unreadable_if_failing(path):
                said = _container(path, container, stream)
        except ClipUnreadable:
            container.close()
            raise
        clip = AvClipStream(path, said, (container, stream), self._resident_limit_bytes)
        try:
            yield clip
        finally:
            clip.close()


class AvClipStream:
    """One clip. A pass over it goes on with the file as it was opened where nothing was read yet, or where its container has an index
    to seek back by; else it opens the file anew."""

    def __init__(self, path: Path, said: Container, fresh: _Opened, resident_limit_bytes: int) -> None:
        self._resident_limit_bytes = resident_limit_bytes
        self._path = path
        self._container = said
        self._opened = fresh
        self._is_fresh = True
        self._decode_errors = 0
        self._embedded = Embedded()

    @contextmanager
    def _pass(self) -> Iterator[_Opened]:
        """The file at its start; FFmpeg's errors inside the context become `ClipUnreadable`."""
        with _unreadable_if_failing(self._path):
            if not self._is_fresh and not _rewound(*self._opened):
                self._opened[0].close()
                self._opened = _opened(self._path)
            self._is_fresh = False
            yield self._opened

    def close(self) -> None:
        """Let go of the file."""
        self._opened[0].close()

    @property
    def container(self) -> Container:
        """What the header says."""
        return self._container

    @property
    def decode_errors(self) -> int:
        """Packets of the last pass over `frames` that failed to decode or were flagged corrupt, and reads that broke off."""
        return self._decode_errors

    def embedded(self) -> Embedded:
        """Telemetry that the header and the packets of the last pass over `packets` carry, unread."""
        return self._embedded

    def packets(self) -> tuple[Sequence[Packet], str]:
        """All video packets in demux order, and SHA-256 over their bytes, hex."""
        digest = hashlib.sha256()
        packets = []
        with self._pass() as (container, stream):
            sight = _Sight(container, stream)
            tick_s = stream.time_base or Fraction(1, av.time_base)
            length_bytes = _length_bytes(stream)
            demuxed = container.demux(stream, *container.streams.data)
            while True:
                try:
                    packet = next(demuxed)
                except StopIteration:
                    break
                except MemoryError:
                    raise
                except av.error.FFmpegError:
                    break
                if packet.size:
                    sight.see(packet)
                    if packet.stream_index == stream.index:
                        digest.update(memoryview(packet))
                        is_sound = lays_out(memoryview(packet), length_bytes)
                        packets.append(_packet(packet, tick_s, is_sound=is_sound, is_disposable=is_sound and self._is_disposable(packet)))
            self._embedded = sight.embedded()
        return packets, digest.hexdigest()

    def frames(self, chosen: Collection[int] | None = None) -> Iterator[AvFrame]:
        """All decodable frames, or those of the chosen packets, as the port says; failures are counted and decoding goes on.

        Raises:
            MemoryError: the next picture might take the process beyond its limit.
        """
        self._decode_errors = 0
        scaler = _Scaler()
        with self._pass() as (container, stream):
            tick_s = stream.time_base or Fraction(1, av.time_base)  # a drained frame knows no time base of its own
            demuxed = container.demux(stream)
            last = None if chosen is None else max(chosen, default=-1)
            position, has_hole = -1, False
            while last is None or position < last:
                try:
                    packet = next(demuxed)
                except StopIteration:
                    break
                except MemoryError:
                    raise
                except av.error.FFmpegError:
                    self._decode_errors += 1
                    break
                position += bool(packet.size)
                if chosen is not None and (not packet.size or position not in chosen):
                    has_hole = has_hole or not self._is_disposable(packet)
                    continue
                if has_hole and packet.is_keyframe:  # what the decoder still holds belongs before the hole
                    yield from self._drained(stream, scaler, tick_s)
                    has_hole = False
                self._stay_within(stream)
                yield from self._decoded(packet, scaler, tick_s)
            if chosen is not None:
                yield from self._drained(stream, scaler, tick_s)

    def _is_disposable(self, packet: av.packet.Packet[Any]) -> bool:
        stream = self._opened[1]
        return stream.codec_context.name == "h264" and is_disposable_h264(memoryview(packet), _length_bytes(stream))

    def _stay_within(self, stream: av.video.VideoStream) -> None:
        picture_bytes = 3 * stream.codec_context.width * stream.codec_context.height  # at most: 4:2:0 of 10 bits, or 4:4:4 of 8
        if picture_bytes >= _LARGE_PICTURE_BYTES and _resident_bytes() + picture_bytes > self._resident_limit_bytes:
            raise MemoryError(f"{self._path.name}: the next picture might need more memory than there is")

    def _drained(self, stream: av.video.VideoStream, scaler: _Scaler, tick_s: Fraction) -> Iterator[AvFrame]:
        try:
            for frame in stream.decode(None):
                yield AvFrame(frame, scaler, tick_s)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError):
            self._decode_errors += 1
        stream.codec_context.flush_buffers()

    def _decoded(self, packet: av.packet.Packet[av.video.VideoStream], scaler: _Scaler, tick_s: Fraction) -> Iterator[AvFrame]:
        failed = bool(packet.size) and packet.is_corrupt
        try:
            for frame in packet.decode():
                failed = failed or frame.is_corrupt
                yield AvFrame(frame, scaler, tick_s)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError):  # a picture format that cannot be converted is a ValueError
            failed = True
        self._decode_errors += failed


def _resident_bytes() -> int:
    """What the process holds in memory; 0 where the system has no /proc to say so."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize() if statm.exists() else 0


class _Scaler:
    """One reformatter each for luma, colour and colour of another size, so that none sets up its tables anew for every frame."""

    def __init__(self) -> None:
        self.luma = VideoReformatter()
        self.bgr = VideoReformatter()
        self.sized = VideoReformatter()


class AvFrame:
    """A decoded picture, scaled to 640 px width when a side of it is asked for."""

    def __init__(self, frame: av.video.VideoFrame, scaler: _Scaler, tick_s: Fraction) -> None:
        self._frame = frame
        self._scaler = scaler
        self.pts_s = None if frame.pts is None else frame.pts * tick_s.numerator / tick_s.denominator
        form = frame.format.name
        self._is_full = form.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        self._plane = _plane(frame) if form in _PLANAR else None
        # every frame is glanced at, and what cannot be converted shows here
        whole = self.luma if self._plane is None else self._plane
        stride = max(1, round(math.sqrt(whole.size / _GLANCE_PX)))
        sparse = np.ascontiguousarray(whole[::stride, ::stride])
        self.glance = sparse if self._plane is None else self._widened(sparse)

    @cached_property
    def luma(self) -> npt.NDArray[np.uint8]:
        """Height x width."""
        if self._plane is None or self._frame.width != WORKING_WIDTH_PX or self._frame.height > _WORKING_HEIGHT_MAX_PX:
            return self._scaled(self._scaler.luma, "gray")
        return self._widened(self._plane)  # the picture has the working width, and needs at most its range widened

    @property
    def bgr(self) -> npt.NDArray[np.uint8]:
        """Height x width x 3."""
        return self._scaled(self._scaler.bgr, "bgr24")

    @property
    def quarter_turns(self) -> int:
        """As the display matrix of the container asks for."""
        return round(self._frame.rotation / 90)

    def sized(self, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
        """Height x width x 3 of this size, by FFmpeg's paths that are alike with and without SIMD."""
        is_smaller = width_px < self._frame.width or height_px < self._frame.height
        way = _EXACT | (Interpolation.AREA if is_smaller else Interpolation.BICUBIC)
        scaled = self._scaler.sized.reformat(self._frame, width_px, height_px, "bgr24", interpolation=way, threads=1)
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)

    def _widened(self, luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return luma.copy() if self._is_full else np.asarray(cv2.LUT(luma, _WIDENED), dtype=np.uint8)

    def _scaled(self, scaler: VideoReformatter, form: str) -> npt.NDArray[np.uint8]:
        frame = self._frame
        scale = min(WORKING_WIDTH_PX / frame.width, _WORKING_HEIGHT_MAX_PX / frame.height)
        width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        matrix = Colorspace.ITU601 if form == "gray" else None  # on both sides: the stream's own luma, not one made of its colours
        scaled = scaler.reformat(frame, width, height, form, matrix, matrix, interpolation=Interpolation.AREA, threads=1)
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)


def _plane(frame: av.video.VideoFrame) -> npt.NDArray[np.uint8] | None:
    """The decoder's own luma, no copy; None where its rows stand upside down."""
    plane = frame.planes[0]
    if plane.line_size < frame.width:
        return None
    rows = np.frombuffer(memoryview(plane), np.uint8, count=plane.line_size * frame.height)
    return rows.reshape(frame.height, plane.line_size)[:, : frame.width]


class _Sight:
    """Shows the telemetry of passing packets to a Collection, on the clip's timeline."""

    def __init__(self, container: av.container.InputContainer, stream: av.video.VideoStream) -> None:
        self._collection = TelemetryCollection()
        self._header = dict(container.metadata)
        self._video_index = stream.index
        self._is_h264 = stream.codec_context.name == "h264"
        self._length_bytes = h264_length_bytes(stream.codec_context.extradata)
        self._start_s = (container.start_time or 0) / av.time_base
        self._ticks_s = [float(one.time_base or 0) for one in container.streams]

    def see(self, packet: av.packet.Packet[Any]) -> None:
        """Look at one packet that holds bytes."""
        tick_s = self._ticks_s[packet.stream_index]
        start_s = math.nan if packet.pts is None else packet.pts * tick_s - self._start_s
        if packet.stream_index != self._video_index:
            duration_s = packet.duration * tick_s if packet.duration else None
            self._collection.see_data(memoryview(packet), start_s, duration_s)
        elif self._is_h264:
            self._collection.see_h264(memoryview(packet), start_s, length_bytes=self._length_bytes)

    def embedded(self) -> Embedded:
        """What was found."""
        return self._collection.embedded(self._header)


def _opened(path: Path) -> _Opened:
    """The file's container and its best video stream."""
    if not path.is_file():
        raise _unreadable(path, "is no regular file")
    if path.stat().st_size == 0:
        raise _unreadable(path, "is empty")
    container = av.open(f"file:{path}", options=dict(_OPTIONS), metadata_errors="replace")
    stream = container.streams.best("video")
    if isinstance(stream, av.video.VideoStream) and stream.codec_context is not None:
        stream.codec_context.thread_count = 1
        stream.codec_context.options = decoder_options(stream.codec_context.name)
        return container, stream
    container.close()
    known = isinstance(stream, av.video.VideoStream)
    raise _unreadable(path, "holds video of a codec that cannot be decoded here" if known else "holds no video stream")


def decoder_options(codec: str) -> dict[str, str]:
    """How a stream is decoded: none of its pictures over `_PICTURE_MAX_PX`, for it may change its size on the way; broken ones told.

    FFmpeg's decoder of HEVC goes on over a slice that it cannot parse, and says nothing unless it is to give up at the first fault.
    """
    return {"max_pixels": str(_PICTURE_MAX_PX), **({"err_detect": "explode"} if codec == "hevc" else {})}


def _rewound(container: av.container.InputContainer, stream: av.video.VideoStream) -> bool:
    """Whether the file was set back to its first packet: an MP4 that begins with a key frame can be, by its index."""
    entries = stream.index_entries
    if "mp4" not in container.format.name or not len(entries) or not entries[0].is_keyframe:
        return False
    container.seek(entries[0].timestamp, stream=stream, backward=True, any_frame=False)
    stream.codec_context.flush_buffers()
    return True


@contextmanager
def _unreadable_if_failing(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise _unreadable(path, f"cannot be read as video ({error.strerror or type(error).__name__})") from error
    except OSError as error:
        raise _unreadable(path, f"cannot be opened ({error.strerror or type(error).__name__})") from error


def _unreadable(path: Path, problem: str) -> ClipUnreadable:
    return ClipUnreadable(problem, subject=path.name, fix="replace the file by a readable recording, or leave it out")


def _container(path: Path, container: av.container.InputContainer, stream: av.video.VideoStream) -> Container:
    context = stream.codec_context
    if context.width <= 0 or context.height <= 0:
        raise _unreadable(path, "holds a video stream without a picture size")
    if max(context.width, context.height) > _SIDE_MAX_PX or context.width * context.height > _PICTURE_MAX_PX:
        raise _unreadable(path, f"claims pictures of {context.width} x {context.height} px")
    return Container(
        container=container.format.name,
        video_codec=context.codec.canonical_name,
        width_px=context.width,
        height_px=context.height,
        duration_s=container.duration / av.time_base if container.duration is not None and container.duration > 0 else None,
        missing_byte_count=_missing_byte_count(path, container.format.name),
        camera_model=camera_model(container.metadata),
    )


def _missing_byte_count(path: Path, form: str) -> int | None:
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return missing_byte_count(form, path.stat().st_size, read)


def _length_bytes(stream: av.video.VideoStream) -> int:
    """Bytes of the length before each NAL unit; 0 where the stream has none, or is no H.264 or HEVC."""
    extradata = stream.codec_context.extradata or b""
    if stream.codec_context.name == "h264":
        return h264_length_bytes(extradata) or 0
    is_hvcc = stream.codec_context.name == "hevc" and len(extradata) > _HVCC_LENGTH_AT and extradata[0] == 1
    return (extradata[_HVCC_LENGTH_AT] & 3) + 1 if is_hvcc else 0


def _packet(packet: av.packet.Packet[Any], tick_s: Fraction, *, is_sound: bool, is_disposable: bool) -> Packet:
    up, down = tick_s.numerator, tick_s.denominator  # whole numbers divide as exactly as fractions, and ten times as fast
    return Packet(
        pts_s=None if packet.pts is None else packet.pts * up / down,
        duration_s=packet.duration * up / down if packet.duration else None,
        size_bytes=packet.size,
        is_keyframe=packet.is_keyframe,
        is_corrupt=packet.is_corrupt or not is_sound,
        is_discarded=packet.is_discard,
        dts_s=None if packet.dts is None else packet.dts * up / down,
        is_disposable=is_disposable,
    )
