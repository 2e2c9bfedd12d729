"""Video through PyAV: one thread, local files and known containers only; whatever FFmpeg says becomes a count or `ClipUnreadable`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error
import av.packet
import av.video
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from curation.errors import ClipUnreadable
from curation.ports import Frame
from curation.records import Container, Embedded, Packet
from curation.telemetry.embedded import Collection, h264_length_bytes

WORKING_WIDTH_PX: Final = 640
_WORKING_HEIGHT_MAX_PX: Final = 2560  # a picture of 16 x 20000 px must not grow to gigabytes on its way to 640 px
_SIDE_MAX_PX: Final = 65_535  # no codec of a recorder codes a longer side

# Containers that recorders write. Playlists, concatenations and devices stay out: they make FFmpeg open other files.
_FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,avi,matroska,webm,gif,hevc,h264,flv,asf,ogg,mxf,dv,m4v,mpegvideo,ivf"
_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}


class AvVideoReader:
    """Opens clips with PyAV."""

    @contextmanager
    def open(self, path: Path) -> Iterator[AvClipStream]:
        """An open clip.

        Raises:
            ClipUnreadable: no video stream can be found in the bytes.
        """
        with _opened(path) as (container, stream):
            said = _container(path, container, stream)
        yield AvClipStream(path, said)


class AvClipStream:
    """One clip; each pass over it opens the file anew, since not every container can seek back to its start."""

    def __init__(self, path: Path, container: Container) -> None:
        self._path = path
        self._container = container
        self._decode_errors = 0
        self._embedded = Embedded()

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
        with _opened(self._path) as (container, stream):
            sight = _Sight(container, stream)
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
                        packets.append(_packet(packet))
            self._embedded = sight.embedded()
        return packets, digest.hexdigest()

    def frames(self) -> Iterator[Frame]:
        """All decodable frames in presentation order, scaled to 640 px width; failures are counted and decoding goes on."""
        self._decode_errors = 0
        scaler = VideoReformatter()
        with _opened(self._path) as (container, stream):
            stream.codec_context.thread_count = 1
            demuxed = container.demux(stream)
            while True:
                try:
                    packet = next(demuxed)
                except StopIteration:
                    return
                except MemoryError:
                    raise
                except av.error.FFmpegError:
                    self._decode_errors += 1
                    return
                yield from self._decoded(packet, scaler)

    def _decoded(self, packet: av.packet.Packet[av.video.VideoStream], scaler: VideoReformatter) -> Iterator[Frame]:
        failed = bool(packet.size) and packet.is_corrupt
        try:
            for frame in packet.decode():
                failed = failed or frame.is_corrupt
                yield _frame(frame, scaler)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError):  # a picture format that cannot be converted is a ValueError
            failed = True
        self._decode_errors += failed


class _Sight:
    """Shows the telemetry of passing packets to a Collection, on the clip's timeline."""

    def __init__(self, container: av.container.InputContainer, stream: av.video.VideoStream) -> None:
        self._collection = Collection()
        self._header = dict(container.metadata)
        self._video_index = stream.index
        self._is_h264 = stream.codec_context.name == "h264"
        self._length_bytes = h264_length_bytes(stream.codec_context.extradata)
        self._start_s = (container.start_time or 0) / av.time_base

    def see(self, packet: av.packet.Packet[Any]) -> None:
        """Look at one packet that holds bytes."""
        tick_s = packet.time_base
        start_s = math.nan if packet.pts is None or tick_s is None else float(packet.pts * tick_s) - self._start_s
        if packet.stream_index != self._video_index:
            duration_s = float(packet.duration * tick_s) if packet.duration and tick_s is not None else None
            self._collection.see_data(memoryview(packet), start_s, duration_s)
        elif self._is_h264:
            self._collection.see_h264(memoryview(packet), start_s, length_bytes=self._length_bytes)

    def embedded(self) -> Embedded:
        """What was found."""
        return self._collection.embedded(self._header)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
    """The file's container and its best video stream; FFmpeg's errors inside the context become `ClipUnreadable`."""
    if not path.is_file():
        raise _unreadable(path, "is no regular file")
    if path.stat().st_size == 0:
        raise _unreadable(path, "is empty")
    try:
        with av.open(f"file:{path}", options=dict(_OPTIONS), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.video.VideoStream):
                raise _unreadable(path, "holds no video stream")
            if stream.codec_context is None:
                raise _unreadable(path, "holds video of a codec that cannot be decoded here")
            yield container, stream
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
    if max(context.width, context.height) > _SIDE_MAX_PX:
        raise _unreadable(path, f"claims pictures of {context.width} x {context.height} px")
    return Container(
        container=container.format.name,
        video_codec=context.codec.canonical_name,
        width_px=context.width,
        height_px=context.height,
        duration_s=container.duration / av.time_base if container.duration is not None and container.duration > 0 else None,
    )


def _packet(packet: av.packet.Packet[Any]) -> Packet:
    tick_s = packet.time_base
    return Packet(
        pts_s=None if packet.pts is None else float(packet.pts * tick_s),
        duration_s=float(packet.duration * tick_s) if packet.duration else None,
        size_bytes=packet.size,
        is_keyframe=packet.is_keyframe,
        is_corrupt=packet.is_corrupt,
        is_discarded=packet.is_discard,
    )


def _frame(frame: av.video.VideoFrame, scaler: VideoReformatter) -> Frame:
    scale = min(WORKING_WIDTH_PX / frame.width, _WORKING_HEIGHT_MAX_PX / frame.height)
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    scaled = scaler.reformat(frame, width, height, "bgr24", interpolation=Interpolation.AREA, threads=1)
    return Frame(pts_s=frame.time, bgr=np.asarray(scaled.to_ndarray(), dtype=np.uint8))
