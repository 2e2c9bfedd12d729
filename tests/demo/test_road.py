"""The renderer: what is asked for is what is shown."""

import numpy as np
import pytest

from curation.demo import defects
from curation.demo.road import Scene, beam_at, render
from curation.errors import UsageError

SIZE = {"width_px": 320, "height_px": 180}
MARK_CYCLE_M = 15.0


def frames(scene, *, fps=10, duration_s=0.5, seed=5):
    """All frames of a small clip."""
    return list(render(scene, fps=fps, duration_s=duration_s, seed=seed, **SIZE))


def brightness(scene):
    """Mean luma of one frame, in [0, 1]."""
    return float(np.mean(frames(scene, duration_s=0.1)[0])) / 255


def on_the_mark(scene, *, fps, duration_s):
    """For each frame whether the dashed mark 1.75 m to the right lies 5 m ahead: where a pinhole camera 1.35 m high must see it."""
    focal, horizon = 0.62 * SIZE["width_px"], round(0.46 * SIZE["height_px"])
    u, v = round(SIZE["width_px"] / 2 + 1.75 * focal / 5), round(horizon + 1.35 * focal / 5)
    seen = [float(frame[v - 1 : v + 2, u - 2 : u + 3].mean()) for frame in frames(scene, fps=fps, duration_s=duration_s)]
    middle = (max(seen) + min(seen)) / 2
    return [value > middle for value in seen], max(seen) - min(seen)


@pytest.mark.parametrize(("fps", "duration_s", "expected"), [(10, 0.5, 5), (15, 0.4, 6), (30, 0.1, 3)])
def test_frame_count_and_size_are_those_asked_for(fps, duration_s, expected):
    """Rate times length frames of 8-bit BGR."""
    shown = frames(Scene(), fps=fps, duration_s=duration_s)
    assert expected == len(shown)
    assert {((180, 320, 3), np.dtype(np.uint8))} == {(frame.shape, frame.dtype) for frame in shown}


def test_equal_arguments_give_equal_frames_and_seeds_differ():
    """Nothing but the arguments decides a picture."""
    first, again, other = (frames(Scene(), duration_s=0.2, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_lane_marks_pass_at_the_speed_of_the_scene():
    """At 15 m/s one cycle of 15 m, 6 m of it paint, passes a point in one second."""
    painted, contrast = on_the_mark(Scene(speed_mps=15.0, traffic=0), fps=20, duration_s=3)
    assert contrast > 60
    starts = [index for index in range(1, len(painted)) if painted[index] and not painted[index - 1]]
    assert [pytest.approx(20, abs=1)] * (len(starts) - 1) == list(np.diff(starts))
    assert sum(painted) / len(painted) == pytest.approx(6 / MARK_CYCLE_M, abs=0.08)


def test_twice_the_speed_passes_marks_twice_as_fast():
    """At 30 m/s the cycle takes half a second."""
    painted, _ = on_the_mark(Scene(speed_mps=30.0, traffic=0), fps=20, duration_s=2)
    starts = [index for index in range(1, len(painted)) if painted[index] and not painted[index - 1]]
    assert [pytest.approx(10, abs=1)] * (len(starts) - 1) == list(np.diff(starts))


def test_a_standing_vehicle_sees_the_road_stand_still():
    """At 0 m/s nothing but sensor noise changes on an empty road."""
    first, *_, last = frames(Scene(speed_mps=0.0, traffic=0), duration_s=2)
    change = np.abs(first.astype(np.int16) - last.astype(np.int16)).mean()
    moved, *_, on = frames(Scene(speed_mps=15.0, traffic=0), duration_s=2)
    assert change < 6  # two draws of a noise of sigma 3.6
    assert np.abs(moved.astype(np.int16) - on.astype(np.int16)).mean() > 1.5 * change
    assert Scene(speed_mps=0.0).ego_motion == "stationary"
    assert Scene().ego_motion == "moving"


@pytest.mark.parametrize("place", ["highway", "city street", "residential"])
def test_day_is_brighter_than_dusk_and_dusk_than_night(place):
    """The light of each scene is that of its time of day."""
    day, dusk, night = (brightness(Scene(timeofday=light, scene=place)) for light in ("daytime", "dawn/dusk", "night"))
    assert day > dusk + 0.08
    assert dusk > night + 0.05
    assert 0.3 < day < 0.65
    assert 0.03 < night < 0.22


@pytest.mark.parametrize(
    "scene",
    [
        Scene(timeofday="undefined", weather="undefined", scene="tunnel"),
        Scene(weather="rainy"),
        Scene(weather="foggy", scene="undefined"),
        Scene(weather="overcast", scene="parking lot"),
        Scene(timeofday="night", weather="rainy", scene="city street", traffic=0),
        Scene(weather="partly cloudy", scene="city street", camera="back"),
    ],
    ids=lambda scene: f"{scene.timeofday} {scene.weather} {scene.scene}".replace("/", "-"),
)
def test_every_kind_of_scene_has_texture_and_contrast(scene):
    """No scene is flat, black or burnt out."""
    luma = frames(scene, duration_s=0.1)[0].mean(axis=2)
    assert np.percentile(luma, 95) - np.percentile(luma, 5) > 0.2 * 255
    assert 10 < luma.mean() < 200
    assert np.abs(np.diff(luma, axis=1)).mean() > 2


def test_own_headlights_fade_with_distance_and_to_the_side():
    """Strongest ahead and near."""
    assert beam_at(0, 10) > beam_at(0, 40) > beam_at(0, 120)
    assert beam_at(0, 20) > beam_at(4, 20) > beam_at(9, 20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weather": "snowy"},
        {"scene": "gas stations"},
        {"timeofday": "noon"},
        {"timeofday": "undefined"},
        {"speed_mps": -1.0},
        {"speed_mps": float("nan")},
        {"traffic": 41},
    ],
    ids=str,
)
def test_a_scene_that_cannot_be_drawn_is_refused(wrong):
    """Snow, petrol stations, unknown words and impossible numbers."""
    with pytest.raises(UsageError):
        Scene(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"width_px": 321}, {"height_px": 20}, {"fps": 0}, {"duration_s": 0.0}, {"duration_s": float("nan")}], ids=str
)
def test_a_picture_that_cannot_be_encoded_is_refused_at_once(wrong):
    """Before the first frame is asked for."""
    with pytest.raises(UsageError, match="render"):
        render(Scene(), **{**SIZE, "fps": 10, "duration_s": 1.0, "seed": 1, **wrong})


def test_a_covered_lens_shows_black():
    """Nearly nothing is left of the picture."""
    shown = list(defects.black(iter(frames(Scene(), duration_s=0.2))))
    assert len(shown) == 2
    assert max(float(frame.mean()) for frame in shown) < 6


def test_a_hung_recorder_repeats_its_first_frame():
    """As many frames, all alike."""
    source = frames(Scene(), duration_s=0.3)
    shown = list(defects.frozen(iter(source)))
    assert len(shown) == 3
    assert all(np.array_equal(source[0], frame) for frame in shown)
    assert list(defects.frozen(iter([]))) == []


def test_a_blurred_clip_has_lost_its_edges():
    """Gradients fall to a fraction, brightness stays."""
    sharp = frames(Scene(), duration_s=0.1)[0].astype(np.float32)
    soft = next(defects.blurred(iter(frames(Scene(), duration_s=0.1)))).astype(np.float32)
    assert np.abs(np.diff(soft, axis=1)).mean() < 0.35 * np.abs(np.diff(sharp, axis=1)).mean()
    assert float(soft.mean()) == pytest.approx(float(sharp.mean()), abs=2)


@pytest.mark.parametrize("count", [16, 36, 60])
def test_dropped_frames_are_a_quarter_and_lie_inside_the_clip(count):
    """Two gaps, neither at an end."""
    dropped = defects.dropped_indices(count)
    assert 0.15 < len(dropped) / count < 0.3
    assert 0 < min(dropped) < max(dropped) < count - 1


def test_a_truncated_file_is_the_beginning_of_the_whole():
    """Cut where it is asked for; a share outside (0, 1) is refused."""
    assert defects.truncated(b"0123456789", kept_share=0.4) == b"0123"
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError):
            defects.truncated(b"0123456789", kept_share=share)
