from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.bravais import probabilities
from atomreel.simulate.bravais import CLASSES
from atomreel.tasks.bravais import BLOCK, TASK, TILT, fit_calibration, fit_temperature, score_probabilities
from atomreel.tasks.task import build_network, load_task


def test_the_task_is_found_by_name() -> None:
    assert load_task("bravais") is TASK
    assert TASK.classes == CLASSES


def test_samples_depend_on_the_seed_alone_and_fit_the_network(rng: np.random.Generator) -> None:
    first, again = (TASK.sample(np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(first[key], again[key], equal_nan=True) for key in first)
    assert first["features"].shape[0] == BLOCK
    examples = [TASK.encode(first, rng) for _ in range(16)]
    batch = {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}
    net = build_network(TASK.network)
    loss, parts = TASK.loss(net, batch)
    assert float(loss.detach()) > 0 and 0 <= parts["wrong"] <= 1
    assert TASK.picture(net.eval(), batch).shape == (600, 600)


def test_temperature_recovers_what_sharpened_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 6, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(1.5 * logits, labels) == pytest.approx(1.5, rel=0.05)
    assert fit_temperature(logits, labels) == pytest.approx(1.0, rel=0.05)


def test_scores_of_known_probabilities() -> None:
    p = np.array([[0.8, 0.2, 0, 0, 0, 0], [0.8, 0.2, 0, 0, 0, 0], [0, 0, 0.6, 0.3, 0.1, 0]])
    scores = score_probabilities(p, np.array([0, 1, 4]))
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["top2"] == pytest.approx(2 / 3)
    assert scores["brier"] == pytest.approx((0.08 + 1.28 + 0.36 + 0.09 + 0.81) / 3)
    assert scores["ece"] == pytest.approx((2 * 0.3 + 0.6) / 3)


def test_calibration_makes_confidence_the_share_of_right_answers() -> None:
    rng = np.random.default_rng(3)
    own = torch.from_numpy(rng.normal(0, 2, (20_000, 6)))
    labels = torch.distributions.Categorical(probabilities(own, tilt=TILT)).sample()
    weight = torch.ones(len(labels), dtype=torch.float64)
    found = fit_calibration(1.4 * own, labels, weight=weight)
    assert found == {"temperature": pytest.approx(1.4, rel=0.04), "tilt": TILT}
    p = probabilities(1.4 * own, **found)
    assert float(p.amax(1).mean()) == pytest.approx(float((p.argmax(1) == labels).double().mean()), abs=0.01)
    labels[:5_000] = p[:5_000].argmin(1)  # never right
    assert fit_calibration(1.4 * own, labels, weight=weight)["temperature"] > 1.8
    weight[:5_000] = 0
    assert fit_calibration(1.4 * own, labels, weight=weight)["temperature"] == pytest.approx(1.4, rel=0.05)
    assert probabilities(torch.zeros(6), tilt=1.0)[[0, 1, 4]].log().diff().tolist() == pytest.approx(
        [1.0, 1.0]
    )
