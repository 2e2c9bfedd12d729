"""Both catalogs, kept up each night."""

from __future__ import annotations

from datetime import timedelta

from curation import wiring
from curation.pipeline.release import settle
from curation.records import UpkeepCount
from curation.settings import Settings
from curation.stages import upkeep as keeping
from curation.stages import withdraw


def upkeep(settings: Settings) -> tuple[UpkeepCount, UpkeepCount]:
    """What upkeep did to the home catalog and to the overseas one, after publications that broke off were settled.

    Shard sets go, too, that a clip was withdrawn from while they were built, where their builder did not live to see it.
    """
    settle(settings)
    on = wiring.ground(settings)
    withdraw.clear_late_sets(store=on.store, eraser=wiring.eraser(settings), ledger=on.ledger)
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
