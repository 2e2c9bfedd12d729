"""`curation privacy`: the standard's own test of the models that find faces and plates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from curation import pipeline
from curation.choices import Part
from curation.cli_text import out, shown
from curation.privacy.gate import SignedEvaluation

err = Console(stderr=True)

app = typer.Typer()

Work = Annotated[Path | None, typer.Option("--work", help="Embedded work folder; else CURATION_WORK.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder with boxes.csv and the files it names.", exists=True, file_okay=False)],
    part: Annotated[Part, typer.Option(help="All files, the half to tune thresholds on, or the half to report.")] = "all",
    key: Annotated[Path | None, typer.Option(help="Evaluator's private key; without it nothing may be masked by this.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Mark it as a demo's, which every other setting refuses.")] = False,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Also write evaluation.json and report.html there.")] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Run the standard's protocol on labelled pictures or video, with the models in use; 1 unless it is passed."""
    settings = pipeline.open_settings(work)
    private_pem = None if key is None else key.read_bytes()
    with Progress(console=err, transient=True, disable=as_json or not err.is_terminal) as bar:
        task = bar.add_task("looking at pictures")
        signed = pipeline.evaluate_models(
            settings,
            folder,
            part=part,
            demo=demo,
            private_pem=private_pem,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if out_folder is not None:
        out_folder.mkdir(parents=True, exist_ok=True)
        for name, data in pipeline.evaluation_files(signed).items():
            (out_folder / name).write_bytes(data)
    _tell(signed, as_json=as_json)
    if signed.evaluation.result != "passed":
        raise typer.Exit(1)


def _tell(signed: SignedEvaluation, *, as_json: bool) -> None:
    evaluation = signed.evaluation
    if as_json:
        print(json.dumps(signed.model_dump(mode="json"), ensure_ascii=False))
        return
    out.print(f"evaluation {evaluation.id}: {evaluation.result}, {evaluation.sample_count} pictures, part {evaluation.part}")
    for english, _ in evaluation.reasons:
        out.print(f"  {shown(english)}")
    for kind, found in evaluation.figures.items():
        for name in ("detection", "false", "small", "unlabelled_small"):
            rate = found[name]
            share = "-" if rate["value"] is None else f"{rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"
            out.print(f"  {kind} {name.replace('_', ' ')}: {rate['count']} of {rate['total']}, {share}")
        for missed in found["missed"]:
            at = "" if missed["at_s"] is None else f" at {missed['at_s']} s"
            size = f"{missed['width_px']:.0f} x {missed['height_px']:.0f} px"
            out.print(f"  missed {kind} of {size} in {shown(missed['file'])}{at}: {missed['why']}")
    out.print("  signed" if signed.signature else "  not signed: nothing may be masked by it")
