"""Picture signals on arrays whose answer is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from curation.signals import picture

FLAT = np.full((90, 160), 128, np.uint8)
STRIPES = np.tile(np.array([0, 255], np.uint8), (90, 80))


def _noise(sigma: float) -> np.ndarray:
    return np.clip(np.random.default_rng(3).normal(128, sigma, (360, 640)), 0, 255).astype(np.uint8)


def test_sharpness_is_the_variance_of_the_laplacian():
    """A flat picture has none, one bright pixel has the kernel's own variance, and blur takes it away."""
    dot = np.zeros((11, 11), np.uint8)
    dot[5, 5] = 100
    assert picture.sharpness(FLAT) == 0.0
    assert picture.sharpness(dot) == pytest.approx((400**2 + 4 * 100**2) / 121)
    assert picture.sharpness(cv2.GaussianBlur(_noise(20), (0, 0), 3)) < 0.05 * picture.sharpness(_noise(20))


def test_light_signals_have_their_exact_values():
    """Brightness, contrast, dark and bright ratio of half black, half white are one half, one, one half, one half."""
    half = np.vstack([np.zeros((50, 100), np.uint8), np.full((50, 100), 255, np.uint8)])
    found = [signal(half) for signal in (picture.brightness, picture.contrast, picture.dark_ratio, picture.bright_ratio)]
    assert found == [0.5, 1.0, 0.5, 0.5]


def test_a_single_lamp_is_the_brightest_of_a_dark_picture():
    """One pixel in 500 is enough, one in 2,000 is not."""
    night = np.zeros((50, 100), np.uint8)
    night[0, :10] = 204
    assert picture.peak_brightness(night) == 0.8
    night[0, 2:10] = 0
    assert picture.peak_brightness(night) == 0.0


def test_ratio_limits_are_exclusive():
    """Luma 32 is not dark, luma 235 is not bright; one step beyond, they are."""
    found = [
        (picture.dark_ratio(np.full((4, 4), dark, np.uint8)), picture.bright_ratio(np.full((4, 4), bright, np.uint8)))
        for dark, bright in ((32, 235), (31, 236))
    ]
    assert found == [(0.0, 0.0), (1.0, 1.0)]


@pytest.mark.parametrize("sigma", [4.0, 10.0, 25.0])
def test_noise_sigma_finds_the_noise_that_was_added(sigma: float):
    """On a flat picture the estimate lies within 5 % of the true standard deviation."""
    assert picture.noise_sigma(_noise(sigma)) == pytest.approx(sigma, rel=0.05)


def test_noise_sigma_ignores_ramps_and_survives_tiny_pictures():
    """A linear ramp is no noise, and a picture without inner pixels gives 0, not a NaN."""
    ramp = np.tile(np.arange(160, dtype=np.uint8), (90, 1))
    assert [picture.noise_sigma(ramp), picture.noise_sigma(FLAT[:2, :2])] == [0.0, 0.0]


def test_noise_sigma_stays_within_what_eight_bits_can_deviate():
    """A chequerboard of black and white, where the estimate runs away, reads as the largest deviation there is."""
    board = (np.indices((90, 160)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert picture.noise_sigma(board) == 127.5


def test_saturation_is_zero_for_grey_and_one_for_pure_colour():
    """Grey has no saturation, pure red has all of it."""
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 255
    assert [picture.saturation(np.full((4, 4, 3), 90, np.uint8)), picture.saturation(red)] == [0.0, 1.0]


def test_black_needs_almost_every_pixel_dark():
    """A picture of limited-range black is black; the same with two lamps of 0.2 % each, a night drive, is not."""
    night = np.full((360, 640), 16, np.uint8)
    lit = night.copy()
    lit[100:110, 300:346] = 200
    assert [picture.is_black(night), picture.is_black(lit)] == [True, False]


@pytest.mark.parametrize("share", [0.0005, 0.002, 0.02, 0.5])
def test_what_a_few_pixels_settle_all_of_them_confirm(share: float):
    """Of pictures with as many pixels lit, or moved, the sample never says "not black" or "differs" where the whole says otherwise."""
    rng = np.random.default_rng(5)
    night = np.full((360, 640), 16, np.uint8)
    lit = np.where(rng.random(night.shape) < share, 90, night).astype(np.uint8)
    sampled = np.ascontiguousarray(lit[::4, ::4])
    assert picture.is_plainly_lit(sampled) == (share >= 0.02)
    assert picture.is_plainly_lit(sampled) <= (not picture.is_black(lit))
    assert picture.plainly_differ(np.ascontiguousarray(night[::4, ::4]), sampled) == (share >= 0.02)
    assert picture.plainly_differ(np.ascontiguousarray(night[::4, ::4]), sampled) <= picture.differ(night, lit)


def test_tiles_of_a_size_that_does_not_divide_are_means_all_the_same():
    """Three by two tiles of 7 x 5 px have the mean of their own pixels, the last ones with their edge repeated."""
    values = np.repeat([[1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 9.0]], 5, axis=0)
    assert picture.tile_means(values, columns=3, rows=2).tolist() == [[pytest.approx(one) for one in (1.0, 5.0, 9.0)]] * 2


def test_two_pictures_differ_by_moved_pixels_not_by_re_encoding():
    """Two luma steps everywhere are re-encoding; fifty in one of 5,000 pixels is movement; another size always differs."""
    wobble, moved = FLAT + 2, FLAT.copy()
    moved[0, :3] += 50
    found = [picture.differ(FLAT, wobble), picture.differ(FLAT, moved), picture.differ(FLAT, FLAT[:10])]
    assert found == [False, True, True]


def test_frozen_ratio_counts_runs_and_forgives_doubled_frames():
    """Five still steps in ten are half frozen; every second frame doubled is not frozen at all."""
    assert picture.frozen_ratio([True] * 5 + [False] * 5) == 0.5
    assert picture.frozen_ratio([True, False] * 10) == 0.0
    assert picture.frozen_ratio([False] * 8) == 1.0


def test_frozen_ratio_refuses_a_single_frame():
    """Without a step there is nothing to judge, and no number is made up."""
    with pytest.raises(ValueError, match="two frames"):
        picture.frozen_ratio([])


def test_signals_stay_in_range_on_extremes():
    """Stripes of black and white, the harshest picture there is, give finite numbers and full contrast."""
    assert all(math.isfinite(signal(STRIPES)) for signal in (picture.sharpness, picture.noise_sigma))
    assert picture.contrast(STRIPES) == 1.0
