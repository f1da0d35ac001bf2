"""Decoding of maps that the test makes, and calibration on lists of which the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.interpret.scenes import Scene
from atomreel.predict.detector import KINDS, calibrate, detections


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


def test_nothing_found_is_an_empty_table() -> None:
    maps = np.zeros((3, 50, 50), np.float32)
    maps[0] = 1
    found = detections(maps, flat_scene(np.zeros((50, 50))))
    assert len(found) == 0
    assert {"y", "x", "kind", "logit"} <= set(found)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_frequencies(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def table(n: int, kind: int, centre: float) -> pd.DataFrame:
        return pd.DataFrame(
            {"kind": KINDS[kind], "logit": rng.normal(centre, 1.5, n), "z": rng.normal(3, 1, n)}
        )

    found, false, truth = [], [], []
    for _ in range(12):
        parts = [table(6, 0, 0.0), table(10, 1, 3.0), table(5, 1, 0.0)]
        truth += [0] * 6 + [1] * 10 + [0] * 5
        found.append(pd.concat(parts, ignore_index=True))
        false.append(pd.concat([table(6, 0, 0.0), table(5, 1, 0.0)], ignore_index=True))
    made = calibrate(found, false)
    every = pd.concat(found, ignore_index=True)
    p, y = made.scores(every), np.array(truth)
    dimmer = every["kind"].to_numpy() == "dimmer"
    assert p[~dimmer].mean() < 0.35  # brighter ones are all noise
    for low, high in ((0.0, 0.5), (0.5, 0.9), (0.9, 1.01)):
        part = dimmer & (p >= low) & (p < high)
        assert abs(p[part].mean() - y[part].mean()) < 0.17
    assert made.found == {"brighter": 72, "dimmer": 180}


def test_a_surer_output_has_a_higher_score_and_bounds_hold() -> None:
    found = [pd.DataFrame({"kind": "dimmer", "logit": [2.0, 4.0], "z": 4.0})]
    false = [pd.DataFrame({"kind": [], "logit": [], "z": []}, dtype=float).astype({"kind": str})]
    made = calibrate(found, false)
    p = made.scores(pd.DataFrame({"kind": "dimmer", "logit": [-2.0, 0.0, 2.0, 4.0], "z": 4.0}))
    assert (np.diff(p) > 0).all()
    assert p[-1] < 1
    with pytest.raises(InputError, match="twin"):
        calibrate(found, [])
