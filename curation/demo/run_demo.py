"""The main job end to end under a real Airflow on loopback, with a real officer's answer over REST; and `curation up`."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from curation import pipeline, wiring
from curation.audit.leaks import find_home_values
from curation.demo import evaluation, law
from curation.demo import fleet as rendered
from curation.demo.airflow_stack import AirflowStack, Approval
from curation.errors import CurationError, GateRefused, ValidationFailed
from curation.model_settings import PROOF_MODELS
from curation.records import LedgerEntry
from curation.settings import FILE_NAME, Settings, StoreSettings

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = "demo"
TICKET: Final = "DEMO-0001"
STAGES: Final = ("pull", "manifest", "validate", "release", "approve", "publish", "shards")
SHARD_REQUEST: Final[Mapping[str, Any]] = {"name": "demo", "seed": 7, "splits": {"train": 0.8, "val": 0.2}}
MASKED_REQUEST: Final[Mapping[str, Any]] = {"name": "demo-masked", "seed": 7, "masked": True, "form": "frames", "max_samples": 2}
_POLL_S: Final = 0.5
_LIMIT_S: Final = 900.0


def run(*, clips: Path | None, fleet: Path | None, work: Path, say: Console, masked: bool = False) -> None:
    """Run the main job on real clips, or on rendered ones; a second run finds nothing new.

    Args:
        clips: folder of clips; rendered without it.
        fleet: CSV with their telemetry; without it no clip has a fix and nothing may leave.
        work: where everything is kept.
        say: where progress and the closing tables are printed.
        masked: also looks for faces and plates at ingest, and builds a small shard set with both masked; takes a minute of two cores more.

    Raises:
        CurationError: a step failed; it says which, and where to look.
    """
    started = time.monotonic()
    settings = prepare(clips, fleet, work, say)
    if masked:
        settings = allow_masking(settings, say)
    before = _sequence(settings)
    say.print("[3/7] starting Airflow: api-server, dag-processor, scheduler, triggerer on loopback, with users of their own")
    # Fresh: a question that an interrupted demo left open would block this one's; what matters lies in the ledger, not in Airflow.
    with _stack(settings, fresh=True) as airflow:
        say.print(f"      ready at {airflow.url} after {time.monotonic() - started:.0f} s")
        main_job(airflow, settings, say)
        if masked:
            _curate(airflow, MASKED_REQUEST, "      asking for masked ones", say)
    show_results(settings, before, say)
    say.print(f"done in {time.monotonic() - started:.0f} s")


def up(*, work: Path, say: Console) -> None:
    """Airflow with the project's DAGs over a work folder, until interrupted."""
    work.mkdir(parents=True, exist_ok=True)
    settings = pipeline.open_settings(work)
    with _stack(settings, fresh=False) as airflow:
        say.print(f"Airflow is at {airflow.url} (loopback only). Users, with passwords drawn for this start:")
        for user, password in airflow.passwords.items():
            say.print(f"  {user}: {password}")
        say.print(f"Work folder {settings.work}; sources and residency stand in its {FILE_NAME}. Stop with Ctrl-C.")
        stop = False

        def ask_to_stop(*_: object) -> None:
            nonlocal stop
            stop = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ask_to_stop)
        while not stop:
            time.sleep(_POLL_S)
    say.print("stopped")


def _stack(settings: Settings, *, fresh: bool) -> AirflowStack:
    env = {"CURATION_WORK": str(settings.work)}
    if "CURATION_NOW" in os.environ:
        env["CURATION_NOW"] = os.environ["CURATION_NOW"]
    home, plugins, pools = settings.work / "airflow", ROOT / "plugins", ROOT / "deploy" / "pools.json"
    return AirflowStack(home, ROOT / "dags", plugins=plugins, env=env, fresh=fresh, allowed=settings.home, pools=pools)


# --- before Airflow -------------------------------------------------------------------------------------------------------------


def prepare(clips: Path | None, fleet: Path | None, work: Path, say: Console) -> Settings:
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    fences = None
    if clips is None:
        say.print("[1/7] rendering a synthetic fleet (no --clips given): TeslaCam folders, some clips broken on purpose")
        clips = work / "rendered"
        rendered.make_fleet(clips, writer=wiring.video_writer())
        fences = clips / "fences.geojson"
    else:
        say.print(f"[1/7] real clips from {clips}")
        beside = clips.resolve().parent / "fences-test.geojson"
        fences = beside if beside.is_file() else None
        if fleet is None and not (clips / "fleet.csv").is_file():
            say.print("      no --fleet given: nothing may leave of clips whose vehicle and place no file beside them tells")
    say.print("[2/7] signing the demo's residency pack cn-demo with keys made now. It is no law: k = 2, invented fences")
    signed = law.make(work / "home" / "law", fences=fences, now=datetime.now(UTC))
    _write_settings(work, clips.resolve(), None if fleet is None else fleet.resolve(), signed)
    return pipeline.open_settings(work)


def _write_settings(work: Path, clips: Path, fleet: Path | None, signed: law.DemoLaw) -> None:
    text = json.dumps  # a JSON string is a TOML string
    lines = [
        "# Written by `curation demo` at each run. The pack it names is no law and is refused without allow_demo_pack.",
        f"[sources.{SOURCE}]",
        f"path = {text(str(clips))}",
        *([f"fleet = {text(str(fleet))}"] if fleet else []),
        "",
        "[residency]",
        f"pack = {text(str(signed.pack))}",
        f"fences = {text(str(signed.fences))}",
        "allow_demo_pack = true",
        'recipient = "demo overseas catalog on this machine"',
        'purpose = "show the way of the data"',
        "",
        "[residency.trusted_keys]",
        *(f"{role} = {text(list(keys))}" for role, keys in signed.trusted_keys.items()),
        "",
        "[engine]",
        f"workers = {os.cpu_count() or 1}",
        "",
    ]
    (work / FILE_NAME).write_text("\n".join(lines), encoding="utf-8")


def allow_masking(settings: Settings, say: Console) -> Settings:
    """Settings whose inspections look for faces and plates, and whose models may mask on the word of an evaluation that is signed now.

    Raises:
        OutsideError: no package index gave the models.
    """
    say.print("      --masked: bringing the models for faces and plates, and signing a demo's evaluation of them, which proves nothing")
    names = ("face_model", "plate_model", *PROOF_MODELS)
    list(pipeline.pull_models(settings, [getattr(settings.privacy, name) for name in names]))
    trusted = evaluation.make(settings.work / "home" / "law", settings, now=wiring.clock().now())
    lines = ["[privacy]", "detect_at_ingest = true", "frames_per_clip = 1"]
    lines += ["allow_demo_evaluation = true", f"trusted_evaluators = [{json.dumps(trusted)}]", ""]
    with (settings.work / FILE_NAME).open("a", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return pipeline.open_settings(settings.work)


# --- the DAGs -------------------------------------------------------------------------------------------------------------------


def main_job(airflow: AirflowStack, settings: Settings, say: Console) -> None:
    """Every step that goes through Airflow, from the source to published rows and training shards."""
    _ingest(airflow, settings, say)
    _publish(airflow, say)
    _curate(airflow, SHARD_REQUEST, "[7/7] asking for training shards", say)


def _curate(airflow: AirflowStack, request: Mapping[str, Any], words: str, say: Console) -> None:
    say.print(f"{words}: {dict(request)}")
    run_id = airflow.trigger("curate_shards", {"request": json.dumps(request)}, user="engineer")
    airflow.require_success("curate_shards", run_id, limit_s=_LIMIT_S)


def _ingest(airflow: AirflowStack, settings: Settings, say: Console) -> None:
    say.print("[4/7] DAG ingest_clips: pull, inspect, manifest; each batch starts validate_manifests")
    airflow.require_success("ingest_clips", airflow.trigger("ingest_clips", {"sources": [SOURCE]}, user="engineer"), limit_s=_LIMIT_S)
    batches = {entry.subject for entry in pipeline.ledger_entries(settings) if entry.kind == "manifest"}

    def validated() -> bool:
        done = {entry.subject for entry in pipeline.ledger_entries(settings) if entry.kind == "validate"}
        failed = [run.run_id for run in airflow.runs("validate_manifests") if run.state == "failed"]
        if failed:
            raise ValidationFailed(
                f"run {failed[0]} failed", subject="validate_manifests", fix=f"read {settings.work / 'home' / 'failures.jsonl'}"
            )
        return batches <= done

    _until(validated, "validate_manifests")
    say.print(f"      {len(batches)} batch(es) in curated.clips")


def _publish(airflow: AirflowStack, say: Console) -> None:
    say.print("[5/7] DAG publish_metadata, asked for by engineer: cut the release, then wait for the compliance officer")
    run_id = airflow.trigger("publish_metadata", {}, user="engineer")
    asked = []

    def decide(question: Approval) -> tuple[str, Mapping[str, Any]]:
        asked.append(question)
        say.print(f"      the officer is asked: {question.subject}")
        say.print(f"[6/7] answering as the officer over REST: Approve, ticket {TICKET}")
        return "Approve", {"ticket": TICKET}

    airflow.answer_until_over("publish_metadata", run_id, decide, user="officer", limit_s=_LIMIT_S)
    if not asked:
        say.print("[6/7] nobody is asked: there is nothing new to publish")
    airflow.require_success("publish_metadata", run_id)


def _until(ready: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(_POLL_S)
    raise CurationError(f"did not come to an end within {_LIMIT_S:.0f} s", subject=f"DAG {what}", fix="read the task logs and run again")


# --- what was done --------------------------------------------------------------------------------------------------------------


def _sequence(settings: Settings) -> int:
    return sum(1 for _ in pipeline.ledger_entries(settings))


def show_results(settings: Settings, before: int, say: Console) -> None:
    """Print what each stage did since ledger entry `before`, what left and where to look.

    Raises:
        GateRefused: a raw value of home was found overseas.
        EvidenceBroken: the ledger does not hold.
    """
    entries = list(pipeline.ledger_entries(settings))
    say.print("\nPer stage in this run, rows in = rows accounted for by name:")
    say.print(_stage_table(entries, before))
    releases = [entry for entry in entries if entry.kind == "release"]
    if releases:
        _show_release(pipeline.release_summary(settings, releases[-1].subject), say)
    leaks = find_home_values(settings.work / "overseas", pipeline.curated(settings)[0])
    if leaks.found:
        raise GateRefused(
            f"a value of {leaks.found[0].column} was found", subject=leaks.found[0].file, fix="withdraw the release and report this"
        )
    say.print(f"overseas: {leaks.file_count} files searched for {leaks.value_count} raw values of home: none found")
    proof = pipeline.verify(settings)
    say.print(f"ledger:   {proof.entry_count} entries and {proof.file_count} files hold; head {proof.head}")
    say.print("\nWhere to look:")
    for what, path in _places(settings, entries):
        say.print(f"  {what:<22} {path}")


def _stage_table(entries: Sequence[LedgerEntry], before: int) -> Table:
    table = Table("stage", "subject", "rows in", "accounted for", box=None, pad_edge=False)
    for stage in STAGES:
        rows = [entry for entry in entries[before:] if entry.kind == stage]
        earlier = sum(entry.counts["rows_in"] for entry in entries[:before] if entry.kind == stage)
        for entry in rows:
            accounted = ", ".join(f"{count} {name}" for name, count in sorted(entry.counts.items()) if name != "rows_in")
            table.add_row(stage, entry.subject, str(entry.counts["rows_in"]), accounted or "-")
        if not rows:
            table.add_row(stage, "-", "0", f"nothing new; {earlier} in earlier runs")
    return table


def _show_release(summary: Mapping[str, Any], say: Console) -> None:
    state = "published" if summary["published"] else "not published: no row may leave" if not summary["rows"] else "not published"
    say.print(
        f"\nrelease {summary['release_id']} ({state}) under pack {summary['pack']['id']} {summary['pack']['version']}, which is no law"
    )
    leaving = Table("column that left", "rule that let it", box=None, pad_edge=False)
    if summary["rows"]:
        leaving.add_row("release_row_id", "none: drawn at random, stands for nothing abroad")
        for item in summary["columns"]:
            leaving.add_row(item["column"], item["rule"])
        say.print(leaving)
    withheld = Table("rule that withheld", "rows", box=None, pad_edge=False)
    for rule, rows in summary["rules"].items():
        if rows:
            withheld.add_row(rule, str(rows))
    say.print(withheld)
    say.print(f"{summary['rows']} rows in the release, {summary['withheld']} withheld (a row may fall under several rules)\n")


def _places(settings: Settings, entries: Sequence[LedgerEntry]) -> list[tuple[str, str]]:
    place = settings.store
    store = str(place.path) if isinstance(place, StoreSettings) else f"{place.endpoint_url}/{place.bucket}/{place.prefix}".rstrip("/")
    places = [("home store", store), ("overseas catalog", str(settings.work / "overseas" / "catalog.db"))]
    places += [("validation report", f"{store}/validation/{entry.subject}/report.html") for entry in entries if entry.kind == "validate"]
    for entry in entries:
        if entry.kind == "shards":
            places += [("training shards", f"{store}/shards/{entry.subject}")]
            places += [("their card, with plots", f"{store}/shards/{entry.subject}/card.html")]
    return places
