"""The engine's contract: order, one item's death costing one item, limits, and nothing left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.adapters.engine_local import InlineEngine, LocalEngine
from curation.errors import OutsideError
from curation.ports import Engine, Outcome
from curation.settings import EngineSettings
from curation.worker import JOBS, answer, load_jobs


@pytest.fixture(autouse=True)
def _findable_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets worker processes import the poisoned jobs beside this file."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


def _engine(*, workers: int = 2, time_limit_s: float = 30.0) -> LocalEngine:
    return LocalEngine(EngineSettings(workers=workers, time_limit_s=time_limit_s), jobs="poisoned_jobs:JOBS")


def _run(items: Sequence[Mapping[str, Any]], **kwargs: Any) -> list[Outcome]:
    return list(_engine(**kwargs).map("act", [{"number": number, **item} for number, item in enumerate(items)]))


def _numbers(outcomes: Sequence[Outcome]) -> list[int | None]:
    return [None if outcome.value is None else outcome.value["number"] for outcome in outcomes]


@pytest.mark.parametrize("kind", ["local", "inline"])
def test_outcomes_come_in_input_order(kind: str):
    """Items that finish out of order are handed over in order, by either engine."""
    jobs = {"act": lambda item: {"number": item["number"]}}
    engine: Engine = _engine() if kind == "local" else InlineEngine(jobs)
    items = [{"number": number, "act": "sleep", "seconds": 0.3 if number == 0 else 0.0} for number in range(6)]
    assert [outcome.value["number"] for outcome in engine.map("act", items) if outcome.value] == list(range(6))


def test_no_item_is_no_work():
    """An empty list starts no worker and yields nothing."""
    assert _run([]) == []


def test_one_death_costs_one_item():
    """A worker that exits, crashes or raises fails its own item with the cause; every other item has its value."""
    outcomes = _run([{}, {"act": "exit"}, {}, {"act": "segfault"}, {"act": "raise"}, {}])
    assert _numbers(outcomes) == [0, None, 2, None, None, 5]
    assert [outcome.failure for outcome in outcomes if outcome.failure] == [
        "worker died: exit status 3",
        "worker died: SIGSEGV",
        "worker died: exit status 1, ValueError: spoiled",
    ]


def test_deaths_in_a_row_do_not_end_the_map():
    """A worker is replaced as often as it dies."""
    assert _numbers(_run([{"act": "exit"}] * 3 + [{}], workers=1)) == [None, None, None, 3]


def test_a_hang_is_cut_off_at_its_limit():
    """An item that overruns is killed, though it ignores polite signals, and named as late; the rest goes on."""
    outcomes = _run([{"act": "hang"}, {}, {}], time_limit_s=1.0)
    assert _numbers(outcomes) == [None, 1, 2]
    assert outcomes[0].failure == "took longer than 1 s"


@pytest.mark.parametrize("act", ["hoard", "picture"])
def test_hoarding_memory_costs_the_item(act: str):
    """An item that wants more than the limit, for itself or for a picture of OpenCV's, fails with that reason and its worker lives on."""
    outcomes = _run([{"act": act}, {}], workers=1)
    assert [outcomes[0].failure, _numbers(outcomes)] == ["needed more memory than its limit", [None, 1]]


def test_a_named_error_keeps_its_words():
    """An error raised on purpose crosses the border as text with its subject and fix."""
    assert _run([{"act": "unreadable"}])[0].failure == "clip: is spoiled. Fix: leave it out"


def test_chatter_on_standard_output_is_no_answer():
    """What native code prints, even a forged answer, does not reach the protocol."""
    assert _numbers(_run([{"act": "chatter"}, {}], workers=1)) == [0, 1]


def test_a_worker_that_dies_while_idle_harms_nobody():
    """A worker killed between two items is replaced before the next one."""
    outcomes = _engine(workers=1).map("act", [{"number": 0}, {"number": 1}])
    first = next(outcomes)
    assert first.value is not None
    os.kill(first.value["pid"], 9)
    time.sleep(0.2)
    assert _numbers([first, *outcomes]) == [0, 1]


def test_closing_early_leaves_no_process_behind():
    """When the consumer stops, all workers are gone, the busy ones too."""
    items = [{"number": 0}, {"number": 1, "act": "hang"}, {"number": 2, "act": "hang"}]
    outcomes = _engine().map("act", items)
    first = next(outcomes)
    assert first.value is not None
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    assert str(first.value["pid"]) in children.read_text().split()
    outcomes.close()
    assert str(first.value["pid"]) not in children.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(first.value["pid"], 0)


def test_a_worker_that_cannot_start_blames_no_clip():
    """Missing jobs are the world's fault: an error, not one failed outcome per item."""
    engine = LocalEngine(EngineSettings(), jobs="no_such_module:JOBS")
    with pytest.raises(OutsideError, match=r"died at its start .*no_such_module"):
        list(engine.map("act", [{"number": 0}]))


def test_an_unknown_job_is_a_failure_by_name():
    """A job that is not in the table fails with its name."""
    assert answer('{"job": "nothing", "item": {}}', JOBS) == {"failure": "there is no job 'nothing'"}


def test_the_default_jobs_hold_inspection():
    """`curation.worker:JOBS` is what a plain engine loads."""
    assert "inspect" in load_jobs("curation.worker:JOBS")
