"""Sees a clip's frames once and keeps what its signals need: numbers, the last frame and at most 16 samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import Final

from curation.ports import Frame
from curation.signals import coding, cuts, fingerprint, motion, picture, soiling
from curation.signals.looks import SHORT_SAMPLES_PER_S

TAGGED_FRAMES_MAX: Final = 16  # frames of 640 px width kept for the tagger: 11 MB at 16:9, whatever the clip's length

_LUMA_SIGNALS: Final[Mapping[str, Callable[[picture.Picture], float]]] = {
    "sharpness": picture.sharpness,
    "brightness": picture.brightness,
    "contrast": picture.contrast,
    "dark_ratio": picture.dark_ratio,
    "bright_ratio": picture.bright_ratio,
    "peak_brightness": picture.peak_brightness,
    "noise_sigma": picture.noise_sigma,
    "noise_floor_sigma": picture.noise_floor_sigma,
    "blockiness": coding.blockiness,
}
_MEANS: Final = ("motion_px", "shake_px", "test_pattern_ratio")  # of all others the median tells what the clip looks like
_PAIRED: Final = frozenset({"motion_px", "shake_px"})  # need the frame after a sample too
SHOWN: Final = ("sharpness", "brightness", "motion_px", "noise_sigma")  # what a contact sheet draws over time


class Watch:
    """Frames in, signals out.

    Args:
        samples_per_s: how often frames are measured; each is looked at for blackness and stillness.
        fps: places frames that carry no time.
        frame_count: frames that the clip shows, where not all of them are given to `see`; None where they are.
    """

    def __init__(self, *, fps: float, frame_count: int | None = None, samples_per_s: float = SHORT_SAMPLES_PER_S) -> None:
        self.seen_count = 0
        self.black_count = 0
        self.samples: list[picture.Picture] = []
        self.samples_s: list[float] = []  # when each of them is shown
        self.sampled_s: list[float] = []  # when each of the measured samples is shown
        self.measured: dict[str, list[float]] = {name: [] for name in (*_LUMA_SIGNALS, "saturation", *_MEANS)}
        self.still_ranks: list[int] = []  # frames that the next one does not differ from
        self._fps = fps
        self._sample_every_s = (1.0 - 1e-6) / samples_per_s
        self._frame_count = frame_count
        self._differing: list[bool] = []
        self._motion_s: list[float] = []
        self._steps: list[float] = []
        self._tiles: list[soiling.TileLook] = []
        self._sample_count = 0
        self._sample_stride = 1
        self._next_sample_s: float | None = None
        self._previous: Frame | None = None
        self._moments: list[fingerprint.Moment] = []
        self._previous_thumb: cuts.Thumb | None = None
        self._previous_rank = -1
        self._awaits_neighbour = False

    def see(self, frame: Frame, rank: int | None = None) -> None:
        """Take a frame in; `rank` is its place in the clip where some are left out, None where it follows the previous one."""
        rank = self._previous_rank + 1 if rank is None else rank
        is_black = not picture.is_plainly_lit(frame.glance) and picture.is_black(frame.luma)
        self.black_count += is_black
        thumb = None if is_black else cuts.thumb(frame.glance)  # light that goes out is no cut
        if self._previous is not None:
            self._step(self._previous, frame, thumb, rank)
        self._awaits_neighbour = False
        at_s = frame.pts_s if frame.pts_s is not None else self.seen_count / self._fps
        if self._next_sample_s is None or at_s >= self._next_sample_s:
            self._sample(frame.bgr, frame.luma, at_s)
            self._next_sample_s = at_s + self._sample_every_s
        self._previous, self._previous_thumb, self._previous_rank = frame, thumb, rank
        self.seen_count += 1

    def _step(self, earlier: Frame, later: Frame, thumb: cuts.Thumb | None, rank: int) -> None:
        if rank != self._previous_rank + 1:
            self._differing.append(True)  # what lies between was not seen: it belongs to no run of still frames
            return
        differs = picture.plainly_differ(earlier.glance, later.glance) or picture.differ(earlier.luma, later.luma)
        self._differing.append(differs)
        if not differs:
            self.still_ranks.append(self._previous_rank)
        self._steps.append(0.0 if thumb is None or self._previous_thumb is None else cuts.step(self._previous_thumb, thumb))
        if self._awaits_neighbour and earlier.luma.shape == later.luma.shape:
            flow = motion.flow_between(motion.at_motion_width(earlier.luma), motion.at_motion_width(later.luma))
            self.measured["motion_px"].append(motion.motion_px(flow))
            self.measured["shake_px"].append(motion.shake_px(flow))
            self._motion_s.append(self.sampled_s[-1])

    def _sample(self, bgr: picture.Picture, luma: picture.Picture, at_s: float) -> None:
        for name, signal in _LUMA_SIGNALS.items():
            self.measured[name].append(signal(luma))
        self.measured["saturation"].append(picture.saturation(bgr))
        self.measured["test_pattern_ratio"].append(float(coding.is_test_pattern(bgr)))
        self.sampled_s.append(at_s)
        bits = fingerprint.picture_bits(luma)
        if bits is not None and at_s >= self.sampled_s[0]:
            self._moments.append(fingerprint.Moment(at_ms=round(1000 * (at_s - self.sampled_s[0])), bits=bits))
        if luma.shape[0] >= soiling.ROWS and luma.shape[1] >= soiling.COLUMNS:
            self._tiles.append(soiling.tile_look(luma))
        self._awaits_neighbour = True
        if self._sample_count % self._sample_stride == 0:
            if len(self.samples) == TAGGED_FRAMES_MAX:
                self.samples, self.samples_s = self.samples[::2], self.samples_s[::2]
                self._sample_stride *= 2
            if self._sample_count % self._sample_stride == 0:
                self.samples.append(bgr)
                self.samples_s.append(at_s)
        self._sample_count += 1

    def signature(self) -> str | None:
        """The samples as `fingerprint.signature` has them; None where all of them are flat."""
        return fingerprint.signature(self._moments)

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Name of each shown signal -> when it was measured, and what."""
        return {name: list(zip(self._motion_s if name in _PAIRED else self.sampled_s, self.measured[name], strict=True)) for name in SHOWN}

    def signals(self) -> dict[str, float]:
        """What the frames seen so far amount to; a signal that they cannot give is left out.

        Frames that were left out count as neither black nor still: what hints at it in the packets is to be seen.
        """
        found = {name: median(values) for name, values in self.measured.items() if values and name not in _MEANS}
        found |= {name: fmean(self.measured[name]) for name in _MEANS if self.measured[name]}
        soiled = soiling.soiled_ratio(self._tiles)
        if soiled is not None:
            found["soiled_ratio"] = soiled
        if self.seen_count and self._frame_count is None:
            found["scene_cut_count"] = cuts.scene_cut_count(self._steps)
        if self._differing:
            seen_ratio = picture.frozen_ratio(self._differing)
            found["frozen_ratio"] = seen_ratio * len(self._differing) / max(len(self._differing), (self._frame_count or 0) - 1)
        if self.seen_count:
            found["black_ratio"] = self.black_count / max(self.seen_count, self._frame_count or 0)
        return found
