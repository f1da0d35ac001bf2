"""Scale and contrast are read off an image, or said to be unknown; what is given is taken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.image import Movie
from atomreel.core.scope import Scope
from atomreel.predict.survey import (
    DEFAULT_SPACING,
    TARGET,
    WAVES,
    Reading,
    certainty,
    line_noise,
    noise_rise,
    odds,
    skewness,
    strongest,
    survey_columns,
)
from atomreel.simulate.sample import random_image


def lattice(spacing: float, *, side: int = 320, seed: int = 0, dark: bool = False) -> np.ndarray:
    """Three plane waves at 60° make triangular spots `spacing` apart; Poisson noise."""
    y, x = np.mgrid[:side, :side]
    angles = 0.3 + np.arange(3) * np.pi / 3
    waves = [np.cos(2 * np.pi * (x * np.cos(a) + y * np.sin(a)) / (spacing * np.sqrt(0.75))) for a in angles]
    spots = np.exp(0.45 * (sum(waves) - 3))
    expected = 40 * (1 - 0.4 * spots) if dark else 12 * spots + 0.3
    return np.random.default_rng(seed).poisson(expected).astype(np.float32)


@pytest.mark.parametrize("spacing", [6.0, 9.0, 14.0, 22.0, 40.0])
def test_the_spacing_is_read_off_the_image(spacing: float) -> None:
    survey = survey_columns(lattice(spacing))
    assert survey.scale_source == "image"
    assert 1 / 1.15 < survey.spacing_px / spacing < 1.15


def test_bright_spots_are_called_bright() -> None:
    survey = survey_columns(lattice(10.0))
    assert survey.bright
    assert survey.p_bright > 0.5


def test_a_movie_is_surveyed_as_its_frames_are() -> None:
    frames = np.stack([lattice(10.0, seed=s) for s in range(5)])
    movie = Movie(frames=list(frames), shape=(320, 320))
    assert survey_columns(movie).spacing_px == pytest.approx(survey_columns(frames[0]).spacing_px, rel=0.2)


def test_what_is_told_is_taken() -> None:
    survey = survey_columns(lattice(10.0), spacing=11.0, contrast="dark")
    assert (survey.spacing_px, survey.bright, survey.scale_source) == (11.0, False, "given")
    assert survey.zoom == pytest.approx(TARGET / 11.0)


def test_an_empty_image_gets_the_default_and_a_warning() -> None:
    survey = survey_columns(np.zeros((200, 200)))
    assert (survey.spacing_px, survey.scale_source) == (DEFAULT_SPACING, "default")
    assert any("assumed" in w for w in survey.warnings)


@pytest.mark.parametrize(
    ("given", "says"), [({"contrast": "grey"}, "auto, bright or dark"), ({"spacing": -1.0}, "positive")]
)
def test_wrong_wishes_are_refused(given: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        survey_columns(np.zeros((64, 64)), **given)


def reading(mass: float, spacing: float, *, bright: bool = True, suits: float = 1.0) -> Reading:
    return Reading(bright, suits * TARGET / spacing, mass, spacing, 100)


def test_of_readings_that_are_as_good_the_one_at_its_own_zoom_counts() -> None:
    coarse, fine, poor = reading(1.0, 10.0, suits=1.6), reading(0.95, 10.2), reading(0.5, 20.0)
    assert strongest([coarse, fine, poor]) is fine
    assert strongest([coarse, poor]) is coarse
    assert strongest([]) is None
    unmeasured = Reading(True, TARGET / 10.0, 1.0, 10.0, 100, measured=False)
    assert strongest([unmeasured, coarse]) is coarse


def test_odds_follow_readings_noise_and_lines(rng: np.random.Generator) -> None:
    even = rng.normal(0, 1, (256, 256)).astype(np.float32)
    assert odds([reading(1.0, 10.0), reading(0.2, 17.0, bright=False)], [even]) > 0.8
    assert odds([reading(0.2, 10.0), reading(1.0, 17.0, bright=False)], [even]) < 0.2
    same = [reading(1.0, 10.0), reading(1.0, 10.0, bright=False)]
    assert 0.4 < odds(same, [even]) < 0.6
    counts = lattice(10.0)
    assert odds(same, [counts]) > 0.7
    assert odds(same, [-counts]) < 0.3
    assert odds(same, [even + 2 * rng.normal(0, 1, (256, 1)).astype(np.float32)]) > 0.7


def test_fringes_at_half_the_spacing_are_known(rng: np.random.Generator) -> None:
    """Dark columns 16 px apart with as many bright dots between them again."""
    image = rng.poisson(100, (64, 64)).astype(np.float32)
    other = odds([reading(0.9, 8.0, bright=True), reading(0.4, 12.5, bright=False)], [image])
    fringes = odds([reading(0.9, 8.0, bright=True), reading(0.4, 16.0, bright=False)], [image])
    assert fringes < 0.5 * other
    turned = odds([reading(0.9, 8.0, bright=False), reading(0.4, 16.0)], [image])
    assert turned > 1 - fringes - 0.2


def columns(kind: str, spacing: float, width: float, *, counts: float, seed: int) -> np.ndarray:
    """Gaussians of σ = `width` px in a close-packed layer, or in a honeycomb whose holes are one; of that spacing."""
    rng = np.random.default_rng(seed)
    vectors = spacing * np.array([[0.0, 1.0], [np.sqrt(0.75), 0.5]])
    index = np.stack(np.mgrid[-40:41, -40:41], -1).reshape(-1, 2)
    basis = [(0.0, 0.0)] if kind == "layer" else [(1 / 3, 1 / 3), (2 / 3, 2 / 3)]
    at = np.concatenate([(index + b) @ vectors for b in basis]) + 80 + rng.uniform(0, spacing, 2)
    pixel = np.arange(160)
    down, over = (np.exp(-((pixel - c[:, None]) ** 2) / (2 * width**2)) for c in at.T)
    image = down.T @ over
    if kind == "honeycomb":
        image = image.max() - image
    return rng.poisson(counts * (image + 0.3)).astype(np.float32)


@pytest.mark.parametrize("counts", [1.0, 30.0])
def test_a_layer_is_sharper_than_the_holes_of_a_honeycomb(counts: float) -> None:
    for kind, width, expected in (
        ("layer", 2.8, 0.22),
        ("honeycomb", 2.4, -0.73),
    ):  # those of images without noise
        found, error = np.array(
            [skewness(columns(kind, 14.0, width, counts=counts, seed=s), 14.0) for s in range(8)]
        ).T
        assert found.mean() - WAVES == pytest.approx(expected, abs=0.08)
        assert 0.4 < np.median(error) / max(found.std(), 0.01) < 2.5


def test_skewness_decides_between_a_layer_and_a_honeycomb() -> None:
    """As sure of either by everything else."""
    readings = [reading(0.4, 14.0, bright=True), reading(0.8, 14 / 3**0.5, bright=False)]
    layer, holes = (columns(kind, 14.0, 2.5, counts=5.0, seed=0) for kind in ("layer", "honeycomb"))
    bright, dark = odds(readings, [layer]), odds(readings, [holes])
    assert bright / (1 - bright) > 3 * dark / (1 - dark)


@pytest.mark.parametrize("counts", [2.0, 30.0])
def test_skewness_decides_between_a_square_lattice_and_its_holes(counts: float) -> None:
    y, x = np.mgrid[:160, :160]
    dots = np.exp(2.0 * (np.cos(2 * np.pi * x / 12.3) + np.cos(2 * np.pi * (y + 0.1 * x) / 12.3) - 2))
    same = [reading(0.6, 12.3, bright=True), reading(0.6, 12.3, bright=False)]
    bright, dark = (
        np.random.default_rng(0).poisson(counts * image).astype(np.float32)
        for image in (0.3 + dots, 1.3 - dots)
    )
    assert skewness(bright, 12.3)[0] > 0.3 and skewness(dark, 12.3)[0] < -0.3
    assert odds(same, [bright]) > 1.5 * odds(same, [dark])


def test_skewness_of_nothing_is_not_trusted() -> None:
    assert skewness(np.zeros((40, 40), np.float32), 9.0) == (0.0, np.inf)
    for seed in range(8):  # 0.05 counts a pixel: dark columns, and no way to tell
        at = columns("layer", 10.0, 2.0, counts=0.05, seed=seed)
        assert skewness(at.max() - at, 10.0)[1] > 0.5


def test_noise_and_lines_are_measured(rng: np.random.Generator) -> None:
    image = lattice(10.0)
    assert noise_rise(image) > 0.7
    assert noise_rise(-image) == pytest.approx(-noise_rise(image), abs=0.1)
    assert 0.6 < line_noise(image) < 1.5
    assert line_noise(image + rng.normal(0, 1, (320, 1))) > 2
    assert line_noise(np.zeros((50, 50), np.float32)) == 1.0
    assert noise_rise(np.zeros((50, 50), np.float32)) == 0.0


def test_a_rival_of_another_spacing_makes_it_uncertain_and_one_of_the_same_does_not() -> None:
    assert certainty([reading(1.0, 10.0), reading(0.99, 10.5)]) > 0.99
    assert 0.3 < certainty([reading(1.0, 10.0), reading(0.95, 20.0)]) < 0.7
    assert certainty([]) == 0.0


MATERIALS = ["graphene", "ws2", "srtio3", "gaas110", "au110"]


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_scale_and_contrast_of_simulated_images_are_read(dark: bool) -> None:
    """Images in which columns show: the spacing is right to a quarter, and so is the contrast, negatives too."""
    right, sign = [], []
    for seed in range(30):
        rng = np.random.default_rng([77, seed])
        spacing = float(rng.uniform(6, 24))
        scope = Scope(modality=("stem",), counts=(10.0, 1000.0), abf=0.0, fwhm=(0.4, 0.75), nn_px=spacing)
        made = random_image(rng, size=(384, 384), materials=[MATERIALS[seed % 5]], scope=scope)
        if made.meta["form"] in ("scattered", "particle") or np.median(made.snr) < 6:
            continue
        survey = survey_columns(-made.image if dark else made.image)
        near = cKDTree(made.columns).query(made.columns, k=2)[0][:, 1]
        right.append(abs(np.log(survey.spacing_px / np.median(near))) < np.log(1.25))
        sign.append(survey.bright != dark)
    assert len(right) >= 15
    assert np.mean(right) >= 0.9
    assert np.mean(sign) >= 0.9
