"""`python -m benchmarks [NAME…] [--json]`: a table on standard output and the same as a list in `benchmarks/latest.json`."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Figure
from curation.errors import CurationError, UsageError

LATEST: Final = Path(__file__).with_name("latest.json")
Benchmark = Callable[[Path], Iterator[Figure]]  # a folder of its own, empty and temporary, to its figures


def _benchmark(module: str) -> Benchmark:
    """The benchmark of a module, imported when it runs: each brings heavy libraries of its own."""

    def figures(folder: Path) -> Iterator[Figure]:
        yield from importlib.import_module(module).figures(folder)

    return figures


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "pull": _benchmark("benchmarks.pull"),
    "pull_s3": _benchmark("benchmarks.pull_s3"),
    "inspect": _benchmark("benchmarks.inspect_clips"),
    "inspect_truth": _benchmark("benchmarks.inspect_truth"),
    "residency": _benchmark("benchmarks.residency"),
    "residency_engines": _benchmark("benchmarks.rule_engines"),
    "residency_peak": _benchmark("benchmarks.residency_peak"),
    "publish": _benchmark("benchmarks.publish"),
    "publish_upkeep": _benchmark("benchmarks.upkeep"),
    "publish_way_back": _benchmark("benchmarks.way_back"),
    "validate": _benchmark("benchmarks.validate"),
    "shards": _benchmark("benchmarks.shards"),
    "privacy": _benchmark("benchmarks.privacy"),
    "shards_preview": _benchmark("benchmarks.shards_preview"),
    "airflow": _benchmark("benchmarks.airflow"),
}


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known benchmarks that begin with one of `names`, all of them without names, in the order in which they are known.

    Raises:
        UsageError: a name begins none of them.
    """
    for name in names:
        if not any(one.startswith(name) for one in known):
            raise UsageError("there is no such benchmark", subject=f"benchmark {name}", fix=f"choose from {', '.join(known)}")
    return [one for one in known if not names or any(one.startswith(name) for name in names)]


def table(figures: Sequence[Figure]) -> str:
    """One line a figure; `goal` and `holds` are a dash where no issue sets a goal."""
    rows = [("name", "ours", "other", "unit", "ratio", "goal", "holds", "runs")]
    for one in figures:
        goal = "-" if one.goal is None else f"{one.goal:.3g}"
        holds = {None: "-", True: "yes", False: "NO"}[one.holds]
        rows.append((one.name, f"{one.ours:,.4g}", f"{one.other:,.4g}", one.unit, f"{one.ratio:.3g}", goal, holds, str(one.runs)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def run(names: Sequence[str], *, benchmarks: Mapping[str, Benchmark], latest: Path) -> tuple[list[Figure], list[CurationError]]:
    """The figures of the chosen benchmarks, and why those that failed stopped; the others go on.

    `latest` holds what was measured so far from the first figure on, so that an hour's run that is broken off is not lost.
    Progress goes to standard error.
    """
    figures: list[Figure] = []
    failed: list[CurationError] = []
    wanted = chosen(names, list(benchmarks))
    latest.write_text(as_json(figures), encoding="utf-8")
    for name in wanted:
        began_s = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f"benchmark-{name}-") as folder:
            try:
                for one in benchmarks[name](Path(folder)):
                    figures.append(one)
                    latest.write_text(as_json(figures), encoding="utf-8")
            except CurationError as error:
                failed.append(error)
                print(error, file=sys.stderr, flush=True)
        print(f"{name} took {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return figures, failed


def as_json(figures: Sequence[Figure]) -> str:
    """The figures as a JSON list of objects."""
    return json.dumps([dataclasses.asdict(one) for one in figures], indent=1) + "\n"


def main(argv: Sequence[str], *, benchmarks: Mapping[str, Benchmark] = BENCHMARKS, latest: Path = LATEST) -> int:
    """0 when everything was measured, whatever the ratios; 2 for an unknown name; else the exit code of the last that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"begins the benchmarks to run: {', '.join(benchmarks)}; none for all")
    parser.add_argument("--json", action="store_true", help="print the list instead of the table")
    given = parser.parse_args(argv)
    try:
        figures, failed = run(given.names, benchmarks=benchmarks, latest=latest)
    except UsageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(as_json(figures) if given.json else table(figures), end="" if given.json else "\n")
    return failed[-1].exit_code if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
