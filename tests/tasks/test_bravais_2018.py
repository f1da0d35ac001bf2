from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.simulate.bravais import CLASSES
from atomreel.tasks.bravais_2018 import L2, TASK, answers, mistakes
from atomreel.tasks.task import build_network, load_task
from atomreel.train.loop import recipe_for


def test_the_task_is_found_by_its_name() -> None:
    assert load_task("bravais-2018") is TASK
    assert TASK.classes == CLASSES


def test_the_recipe_is_thirty_epochs_of_19200_windows() -> None:
    recipe = recipe_for(TASK)
    assert recipe.first * len(CLASSES) == 19_200 and recipe.examples * len(CLASSES) == 4800
    assert recipe.steps * recipe.batch == 30 * recipe.first and recipe.in_turn == 1
    assert sum(recipe.epoch_ends(step) for step in range(1, recipe.steps + 1)) == 30


def test_samples_depend_on_the_seed_alone_and_fit_the_network(rng: np.random.Generator) -> None:
    first, again = (TASK.sample(np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(first[key], again[key], equal_nan=True) for key in first)
    examples = [TASK.encode(first, rng) for _ in range(2)]
    batch = {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}
    assert batch["amplitude"].shape == (2, 6, 64, 32)
    net = build_network(TASK.network)
    loss, parts = TASK.loss(net, batch)
    weights = sum(float(p.detach().square().sum()) for p in net.parameters() if p.ndim > 1)
    assert float(loss.detach()) == pytest.approx(parts["entropy"] + L2 * weights, rel=1e-3)
    assert 0 <= parts["accuracy"] <= 1
    assert TASK.picture(net.eval(), batch).shape == (6 * 64, 2 * 32)
    logits, labels = answers(net, [first, first])
    assert logits.shape == (12, 6) and labels.tolist() == [0, 1, 2, 3, 4, 5] * 2


def test_mistakes_are_counted() -> None:
    p = np.array([[0.6, 0.3, 0.1, 0, 0, 0], [0.6, 0.3, 0.1, 0, 0, 0], [0.5, 0.1, 0.4, 0, 0, 0]])
    found = mistakes(p, np.array([0, 1, 1]))
    assert found["wrong"] == 2 and found["wrong_with_true_second"] == 1
    assert found["confidence_of_wrong"] == pytest.approx(0.55)
    assert found["confusion"][0][0] == 1 and found["confusion"][1][0] == 2


def test_watching_gives_accuracy_on_other_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomreel.tasks.bravais_2018.WATCHED", 3)
    seen = TASK.watch(build_network(TASK.network).eval())
    assert 0 <= seen["held_out_accuracy"] <= 1 and seen["held_out_entropy"] > 0
