"""Which frames are looked at: often enough for what turns away, and the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from curation.errors import ClipUnreadable
from curation.model_settings import ObjectKind
from curation.privacy.watch import watch
from curation.records import Detection


@dataclass
class _Frame:
    """A black frame, which says whether its picture was asked for."""

    at_s: float | None
    size_px: tuple[int, int] = (64, 32)
    asked: bool = False

    def luma(self, width_px: int) -> np.ndarray:
        return np.zeros((width_px // 2, width_px), np.uint8)

    def picture(self) -> np.ndarray:
        self.asked = True
        return np.zeros((32, 64, 3), np.uint8)


class _Blind:
    """Finds one thing everywhere."""

    version = "blind-1"
    finds: ObjectKind = "face"

    def find(self, picture: np.ndarray, *, min_score: float | None = None) -> Sequence[Detection]:
        assert min_score == 0.1
        return (Detection(x_px=1, y_px=1, width_px=8, height_px=8, score=0.5),)


def _looked(frames: list[_Frame], every: int) -> list[int]:
    seen, size_px = watch(iter(frames), {"face": _Blind()}, least_scores={"face": 0.1}, reach_frames=3, every=every, subject="x.mp4")
    assert frames[0].size_px == size_px
    looked = [number for number, found in enumerate(seen["face"].frames) if found is not None]
    assert looked == [number for number, frame in enumerate(frames) if frame.asked] == list(seen["face"].paths)
    return looked


@pytest.mark.parametrize(
    ("fps", "every", "expected"),
    [
        (30, 6, [0, 6, 12, 13]),
        (30, 1, list(range(14))),
        (10, 6, [0, 2, 4, 6, 8, 10, 12, 13]),  # 0.2 s apart: a third frame would come after 0.3 s
        (3, 6, list(range(14))),
        (None, 6, [0, 6, 12, 13]),
    ],
)
def test_looks_are_neither_more_frames_nor_more_time_apart_than_told(fps: int | None, every: int, expected: list[int]) -> None:
    """Six frames at 30 a second; at 10 a second a quarter of a second counts; the last frame is always looked at."""
    assert expected == _looked([_Frame(None if fps is None else number / fps) for number in range(14)], every)


def test_after_a_gap_in_time_the_next_frame_is_looked_at() -> None:
    """A recorder that dropped frames: what changed meanwhile is looked at as soon as it is shown."""
    times = [0.0, 1 / 30, 2 / 30, 1.0, 1 + 1 / 30, 1 + 2 / 30, 1 + 3 / 30]
    assert [0, 3, 6] == _looked([_Frame(at_s) for at_s in times], 6)


def test_a_clip_that_changes_its_size_is_refused() -> None:
    """Boxes of one size say nothing about another."""
    with pytest.raises(ClipUnreadable, match="changes its size"):
        _looked([_Frame(0.0), _Frame(0.1, (32, 64))], 6)
