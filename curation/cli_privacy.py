"""`curation privacy`: the standard's own test of the models that find faces and plates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from curation import pipeline
from curation.choices import Part
from curation.cli_text import out, progress, shown
from curation.errors import UsageError
from curation.privacy.gate import SignedEvaluation
from curation.privacy.review import PICTURES, Answer

app = typer.Typer()
review_app = typer.Typer(no_args_is_help=True, help="A person looks at masked pictures; the answers are signed and stay in the evidence.")
app.add_typer(review_app, name="review")

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
    with progress("looking at pictures", quiet=as_json) as tell:
        signed = pipeline.evaluate_models(
            settings,
            folder,
            part=part,
            demo=demo,
            private_pem=private_pem,
            progress=lambda done, total: tell(done, total, ""),
        )
    if out_folder is not None:
        out_folder.mkdir(parents=True, exist_ok=True)
        for name, data in pipeline.evaluation_files(signed).items():
            (out_folder / name).write_bytes(data)
    _tell(signed, as_json=as_json)
    if signed.evaluation.result != "passed":
        raise typer.Exit(1)


@app.command()
def prove(
    paths: Annotated[list[Path], typer.Argument(help="Masked copies.", exists=True, dir_okay=False)],
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Look at masked copies again with other models; 1 if one is not clean."""
    settings, is_clean = pipeline.open_settings(work), True
    for path in paths:
        proof = pipeline.prove_masked(settings, path)
        is_clean &= proof.verdict == "clean"
        if as_json:
            print(json.dumps({"file": str(path), **proof.told()}, ensure_ascii=False))
            continue
        out.print(f"{shown(path.name)}: {proof.verdict}, {len(proof.frames)} frames looked at")
        if proof.unmeasured is not None:
            out.print(f"  {shown(proof.unmeasured)}")
        for one in proof.residues:
            box = f"{one.width_px:.0f} x {one.height_px:.0f} px at {one.x_px:.0f}, {one.y_px:.0f}"
            out.print(
                f"  {one.kind} of {box}, frame {one.frame} at {one.at_s:.2f} s, {one.hidden:.0%} hidden, {one.score:.2f} by {one.model}"
            )
    if not is_clean:
        raise typer.Exit(1)


@review_app.command("make")
def make_review(
    seed: Annotated[str, typer.Option(help="Decides which frames are drawn; have it named by somebody who does not know them.")],
    requester: Annotated[str, typer.Option(help="Who asks; may not answer.")],
    count: Annotated[int, typer.Option(help="Pictures; Annex B asks for 100.", min=1)] = 100,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Also write page, pictures and answers.csv there, at home.")] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Draw frames of the masked copies at home into a sheet, spread over clips and sizes of masks."""
    settings = pipeline.open_settings(work)
    sheet = pipeline.make_mask_review(settings, seed=seed, requester=requester, count=count)
    if out_folder is not None:
        pipeline.write_mask_review(settings, sheet.review_id, out_folder)
    if as_json:
        print(json.dumps(sheet.model_dump(mode="json"), ensure_ascii=False))
        return
    out.print(f"{sheet.review_id}: {len(sheet.pictures)} pictures of {len({one.clip_id for one in sheet.pictures})} clips")
    out.print(f"Next: somebody else than {shown(sheet.requester)} looks, and runs `curation privacy review answer {sheet.review_id}`")


@review_app.command("answer")
def answer_review(
    review_id: Annotated[str, typer.Argument(help="The review.")],
    key: Annotated[Path | None, typer.Option(help="The reviewer's private key; signs the answers.", dir_okay=False)] = None,
    answers: Annotated[Path | None, typer.Option(help="answers.csv, filled in.", exists=True, dir_okay=False)] = None,
    ok: Annotated[list[int] | None, typer.Option(help="Number of a picture in which nothing is left open.")] = None,
    missed: Annotated[list[int] | None, typer.Option(help="Number of a picture in which a face or plate is left open.")] = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Record what a person saw; a picture called missed keeps the models in use from masking."""
    given: dict[int, Answer] = {**dict.fromkeys(ok or (), "ok"), **dict.fromkeys(missed or (), "missed")}
    if (answers is not None) == bool(given) or len(given) < len(ok or ()) + len(missed or ()):
        fix = "give --answers FILE, or each number once with --ok or --missed"
        raise UsageError("needs each answer once", subject=review_id, fix=fix)
    told = given if answers is None else answers.read_bytes()
    private_pem = None if key is None else key.read_bytes()
    said = pipeline.answer_mask_review(pipeline.open_settings(work), review_id, told, private_pem=private_pem)
    if as_json:
        print(json.dumps(said.model_dump(mode="json"), ensure_ascii=False))
        return
    values = list(said.answers.values())
    out.print(f"{review_id}: {shown(said.reviewer)} said ok of {values.count('ok')} pictures, missed of {values.count('missed')}")


@review_app.command("status")
def review_status(work: Work = None, as_json: AsJson = False) -> None:
    """What was asked and answered; 1 unless 100 pictures of the models in use were called ok and none missed."""
    ok = missed = 0
    for one in pipeline.mask_reviews(pipeline.open_settings(work)):
        if one["in_use"]:
            ok, missed = ok + one["ok"], missed + one["missed"]
        if as_json:
            print(json.dumps(one, ensure_ascii=False))
            continue
        whose = "of the models in use" if one["in_use"] else "of other models"
        out.print(f"{one['review_id']}, {whose}: {one['ok']} ok, {one['missed']} missed, {one['open']} open of {one['pictures']}")
    if missed or ok < PICTURES:
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
