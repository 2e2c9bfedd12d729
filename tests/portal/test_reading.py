"""What an auditor reads of a home: records made of the ledger and its files, with the public key alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from curation import pipeline
from curation.audit import shard_register
from curation.audit.overview import conservation
from curation.errors import EvidenceBroken, SettingsError
from curation.layout import ledger_key, release_key
from curation.model_settings import PROOF_MODELS


@pytest.fixture
def reading(recorded):
    """The home that is read."""
    return pipeline.Reading(recorded.settings)


def test_a_day_says_what_came_in_left_and_stays(reading, recorded):
    """Today's figures, the rules that keep rows at home with their article, and what waits for whom."""
    told = reading.overview()
    assert (8, 7, 3, 1) == (told.today.came_in, told.today.accepted, told.today.left, told.today.came_back)
    assert told.ever == told.today
    assert 14 == len(told.days)
    assert told.held is not None
    assert (6, 2) == (told.held.rows_in, told.held.withheld)  # and three left before
    assert {"combination.k", "row.accepted"} <= {one.rule for one in told.held.rules}
    assert all(one.basis.article.zh for one in told.held.rules if one.basis is not None)
    assert {"approve", "confirm"} == {one.what for one in told.waiting}


def test_every_stage_conserves_rows(reading):
    """For each stage the rows in are the rows accounted for, summed over the whole ledger."""
    counts = conservation(reading.recorded().entries)
    assert ["pull", "manifest", "validate", "release", "approve", "publish", "shards"] == [count.stage for count in counts]
    assert all(count.check() for count in counts)


def test_a_batch_tells_reasons_validation_and_drift(reading, recorded):
    """Reasons by how many clips have each, the checks that ran, and warnings; clips' own files are not listed."""
    lines = {line.batch_id: line for line in reading.batches()}
    assert {"fleet-0123456789abcdef", "fleet-fedcba9876543210"} == set(lines)
    assert lines["fleet-0123456789abcdef"].is_validated
    assert lines["fleet-fedcba9876543210"].is_refused
    told = reading.batch("fleet-0123456789abcdef")
    assert {"blurred": 1, "frozen": 1} == told.reasons
    assert (9, True, 1) == (told.validation.executed, told.validation.passed, len(told.validation.warnings))
    assert not [file.key for file in told.files if file.key.startswith("clips/")]
    assert reading.batch("nobody-0000000000000000") is None


def test_a_release_tells_rules_columns_approver_and_files(reading, recorded):
    """What left, by which rule and article, on whose word, in which snapshot, and how much of it came back."""
    told = reading.release(recorded.release_id)
    assert ("partly withdrawn", "officer", 1) == (told.line.state, told.line.approver, told.line.withdrawn)
    assert told.snapshot_id
    assert told.line.rows_in == sum(told.accounted.values())
    assert {"province", "month"} <= {one.column for one in told.columns}
    assert release_key(recorded.release_id, "evidence.json") in {file.key for file in told.files}
    states = [line.state for line in reading.releases()]
    assert ["waiting", "partly withdrawn"] == states


def test_a_clip_that_never_left_and_one_that_came_back_have_their_story(reading, recorded):
    """Batch and verdict of each; the row's way out and back; nothing for an id that nobody knows, or that is none."""
    rejected = reading.story(recorded.clip_ids[5])
    assert [("rejected", ("blurred", "frozen"))] == [(one.verdict, one.reasons) for one in rejected.arrivals]
    row = reading.story(recorded.row_id)
    assert "withdrawn" == row.trace.rows[0].state
    assert row.trace.rows[0].came_back.approver == "officer"
    assert [reading.story(unknown) for unknown in ("0" * 64, "fleet-0001", "../../etc/passwd", "")] == [None] * 4


def test_packs_counters_and_shard_sets_are_told(reading, recorded):
    """The pack in force with three signatures; a pace over two days of releases; splits with their bytes."""
    [pack] = reading.packs()
    assert ("in force", 2, ["signed"] * 3) == (pack.line.standing, pack.line.release_count, [one.standing for one in pack.roles])
    assert all(one.pace_per_day is not None for one in reading.counters())
    masked, line = reading.shard_sets()
    assert [("train", 3, 1_500_000), ("val", 1, 0)] == [(one.name, one.sample_count, one.size_bytes) for one in line.splits]
    assert {"filtered_out": 1} == line.left_out
    assert (None, 2, 1) == (line.masking, masked.masking.unmaskable, masked.masking.not_clean)
    assert ({"face", "plate"}, set(PROOF_MODELS)) == (masked.masking.models.keys(), masked.masking.provers.keys())
    assert ("passed", True, 4321, 81) == (
        masked.masking.result,
        masked.masking.is_demo,
        masked.masking.mask_count,
        masked.masking.proved_frame_count,
    )


def test_a_removed_set_still_says_what_masked_it(reading, recorded):
    """The ledger tells it, after the set's own index is gone."""
    gone = replace(reading.recorded(), digests={})
    before, after = (shard_register.lines(on)[0] for on in (reading.recorded(), gone))
    assert (recorded.masked_set_id, False, True) == (after.shard_set_id, before.is_removed, after.is_removed)
    assert before.masking == after.masking


def test_reading_needs_no_private_key_and_writes_nothing(recorded, tmp_path):
    """With the private key gone and everything read, no file of the home has changed."""
    work = Path(shutil.copytree(recorded.settings.work, tmp_path / "work"))
    settings = pipeline.open_settings(work)
    settings.ledger_key.unlink()
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    reading = pipeline.Reading(settings)
    reading.overview(), reading.releases(), reading.packs(), reading.counters(), reading.shard_sets(), reading.story(recorded.row_id)
    assert before == {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}


def test_what_was_changed_is_refused_and_not_shown(recorded, tmp_path):
    """An entry or evidence that is not what was signed and recorded stops the page; a ledger without its key, too."""
    work = Path(shutil.copytree(recorded.settings.work, tmp_path / "work"))
    settings = pipeline.open_settings(work)
    store = work / "home" / "store"
    evidence = store / release_key(recorded.release_id, "evidence.json")
    evidence.chmod(0o644)
    evidence.write_bytes(evidence.read_bytes().replace(b"engineer", b"engineez"))
    with pytest.raises(EvidenceBroken, match=r"evidence\.json"):
        pipeline.Reading(settings).release(recorded.release_id)
    entry = store / ledger_key(1)
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b'"rejected":1', b'"rejected":0'))
    with pytest.raises(EvidenceBroken, match="signature"):
        pipeline.Reading(settings).batches()
    settings.ledger_public_key.unlink()
    with pytest.raises(SettingsError, match="public key"):
        pipeline.Reading(settings).batches()


def test_a_home_where_nothing_happened_is_empty(tmp_path):
    """No ledger and no key: no batch, no release, and an overview of noughts."""
    reading = pipeline.Reading(pipeline.open_settings(tmp_path))
    assert ((), (), ()) == (reading.batches(), reading.releases(), reading.shard_sets())
    assert 0 == reading.overview().ledger.entry_count
