"""Scores are probabilities, in clear images and in hard ones, and a precision that is asked for is kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from atomreel.core.errors import ModelError
from atomreel.tasks.scores import (
    calibrate,
    calibrated,
    evidence,
    fit_evidence,
    least_score,
    summarise,
    sureness,
)


def test_calibration_recovers_known_odds(rng: np.random.Generator) -> None:
    def images(count: int) -> list[dict]:
        made = []
        for _ in range(count):
            logit = rng.normal(0, 2, 400).astype(np.float32)
            right = rng.random(400) < 1 / (1 + np.exp(-2 * (logit - 0.5)))
            made.append({"logit": logit, "right": right, "missed": 0, "dose": 100.0})
        return made

    calibration = calibrate(images(40))
    assert np.all(np.diff(calibration["score"]) >= 0)
    grid = np.linspace(-2, 3, 11)
    told = np.interp(grid, calibration["logit"], calibration["score"])
    assert np.abs(told - 1 / (1 + np.exp(-2 * (grid - 0.5)))).max() < 0.06
    scores = summarise(images(20), calibration)
    assert scores["calibration_error"] < 0.02
    assert set(scores["by_dose"]) == {"dose 100 to 1000"}


def images(rng: np.random.Generator, count: int) -> list[dict]:
    """Half of the images are clear, and there the odds rise three times as fast with the logit."""
    made = []
    for i in range(count):
        sure = np.full(300, (0.3, 0.9)[i % 2]) + rng.normal(0, 0.02, 300)
        logit = rng.normal(0, 1.5, 300).astype(np.float32)
        right = rng.random(300) < expit((1.0, 3.0)[i % 2] * (logit + (0.0, 0.8)[i % 2]))
        made.append({"logit": logit, "sure": sure, "right": right, "missed": 0, "dose": 0.0})
    return made


def test_the_same_logit_means_more_in_a_clear_image(rng: np.random.Generator) -> None:
    weights = fit_evidence(images(rng, 80))
    told = [f | {"logit": evidence(f["logit"], f["sure"], weights)} for f in images(rng, 80)]
    table = calibrate(told)
    for which in (0, 1):
        part = told[which::2]
        score = np.interp(np.concatenate([f["logit"] for f in part]), table["logit"], table["score"])
        right = np.concatenate([f["right"] for f in part])
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            chosen = (score >= low) & (score < low + 0.2)
            assert right[chosen].mean() == pytest.approx(score[chosen].mean(), abs=0.06)


def test_evidence_never_falls_with_the_logit(rng: np.random.Generator) -> None:
    """Even where the examples say the opposite."""
    turned = [f | {"right": ~f["right"]} for f in images(rng, 20)]
    weights = fit_evidence(turned)
    rising = evidence(np.linspace(-5, 5, 40), np.full(40, 0.5), weights)
    assert (np.diff(rising) >= 0).all()


def test_sureness_is_of_the_region_around(rng: np.random.Generator) -> None:
    position = rng.uniform(0, 100, (600, 2))
    left = position[:, 1] < 50
    logit = np.where(left, 5.0, 0.2)
    sure = sureness(position, logit)
    assert sure[position[:, 1] < 25].min() > 0.9 and sure[position[:, 1] > 75].max() < 0.2
    assert (sureness(position, np.full(600, -5.0)) == 0).all()
    assert sureness(position[:1], np.array([4.0])) == pytest.approx([2 * expit(4.0) - 1])
    assert len(sureness(np.zeros((0, 2)), np.zeros(0))) == 0


def test_scores_need_no_table() -> None:
    assert calibrated(np.zeros((1, 2)), np.array([0.7]), {}) == pytest.approx([expit(0.7)])


def test_scores_of_another_version_are_refused() -> None:
    with pytest.raises(ModelError, match=r"without evidence, weights.*train the model again"):
        calibrated(np.zeros((2, 2)), np.zeros(2), {"logit": [0.0, 1.0], "score": [0.1, 0.9]})


def test_a_precision_that_is_asked_for_is_kept(rng: np.random.Generator) -> None:
    """Over many images of calibrated scores, the share of false ones among those kept is what was asked for."""
    false = kept = 0
    for _ in range(200):
        score = rng.beta(2, 0.5, 200)
        real = rng.random(200) < score
        least = least_score(score, 0.95)
        kept += int((score >= least).sum())
        false += int((~real[score >= least]).sum())
    assert false / kept == pytest.approx(0.05, abs=0.006)
    assert kept > 200 * 100
    assert least_score(np.array([0.5, 0.4]), 0.9) > 0.5
    assert least_score(np.array([0.95, 0.9]), 0.9) == 0.9
    assert least_score(np.array([0.95, 0.9]), 0.9, sure=0.96) == 0.95
    assert least_score(np.array([1.0, 1.0]), 0.9, sure=0.89) > 1
