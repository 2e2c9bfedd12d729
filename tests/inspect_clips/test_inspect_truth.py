"""How the truth benchmark counts: hits, claims, intervals, and labels that allow more than one answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.inspect_truth import precisions, recalls, table, wilson
from benchmarks.truth_cases import ACCEPTED, DEFECT_OF, GOOD, QUARANTINED, SCRIPTED, Case, Subject, alternatives
from benchmarks.truth_peers import CHECKS
from curation.signals.verdict import REASONS

NO_ALARMS = {(peer, defect): frozenset() for defect, peers in CHECKS.items() for peer in peers}


def _case(wanted: str, defect: str, *reasons: str, verdict: str = "rejected", has_too: str = "", **signals: float) -> Case:
    subject = Subject(path=Path("a/clip.mp4"), wanted=wanted, defect=defect, has_too=frozenset({has_too}))
    return Case(subject=subject, report={"verdict": verdict, "reasons": reasons, "signals": signals})


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 0, 0.0, 1.0), (14, 14, 0.785, 1.0), (5, 10, 0.237, 0.763), (0, 10, 0.0, 0.278)]
)
def test_intervals_are_wilsons(hits: int, count: int, low: float, high: float):
    """Known values; nothing counted says nothing."""
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-4)


def test_a_hit_is_a_verdict_a_reason_or_the_very_number():
    """Two frames missing are found where two are counted, and not where three are."""
    told = [
        _case(ACCEPTED, GOOD, verdict=ACCEPTED),
        _case("black", "black", "frozen", "black"),
        _case("dropped_frame_count=2", "timeline", verdict=ACCEPTED, dropped_frame_count=2.0),
        _case("dropped_frame_count=2", "timeline", verdict=ACCEPTED, dropped_frame_count=3.0),
        _case(QUARANTINED, "no video", "black"),
    ]
    assert [True, True, True, False, False] == [case.is_hit for case in told]


def test_a_miss_and_a_false_claim_fail_their_goals():
    """One black clip of two is missed, and a good one is called frozen: the goals do not hold, and the table names both files."""
    cases = [
        _case("black", "black", "black", "frozen", has_too="frozen"),
        _case("black", "black", verdict=ACCEPTED),
        _case(ACCEPTED, GOOD, "frozen"),
    ]
    found = {one.name: one for one in (*recalls(cases, NO_ALARMS), *precisions(cases))}
    black, frozen = found["inspect_truth.recall.black/all"], found["inspect_truth.precision.frozen/said"]
    assert [(1, 2, False), (1, 2, False)] == [(one.ours, one.other, one.holds) for one in (black, frozen)]
    assert "inspect_truth.precision.covered/said" not in found
    told = table(cases, NO_ALARMS)
    assert "missed: a/clip.mp4 is black: accepted" in told
    assert "wrong:  a/clip.mp4 is accepted: rejected, frozen" in told


def test_alternatives_of_the_labels_count():
    """All words after each `alt` up to the end of that remark; the labels' underscore is BDD100K's slash."""
    notes = "graded sky; tod alt dawn_dusk; weather alt overcast (scene alt: undefined); low sun ahead; alt dawn_dusk / city street"
    assert {"dawn/dusk", "overcast", "undefined", "city street"} == set(alternatives(notes))
    assert frozenset() == alternatives("long shadow")


def test_every_fault_of_the_script_is_held_against_a_reason_that_exists():
    """What a report must hold is a verdict or a reason of the vocabulary, and every reason has a defect to be counted under."""
    assert {wanted for wanted, _ in SCRIPTED.values()} <= {ACCEPTED, QUARANTINED, *REASONS}
    assert set(DEFECT_OF) <= set(REASONS)
