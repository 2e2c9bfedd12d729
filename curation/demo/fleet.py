"""A rendered fleet in TeslaCam folders with sidecars, some of it broken on purpose, and the truth about every file. All of it invented."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from curation.demo import defects
from curation.demo.road import RENDERER_VERSION, Scene, render
from curation.errors import OutsideError, UsageError
from curation.ports import VideoWriter

FLEET_COLUMNS: Final = (
    "file", "vehicle_id", "vin", "plate", "device_id", "driver_id", "captured_at", "latitude_deg", "longitude_deg", "datum", "gnss_error_m",
    "speed_mps", "camera",
)  # fmt: skip
CSV_NAME: Final = "fleet.csv"
FENCES_NAME: Final = "fences.geojson"

Verdict = Literal["accepted", "rejected", "quarantined", "refused", "duplicate", "sidecar"]
Residency = Literal["released", "withheld"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFormat:
    """Size and length of the rendered clips."""

    width_px: int = 768
    height_px: int = 432
    fps: int = 12
    duration_s: float = 3.0

    @property
    def frame_count(self) -> int:
        """Frames of a clip that drops none."""
        return round(self.fps * self.duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTruth:
    """What should become of one file. Tags are null where the file shows no road; `withheld_by` begins the id of a rule that withholds."""

    verdict: Verdict
    reason: str | None = None
    timeofday: str | None = None
    weather: str | None = None
    scene: str | None = None
    ego_motion: str | None = None
    residency: Residency | None = None
    withheld_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTruth:
    """The truth about every entry, by path below the root; `frame_count` is that of a clip that drops none."""

    files: Mapping[str, FileTruth]
    frame_count: int

    def to_json(self) -> str:
        """The truth as one JSON object, paths in order."""
        plain = {"frame_count": self.frame_count, "files": {name: dataclasses.asdict(self.files[name]) for name in sorted(self.files)}}
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fix:
    """What the fleet's records say of a clip's place; None where the receiver had none."""

    latitude_deg: float | None
    longitude_deg: float | None
    datum: str = "WGS-84"
    error_m: float | None = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clip:
    """One clip of the plan."""

    key: str
    vehicle: int
    at: datetime  # local wall clock, as TeslaCam names its folders
    fix: _Fix
    scene: Scene = field(default_factory=Scene)
    defect: str | None = None
    verdict: Verdict = "accepted"
    reason: str | None = None
    withheld_by: str | None = None
    camera: Literal["front", "back"] = "front"
    folder: str = "SavedClips"
    same_as: str | None = None

    @property
    def event(self) -> str:
        return f"car-{self.vehicle:02d}/TeslaCam/{self.folder}/{self.at:%Y-%m-%d_%H-%M-%S}"

    @property
    def path(self) -> str:
        return f"{self.event}/{self.at:%Y-%m-%d_%H-%M-%S}-{self.camera}.mp4"


_CITIES: Final = {"Suzhou": (31.30, 120.60), "Hangzhou": (30.28, 120.15), "Shanghai": (31.23, 121.47)}
_PLATES: Final = {1: "苏EDEM01", 2: "苏EDEM02", 3: "浙ADEM03", 4: "浙ADEM04", 5: "沪ADEM05", 6: "沪ADEM06", 7: "沪ADEM07"}

# Invented areas: none of them is a real site. Clips keep 2 km away from them but for the one that is meant to be caught.
_FENCES: Final = (
    ("military", "invented area A", 1000, (120.100, 30.240, 120.112, 30.252)),
    ("government", "invented area B", 500, (121.600, 31.100, 121.606, 31.106)),
)
_INSIDE_FENCE: Final = _Fix(latitude_deg=30.246, longitude_deg=120.106)


def _at(day: str, clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-{day}T{clock}")  # a wall clock, as the car has it


def _near(city: str, east: int = 0, north: int = 0) -> _Fix:
    latitude_deg, longitude_deg = _CITIES[city]
    return _Fix(latitude_deg=round(latitude_deg + north * 0.0013, 6), longitude_deg=round(longitude_deg + east * 0.0017, 6))


def _plan() -> tuple[_Clip, ...]:
    """Cells with two vehicles or more are Jiangsu 09, Zhejiang 09, Zhejiang 10 and Shanghai 10; Jiangsu 10 has one."""
    return (*_releasable(), *_withheld(), *_broken())


def _releasable() -> tuple[_Clip, ...]:
    city, back = Scene(scene="city street", speed_mps=9.0), Scene(scene="city street", speed_mps=9.0, camera="back")
    return (
        _Clip(key="city-day", vehicle=1, at=_at("09-01", "08:00:00"), fix=_near("Suzhou"), scene=city),
        _Clip(key="city-day-back", vehicle=1, at=_at("09-01", "08:00:00"), fix=_near("Suzhou"), scene=back, camera="back"),
        _Clip(
            key="highway-overcast", vehicle=2, at=_at("09-03", "10:12:40"), fix=_near("Suzhou", 2, 3),
            scene=Scene(weather="overcast", speed_mps=24.0, traffic=8),
        ),
        _Clip(
            key="highway-dusk", vehicle=3, at=_at("09-05", "18:04:11"), fix=_near("Hangzhou", 1, 1),
            scene=Scene(timeofday="dawn/dusk", speed_mps=22.0),
        ),
        _Clip(
            key="city-night", vehicle=4, at=_at("09-08", "21:40:05"), fix=_near("Hangzhou", 3, 2),
            scene=Scene(timeofday="night", scene="city street", speed_mps=10.0),
        ),
        _Clip(
            key="city-rain", vehicle=5, at=_at("10-02", "14:20:33"), fix=_near("Shanghai"),
            scene=Scene(weather="rainy", scene="city street", speed_mps=8.0),
        ),
        _Clip(
            key="night-rain", vehicle=6, at=_at("10-04", "22:05:19"), fix=_near("Shanghai", 2, 1),
            scene=Scene(timeofday="night", weather="rainy", scene="city street", speed_mps=8.0),
        ),
        _Clip(
            key="tunnel", vehicle=1, at=_at("10-06", "15:30:00"), fix=_near("Shanghai", -2, 1),
            scene=Scene(timeofday="undefined", weather="undefined", scene="tunnel", speed_mps=18.0),
        ),
        _Clip(
            key="city-standing", vehicle=4, at=_at("10-09", "12:01:48"), fix=_near("Hangzhou", 2, 0),
            scene=Scene(weather="partly cloudy", scene="city street", speed_mps=0.0, traffic=9),
        ),
        _Clip(
            key="country-fog", vehicle=7, at=_at("10-11", "07:45:27"), fix=_near("Hangzhou", 4, -1),
            scene=Scene(weather="foggy", scene="undefined", speed_mps=11.0),
        ),
    )  # fmt: skip


def _withheld() -> tuple[_Clip, ...]:
    shanghai = _near("Shanghai", 1, -2)
    return (
        _Clip(
            key="alone-in-cell", vehicle=2, at=_at("10-14", "11:08:00"), fix=_near("Suzhou", 1, 1),
            scene=Scene(weather="partly cloudy", speed_mps=25.0), withheld_by="combination",
        ),
        _Clip(
            key="inside-fence", vehicle=3, at=_at("10-16", "09:33:10"), fix=_INSIDE_FENCE,
            scene=Scene(scene="residential", speed_mps=7.0), withheld_by="geofence.inside",
        ),
        _Clip(
            key="other-datum", vehicle=5, at=_at("09-12", "23:10:00"), fix=dataclasses.replace(shanghai, datum="GCJ-02"),
            scene=Scene(timeofday="night", speed_mps=21.0), withheld_by="geofence.datum",
        ),
        _Clip(
            key="no-fix", vehicle=6, at=_at("09-14", "13:02:36"), fix=_Fix(latitude_deg=None, longitude_deg=None, datum="", error_m=None),
            scene=Scene(weather="overcast", scene="residential", speed_mps=8.0), withheld_by="geofence.missing_fix",
        ),
        _Clip(
            key="zero-zero", vehicle=7, at=_at("09-17", "16:20:00"), fix=_Fix(latitude_deg=0.0, longitude_deg=0.0),
            scene=Scene(scene="parking lot", speed_mps=3.0, traffic=8), withheld_by="geofence.missing_fix",
        ),
        _Clip(
            key="wide-error", vehicle=4, at=_at("09-19", "18:20:45"), fix=dataclasses.replace(shanghai, error_m=900.0),
            scene=Scene(timeofday="dawn/dusk", scene="city street", speed_mps=9.0), withheld_by="geofence.gnss_error",
        ),
    )  # fmt: skip


def _broken() -> tuple[_Clip, ...]:
    def clip(key: str, vehicle: int, at: datetime, verdict: Verdict, reason: str) -> _Clip:
        return _Clip(
            key=key, vehicle=vehicle, at=at, fix=_near("Suzhou", 2, 2), scene=Scene(speed_mps=20.0), defect=key, verdict=verdict,
            reason=reason, withheld_by="row.accepted",
        )  # fmt: skip

    return (
        clip("black", 1, _at("09-21", "09:00:00"), "rejected", "black"),
        clip("frozen", 2, _at("09-22", "09:00:00"), "rejected", "frozen"),
        clip("blurred", 1, _at("09-23", "09:00:00"), "rejected", "blurred"),
        clip("dropped", 2, _at("09-24", "09:00:00"), "rejected", "dropped_frames"),
        clip("truncated", 1, _at("09-25", "09:00:00"), "rejected", "duration_mismatch"),
        clip("text", 2, _at("09-26", "09:00:00"), "quarantined", "unreadable"),
        clip("empty", 1, _at("09-27", "09:00:00"), "quarantined", "unreadable"),
        _Clip(
            key="duplicate", vehicle=1, at=_at("09-28", "09:00:00"), fix=_near("Suzhou"), verdict="duplicate", reason="city-day",
            folder="SentryClips", same_as="city-day",
        ),
    )  # fmt: skip


CLIP_KEYS: Final[tuple[str, ...]] = tuple(clip.key for clip in _plan())


def make_fleet(
    root: Path,
    *,
    writer: VideoWriter,
    seed: int = 7,
    clip_format: ClipFormat | None = None,
    only: Collection[str] | None = None,
    truth: Path | None = None,
) -> FleetTruth:
    """The truth about the fleet that stands under `root` afterwards; an equal one that stands there already is kept as it is.

    Args:
        root: folder of the fleet, made where it is missing. Beside it, `.<name>.made.json` remembers what was rendered.
        writer: encodes the clips.
        seed: of every random choice in the pictures.
        clip_format: size and length of the clips.
        only: keys of `CLIP_KEYS` to make; all of them by default. A duplicate needs its original.
        truth: also write the truth there, as JSON.

    Raises:
        UsageError: `only` names an unknown clip or a duplicate without its original, `truth` lies in `root`, or `root` holds foreign files.
        OutsideError: a file could not be written.
    """
    clip_format = clip_format or ClipFormat()
    clips = _chosen(only)
    if truth is not None and truth.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            "would lie among the clips that it speaks of", subject=str(truth), fix="write the truth outside the fleet's folder"
        )
    known = _truth(clips, clip_format)
    marker = root.with_name(f".{root.name}.made.json")
    digest = _digest(clips, clip_format, seed, writer)
    try:
        if not _stands(root, marker, digest):
            _clear(root, marker, known)
            _write(root, clips, writer=writer, seed=seed, clip_format=clip_format)
            marker.write_text(json.dumps({"digest": digest, "files": _hashes(root)}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if truth is not None:
            truth.write_text(known.to_json(), encoding="utf-8")
    except OSError as error:
        raise OutsideError(
            f"could not be written: {error}", subject=str(root), fix="check the folder's rights and the free space"
        ) from error
    return known


def _chosen(only: Collection[str] | None) -> tuple[_Clip, ...]:
    wanted = set(CLIP_KEYS if only is None else only)
    clips = tuple(clip for clip in _plan() if clip.key in wanted)
    missing = wanted - set(CLIP_KEYS) | {clip.same_as for clip in clips if clip.same_as and clip.same_as not in wanted}
    if missing or not clips:
        raise UsageError(f"cannot be made without {sorted(map(str, missing))}", subject="fleet", fix=f"choose from {', '.join(CLIP_KEYS)}")
    return clips


def _truth(clips: tuple[_Clip, ...], clip_format: ClipFormat) -> FleetTruth:
    files = {
        CSV_NAME: FileTruth(verdict="sidecar"),
        FENCES_NAME: FileTruth(verdict="refused", reason="suffix"),
        "notes.txt": FileTruth(verdict="refused", reason="suffix"),
        "clip.mp4": FileTruth(verdict="refused", reason="folder"),
        f"{clips[0].event}/thumb.png": FileTruth(verdict="refused", reason="suffix"),
    }
    cells: dict[tuple[str, int], set[int]] = {}
    for clip in clips:
        files[f"{clip.event}/event.json"] = FileTruth(verdict="sidecar")
        if clip.verdict == "accepted" and clip.withheld_by in {None, "combination"}:
            cells.setdefault(_cell(clip), set()).add(clip.vehicle)
    for clip in clips:
        shows = clip.defect not in {"black", "text", "empty"} and clip.same_as is None
        withheld_by = clip.withheld_by
        if clip.verdict == "accepted" and withheld_by is None and len(cells[_cell(clip)]) < 2:
            withheld_by = "combination"  # in a part of the fleet, other cells have one vehicle too
        manifested = clip.verdict in {"accepted", "rejected", "quarantined"}
        files[clip.path] = FileTruth(
            verdict=clip.verdict,
            reason=clip.reason,
            timeofday=clip.scene.timeofday if shows else None,
            weather=clip.scene.weather if shows else None,
            scene=clip.scene.scene if shows else None,
            ego_motion=clip.scene.ego_motion if shows and clip.defect != "frozen" else None,
            residency=None if not manifested else ("withheld" if withheld_by else "released"),
            withheld_by=withheld_by,
        )
    return FleetTruth(files=files, frame_count=clip_format.frame_count)


def _cell(clip: _Clip) -> tuple[str, int]:
    near = {city: abs((clip.fix.longitude_deg or 0) - place[1]) for city, place in _CITIES.items()}
    return min(near, key=lambda city: near[city]), clip.at.month


def _digest(clips: tuple[_Clip, ...], clip_format: ClipFormat, seed: int, writer: VideoWriter) -> str:
    basis = [RENDERER_VERSION, repr(clips), repr(clip_format), repr(_FENCES), seed, type(writer).__name__, cv2.__version__, np.__version__]
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()


def _hashes(root: Path) -> dict[str, str]:
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def _made(marker: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stands(root: Path, marker: Path, digest: str) -> bool:
    made = _made(marker)
    return made.get("digest") == digest and (root / "clip.mp4").is_dir() and made.get("files") == _hashes(root)


def _clear(root: Path, marker: Path, known: FleetTruth) -> None:
    """Remove what an earlier call made.

    Raises:
        UsageError: other files are there too; nothing is removed then.
    """
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} if root.is_dir() else set()
    earlier = _made(marker).get("files", {})
    foreign = sorted(present - set(known.files) - set(earlier))
    if foreign:
        raise UsageError(
            f"holds files of other origin, as {foreign[0]}", subject=str(root), fix="name an empty folder for the rendered fleet"
        )
    marker.unlink(missing_ok=True)
    for name in present:
        (root / name).unlink()
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()


def _write(root: Path, clips: tuple[_Clip, ...], *, writer: VideoWriter, seed: int, clip_format: ClipFormat) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "clip.mp4").mkdir(exist_ok=True)  # a folder that bears a clip's name
    (root / "notes.txt").write_text("Rendered clips of an invented fleet. Nothing here was recorded on a road.\n", encoding="utf-8")
    (root / FENCES_NAME).write_text(_fences(), encoding="utf-8")
    (root / CSV_NAME).write_text(_fleet_csv(clips), encoding="utf-8")
    paths = {clip.key: root / clip.path for clip in clips}
    for number, clip in enumerate(_plan()):
        if clip.key not in paths:
            continue
        path = paths[clip.key]
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "event.json").write_text(_event_json(clip), encoding="utf-8")
        if clip.same_as is not None:
            path.write_bytes(paths[clip.same_as].read_bytes())
        else:
            _write_clip(path, clip, writer=writer, seed=seed * 1000 + number, clip_format=clip_format)
    thumb = next(render(clips[0].scene, width_px=160, height_px=90, fps=1, duration_s=1, seed=seed))
    (root / clips[0].event / "thumb.png").write_bytes(cv2.imencode(".png", thumb)[1].tobytes())


def _write_clip(path: Path, clip: _Clip, *, writer: VideoWriter, seed: int, clip_format: ClipFormat) -> None:
    if clip.defect in {"text", "empty"}:
        path.write_bytes(defects.TEXT_AS_CLIP if clip.defect == "text" else b"")
        return
    frames: Iterator[Any] = render(
        clip.scene,
        width_px=clip_format.width_px,
        height_px=clip_format.height_px,
        fps=clip_format.fps,
        duration_s=clip_format.duration_s,
        seed=seed,
    )
    if clip.defect is not None and clip.defect in defects.FRAME_DEFECTS:
        frames = defects.FRAME_DEFECTS[clip.defect](frames)
    skip = defects.dropped_indices(clip_format.frame_count) if clip.defect == "dropped" else frozenset()
    writer.write(path, frames, fps=Fraction(clip_format.fps), skip=skip)
    if clip.defect == "truncated":
        path.write_bytes(defects.truncated(path.read_bytes(), kept_share=0.4))


def _event_json(clip: _Clip) -> str:
    """The event as TeslaCam writes it: a wall clock without a zone, the estimate as text."""
    placed = clip.fix.latitude_deg is not None
    event = {
        "timestamp": (clip.at + timedelta(seconds=2)).isoformat(),
        "city": _cell(clip)[0] if placed and clip.fix.latitude_deg else "",
        "est_lat": f"{clip.fix.latitude_deg:.4f}" if placed else "",
        "est_lon": f"{clip.fix.longitude_deg:.4f}" if placed else "",
        "reason": "user_interaction_honk" if clip.folder == "SavedClips" else "sentry_aware_object_detection",
        "camera": "0",
    }
    return json.dumps(event) + "\n"


def _fleet_csv(clips: tuple[_Clip, ...]) -> str:
    sink = io.StringIO()
    table = csv.DictWriter(sink, FLEET_COLUMNS, lineterminator="\n")
    table.writeheader()
    for clip in sorted(clips, key=lambda one: one.path):
        table.writerow({
            "file": clip.path,
            "vehicle_id": f"demo-vehicle-{clip.vehicle:02d}",
            "vin": f"LDEMXTEST{clip.vehicle:08d}",  # 17 characters without I, O and Q, of no maker
            "plate": _PLATES[clip.vehicle],
            "device_id": f"demo-recorder-{clip.vehicle:02d}",
            "driver_id": f"demo-driver-{clip.vehicle:02d}",
            "captured_at": f"{clip.at.isoformat()}+08:00",
            "latitude_deg": "" if clip.fix.latitude_deg is None else clip.fix.latitude_deg,
            "longitude_deg": "" if clip.fix.longitude_deg is None else clip.fix.longitude_deg,
            "datum": clip.fix.datum,
            "gnss_error_m": "" if clip.fix.error_m is None else clip.fix.error_m,
            "speed_mps": clip.scene.speed_mps,
            "camera": clip.camera,
        })  # fmt: skip
    return sink.getvalue()


def _fences() -> str:
    features = []
    for kind, name, buffer_m, (west, south, east, north) in _FENCES:
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        features.append({
            "type": "Feature",
            "properties": {"class": kind, "name": name, "buffer_m": buffer_m},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        })  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1) + "\n"
