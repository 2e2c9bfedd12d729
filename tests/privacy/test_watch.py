"""Which frames are looked at, and how much of each: often enough for what turns away, and all of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from curation.errors import ClipUnreadable
from curation.model_settings import ObjectKind
from curation.privacy.boxes import Box
from curation.privacy.watch import unseen_frames, watch
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

    def __init__(self, *, width_px: float = 8, from_look: int = 0) -> None:
        self.parts: list[Box | None] = []
        self._width_px, self._from_look = width_px, from_look

    def find(self, picture: np.ndarray, *, min_score: float | None = None, within: Box | None = None) -> Sequence[Detection]:
        assert min_score == 0.1
        self.parts.append(within)
        if len(self.parts) <= self._from_look:
            return ()
        return (Detection(x_px=1, y_px=1, width_px=self._width_px, height_px=8, score=0.5),)


def _looked(frames: list[_Frame], every: int, eye: _Blind | None = None) -> list[int]:
    eyes = {"face": eye or _Blind()}
    seen, size_px = watch(iter(frames), eyes, least_scores={"face": 0.1}, reach_frames=8, every=every, subject="x.mp4")
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


def test_every_second_look_is_at_the_part_where_something_was_seen() -> None:
    """What was seen, a box of its own size all around it and 64 px at least; the last frame is looked at whole, whosever turn it is."""
    eye = _Blind()
    frames = [_Frame(None, (640, 320)) for _ in range(20)]
    assert [0, 6, 12, 18, 19] == _looked(frames, 6, eye)
    assert [None, (0, 0, 1 + 8 + 64, 1 + 8 + 64), None, (0, 0, 73, 73), None] == eye.parts
    wide = _Blind(width_px=200)
    assert [0, 6] == _looked(frames[:7], 6, wide)
    assert [None, (0, 0, 1 + 200 + 200, 73), None] == wide.parts  # the last frame's part was looked at before it turned out the last


def test_where_nothing_was_seen_only_every_second_look_is_taken() -> None:
    """There is no part to look at: the model is spared, and looks at all of the twelfth frame."""
    eye = _Blind(from_look=1)
    assert [0, 12, 18, 19] == _looked([_Frame(None) for _ in range(20)], 6, eye)
    assert [None, None, (0, 0, 64, 32), None] == eye.parts


def test_looking_at_every_frame_is_looking_at_all_of_it() -> None:
    """Masked shard sets do."""
    eye = _Blind()
    _looked([_Frame(None) for _ in range(4)], 1, eye)
    assert [None] * 4 == eye.parts
    assert (0, 11) == (unseen_frames(1), unseen_frames(6))


def test_after_a_gap_in_time_the_next_frame_is_looked_at() -> None:
    """A recorder that dropped frames: what changed meanwhile is looked at as soon as it is shown."""
    times = [0.0, 1 / 30, 2 / 30, 1.0, 1 + 1 / 30, 1 + 2 / 30, 1 + 3 / 30]
    assert [0, 3, 6] == _looked([_Frame(at_s) for at_s in times], 6)


def test_a_clip_that_changes_its_size_is_refused() -> None:
    """Boxes of one size say nothing about another."""
    with pytest.raises(ClipUnreadable, match="changes its size"):
        _looked([_Frame(0.0), _Frame(0.1, (32, 64))], 6)
