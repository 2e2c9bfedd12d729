"""Masked shard sets through the pipeline: who may not mask is told at preview and build, and what is withdrawn goes in any case."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from curation import cli_text, layout, pipeline, wiring
from curation.cli import app
from curation.demo import evaluation, law, run_demo
from curation.digests import sha256_hex
from curation.errors import CurationError, EvaluationRefused, ModelRefused
from curation.layout import MASKED, clip_key, shard_key
from curation.pipeline import masking, shard_set
from curation.privacy import gate
from curation.records import StageCount
from curation.residency.signing import keygen
from curation.settings import Settings
from curation.shards.request import from_mapping
from curation.stages import withdraw
from tests.release.conftest import clip, table
from tests.rendered import few_checks
from tests.shards.masked import SECRETS, engine, equipment, write

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
REQUEST = {"name": "masked", "masked": True, "columns": ["weather"]}


@pytest.fixture(scope="module", autouse=True)
def _pinned_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", NOW.isoformat())
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A demo's work folder with three curated clips that were looked at, an evaluation, and models that are there by name alone."""
    root = tmp_path_factory.mktemp("masked")
    run_demo._write_settings(root / "work", root / "clips", None, law.make(root / "work" / "home" / "law", fences=None, now=NOW))
    toml = root / "work" / "curation.toml"
    few = f"expectations = {json.dumps(str(few_checks(root / 'expectations', 4)))}\n"
    toml.write_text(few + toml.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as offline:
        offline.setattr(pipeline, "pull_models", lambda *_: iter(()))
        settings = run_demo.allow_masking(pipeline.open_settings(root / "work"), Console(quiet=True))
    assert settings.privacy.detect_at_ingest
    home = wiring.home(settings)
    for model in settings.models.values():
        home.store.create(layout.model_key(model.sha256, model.suffix), model.sha256.encode())
    rows, files = [], {}
    for number in range(3):
        data = write(root / f"{number}.mp4", seed=number).read_bytes()
        clip_id = hashlib.sha256(data).hexdigest()
        files[clip_key(clip_id, ".mp4")] = sha256_hex(data)
        home.store.create(clip_key(clip_id, ".mp4"), data)
        where = {"clip_id": clip_id, "object_uri": f"home:{clip_key(clip_id, '.mp4')}", "size_bytes": len(data)}
        looked_at = {"face_count_max": 1, "plate_count_max": 0, "width_px": 160, "height_px": 96, "duration_s": 2.0}
        rows.append(clip(number, vehicle=f"fleet-{number}", day=1 + number, drive_id=f"drive-{number}", **where, **looked_at))
    home.ledger.record(StageCount(stage="pull", subject="test", rows_in=3, accounted={"stored": 3}), files=files)
    home.catalog.write_branch(settings.curated_table, "test", table(*rows), replace=[], properties={})
    assert home.catalog.advance(settings.curated_table, "test")
    return settings


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process, whose models find the square under the names of the real ones."""
    identity = masking._identity
    monkeypatch.setattr(shard_set, "_engine", lambda settings: engine(wiring.store(settings), lambda: equipment(identity(settings))))


def _with_privacy(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"privacy": settings.privacy.model_copy(update=changes)})


def _signed(settings: Settings, *, spoil: Mapping[str, Any] | None = None, **changes: Any) -> Settings:
    """Settings that trust the key of another evaluation, which says what the changes say, and lies what `spoil` adds after signing."""
    pem, public_hex = keygen()
    held = pipeline.evaluation_in_force(settings)
    assert held is not None
    later = NOW - timedelta(minutes=60 - len(list(wiring.store(settings).keys("evaluations/"))))
    made = held.evaluation.model_copy(update={"evaluated_at": later})
    signed = gate.sign(made.model_copy(update=changes), pem)
    signed = signed.model_copy(update={"evaluation": signed.evaluation.model_copy(update=spoil or {})})
    wiring.store(settings).create(layout.evaluation_key(signed.evaluation.id, "evaluation.json"), gate.to_bytes(signed))
    return _with_privacy(settings, trusted_evaluators=(public_hex,))


def _other_model(settings: Settings) -> Settings:
    changed = settings.models["clp-det"].model_copy(update={"min_score": 0.9})
    return settings.model_copy(update={"models": {**settings.models, "clp-det": changed}})


def _model_gone(settings: Settings) -> Settings:
    changed = settings.models["clp-det"].model_copy(update={"sha256": "1" * 64})
    return _signed_for(settings.model_copy(update={"models": {**settings.models, "clp-det": changed}}))


def _signed_for(settings: Settings) -> Settings:
    folder = Path(settings.work) / "home" / "law-of-another-model"
    return evaluation.trusting(settings, evaluation.make(folder, settings, now=NOW))


REFUSED = {
    "missing": (_other_model, "there is none of the models in use"),
    "a demo's": (lambda settings: _with_privacy(settings, allow_demo_evaluation=False), "is a demo's"),
    "of another key": (lambda settings: _with_privacy(settings, trusted_evaluators=()), "trusted_evaluators does not name"),
    "failed": (lambda settings: _signed(settings, result="failed"), "did not pass: failed"),
    "expired": (lambda settings: _signed(settings, expires_at=NOW - timedelta(days=1)), "expired at"),
    "badly signed": (lambda settings: _signed(settings, spoil={"sample_count": 500}), "does not fit it"),
    "model gone": (_model_gone, "is not in the home store"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_models_that_may_not_mask_are_refused_before_any_copy(world: Settings, why: str) -> None:
    """At preview and at build, with the same words and the next step; nothing is read, copied or written."""
    change, told = REFUSED[why]
    settings, store = change(world), wiring.store(world)
    before = sorted(store.keys("shards/")), sorted(store.keys(MASKED))
    with pytest.raises((EvaluationRefused, ModelRefused), match=told) as refused:
        pipeline.build_shards(settings, from_mapping(REQUEST))
    seen = pipeline.preview_shards(settings, from_mapping(REQUEST))
    error: CurationError = refused.value
    assert {"refused": {"problem": error.problem, "subject": error.subject, "fix": error.fix}} == seen["masking"]
    assert "curation " in error.fix
    assert before == (sorted(store.keys("shards/")), sorted(store.keys(MASKED)))


def test_the_preview_says_what_a_build_would_refuse(world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts first, then who masks or why nobody may: exit 1 in the latter case, as a table and as JSON."""
    file = tmp_path / "request.yaml"
    file.write_text(json.dumps(REQUEST), encoding="utf-8")
    words = ["shards", "preview", str(file), "--work", str(world.work)]
    fine = CliRunner().invoke(app, words)
    assert (0, True) == (fine.exit_code, "faces and plates will be masked; evaluation" in fine.output)
    monkeypatch.setenv("CURATION_NOW", (NOW + timedelta(days=31)).isoformat())
    refused = CliRunner().invoke(app, words)
    assert (1, True) == (refused.exit_code, "3 of 3 accepted clips" in refused.output)
    assert "expired at" in str(refused.exception)
    as_json = CliRunner().invoke(app, [*words, "--json"])
    assert (1, True) == (as_json.exit_code, "expired at" in json.loads(as_json.output)["masking"]["refused"]["problem"])


def test_a_clip_that_was_not_looked_at_is_named_by_the_preview(world: Settings) -> None:
    """With the reason of its row and the next step."""
    home = wiring.home(world)
    row = clip(9, vehicle="fleet-9", drive_id="drive-9", unmeasured=[("face_count_max", "not looked for")], plate_count_max=0)
    home.catalog.write_branch(world.curated_table, "unseen", table(row), replace=[], properties={})
    assert home.catalog.advance(world.curated_table, "unseen")
    refused = pipeline.preview_shards(world, from_mapping(REQUEST))["masking"]["refused"]
    home.catalog.erase(world.curated_table, [row["clip_id"]])
    assert f"1 of its clips were not looked at for faces and plates ({row['clip_id']}: not looked for)" == refused["problem"]
    assert "detect_at_ingest" in refused["fix"]


def test_a_build_tells_which_clip_is_being_masked_and_what_stood_already(
    world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, the first at once and then now and then; standard output has the result alone, and as JSON nothing is told."""
    file, store, eraser = tmp_path / "request.yaml", wiring.store(world), wiring.eraser(world)
    file.write_text(json.dumps(REQUEST), encoding="utf-8")
    words = ["shards", "build", str(file), "--work", str(world.work)]
    assert 0 == CliRunner().invoke(app, words, catch_exceptions=False).exit_code
    first, *_ = (key for key in store.keys(MASKED) if key.endswith(".json"))
    eraser.remove(first)
    monkeypatch.setattr(cli_text, "LINE_EVERY_S", 0.0)
    told = CliRunner().invoke(app, words, catch_exceptions=False)
    clip_id = layout.clip_of_masked(first)
    masking = f"masking clip 3 of 3, {clip_id[:12]}; 2 copies stood already"
    assert [masking, "masked copies: 3 of 3 clips done, 2 copies stood already"] == told.stderr.splitlines()
    assert told.stdout.endswith(": built; of 3 clips 2 had their masked copies already\n")
    as_json = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    said = json.loads(as_json.stdout)
    assert ("", {"clips": 3, "standing": 3}, f"shards {said['shard_set_id']}: built") == (
        as_json.stderr,
        said["masked_copies"],
        told.stdout.partition(";")[0],
    )


def _withdrawn(settings: Settings, clip_id: str, *words: str) -> str:
    """What `curation withdraw confirm` says after the clip was withdrawn."""
    selection = withdraw.Selection(by="clip", value=clip_id)
    asked = pipeline.request_withdrawal(settings, selection, reason="r", requester="engineer").withdrawal_id
    confirm = ["withdraw", "confirm", asked, "--approver", "officer", "--work", str(settings.work), *words]
    return CliRunner().invoke(app, confirm, catch_exceptions=False).output


def test_withdrawal_removes_masked_sets_whatever_the_gate_says(world: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the evaluation holds the set is built again from the copies that stand; once it has expired it only goes, and that is said."""
    store, first = wiring.store(world), pipeline.build_shards(world, from_mapping(REQUEST))
    assert [] == [key for key in store.keys("shards/") for secret in SECRETS if secret in store.read(key)]
    assert pipeline.verify(world).uncovered == ()
    clip_ids = sorted({layout.clip_of_masked(key) for key in store.keys(MASKED)})
    assert 3 == len(clip_ids)
    copies = {key: store.read(key) for key in store.keys(MASKED)}
    second = json.loads(_withdrawn(world, clip_ids[0], "--json"))["shard_sets_built_again"][first]
    assert second
    left = {key: store.read(key) for key in store.keys(MASKED)}
    assert left == {key: data for key, data in copies.items() if clip_ids[0] not in key}
    assert {second} == {key.split("/")[1] for key in store.keys("shards/")}
    index = json.loads(store.read(shard_key(second, "index.json")))
    assert (1, 2) == (index["rows"]["withdrawn"], index["splits"]["train"]["clips"])
    monkeypatch.setenv("CURATION_NOW", (NOW + timedelta(days=31)).isoformat())
    told = _withdrawn(world, clip_ids[1])
    assert f"shard set {second} held 1 of the clips and is removed; nothing takes its place: evaluation" in told
    assert ": expired at 2026-12-25" in told
    assert [] == list(store.keys("shards/"))
    assert {clip_ids[2]} == {layout.clip_of_masked(key) for key in store.keys(MASKED)}
    assert pipeline.verify(world).uncovered == ()


def test_what_a_build_masked_of_an_erased_clip_goes(world: Settings) -> None:
    """Copies that an erasure met are removed by the next build, whether it comes to a set or not."""
    store = wiring.store(world)
    store.create(layout.masked_note_key("a" * 64, "0" * 64), b"{}")
    store.create(layout.tombstone_key("a" * 64), b'{"clip_id":"a","entries":[]}')
    with pytest.raises(CurationError, match="takes no accepted clip"):
        pipeline.build_shards(world, from_mapping({**REQUEST, "filter": "fps > 1000"}))
    assert [] == [key for key in store.keys(MASKED) if "a" * 64 in key]


def test_a_demos_evaluation_is_kept_while_it_holds(world: Settings) -> None:
    """A second run trusts the same key, so that the same set comes of it; a later one makes another."""
    folder = Path(world.work) / "home" / "law"
    assert world.privacy.trusted_evaluators == (evaluation.make(folder, world, now=NOW),)
