"""Rendered faults cover every verdict and every reason without any real clip, and inspection finds each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from curation import wiring
from curation.adapters.engine_local import LocalEngine
from curation.demo import defects
from curation.demo.faults import FAULTS, SCENES, make_faults
from curation.errors import UsageError
from curation.schema import VERDICTS
from curation.settings import EngineSettings, InspectSettings
from curation.signals.verdict import REASONS

SEEN_TOO = {  # what else is true of a clip with this fault
    "low_contrast": {"blurred", "frozen"},
    "black": {"frozen"},
    "under_exposed": {"blurred"},
    "test_pattern": {"frozen"},
    "disordered_frames": {"dropped_frames"},
    "variable_rate": {"duration_mismatch"},
    "truncated": {"dropped_frames", "duration_mismatch", "decode_errors"},
    "decode_errors": {"scene_cut"},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[str, set[str]]]:
    """Fault -> verdict and reasons, at the depth that it needs, in worker processes."""
    folder = tmp_path_factory.mktemp("faults")
    made = make_faults(folder, writer=wiring.video_writer(), starving=wiring.video_writer(starving=True), scene=SCENES["day"])
    policies = [InspectSettings(depth=fault.depth).model_dump(mode="json") for fault in made.values()]
    items = [{"clip_id": name, "path": str(folder / name), "policy": policy} for name, policy in zip(made, policies, strict=True)]
    outcomes = LocalEngine(EngineSettings(workers=2)).map("inspect", items)
    values = {fault.name: outcome.value for fault, outcome in zip(made.values(), outcomes, strict=True)}
    return {name: (value["verdict"], set(value["reasons"])) for name, value in values.items() if value is not None}


def test_every_verdict_and_reason_is_rendered():
    """One fault for each reason of the vocabulary, and all three verdicts."""
    assert set(REASONS) == {fault.reason for fault in FAULTS} - {None}
    assert set(VERDICTS) == {fault.verdict for fault in FAULTS}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_found_and_no_other(told: Mapping[str, tuple[str, set[str]]], fault):
    """The verdict of the truth, its reason among the reasons, and none that is not true of the clip."""
    verdict, reasons = told[fault.name]
    assert fault.verdict == verdict, reasons
    assert {fault.reason} - {None} <= reasons <= {fault.reason} | SEEN_TOO.get(fault.name, set())


def test_a_clip_of_even_steps_has_none_to_set_to_nothing(tmp_path: Path):
    """Asked for frames that stand twice in a clip without gaps, the maker says what to do."""
    make = b"\0\0\0\x18stts" + bytes(4) + (1).to_bytes(4, "big") + (36).to_bytes(4, "big") + (512).to_bytes(4, "big")
    with pytest.raises(UsageError, match="leave frames out"):
        defects.standing_twice(make)
