"""An engine over a Ray cluster: Ray decides where, and the supervised workers of `engine_local` do the work there.

So a clip that kills its worker, overruns or hoards memory costs itself alone, with the same words, whichever engine runs it. Files are not
sent: every node must see what an item names under the same path.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from curation.adapters.engine_local import DEFAULT_JOBS, LocalEngine
from curation.errors import OutsideError
from curation.ports import Outcome
from curation.residency.jurisdiction import require_home
from curation.settings import EngineSettings, HomeSettings

_SHARE_CLIPS: Final = 32  # what one task works through: starting a worker takes about a second


class RayEngine:
    """Runs a job on a Ray cluster, `settings.workers` shares at a time."""

    def __init__(self, settings: EngineSettings, *, home: HomeSettings, jobs: str = DEFAULT_JOBS) -> None:
        """An engine that joins the cluster at `settings.address`. It never starts one: Ray listens on every interface.

        Raises:
            NotAtHome: the address leads elsewhere: clips would be read there.
        """
        where = {"jurisdiction": home.jurisdiction, "home_jurisdiction": home.jurisdiction}
        require_home(subject="[engine] address", **where, url=f"ray://{settings.address}", home=home)
        self._settings, self._jobs = settings, jobs

    def map(self, job: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """Outcomes in input order, each share as soon as it and all before it are known.

        Raises:
            OutsideError: the cluster cannot be reached, or a node or a share was lost; finished clips stay checkpointed.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported; it would report to its makers
        import ray  # noqa: PLC0415 - an extra; only who chooses it needs it

        size = max(1, min(_SHARE_CLIPS, -(-len(items) // self._settings.workers)))
        shares = [items[start : start + size] for start in range(0, len(items), size)]
        alone = self._settings.model_copy(update={"kind": "local", "address": None, "workers": 1})
        try:
            if not ray.is_initialized():
                ray.init(address=self._settings.address, log_to_driver=False, logging_level=logging.ERROR)
            remote = ray.remote(num_cpus=1, max_retries=0)(_work_through)
            running = [remote.remote(alone.model_dump(), self._jobs, job, share) for share in shares]
            for one in running:
                yield from ray.get(one)
        except (ray.exceptions.RayError, ConnectionError) as error:
            last = str(error).strip().splitlines()[-1][:200]
            raise OutsideError(
                f"{type(error).__name__}: {last}", subject="Ray", fix="look at the cluster; the batch goes on where it stopped"
            ) from error


def _work_through(settings: Mapping[str, Any], jobs: str, job: str, items: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    return list(LocalEngine(EngineSettings.model_validate(settings), jobs=jobs).map(job, items))
