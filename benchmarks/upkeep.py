"""Many small commits with upkeep each night: whether a commit costs the same, and a table's metadata stays as small, as at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks import rows
from benchmarks.measure import Cost, Figure, cpu_s, figure, timed
from curation import schema
from curation.adapters.catalog_registry import RELEASE_ID
from curation.adapters.catalog_upkeep import HomeUpkeep, OverseasUpkeep
from curation.settings import CatalogSettings

COMMITS: Final = 500
NIGHTLY: Final = 50
FLAT: Final = 0.8  # of what the first night's commits cost: issue E asks for flat, and a busy machine strays by some
_CURATED: Final = "curated.clips"
_PUBLISHED: Final = "published.clips"
_ROWS: Final = 20


def figures(folder: Path, *, commits: int = COMMITS, nightly: int = NIGHTLY) -> Iterator[Figure]:
    """Of each catalog: CPU of the last night's commits beside the first night's, and bytes of metadata after each of them."""
    home = HomeUpkeep(_catalog(folder, "home"), {_CURATED: schema.CLIPS})
    overseas = OverseasUpkeep(_catalog(folder, "overseas"), {_PUBLISHED: schema.RELEASE})
    names = [f"release-{number}" for number in range(commits)]

    def curate(number: int) -> None:
        home.write_branch(_CURATED, "benchmark", rows.clips(_ROWS, seed=number), replace=[], properties={})
        home.advance(_CURATED, "benchmark")

    def publish(number: int) -> None:
        overseas.append(_PUBLISHED, rows.releases(_ROWS, seed=number), properties={RELEASE_ID: names[number]})

    sides: dict[str, tuple[Callable[[int], None], Callable[[int], object]]] = {
        "home": (curate, lambda _: home.keep_up(_CURATED, pins={}, keep_s=0)),
        "overseas": (publish, lambda done: overseas.keep_up(_PUBLISHED, pins={}, keep_s=0, settled=names[:done])),
    }
    for name, (commit, keep_up) in sides.items():
        nights = list(_nights(folder / name, commit, keep_up, commits=commits, nightly=nightly))
        (first, small), (last, large) = nights[0], nights[-1]
        yield figure(f"publish.upkeep_{name}_commit/first_night", cpu_s(last), cpu_s(first), unit="CPU s", better="less", goal=FLAT)
        yield figure(f"publish.upkeep_{name}_metadata/first_night", [large], [small], unit="kB", better="less", goal=FLAT)


def _nights(
    folder: Path, commit: Callable[[int], None], keep_up: Callable[[int], object], *, commits: int, nightly: int
) -> Iterator[tuple[list[Cost], float]]:
    """For each night: what each of the day's commits cost, and the size in kB of the newest metadata file after upkeep."""
    for begun in range(0, commits, nightly):
        costs = [timed(lambda number=number: lambda: commit(number))() for number in range(begun, min(begun + nightly, commits))]
        keep_up(begun + len(costs))
        newest = max(folder.rglob("*.metadata.json"), key=lambda path: path.stat().st_mtime)
        yield costs, newest.stat().st_size / 1000


def _catalog(folder: Path, name: str) -> CatalogSettings:
    return CatalogSettings(name=name, uri=f"sqlite:///{folder}/{name}/catalog.db", warehouse=folder / name / "warehouse")
