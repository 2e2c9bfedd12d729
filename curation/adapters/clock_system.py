"""The system's clock, or the instant pinned by `CURATION_NOW`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from curation.errors import SettingsError


class SystemClock:
    """Now, in UTC."""

    def now(self) -> datetime:
        """The present."""
        return datetime.now(UTC)


class PinnedClock:
    """Always the same instant, for tests and replays."""

    def __init__(self, instant: datetime) -> None:
        self._instant = instant.astimezone(UTC)

    def now(self) -> datetime:
        """The pinned instant."""
        return self._instant


def clock_from(env: Mapping[str, str]) -> SystemClock | PinnedClock:
    """The pinned clock if `CURATION_NOW` is set, else the system's.

    Raises:
        SettingsError: `CURATION_NOW` is not an ISO 8601 time with a zone.
    """
    pinned = env.get("CURATION_NOW")
    if not pinned:
        return SystemClock()
    try:
        instant = datetime.fromisoformat(pinned)
    except ValueError as error:
        raise SettingsError(f"{pinned!r} is no time", subject="CURATION_NOW", fix="use ISO 8601, as 2026-11-21T08:00:00+08:00") from error
    if instant.tzinfo is None:
        raise SettingsError(f"{pinned!r} has no zone", subject="CURATION_NOW", fix="use ISO 8601 with a zone, as 2026-11-21T08:00:00+08:00")
    return PinnedClock(instant)
