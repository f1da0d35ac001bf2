"""Scale and contrast are read off an image, or said to be unknown; what is given is taken."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.image import Movie
from atomreel.predict.survey import DEFAULT_SPACING, TARGET, line_noise, odds, survey_columns, vote


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


def test_votes_that_are_lost_do_not_pull() -> None:
    good = [[3.0, 0.1, 2.0]] * 6
    lost = [[6.0, 1.5, -1.0], [1.0, 1.5, -1.0], [7.0, 1.0, -1.0]]
    spacing, spread = vote(np.array(good + lost))
    assert spacing == pytest.approx(8.0, rel=0.03)
    assert spread < 0.5
    assert odds(np.array(good + lost)) > 0.7
    assert vote(np.array(lost))[1] > spread


def test_line_noise_is_seen_and_a_lattice_is_not(rng: np.random.Generator) -> None:
    image = lattice(10.0)
    assert 0.6 < line_noise(image) < 1.5
    assert line_noise(image + rng.normal(0, 1, (320, 1))) > 2
    assert line_noise(np.zeros((50, 50))) == 1.0
