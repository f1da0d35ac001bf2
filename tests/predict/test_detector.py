"""Decoding of maps that the test makes, and calibration on lists of which the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.scenes import Scene
from atomreel.predict.detector import KINDS, TWINS, calibrate, detections


def flat_scene(residual: np.ndarray) -> Scene:
    empty = pd.DataFrame({name: pd.Series(dtype=float) for name in ("y", "x", "sign", "z", "p")})
    valid = np.ones(residual.shape, bool)
    valid[:, :12] = False
    one = np.ones(residual.shape)
    return Scene(0 * one, residual, one, valid, empty, 2.0, 9 * np.eye(2), 10.0)


def test_detections_lie_on_the_residual_and_within_the_valid_area() -> None:
    y, x = np.mgrid[:60, :70].astype(float)

    def blob(a: float, b: float) -> np.ndarray:
        return np.asarray(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8))

    scene = flat_scene(20 * blob(20.3, 30.6) - 16 * blob(40.0, 50.25) + 20 * blob(30, 5))
    maps = np.zeros((3, 60, 70), np.float32)
    maps[1] = 0.95 * blob(21, 30) + 0.9 * blob(30, 5)
    maps[2] = 0.7 * blob(40, 51)
    maps[0] = 1 - maps[1] - maps[2]
    found = detections(maps, scene, factor=2.0)
    assert list(found["kind"]) == ["brighter", "dimmer"]
    assert np.allclose(found[["y", "x"]], 2 * np.array([[20.3, 30.6], [40.0, 50.25]]) + 0.5, atol=0.05)
    assert np.allclose(found["logit"], np.log([0.95 / 0.05, 0.7 / 0.3]), atol=0.01)
    assert np.allclose(found["y_err"], 2 * np.sqrt(2) * 2 / np.array([10, 8]), rtol=0.05)


def test_what_stands_in_the_glare_of_a_strong_one_is_measured_against_its_surroundings() -> None:
    """Bumps of 5 on flat ground and in a haze of 2.5 around a maximum of 40: each counts 5 above its ground, the strong one all it has; a bump in
    the same haze without the strong one keeps what the haze adds."""
    y, x = np.mgrid[:140, :180]

    def bump(a: float, b: float, high: float, wide: float) -> np.ndarray:
        return np.asarray(high * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * wide**2)))

    haze = bump(60, 60, 2.8, 30.0)
    bumps = sum(bump(a, b, 10.0, 2.0) for a, b in ((60, 78), (20, 160)))
    maps = np.full((3, 140, 180), 1 / 3, np.float32)
    found = {
        strong: detections(maps, flat_scene(bumps + haze + bump(60, 60, strong, 2.0))).query(
            "kind == 'brighter'"
        )
        for strong in (80.0, 0.0)
    }

    def height(table: pd.DataFrame, a: float, b: float) -> float:
        near = np.hypot(table["y"] - a, table["x"] - b)
        return float(table["z"].iloc[int(near.to_numpy().argmin())]) if near.min() < 2 else 0.0

    assert height(found[80.0], 60, 78) == pytest.approx(5.0, abs=0.4)
    assert height(found[80.0], 20, 160) == pytest.approx(5.0, abs=0.2)
    assert height(found[80.0], 60, 60) > 40
    near_the_border = detections(maps[:, :68], flat_scene((bumps + haze + bump(60, 60, 80.0, 2.0))[:68]))
    assert height(near_the_border[near_the_border["kind"] == "brighter"], 60, 78) == pytest.approx(
        5.0, abs=0.4
    )
    assert height(found[0.0], 60, 78) > 6.5


def test_nothing_found_is_an_empty_table() -> None:
    maps = np.zeros((3, 50, 50), np.float32)
    maps[0] = 1
    found = detections(maps, flat_scene(np.zeros((50, 50))))
    assert len(found) == 0
    assert {"y", "x", "kind", "logit"} <= set(found)


def heights(rng: np.random.Generator, n: int) -> np.ndarray:
    """|z| of maxima of noise above 2, which become rarer as u·exp(−u²/2), by rejection."""
    u = rng.uniform(2, 7, 400 * n)
    return np.asarray(u[rng.random(len(u)) < u / 2 * np.exp(2 - u**2 / 2)][:n])


def noise(rng: np.random.Generator, n: int, kind: str) -> pd.DataFrame:
    return pd.DataFrame({"kind": kind, "logit": rng.normal(-4.0, 1.5, n), "z": heights(rng, n)})


@pytest.mark.parametrize(("seed", "excess"), [(0, 1.0), (1, 1.0), (2, 1.5), (3, 1.5)])
def test_scores_are_frequencies(seed: int, excess: float) -> None:
    """Also where the twins have more noise than the frames, by `excess`."""
    rng = np.random.default_rng(seed)
    found, false, truth = [], [], []
    for _ in range(12):
        real = pd.DataFrame({"kind": "dimmer", "logit": rng.normal(-1, 2, 10), "z": rng.normal(3.7, 0.8, 10)})
        found.append(pd.concat([noise(rng, 30, "brighter"), real[real["z"] > 2], noise(rng, 30, "dimmer")]))
        truth += [0] * 30 + [1] * int((real["z"] > 2).sum()) + [0] * 30
        many = round(30 * excess * TWINS)
        false.append(pd.concat([noise(rng, many, kind) for kind in KINDS]))
    made = calibrate(found, false)
    every = pd.concat(found, ignore_index=True)
    p, y = made.scores(every), np.array(truth)
    dimmer = every["kind"].to_numpy() == "dimmer"
    assert p[~dimmer].mean() < 0.02  # brighter ones are all noise
    assert abs(p.sum() / y.sum() - 1) < 0.25
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.01)):
        part = dimmer & (p >= low) & (p < high)
        assert abs(p[part].mean() - y[part].mean()) < 0.15
    assert made.found["brighter"] == 360
    assert made.false["dimmer"] == pytest.approx(360 * excess)


def test_a_surer_output_has_a_higher_score_and_bounds_hold() -> None:
    found = [pd.DataFrame({"kind": "dimmer", "logit": [2.0, 4.0], "z": 4.0})]
    false = [pd.DataFrame({"kind": [], "logit": [], "z": []}, dtype=float).astype({"kind": str})]
    made = calibrate(found, false)
    p = made.scores(pd.DataFrame({"kind": "dimmer", "logit": [-2.0, 0.0, 2.0, 4.0], "z": 4.0}))
    assert (np.diff(p) > 0).all()
    denied = made.scores(pd.DataFrame({"kind": "dimmer", "logit": [-5.0, -4.0], "z": 9.0}))
    assert denied[0] == 0 and denied[1] > 0.5
    assert p[-1] < 1
    with pytest.raises(InputError, match="twin"):
        calibrate(found, [])
