"""SIGKILL of a publication and of a withdrawal, with the publishing process, at random times: run again, they end as if undisturbed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation import pipeline, wiring
from tests.crash.conftest import NOW as PINNED
from tests.crash.test_kill_main_job import Kill, Runs, marks_of
from tests.publishing import approved_release
from tests.release.conftest import clip, table

pytestmark = pytest.mark.usefixtures("publisher_here")  # of this process; those of the killable runs are processes

KILLS_PER_FOLDER = 5
ROWS = table(*(clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number, device_id=f"DEV-{number}") for number in range(5)))


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with an approved release of five clips."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", PINNED)
        work = tmp_path_factory.mktemp("approved") / "work"
        approved_release(work, ROWS, environment)
    return work


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", PINNED)
        found = Runs(Path(__file__).with_name("publish_job.py"))
    yield found
    found.end()


def end_state(work: Path) -> dict[str, Any]:
    """Decoded rows overseas, files at home, and the ledger but for what the catalog draws: snapshot ids and bytes of its files."""
    settings = pipeline.open_settings(work)
    drawn = {"snapshot_id", "snapshot", "table_uuid"}
    events = []
    for entry in pipeline.ledger_entries(settings):
        files = {key: "any" if "/sent/" in key else digest for key, digest in entry.files.items()}
        facts = {name: value for name, value in entry.facts.items() if name not in drawn}
        events.append(json.dumps([entry.kind, entry.subject, dict(entry.counts), files, facts], sort_keys=True))
    store = wiring.store(settings)
    return {
        "rows": pipeline.published(settings).to_pylist(),
        "ledger": events,
        "objects": [key for key in store.keys("") if not key.startswith("ledger/")],
        "uncovered": pipeline.verify(settings).uncovered,
        "data files": len(list((work / "overseas" / "warehouse").rglob("data/**/*.parquet"))),
    }


def soak(runs: Runs, approved: Path, root: Path, wanted: int, seed: int) -> None:
    """Kill until `wanted` kills found a run alive, several in each folder, which is then run to its end."""
    shutil.copytree(approved, root / "whole")
    assert 0 == runs.run(root / "whole", None), marks_of(root / "whole").read_text(encoding="utf-8")
    times = [float(line.split()[0]) for line in marks_of(root / "whole").read_text(encoding="utf-8").splitlines()]
    whole, chance, hit = end_state(root / "whole"), random.Random(seed), 0  # noqa: S311 - points of a kill, no secret
    assert 4 == len(whole["rows"])
    for folder in range(wanted):
        work = root / f"killed-{folder}"
        shutil.copytree(approved, work)
        kills = [
            Kill(stage="publish", delay_s=chance.uniform(0.0, times[-1] - times[0])) for _ in range(min(KILLS_PER_FOLDER, wanted - hit))
        ]
        hit += [runs.run(work, kill) for kill in kills].count(9)
        assert 0 == runs.run(work, None), (kills, marks_of(work).read_text(encoding="utf-8"))
        assert whole == end_state(work), kills
        if hit == wanted:
            return
    pytest.fail("most kills come too late")


def test_ten_kills_change_nothing_in_the_end(runs: Runs, approved: Path, tmp_path: Path) -> None:
    """The rows overseas, the ledger and the files at home are those of an undisturbed run."""
    soak(runs, approved, tmp_path, 10, 7)


@pytest.mark.soak
def test_a_hundred_kills_change_nothing_in_the_end(runs: Runs, approved: Path, tmp_path: Path) -> None:
    """The same a hundred times."""
    soak(runs, approved, tmp_path, 100, 11)
