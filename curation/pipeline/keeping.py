"""Both catalogs, kept up each night."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from curation import overseas_table, wiring
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
    overseas, table = wiring.overseas(settings), settings.publish.table
    return keeping.run(
        home=wiring.home_upkeep(settings),
        curated_table=settings.curated_table,
        overseas=overseas,
        published_table=table,
        check_overseas=partial(overseas_table.check, table, catalog=overseas, store=on.store, ledger=on.ledger),
        keep=timedelta(hours=settings.upkeep.keep_hours),
        store=on.store,
        ledger=on.ledger,
        clock=on.clock,
    )
