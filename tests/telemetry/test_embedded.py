"""What lies inside a clip's own file, from the container to the Inspection."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import av.packet
import numpy as np
import pytest

from curation.adapters.video_av import AvVideoReader
from curation.adapters.video_writer_av import PyAvVideoWriter
from curation.records import Embedded, TimedBytes
from curation.settings import InspectSettings
from curation.stages.inspect_clips import from_json, inspect_clip, to_json
from curation.telemetry.embedded import Collection, h264_length_bytes, read_embedded
from curation.telemetry.tesla_sei import message_type

FPS = 10
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}
GOPRO = Path(__file__).resolve().parents[3] / "shared" / "gps" / "gopro"


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC)


class Tagger:
    version = "none"

    def tag(self, frames: object) -> None:
        return None


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A rendered clip of 2 s."""
    rng = np.random.default_rng(1)
    path = tmp_path / "plain.mp4"
    PyAvVideoWriter().write(path, (rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(2 * FPS)), fps=Fraction(FPS))
    return path


def _message(latitude_deg: float, longitude_deg: float, speed_mps: float) -> bytes:
    message = message_type()(version=1, latitude_deg=latitude_deg, longitude_deg=longitude_deg, vehicle_speed_mps=speed_mps)
    return b"\x42\x42\x42\x69" + bytes(message.SerializeToString())


def remux(source: Path, path: Path, made: SimpleNamespace, *, header: dict[str, str] | None = None, sei: bool = True) -> Path:
    """The clip again, with a message of Tesla's before every picture, and texts in its header."""
    with av.open(str(source)) as given, av.open(str(path), "w", format=FORMATS[path.suffix]) as written:
        stream = written.add_stream_from_template(given.streams.video[0])
        written.metadata.update(header or {})
        for packet in given.demux(given.streams.video[0]):
            if not packet.size:
                continue
            index = round(packet.pts * packet.time_base * FPS)
            unit = made.sei_unit(_message(31.2304, 121.4737 + 1e-5 * index, float(index)))
            data = made.avcc(unit) + bytes(packet) if sei else bytes(packet)
            again = av.packet.Packet(data)
            again.pts, again.dts, again.duration, again.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
            again.is_keyframe, again.stream = packet.is_keyframe, stream
            written.mux(again)
    return path


def _inspected(path: Path):
    return inspect_clip(path, video=AvVideoReader(), tagger=Tagger(), policy=InspectSettings(depth="full"), clock=Clock())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_teslas_messages_reach_the_inspection(clip: Path, tmp_path: Path, made: SimpleNamespace, suffix: str) -> None:
    """Whatever container the stream came in: 20 positions on the clip's timeline, in an unknown datum, and the pictures still decode."""
    inspection = _inspected(remux(clip, tmp_path / f"tesla.{suffix}", made))
    told = inspection.telemetry
    assert (2 * FPS, {}) == (inspection.decoded_frame_count, inspection.disbelieved)
    assert (31.2304, 121.4737, "unknown", 19.0, 9.5) == (
        told.latitude_deg, told.longitude_deg, told.datum, told.speed_max_mps, told.speed_mean_mps,
    )  # fmt: skip
    assert (0.0, 1.9) == (told.track[0].offset_s, pytest.approx(told.track[-1].offset_s, abs=0.01))


def test_the_header_reaches_the_inspection(clip: Path, tmp_path: Path, made: SimpleNamespace) -> None:
    """Place and creation time of an mp4, and how far they can be trusted."""
    header = {"location": "+31.2304+121.4737/", "creation_time": "2026-09-01T00:00:00.000000Z"}
    told = _inspected(remux(clip, tmp_path / "header.mp4", made, header=header, sei=False)).telemetry
    assert (31.2304, 121.4737, "unknown", None) == (told.latitude_deg, told.longitude_deg, told.datum, told.track)
    assert (datetime(2026, 9, 1, tzinfo=UTC), "creation_time (UTC assumed)") == (told.captured_at, told.captured_at_source)


def test_a_plain_clip_tells_nothing_and_the_checkpoint_keeps_what_was_told(clip: Path, tmp_path: Path, made: SimpleNamespace) -> None:
    """No telemetry is made up; what was read goes through the checkpoint unchanged."""
    plain = _inspected(clip)
    assert (None, None, {}) == (plain.telemetry.latitude_deg, plain.telemetry.captured_at, plain.disbelieved)
    header = {"creation_time": "2000-01-01T00:00:00Z"}
    full = _inspected(remux(clip, tmp_path / "full.mp4", made, header=header))
    assert ({"udta: creation_time": 1}, full) == (full.disbelieved, from_json(to_json(full)))


def test_broken_streams_are_counted_and_cost_nothing_else(made: SimpleNamespace) -> None:
    """GPMF that breaks off is named; the header beside it is still read."""
    broken = TimedBytes(start_s=0.0, duration_s=1.0, data=made.gps5(made.way)[:-8])
    reading = read_embedded(Embedded(gpmf=(broken,), header={"location": "+31.2+121.4/"}), subject="a.mp4")
    assert ({"gpmf: holds broken GPMF": 1}, 31.2) == (reading.malformed, reading.telemetry.latitude_deg)


def test_a_receivers_stream_is_trusted_more_than_the_header(made: SimpleNamespace) -> None:
    """The fix of GPMF stands with its own datum; a header's does not join in."""
    payload = TimedBytes(start_s=0.0, duration_s=1.0, data=made.gps5(made.way))
    told = read_embedded(Embedded(gpmf=(payload,), header={"location": "+31.2+121.4/"}), subject="a.mp4").telemetry
    assert (pytest.approx(31.2304), "WGS-84", "gpmf (UTC)") == (told.latitude_deg, told.datum, told.captured_at_source)


def test_a_file_that_contradicts_itself_tells_no_place(made: SimpleNamespace) -> None:
    """A way through Shanghai under a header of Beijing: neither is believed, which is counted; time and speed stay."""
    payload = TimedBytes(start_s=0.0, duration_s=1.0, data=made.gps5(made.way))
    reading = read_embedded(Embedded(gpmf=(payload,), header={"location": "+39.9+116.4/"}), subject="a.mp4")
    told = reading.telemetry
    assert (None, None, None, "gpmf (UTC)") == (told.latitude_deg, told.datum, told.track, told.captured_at_source)
    assert {"places that lie over 20 km apart": 1} == reading.malformed


def test_a_collection_keeps_no_foreign_stream_and_no_flood(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only GPMF is kept of data streams, and only so much of it; the rest is counted."""
    collection = Collection()
    collection.see_data(b"klv of a drone", 0.0, None)
    assert () == collection.embedded({"title": "x"}).gpmf
    assert {} == collection.embedded({"title": "x"}).header
    monkeypatch.setattr("curation.telemetry.embedded.MAX_BYTES", 300)
    monkeypatch.setattr("curation.telemetry.embedded.FIXES_MAX", 1)
    packet = made.avcc(made.sei_unit(_message(31.0, 121.0, 1.0)))
    for _ in range(2):
        collection.see_data(made.gps5(made.way[:5]), 0.0, 1.0)
        collection.see_h264(packet, 0.0, length_bytes=4)
    kept = collection.embedded({})
    assert (1, 1) == (len(kept.gpmf), len(kept.sei))
    assert {"gpmf: payload beyond the limit": 1, "tesla-sei: message beyond the limit": 1} == kept.malformed


@pytest.mark.parametrize(
    ("extradata", "expected"),
    [(None, None), (b"", None), (b"\0\0\0\1\x67", None), (b"\1\x64\0\x1f\xff\xe1", 4), (b"\1\x64\0\x1f\xfd\xe1", 2)],
)
def test_the_length_of_lengths_is_the_streams_own(extradata: bytes | None, expected: int | None) -> None:
    """A configuration record names it; streams with start codes have none."""
    assert expected == h264_length_bytes(extradata)


@pytest.mark.clips
@pytest.mark.skipif(not GOPRO.exists(), reason="the shared GoPro samples are not beside the project")
def test_a_real_cameras_clip_without_a_fix_has_no_place_and_says_why() -> None:
    """The Hero 8's 36 plausible positions are counted; its header has no place either."""
    with AvVideoReader().open(GOPRO / "hero8-trimmed.mp4") as stream:
        stream.packets()
        reading = read_embedded(stream.embedded(), subject="hero8")
    assert (None, None, {"gpmf: no fix": 36}) == (reading.telemetry.latitude_deg, reading.telemetry.captured_at, reading.malformed)
