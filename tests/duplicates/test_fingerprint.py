"""Signatures: what they stand still under, what they tell apart, and what counts as proof."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from curation.adapters.index_faiss import FaissHashIndex
from curation.signals.fingerprint import MOMENTS_MAX, Agreement, Moment, agreement, bits_apart, is_copy, moments_of, picture_bits, signature

Picture = npt.NDArray[np.uint8]


def _scene(seed: int, *, width: int = 640, height: int = 360) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 16), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _bits(picture: Picture) -> str:
    found = picture_bits(picture)
    assert found is not None
    return found


def _clip(*seeds: int) -> tuple[Moment, ...]:
    return tuple(Moment(at_ms=500 * at, bits=_bits(_scene(seed))) for at, seed in enumerate(seeds))


@pytest.mark.parametrize("quality", [35, 60, 90])
def test_coding_and_rescaling_move_few_bits(quality: int) -> None:
    """A picture at a third of its width and through JPEG stays within 12 of 256 bits."""
    scene = _scene(1)
    small = cv2.resize(scene, (212, 120), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    assert bits_apart(_bits(scene), _bits(np.asarray(coded, np.uint8))) <= 12


def test_other_pictures_lie_far_apart() -> None:
    """Pictures that have nothing in common differ in far more bits than a match allows."""
    hashes = [_bits(_scene(seed)) for seed in range(12)]
    assert min(bits_apart(one, other) for at, one in enumerate(hashes) for other in hashes[:at]) > 80


@pytest.mark.parametrize("level", [0, 40, 255])
def test_flat_pictures_have_no_bits(level: int) -> None:
    """Black, white and covered pictures are nobody's likeness, noise on them included."""
    noise = np.random.default_rng(0).normal(level, 6.0, (360, 640)).clip(0, 255).astype(np.uint8)
    assert picture_bits(np.full((360, 640), level, np.uint8)) is None
    assert picture_bits(noise) is None


def test_signature_keeps_the_beginning_and_every_second_moment() -> None:
    """More than 16 moments are thinned so that two thinned signatures still share times."""
    moments = [Moment(at_ms=500 * at, bits=f"{at:064x}") for at in range(40)]
    kept = moments_of(signature(moments) or "")
    assert [moments[at] for at in range(0, 40, 4)] == list(kept)
    assert len(kept) <= MOMENTS_MAX
    assert signature([]) is None


@pytest.mark.parametrize("text", ["", "0:ab", "x:" + "0" * 64, "0:" + "0" * 64 + "  1:" + "0" * 64])
def test_what_is_no_signature_is_refused(text: str) -> None:
    """A text of another form raises instead of giving fewer moments."""
    with pytest.raises(ValueError, match="no signature"):
        moments_of(text)


def test_agreement_counts_common_times_only() -> None:
    """Equal pictures at other times are no match: a road repeats itself."""
    one = _clip(1, 2, 3)
    late = tuple(Moment(at_ms=moment.at_ms + 200, bits=moment.bits) for moment in one)
    assert Agreement(common_count=3, matching_count=3, distinct_count=3, changes=True) == agreement(one, one)
    assert 0 == agreement(one, late).common_count
    assert 2 == agreement(one, _clip(1, 2, 4)).matching_count


@pytest.mark.parametrize(
    ("matching", "distinct", "times_agree", "expected"),
    [
        (4, 4, None, True),
        (4, 4, False, True),  # several different pictures prove it against a wrong clock
        (3, 3, None, False),  # three of four are too few
        (4, 1, True, True),
        (4, 1, None, False),  # a standing view, to the bit the same, at times that nobody knows
        (4, 1, False, False),  # a parked car, a minute later
        (0, 0, True, False),
    ],
)
def test_what_counts_as_proof(matching: int, distinct: int, times_agree: bool | None, expected: bool) -> None:  # noqa: FBT001
    """A standing view proves one recording only with the times of capture."""
    found = Agreement(common_count=4, matching_count=matching, distinct_count=distinct, changes=False)
    assert expected == is_copy(found, times_agree=times_agree)


def test_a_single_common_picture_of_a_moving_view_is_proof_unless_the_clocks_object() -> None:
    """Another encoder's key frames may leave the beginning alone to compare."""
    found = Agreement(common_count=1, matching_count=1, distinct_count=1, changes=True)
    assert is_copy(found, times_agree=None)
    assert not is_copy(found, times_agree=False)


def test_a_view_changes_where_both_clips_show_it() -> None:
    """One that stands beside one that drives off has not changed: they may be two minutes of one parked car."""
    standing, leaving, driving = _clip(1, 1, 1), _clip(1, 1, 9), _clip(1, 7, 9)
    assert [False, False, True] == [
        agreement(one, other).changes for one, other in ((standing, standing), (standing, leaving), (driving, leaving))
    ]


@pytest.mark.parametrize("swept_max", [10_000, 1500, 0])
def test_index_finds_every_pair_within_31_bits(swept_max: int) -> None:
    """Swept, taken over on the way or through the multi-index: 31 flipped bits are found, 40 are not, a wider question is refused."""
    rng = np.random.default_rng(7)
    hashes = rng.integers(0, 256, (3000, 32), dtype=np.uint8)
    bits = np.unpackbits(hashes[:200], axis=1)
    for row, flips in enumerate([31] * 100 + [40] * 100):
        bits[row, rng.choice(256, flips, replace=False)] ^= 1
    index = FaissHashIndex(swept_max=swept_max)
    assert [] == list(index.near(hashes, within=31))
    index.add(hashes[:1000])
    index.add(hashes[1000:])
    assert [(row, row) for row in range(100)] == sorted(index.near(np.packbits(bits, axis=1), within=31))
    with pytest.raises(ValueError, match="0 to 31"):
        list(index.near(hashes, within=32))
