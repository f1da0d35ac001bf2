from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice
from atomreel.core.recipe import load_recipe
from atomreel.pipeline.source import open_source
from atomreel.pipeline.transition import describe_crossing, follow_shear, transition_of_movie

FloatArray = npt.NDArray[np.float64]


def vectors(shear: float, *, axis: float = 25.0) -> FloatArray:
    """Hexagonal, a = 11 px, sheared by x′ = x + s·y in axes turned by `axis` degrees."""
    t = np.deg2rad([8.0, 68.0])
    cell = 11.0 * np.stack([-np.sin(t), np.cos(t)], 1)
    c, s = np.cos(np.deg2rad(axis)), np.sin(np.deg2rad(axis))
    turn = np.array([[c, -s], [s, c]])
    return np.asarray(cell @ turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ turn.T)


def frame(shear: float, *, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    index = np.stack(np.meshgrid(np.arange(-25, 26), np.arange(-25, 26)), -1).reshape(-1, 2)
    at = index @ vectors(shear) + 72 + 0.2 * rng.standard_normal((len(index), 2))
    grid = np.arange(144)
    down, over = (np.exp(-((grid - c[:, None]) ** 2) / (2 * 1.9**2)) for c in at.T)
    return rng.poisson(15 * (down.T @ over + 0.2)).astype(np.float32)


def test_the_shear_of_noisy_lattices_has_its_sign_and_its_error() -> None:
    rng = np.random.default_rng(0)
    truth = np.linspace(-0.03, 0.06, 31)
    covariance = np.zeros((6, 6))
    covariance[2:, 2:] = 0.02**2 * np.eye(4)
    noisy = [Lattice(np.zeros(2), vectors(s) + 0.02 * rng.standard_normal((2, 2)), covariance) for s in truth]
    table = follow_shear([*noisy, None], range(32))
    pulls = ((table["shear"][:31] - truth) / table.shear_err[:31]).to_numpy()
    assert 0.7 < pulls.std() < 1.3 and abs(pulls.mean()) < 0.6
    assert np.isnan(table["shear"][31]) and np.abs(table.aside[:31]).max() < 0.01
    with pytest.raises(InputError, match="at least 5"):
        follow_shear(noisy[:3], range(3))
    with pytest.raises(InputError, match="rectangular"):
        follow_shear(noisy, range(31), origin="rectangular")


def test_the_frame_of_the_transition_is_found_in_a_movie(tmp_path: Path, one_thread: None) -> None:
    """Hexagonal up to frame 7, then sheared by 1.5 % more per frame: 2 % is passed in frame 8.33."""
    rng = np.random.default_rng(1)
    shears = np.maximum(0, 0.015 * (np.arange(20) - 7))
    tifffile.imwrite(
        tmp_path / "m.tif", np.stack([frame(s, rng=rng) for s in shears]), photometric="minisblack"
    )
    recipe = load_recipe(overrides=["symmetry.passes=0", "input.frames=2:", "input.frame_time_s=2"])
    out = tmp_path / "out"
    crossing = transition_of_movie(open_source(tmp_path / "m.tif", recipe.input), recipe, out=out)
    assert crossing.low <= 7 + 0.02 / 0.015 <= crossing.high and crossing.high - crossing.low < 1.5
    assert crossing.rising and crossing.probability > 0.99
    table = pd.read_csv(out / "shear.csv")
    assert table.frame.tolist() == list(range(2, 20))
    assert (np.abs(table["shear"] - shears[2:]) < 4 * table.shear_err).all()
    assert table.loc[0, "class"] == "hexagonal" and table["class"].iloc[-1] in ("oblique", "centred")
    about = json.loads((out / "transition.json").read_text())
    assert about["frame"] == pytest.approx(crossing.t) and about["low_s"] == pytest.approx(2 * crossing.low)
    assert (out / "transition.png").stat().st_size > 5000 and (out / "transition.svg").exists()
    sentence = describe_crossing(crossing, origin="hexagonal")
    assert sentence.startswith("leaves hexagonal: 2 % shear (s: x′ = x + s·y) is passed in frame 8.")
    assert about["sentence"] == sentence


def test_a_movie_without_a_transition_says_so(tmp_path: Path, one_thread: None) -> None:
    rng = np.random.default_rng(2)
    tifffile.imwrite(
        tmp_path / "m.tif", np.stack([frame(0.0, rng=rng) for _ in range(6)]), photometric="minisblack"
    )
    recipe = load_recipe(overrides=["symmetry.passes=0"])
    crossing = transition_of_movie(
        open_source(tmp_path / "m.tif", recipe.input), recipe, out=tmp_path / "out"
    )
    assert crossing.probability < 0.05
    assert "does not pass 2 % shear" in describe_crossing(crossing, origin="hexagonal")
