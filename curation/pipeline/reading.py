"""What an auditor may read of a home: no private key is opened, and nothing is written."""

from __future__ import annotations

from datetime import date
from functools import partial

from curation import wiring
from curation.audit import batches as told_batches
from curation.audit import overview as told_day
from curation.audit import pack_register, shard_register
from curation.audit import releases as told_releases
from curation.audit import report as told_period
from curation.audit import story as told_story
from curation.audit.batches import Batch, BatchLine
from curation.audit.ledger_reader import LedgerReader
from curation.audit.overview import Overview
from curation.audit.recorded import Recorded, recorded
from curation.audit.releases import Release, ReleaseLine
from curation.audit.report import PeriodReport
from curation.audit.story import Story
from curation.errors import PackRefused
from curation.pipeline.base import today_at_home
from curation.residency import counters
from curation.residency import forecast as forecasting
from curation.residency import pack as packs
from curation.settings import Settings
from curation.stages import release


class Reading:
    """The pages of the portal and of reports, as records; evidence that is not what the ledger recorded is refused, never shown."""

    def __init__(self, settings: Settings) -> None:
        """A home to read; one where nothing was recorded yet has no key to read it by, and needs none."""
        self._settings = settings
        self._store = wiring.store(settings)
        self._ledger = LedgerReader(self._store, partial(wiring.ledger_public_key, settings))
        self._clock = wiring.clock()
        self._known: Recorded | None = None

    @property
    def today(self) -> date:
        """The day it is in China."""
        return today_at_home(self._clock)

    def recorded(self) -> Recorded:
        """The ledger as it is now, and the store.

        Raises:
            EvidenceBroken: the ledger does not hold.
            SettingsError: its public key cannot be read.
        """
        entries = tuple(self._ledger.entries())
        known = self._known
        if known is None or len(known.entries) != len(entries):  # a ledger of millions of clips is not summed up for every page
            known = self._known = recorded(self._store, entries)
        return known

    def overview(self) -> Overview:
        """Today."""
        return told_day.overview(self.recorded(), today=self.today)

    def batches(self) -> tuple[BatchLine, ...]:
        """Every batch, the latest first."""
        return told_batches.lines(self.recorded().entries)

    def batch(self, batch_id: str) -> Batch | None:
        """One batch, None where there is none of that id."""
        return told_batches.batch(batch_id, self.recorded())

    def releases(self) -> tuple[ReleaseLine, ...]:
        """Every release, the latest first."""
        return told_releases.lines(self.recorded())

    def release(self, release_id: str) -> Release | None:
        """One release, None where there is none of that id."""
        return told_releases.release(release_id, self.recorded())

    def story(self, subject: str) -> Story | None:
        """All that is known of a clip, row or shard set, None where nothing is."""
        return told_story.story(subject, self.recorded())

    def vehicle_story(self, vehicle_id: str) -> Story | None:
        """What left of a vehicle, None where nothing is known to have."""
        return told_story.vehicle_story(vehicle_id, self.recorded())

    def packs(self) -> tuple[pack_register.PackPage, ...]:
        """The pack in force first, then earlier ones.

        Raises:
            PackRefused: the pack in force cannot be read.
        """
        law = wiring.law(self._settings)
        told = pack_register.LawBytes(
            pack=law.pack_bytes,
            signatures=law.signatures_bytes,
            trusted_keys=law.trusted_keys,
            allow_demo_pack=law.allow_demo_pack,
        )
        return pack_register.pages(self.recorded(), told, today=self.today)

    def last_cut_under(self, pack_file_digest: str) -> Release | None:
        """The last release that was cut under the pack of that file: how many rows of its snapshot each rule withheld; None for none."""
        return told_releases.last_cut_under(pack_file_digest, self.recorded())

    def counters(self) -> tuple[forecasting.Forecast, ...]:
        """Where each counter of the pack in force stands, and when it will reach its marks.

        Raises:
            PackRefused: the pack in force cannot be read, or an assessment of it is not signed.
        """
        law, today = wiring.law(self._settings), self.today
        limits = counters.limits(packs.parse(law.pack_bytes), trusted_keys=law.trusted_keys, today=today)
        return forecasting.forecast(release.reservations(self._store, self._ledger), limits, today)

    def report(self, since: date, until: date) -> PeriodReport:
        """The report of the days from `since` to `until`; where the pack in force cannot be read it says so and tells the rest.

        Raises:
            UsageError: the period ends before it begins.
        """
        standings: tuple[forecasting.Forecast, ...] = ()
        known: tuple[pack_register.PackPage, ...] = ()
        refusal = ""
        try:
            standings, known = self.counters(), self.packs()
        except PackRefused as refused:
            refusal = str(refused)
        return told_period.report(
            self.recorded(), since=since, until=until, made_at=self._clock.now(), counters=standings, packs=known, refusal=refusal
        )

    def shard_sets(self) -> tuple[shard_register.ShardSetLine, ...]:
        """Every shard set, the latest first."""
        return shard_register.lines(self.recorded())
