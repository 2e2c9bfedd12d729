"""A small rendered fleet, work folders under one law and one pinned time, and what their end states are compared by."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from curation import pipeline, wiring
from curation.adapters.store_local import STAGING
from curation.demo import run_demo
from curation.settings import Settings
from tests.publishing import publisher_here
from tests.rendered import few_checks, render

__all__ = ["publisher_here"]

NOW = "2026-11-25T08:00:00+08:00"
# Two batches: two clips that may leave and one too black; then one more of another vehicle, one with bytes of the first batch, no video.
CLIPS = ("city-day", "city-day-back", "black", "duplicate", "highway-overcast", "text")
BATCH_SIZE = 3
CHECKS = 8  # of the suite's 103, which take 3 s over any batch; `make soak` runs them all
EQUAL_BYTES = ("clips/", "manifests/", "shards/", "batches/", "quarantine/", "validation/", "packs/", "fences/", "inspections/")
MAIN_JOB = Path(__file__).with_name("main_job.py")
# Drawn at random or told by the catalog, so no two runs share them: release_row_id is in these files, the snapshot id in those facts.
_OF_THE_RUN_FILES = "releases/"
_OF_THE_RUN_FACTS = frozenset({"snapshot_id", "snapshot", "table_uuid"})


def _store_state(settings: Settings) -> dict[str, Any]:
    store = wiring.store(settings)
    state: dict[str, Any] = {
        f"object {key}": hashlib.sha256(store.read(key)).hexdigest() for prefix in EQUAL_BYTES for key in store.keys(prefix)
    }
    state |= {f"object {key}": "present" for key in store.keys("releases/")}
    return state


def _rows(table: Any, *, without: tuple[str, ...] = ()) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in table.drop_columns(list(without)).to_pylist())


def _event(entry: Any) -> str:
    files = {key: "any" if key.startswith(_OF_THE_RUN_FILES) else digest for key, digest in entry.files.items()}
    facts = {name: value for name, value in entry.facts.items() if name not in _OF_THE_RUN_FACTS}
    return json.dumps([entry.kind, entry.subject, dict(entry.counts), files, facts], sort_keys=True)


def end_state(work: Path) -> dict[str, Any]:
    """All that design.md, "Same again", wants equal, by name; random ids and times left out."""
    settings = pipeline.open_settings(work)
    state = _store_state(settings)
    state["rows of curated.clips"] = _rows(pipeline.curated(settings)[0])
    state["rows of published.clips"] = _rows(pipeline.published(settings), without=("release_row_id",))
    state["ledger"] = sorted(_event(entry) for entry in pipeline.ledger_entries(settings))
    state["uncovered files"] = pipeline.verify(settings).uncovered
    state["data files overseas"] = len(list((work / "overseas" / "warehouse").rglob("data/**/*.parquet")))
    return state


def differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """What differs between two end states, by name, with both values where they are lists."""
    found = []
    for name in sorted({*expected, *actual}):
        wanted, got = expected.get(name, "absent"), actual.get(name, "absent")
        if wanted != got:
            both = isinstance(wanted, list) and isinstance(got, list)
            lost, grown = ([row for row in wanted if row not in got], [row for row in got if row not in wanted]) if both else (wanted, got)
            found.append(f"{name}: expected {lost}, found {grown}")
    return found


def leftovers(work: Path) -> list[Path]:
    """Staged bytes that nobody will ever commit."""
    staging = work / "home" / "store" / STAGING
    return sorted(staging.iterdir()) if staging.is_dir() else []


@pytest.fixture(scope="session")
def crash(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The means of crash tests: `prepare`, `run_main_job`, `end_state`, `differences`, `leftovers`, and the script for killable runs."""
    root = tmp_path_factory.mktemp("crash")
    clips, law, few = render(root / "fleet", *CLIPS), root / "law", few_checks(root / "expectations", CHECKS)

    def prepare(work: Path, *, all_checks: bool = False) -> Path:
        """A work folder with the same law as every other one, so that release ids are equal too."""
        if law.is_dir():
            shutil.copytree(law, work / "home" / "law")
        run_demo.prepare(clips, None, work, Console(quiet=True))
        if not law.is_dir():
            shutil.copytree(work / "home" / "law", law)
        written = (work / "curation.toml").read_text(encoding="utf-8")
        expectations = "" if all_checks else f"expectations = {json.dumps(str(few))}\n"
        (work / "curation.toml").write_text(f"{expectations}{written}\n[pull]\nbatch_size = {BATCH_SIZE}\n", encoding="utf-8")
        return work

    return SimpleNamespace(
        prepare=prepare,
        run_main_job=runpy.run_path(str(MAIN_JOB))["run_main_job"],
        end_state=end_state,
        differences=differences,
        leftovers=leftovers,
        script=MAIN_JOB,
        now=NOW,
    )


@pytest.fixture(autouse=True)
def pinned_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One instant for every run, so that times are no difference."""
    monkeypatch.setenv("CURATION_NOW", NOW)
