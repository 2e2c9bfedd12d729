"""`curation validate`: of a batch, on its way into the curated table; of any Parquet file, without a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import typer

from curation import loose_files, pipeline
from curation.cli_text import out, shown
from curation.errors import ValidationFailed
from curation.records import CheckFailure, StageCount, ValidationResult
from curation.settings import Settings
from curation.stages.validate import as_json as plain


class Say(Protocol):
    """Prints a count."""

    def __call__(self, count: StageCount, *, as_json: bool) -> None: ...


def of_batch(settings: Settings, batch_id: str, *, as_json: bool, say: Say) -> None:
    """Validate a batch; where it is refused, `as_json` prints the result that was kept."""
    try:
        say(pipeline.validate_batch(settings, batch_id), as_json=as_json)
    except ValidationFailed:
        kept = pipeline.last_refusal(settings, batch_id) if as_json else None
        if kept is not None:
            print(json.dumps(kept, ensure_ascii=False))
        raise


def of_file(path: Path, *, as_json: bool) -> None:
    """Validate a Parquet file by the shipped suite of its table."""
    result = loose_files.validate_file(path)
    if as_json:
        print(json.dumps(plain(result), ensure_ascii=False))
    else:
        _show(path, result)
    if not result.passed:
        raise typer.Exit(1)


def _show(path: Path, result: ValidationResult) -> None:
    verdict = "passed" if result.passed else "refused"
    ran = f"{result.executed} of {result.declared} checks ran over {result.rows_examined} of {result.rows_present} rows"
    out.print(f"{shown(str(path))}: {verdict}; suite {result.suite}, {ran}")
    for mark, findings in (("failed", result.failures), ("warned", result.warnings)):
        for one in findings:
            out.print(f"  {mark} {one.check}: {_rows(one)}. {shown(one.note)}")
            for clip_id in one.clip_ids[:3]:
                out.print(f"    clip {clip_id}")
            if len(one.clip_ids) > 3:
                out.print("    and more, which --json names")
    if result.without:
        out.print(f"  not asked, for want of other tables: {', '.join(result.without)}")


def _rows(one: CheckFailure) -> str:
    return f"{one.row_count} rows" if one.problem == "unexpected" else one.problem
