"""Settings, the day at home and the rows of curated.clips: what every part of the pipeline begins with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from curation import wiring
from curation.errors import SettingsError, UsageError
from curation.ports import Clock
from curation.settings import FILE_NAME, Settings, read_settings

HOME_ZONE = ZoneInfo("Asia/Shanghai")


def open_settings(work: Path | None = None) -> Settings:
    """The settings of `work`, else of `CURATION_WORK`.

    Raises:
        SettingsError: there is no such folder: a name mistyped, or a disk not mounted, must not make a new home with new keys.
    """
    settings = read_settings(work=work)
    if not settings.work.is_dir():
        fix = f"name the folder that holds {FILE_NAME}, or make a new one (docs/data-engineer.md)"
        raise SettingsError("is no folder", subject=str(settings.work), fix=fix)
    return settings


def today_at_home(clock: Clock) -> date:
    """The day it is in China now, by which packs and windows go."""
    return clock.now().astimezone(HOME_ZONE).date()


def curated(settings: Settings, *, snapshot_id: int | None = None, columns: Sequence[str] | None = None) -> tuple[pa.Table, int]:
    """All rows of curated.clips, or these columns of them, now or at a snapshot, and the snapshot they were read from.

    Raises:
        UsageError: nothing was validated yet, or there is no such snapshot any more.
    """
    home = wiring.home(settings)
    at = pinned(settings, home, snapshot_id)
    return home.catalog.read(settings.curated_table, snapshot_id=at, columns=columns), at


def pinned(settings: Settings, home: wiring.Home, snapshot_id: int | None = None) -> int:
    """That snapshot of curated.clips, or the one that is main now.

    Raises:
        UsageError: nothing was validated yet.
    """
    snapshot_id = home.catalog.head(settings.curated_table) if snapshot_id is None else snapshot_id
    if snapshot_id is None:
        raise UsageError("is empty", subject=settings.curated_table, fix="ingest and validate a batch first")
    return snapshot_id
