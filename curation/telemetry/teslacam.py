"""TeslaCam: what a folder's event.json says. Pure; what a clip's name says is in `layouts`.

It tells where and when the event was, up to ten minutes after the first of its clips began.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from curation.records import Telemetry
from curation.settings import DEFAULT_ZONE
from curation.telemetry.reading import Reading, is_of_a_clock, number, shown, text
from curation.telemetry.sidecar import parse_object

EVENT_FILE: Final = "event.json"
_KEYS: Final = ("timestamp", "city", "est_lat", "est_lon", "reason", "camera")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeslaEvent:
    """What event.json says: when, by the car's own wall clock (without a zone, unless the file names one), and where, as the car estimated.

    `camera` is the one that set the event off, by number; it is not the camera of any clip.
    """

    at_local: datetime | None
    latitude_deg: float | None
    longitude_deg: float | None
    city: str | None
    reason: str | None
    camera: str | None


def parse_event(data: bytes, *, subject: str, zone: str = DEFAULT_ZONE) -> tuple[TeslaEvent, Reading]:
    """The event, and the reading that it gives for the clips of its folder.

    The datum of the estimate is not documented, so it is `unknown`. captured_at is the event's moment, for clips whose name has no time.

    Raises:
        ClipUnreadable: the bytes are no JSON object.
    """
    raw = parse_object(data, subject=subject)
    found: dict[str, Any] = {
        "timestamp": _wall_clock(raw.get("timestamp")),
        "est_lat": number(raw.get("est_lat"), -90.0, 90.0),
        "est_lon": number(raw.get("est_lon"), -180.0, 180.0),
        **{key: text(raw.get(key)) or None for key in ("city", "reason", "camera")},
    }
    malformed = {key: 1 for key in _KEYS if found[key] is None and not (raw.get(key) is None or raw.get(key) == "")}
    event = TeslaEvent(
        at_local=found["timestamp"],
        latitude_deg=found["est_lat"],
        longitude_deg=found["est_lon"],
        city=found["city"],
        reason=found["reason"],
        camera=found["camera"],
    )
    dropped = {shown(key): 1 for key in raw if key not in _KEYS}
    return event, Reading(telemetry=_telemetry_of(event, zone), dropped=dropped, malformed=malformed)


def _telemetry_of(event: TeslaEvent, zone: str) -> Telemetry:
    fix: dict[str, Any] = {}
    if event.latitude_deg is not None and event.longitude_deg is not None:
        fix = {"latitude_deg": event.latitude_deg, "longitude_deg": event.longitude_deg, "datum": "unknown"}
    if event.at_local is None:
        return Telemetry(**fix)
    source = EVENT_FILE if event.at_local.tzinfo else f"{EVENT_FILE} ({zone} assumed)"
    return Telemetry(captured_at=_in_utc(event.at_local, zone), captured_at_source=source, **fix)


def _wall_clock(raw: object) -> datetime | None:
    """The time as written, with a zone only if it names one; None for what no dashcam's clock can show."""
    if not isinstance(raw, str):
        return None
    try:
        at = datetime.fromisoformat(raw.strip())
    except ValueError:
        return None
    return at if is_of_a_clock(at) else None


def _in_utc(at: datetime, zone: str) -> datetime:
    return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
