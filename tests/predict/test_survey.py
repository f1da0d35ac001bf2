"""Scale and contrast are read off an image, or said to be unknown; what is given is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomreel.core.errors import InputError
from atomreel.core.image import Movie
from atomreel.predict.survey import (
    DEFAULT_SPACING,
    GRID,
    TARGET,
    Wish,
    certainty,
    likeliest,
    pooled,
    survey_columns,
)


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
    assert 1 / 1.9 < survey.spacing_px / spacing < 1.9
    assert 4.5 < survey.zoom * spacing < 15.5


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


def piece(spacing: float, *, bright: bool = True, spread: float = 0.1) -> np.ndarray:
    """(2, G) log-probabilities of a piece that says so."""
    row = -0.5 * ((GRID - np.log2(spacing)) / spread) ** 2
    table = np.logaddexp(np.stack([row - 3.0, row] if bright else [row, row - 3.0]), -6.0)
    return table - np.logaddexp.reduce(table.ravel())


def test_pieces_that_are_lost_do_not_pull() -> None:
    even = np.full((2, len(GRID)), -np.log(2 * len(GRID)))
    few = np.array([piece(8.0)] * 3 + [even] * 3)
    table = pooled(few)
    assert table.sum() == pytest.approx(1)
    assert likeliest(table) == pytest.approx(8.0, rel=0.03)
    assert table[1].sum() > 0.9
    assert certainty(table, 8.0) > 0.9
    assert certainty(pooled(np.array([even])), 8.0) < 0.15


def test_one_reading_of_the_contrast_has_one_spacing() -> None:
    honeycomb, holes = piece(10.0), piece(10.0 * np.sqrt(3), bright=False)
    both = np.array([np.logaddexp(honeycomb + np.log(0.6), holes + np.log(0.4))])
    assert likeliest(pooled(both)) == pytest.approx(10.0, rel=0.05)
    assert likeliest(pooled(both, Wish(bright=False))) == pytest.approx(10.0 * np.sqrt(3), rel=0.05)
    assert pooled(both, Wish(spacing=17.0))[0].sum() > 0.8


@settings(max_examples=30, deadline=None)
@given(st.floats(2.0, 150.0), st.integers(1, 12))
def test_pieces_that_agree_are_believed(spacing: float, count: int) -> None:
    table = pooled(np.array([piece(spacing)] * count))
    assert likeliest(table) == pytest.approx(spacing, rel=0.05)
    assert certainty(table, spacing) >= certainty(pooled(np.array([piece(spacing)])), spacing) - 1e-9
