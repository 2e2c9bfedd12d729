"""Hostile clips in real workers: each costs its own verdict, with the reason, and the good clip beside it is measured.

Crashes, hangs and hoarded memory of whatever kind: `test_engine_local.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.adapters.clock_system import PinnedClock
from curation.adapters.engine_local import LocalEngine
from curation.records import Inspection
from curation.settings import EngineSettings, InspectSettings
from curation.stages.inspect_clips import inspection_of


def _write(path: Path, pictures: Iterable[np.ndarray], *, rate: int) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "30", "g": "100"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, rate)
        for tick, picture in enumerate(pictures):
            if not tick:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = tick, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _with_count(path: Path, box: bytes, to: Path) -> Path:
    """The mp4 with a box that claims nearly 2 ** 32 entries."""
    data = path.read_bytes()
    at = data.find(box) + 8 + (4 if box == b"stsz" else 0)
    to.write_bytes(data[:at] + (0xFFFFFFF0).to_bytes(4, "big") + data[at + 4 :])
    return to


@pytest.fixture
def measured(clock: PinnedClock) -> Callable[..., dict[str, Inspection]]:
    """Inspections of files by name, in one worker under the limits of the settings."""

    def call(*paths: Path, time_limit_s: float = 60.0) -> dict[str, Inspection]:
        policy = InspectSettings()
        items = [{"clip_id": path.name, "path": str(path), "policy": policy.model_dump(mode="json")} for path in paths]
        outcomes = LocalEngine(EngineSettings(workers=1, time_limit_s=time_limit_s)).map("inspect", items)
        return {
            path.name: inspection_of(outcome, clip_id=path.name, policy=policy, clock=clock)
            for path, outcome in zip(paths, outcomes, strict=True)
        }

    return call


def test_gigantic_headers_cost_their_clips_alone(scene: Callable, encode: Callable, measured: Callable, tmp_path: Path):
    """Tables of four milliards of entries, one of which asks for more memory than there may be: quarantined, each with its reason."""
    good = encode(scene(30))
    times, sizes = (_with_count(good, box, tmp_path / f"{box.decode()}.mp4") for box in (b"stts", b"stsz"))
    found = measured(times, good, sizes)
    assert ["quarantined", "accepted", "quarantined"] == [one.verdict for one in found.values()]
    assert found["stts.mp4"].error == "clip stts.mp4: needed more memory than its limit. Fix: look at the clip alone"
    assert set(found["stts.mp4"].unmeasured.values()) == {"needed more memory than its limit"}
    assert str(found["stsz.mp4"].error).startswith("stsz.mp4: cannot be read as video")


def test_a_thousand_frames_a_second_are_no_drive(scene: Callable, measured: Callable, tmp_path: Path):
    """A rate that no camera has leaves the clip unjudged, and says so."""
    found = measured(_write(tmp_path / "fast.mp4", scene(50) * 22, rate=1000))["fast.mp4"]
    assert (found.verdict, found.fps) == ("quarantined", None)
    assert "without fps (the packets claim more than 240 frames per second)" in str(found.error)


def test_an_8k_frame_is_measured_within_the_limit(scene: Callable, measured: Callable, tmp_path: Path):
    """33 million pixels a frame are looked at within the memory that a clip may cost by default."""
    found = measured(_write(tmp_path / "8k.mp4", (cv2.resize(frame, (7680, 4320)) for frame in scene(2)), rate=1))["8k.mp4"]
    assert (found.error, found.container and found.container.width_px) == (None, 7680)
    assert "sharpness" in found.signals


@pytest.mark.parametrize(("act", "reason"), [("segfault", "worker died: SIGSEGV"), ("hang", "took longer than 8 s")])
def test_a_decoder_that_crashes_or_hangs_costs_the_clip(
    scene: Callable, encode: Callable, measured: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, act: str, reason: str
):
    """With the reader itself spoiled inside the worker, the verdict names how it ended; the next clip has a fresh worker."""
    how = {"segfault": f"os.kill(os.getpid(), {int(signal.SIGSEGV)})", "hang": "time.sleep(600)"}[act]
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if '-m' in sys.orig_argv and 'curation.worker' in sys.orig_argv:\n"
        "    from curation.adapters import video_av\n"
        "    sound = video_av.AvClipStream.packets\n"
        f"    def packets(self):\n        return {how} if 'spoiled' in str(self._path) else sound(self)\n"
        "    video_av.AvClipStream.packets = packets\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    good, spoiled = encode(scene(30)), encode(scene(8), name="spoiled.mp4")
    found = measured(spoiled, good, time_limit_s=8.0 if act == "hang" else 60.0)
    assert found["spoiled.mp4"].error == f"clip spoiled.mp4: {reason}. Fix: look at the clip alone"
    assert ["quarantined", "accepted"] == [one.verdict for one in found.values()]
