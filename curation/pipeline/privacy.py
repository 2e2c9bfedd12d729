"""Models that find faces and plates, and the proof of how well they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curation import wiring
from curation.errors import UsageError
from curation.records import PulledModel
from curation.settings import Settings
from curation.stages import models


def pull_models(settings: Settings, names: Sequence[str] = ()) -> Iterator[PulledModel]:
    """The named models as they rest in the home store, all of the settings without names; what is missing is brought there.

    Raises:
        UsageError: the settings know no such model.
        ModelRefused: a source gives other bytes than the settings name.
        OutsideError: a source cannot be reached.
    """
    for name in names:
        if name not in settings.models:
            raise UsageError(
                "is no model of the settings", subject=f"model {name}", fix=f"choose from {', '.join(sorted(settings.models))}"
            )
    chosen = {name: model for name, model in settings.models.items() if not names or name in names}
    store = wiring.store(settings)
    yield from models.run(chosen, store=store, source=wiring.model_source(store))
