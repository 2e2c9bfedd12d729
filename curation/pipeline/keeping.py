"""Both catalogs, kept up each night."""

from __future__ import annotations

from datetime import timedelta

from curation import wiring
from curation.pipeline.release import settle
from curation.records import UpkeepCount
from curation.settings import Settings
from curation.stages import upkeep as keeping


def upkeep(settings: Settings) -> tuple[UpkeepCount, UpkeepCount]:
    """What upkeep did to the home catalog and to the overseas one, after publications that broke off were settled."""
    settle(settings)
    on = wiring.ground(settings)
    return keeping.run(
        home=wiring.home_upkeep(settings),
        curated_table=settings.curated_table,
        overseas=wiring.overseas(settings),
        published_table=settings.publish.table,
        keep=timedelta(hours=settings.upkeep.keep_hours),
        store=on.store,
        ledger=on.ledger,
        clock=on.clock,
    )
