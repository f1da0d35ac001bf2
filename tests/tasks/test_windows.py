"""The task of naming defects in windows: blocks, noise, calibration and scores mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.core.errors import RecipeError, UnknownNameError
from atomreel.core.material import load_material
from atomreel.tasks.task import build_network, load_task
from atomreel.tasks.windows import (
    BLOCK,
    NONE,
    STRANGERS,
    TASK,
    calibration_error,
    fit_temperature,
    score_classes,
    spoilt,
)


def test_it_is_found_by_name_and_has_the_classes_of_the_paper():
    assert load_task("windows") is TASK
    assert TASK.classes == ("Mo_W", "V_S", "V_W", "W_S", "pristine", NONE)
    assert TASK.recipe["first"] + TASK.recipe["fresh"] * TASK.recipe["steps"] > 51_125 / BLOCK


def test_a_block_holds_every_class(rng):
    block = TASK.sample(rng)
    number = np.bincount(block["label"], minlength=6)
    assert number.sum() == BLOCK and number[-1] == STRANGERS * BLOCK and np.ptp(number[:-1]) <= 1
    np.testing.assert_array_equal(np.isfinite(block["position"][:, 0]), block["label"] < 4)
    encoded = TASK.encode(block, rng)
    assert encoded["image"].shape == (64, 64) and encoded["image"].dtype == np.float32


def test_turning_keeps_what_belongs_together(rng):
    """Without noise an encoded window is one of the block's, mirrored or turned."""
    block = TASK.sample(rng)
    quiet = block | {"clean": block["clean"][:1], "label": block["label"][:1]}
    wanted = float(quiet["clean"][0].astype(float).mean())
    seen = [TASK.encode(quiet, np.random.default_rng(k))["image"] for k in range(60)]
    assert np.median([abs(one.mean() - wanted) for one in seen]) < 0.01
    corner = {int(np.argmax([one[:8, :8].mean(), one[-8:, :8].mean(), one[:8, -8:].mean()])) for one in seen}
    assert len(corner) > 1


def test_half_of_the_noise_is_as_strong_as_stated(rng):
    """An even window: what was put on it lies in the range of its noise, smoothed or not."""
    image = np.full((64, 64), 0.5, np.float32)
    names = [spoilt(image, rng)[1] for _ in range(200)]
    assert set(names) == {"gaussian", "salt_pepper", "poisson", "speckle"}
    spread = [float(spoilt(image, rng)[0].std()) for _ in range(200)]
    assert max(spread) < 0.11 and np.median(spread) > 0.003
    assert (image == 0.5).all()


def test_narrowed_to_another_layer():
    task = TASK.narrowed(material=load_material("graphene"), scope={})
    assert task.classes == ("V_C", "Si_C", "N_C", "pristine", NONE) and task.network["classes"] == 5
    block = task.sample(np.random.default_rng(0))
    assert set(block["label"]) == set(range(5))
    fewer = TASK.narrowed(material=None, scope={"kinds": ["V_S", "V_S2"]})
    assert fewer.classes == ("V_S", "V_S2", "pristine", NONE)
    with pytest.raises(RecipeError, match="voltage"):
        TASK.narrowed(material=None, scope={"voltage": 80})
    with pytest.raises(UnknownNameError, match="V_Se"):
        TASK.narrowed(material=None, scope={"kinds": ["V_Se"]})


def test_a_temperature_that_was_put_in_comes_out(rng):
    honest = torch.from_numpy(2 * rng.standard_normal((20_000, 4)))
    label = torch.from_numpy(
        np.array([rng.choice(4, p=p) for p in torch.softmax(honest, 1).numpy()], dtype=np.int64)
    )
    assert fit_temperature(2.0 * honest, label) == pytest.approx(2.0, rel=0.06)


def test_calibration_error_of_known_probabilities(rng):
    confidence = rng.uniform(0.3, 1, 100_000)
    right = rng.random(100_000) < confidence
    assert calibration_error(confidence, right) < 0.01
    assert calibration_error(confidence, right & (rng.random(100_000) < 0.5)) == pytest.approx(
        0.325, abs=0.01
    )


def test_scores_by_hand():
    p = np.array([[0.9, 0.1, 0, 0], [0.2, 0.7, 0.1, 0], [0, 0.1, 0.1, 0.8], [0.6, 0, 0, 0.4], [0, 0, 0, 1.0]])
    label, noise = np.array([0, 0, 1, 3, 3]), np.array(["a", "b", "b", "a", "a"])
    scores = score_classes(p, label, noise)
    assert scores["accuracy"] == pytest.approx(1 / 3) and scores["accuracy_a"] == 1
    assert scores["accuracy_b"] == 0 and scores["own_called_none"] == pytest.approx(1 / 3)
    assert scores["strangers_called_none"] == 0.5
    assert scores["ece"] == pytest.approx((0.1 + 0.7 + 0.8 + 0.6 + 0) / 5)


def test_the_loss_falls_and_a_picture_can_be_drawn(rng):
    block = TASK.sample(rng)
    made = [TASK.encode(block, rng) for _ in range(24)]
    batch = {key: torch.from_numpy(np.stack([one[key] for one in made])) for key in made[0]}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        net = build_network({"kind": "windows", "classes": 6, "width": 4, "depth": 1})
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        loss, parts = TASK.loss(net.train(), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0] and set(parts) == {"wrong"}
    assert TASK.picture(net.eval(), batch).shape == (128, 12 * 64)


def test_an_untrained_network_scores_poorly_but_completely():
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        net = build_network({"kind": "windows", "classes": 6, "width": 4, "depth": 1}).eval()
    report = TASK.score(net, seed=1, examples=4)
    assert report.scores["windows"] == 2 * BLOCK and report.scores["accuracy"] < 0.6
    assert 0.4 <= report.calibration["temperature"] <= 3.0
    assert {"accuracy_gaussian", "accuracy_speckle", "ece", "strangers_called_none"} <= set(report.scores)
