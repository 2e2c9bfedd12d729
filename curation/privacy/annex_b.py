"""The figures of GB/T 44464-2024 Annex B: which labelled objects a mask covers, which masks cover nothing, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from curation.model_settings import ObjectKind
from curation.privacy.boxes import Boxes, clipped, covered, ious, no_boxes, scaled
from curation.privacy.labels import Label, Sample, too_near
from curation.records import Detection

# 5.6.2.1: the shorter side from which a face or plate must be anonymised.
LEAST_SIDE_PX: Final[Mapping[ObjectKind, float]] = {"face": 32.0, "plate": 16.0}
MIN_DETECTION_RATE: Final = 0.90  # 5.6.2.2, shall
MAX_FALSE_RATE: Final = 0.10  # 5.6.2.2, should; held here as if it were a shall
MIN_COVER: Final = 0.5  # Annex B: a mask that covers less is none
MIN_SAMPLES: Final = 500  # Annex B: pictures, or frames at least 2 s apart, which are 1,000 s of video
MIN_OBJECTS: Final = 200  # Annex B, of each kind
MIN_FRAME_STEP_S: Final = 2.0
CONFIDENCE: Final = 0.95
FALSE_BELOW_IOU: Final = 0.2  # the standard gives no measure for a false detection; half of `boxes.SAME_IOU` and a little
FLOOR_SCORE: Final = 0.05  # down to which a missed object is looked for, to say why it was missed

Result = Literal["passed", "failed", "insufficient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share with its exact interval (Clopper-Pearson) at `CONFIDENCE`; no value where nothing was counted."""

    count: int
    total: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A labelled object that no mask covers by half, and why."""

    file: str
    at_s: float | None
    kind: ObjectKind
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    cover: float
    why: str
    why_zh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one kind in one sample."""

    covered: int
    total: int
    covered_small: int
    total_small: int
    false: int
    found: int
    unlabelled_small: int
    found_small: int
    missed: tuple[Missed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One kind over all samples.

    What is below the standard's size counts neither way: `small` are such labelled objects, and `unlabelled_small` such detections that
    meet no label, which nobody had to draw.
    """

    kind: ObjectKind
    detection: Rate
    false: Rate
    small: Rate
    unlabelled_small: Rate
    missed: tuple[Missed, ...]


def rate(count: int, total: int, *, confidence: float = CONFIDENCE) -> Rate:
    """`count` of `total` as a share, with the interval of Clopper and Pearson; 0 to 1 where nothing was counted."""
    from scipy.special import betaincinv  # noqa: PLC0415 - half a second to import, which every command would wait for

    tail = (1 - confidence) / 2
    low = float(betaincinv(count, total - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, total - count, 1 - tail)) if count < total else 1.0
    return Rate(count=count, total=total, value=count / total if total else None, low=round(low, 4), high=round(high, 4))


def judge(sample: Sample, detections: Sequence[Detection], kind: ObjectKind, *, min_score: float, width_px: int, height_px: int) -> Outcome:
    """What became of the faces, or plates, of a sample.

    Args:
        sample: what is labelled in it.
        detections: of this kind, down to `FLOOR_SCORE`; those below `min_score` only tell why something was missed.
        kind: which labels count.
        min_score: from which score the detector masks.
        width_px: of the picture, as `height_px`: what lies outside is not there.
        height_px: see there.
    """
    used = _boxes([one for one in detections if one.score >= min_score])
    masks = clipped(scaled(used), width_px, height_px)
    labels = [one for one in sample.labels if one.kind == kind]
    cover = covered(_boxes(labels), masks)
    is_due = np.asarray([one.side_px >= LEAST_SIDE_PX[kind] for one in labels], np.bool_)
    is_hit = cover >= MIN_COVER
    known = _boxes([one for one in sample.labels if one.kind in {kind, "ignore"}])
    meets_none = ious(used, known).max(axis=1, initial=0.0) < FALSE_BELOW_IOU
    is_small = used[:, 2:].min(axis=1, initial=np.inf) < LEAST_SIDE_PX[kind]
    missed = tuple(
        _missed(sample, label, kind, cover=share, detections=detections, min_score=min_score)
        for label, share, due, hit in zip(labels, cover, is_due, is_hit, strict=True)
        if due and not hit
    )
    return Outcome(
        covered=int((is_hit & is_due).sum()),
        total=int(is_due.sum()),
        covered_small=int((is_hit & ~is_due).sum()),
        total_small=int((~is_due).sum()),
        false=int((meets_none & ~is_small).sum()),
        found=int((~is_small).sum()),
        unlabelled_small=int((meets_none & is_small).sum()),
        found_small=int(is_small.sum()),
        missed=missed,
    )


def _missed(sample: Sample, label: Label, kind: ObjectKind, *, cover: float, detections: Sequence[Detection], min_score: float) -> Missed:
    box = _boxes([label])
    near = [one for one, share in zip(detections, ious(_boxes(detections), box)[:, 0], strict=True) if share >= FALSE_BELOW_IOU]
    best = max((one.score for one in near), default=0.0)
    if cover >= 0.005:  # what rounds to nothing tells nothing
        why, why_zh = f"the masks cover {cover:.0%} of it", f"遮盖仅覆盖其{cover:.0%}"
    elif near:
        why, why_zh = f"seen with score {best:.2f}, masked from {min_score:.2f}", f"检出得分{best:.2f}, 低于阈值{min_score:.2f}"
    else:
        why, why_zh = f"not seen, even at score {FLOOR_SCORE:.2f}", f"得分低至{FLOOR_SCORE:.2f}仍未检出"
    return Missed(
        file=sample.file,
        at_s=sample.at_s,
        kind=kind,
        x_px=label.x_px,
        y_px=label.y_px,
        width_px=label.width_px,
        height_px=label.height_px,
        cover=round(float(cover), 3),
        why=why,
        why_zh=why_zh,
    )


def _boxes(of: Sequence[Label] | Sequence[Detection]) -> Boxes:
    return np.asarray([(one.x_px, one.y_px, one.width_px, one.height_px) for one in of], np.float64) if of else no_boxes()


def figures(kind: ObjectKind, outcomes: Sequence[Outcome]) -> Figures:
    """The figures of one kind over the outcomes of all samples."""
    return Figures(
        kind=kind,
        detection=rate(sum(one.covered for one in outcomes), sum(one.total for one in outcomes)),
        false=rate(sum(one.false for one in outcomes), sum(one.found for one in outcomes)),
        small=rate(sum(one.covered_small for one in outcomes), sum(one.total_small for one in outcomes)),
        unlabelled_small=rate(sum(one.unlabelled_small for one in outcomes), sum(one.found_small for one in outcomes)),
        missed=tuple(missed for one in outcomes for missed in one.missed),
    )


def result(found: Sequence[Figures], samples: Sequence[Sample]) -> tuple[Result, tuple[tuple[str, str], ...]]:
    """`passed`, `failed` or `insufficient`, and each reason in English and Chinese.

    Stricter than the standard: the lower end of the interval must reach the rate, and the false rate must hold.
    What reaches the rate, but on too few objects to be sure, is `insufficient`.
    """
    short = _too_few(found, samples)
    failing, unsure = [], []
    for one in found:
        name_zh = {"face": "人脸", "plate": "车牌"}[one.kind]
        detected, false = one.detection, one.false
        if detected.value is not None and detected.value < MIN_DETECTION_RATE:
            told = f"{one.kind}s: {detected.value:.1%} detected, at least {MIN_DETECTION_RATE:.0%} is needed"
            failing.append((told, f"{name_zh}: 检出率{detected.value:.1%}, 要求不低于{MIN_DETECTION_RATE:.0%}"))
        elif detected.low < MIN_DETECTION_RATE:
            told = f"{one.kind}s: the interval of the detection rate begins at {detected.low:.1%}, below {MIN_DETECTION_RATE:.0%}"
            unsure.append((told, f"{name_zh}: 检出率置信区间下限{detected.low:.1%}, 低于{MIN_DETECTION_RATE:.0%}"))
        if false.value is not None and false.value > MAX_FALSE_RATE:
            told = f"{one.kind}s: {false.value:.1%} of the detections are false, at most {MAX_FALSE_RATE:.0%} may be"
            failing.append((told, f"{name_zh}: 误检率{false.value:.1%}, 要求不高于{MAX_FALSE_RATE:.0%}"))
    if short:
        return "insufficient", (*short, *failing, *unsure)
    if failing:
        return "failed", (*failing, *unsure)
    return ("insufficient", tuple(unsure)) if unsure else ("passed", ())


def _too_few(found: Sequence[Figures], samples: Sequence[Sample]) -> list[tuple[str, str]]:
    short = []
    if len(samples) < MIN_SAMPLES:
        short.append((f"{len(samples)} pictures, at least {MIN_SAMPLES} are needed", f"图片{len(samples)}张, 要求不少于{MIN_SAMPLES}张"))
    for one in found:
        if one.detection.total < MIN_OBJECTS:
            name_zh = {"face": "人脸", "plate": "车牌"}[one.kind]
            told = f"{one.detection.total} {one.kind}s of the standard's size, at least {MIN_OBJECTS} are needed"
            short.append((told, f"达到标准尺寸的{name_zh}{one.detection.total}个, 要求不少于{MIN_OBJECTS}个"))
    for file in too_near(samples, least_s=MIN_FRAME_STEP_S):
        told = f"{file}: sampled frames lie less than {MIN_FRAME_STEP_S:.0f} s apart"
        short.append((told, f"{file}: 抽帧间隔不足{MIN_FRAME_STEP_S:.0f}秒"))
    return short
