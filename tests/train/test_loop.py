"""The loop: recipes, schedule, and a training that was stopped ends like one that was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atomreel.core.errors import AtomreelError
from atomreel.tasks.columns import ColumnTask
from atomreel.tasks.task import Arrays
from atomreel.train.loop import Recipe, fit, follow, recipe_for, schedule, turn

SMALL = Recipe(steps=12, batch=2, first=8, fresh=0.5, window=8, seed=4)


class Dots(ColumnTask):
    """Bright dots on a square grid: quick to make."""

    def sample(self, rng: np.random.Generator) -> Arrays:
        y, x = np.mgrid[:96, :96]
        image = np.sin(y * 2 * np.pi / 8) * np.sin(x * 2 * np.pi / 8) + rng.normal(0, 0.1, (96, 96))
        grid = np.stack(np.meshgrid(np.arange(2, 96, 8.0), np.arange(2, 96, 8.0)), -1).reshape(-1, 2)
        facts = np.array([5.7, 1.0, 0.0], dtype=np.float32)
        return {"image": image.astype(np.float16), "columns": grid.astype(np.float32), "facts": facts}


TASK = Dots(patch=32, network={"kind": "columns", "width": 8})


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.flatten() for p in net.parameters()])


def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, _ = fit(TASK, SMALL, tmp_path / "whole", workers=0, device="cpu")
    _, first = fit(TASK, SMALL, tmp_path / "parts", workers=0, device="cpu", stop_at=5)
    resumed, last = fit(TASK, SMALL, tmp_path / "parts", workers=0, device="cpu")
    assert (first["step"], last["step"]) == (5, 12)
    assert torch.equal(weights(whole), weights(resumed))
    assert (tmp_path / "parts" / "sample.png").is_file()


def test_training_changes_the_weights_and_the_seed_matters(tmp_path: Path) -> None:
    nets = [
        fit(TASK, Recipe(**{**vars(SMALL), "steps": n, "seed": s}), tmp_path / f"{n}{s}", workers=0)[0]
        for n, s in ((0, 1), (3, 1), (3, 2))
    ]
    a, b, c = (weights(net) for net in nets)
    assert not torch.equal(a, b)
    assert not torch.equal(b, c)


def test_schedule_rises_then_falls_to_one_percent() -> None:
    values = [schedule(step, 1000) for step in range(1000)]
    assert values[0] < 0.02
    assert max(values) == pytest.approx(values[100], rel=0.05)
    assert values[-1] == pytest.approx(0.01, rel=0.05)


def test_schedule_that_ends_at_one_stays_at_the_highest_rate() -> None:
    values = [schedule(step, 1000, 1.0) for step in range(1000)]
    assert values[0] < 0.02 and set(values[100:]) == {1.0}


def test_in_turn_every_example_comes_once_an_epoch_in_another_order() -> None:
    recipe = Recipe(batch=5, first=40, fresh=0.0, window=40, in_turn=1)
    epochs = [[int(n) for step in range(8 * k, 8 * k + 8) for n in turn(recipe, step)] for k in range(3)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [step for step in range(1, 25) if recipe.epoch_ends(step)] == [8, 16, 24]


class WatchedDots(Dots):
    def watch(self, net: torch.nn.Module) -> dict[str, float]:
        return {"held_out": float(not net.training)}


def test_epochs_are_watched_and_resumed_the_same(tmp_path: Path) -> None:
    recipe = Recipe(steps=12, batch=2, first=8, fresh=0.0, window=8, seed=4, in_turn=1)
    task = WatchedDots(patch=32, network={"kind": "columns", "width": 8})
    whole, record = fit(task, recipe, tmp_path / "whole", workers=0, device="cpu")
    assert [row["step"] for row in record["curve"] if row.get("held_out") == 1.0] == [4, 8, 12]
    fit(task, recipe, tmp_path / "parts", workers=0, device="cpu", stop_at=5)
    resumed, _ = fit(task, recipe, tmp_path / "parts", workers=0, device="cpu")
    assert torch.equal(weights(whole), weights(resumed))


def test_unknown_recipe_keys_are_named() -> None:
    with pytest.raises(AtomreelError, match="stpes"):
        recipe_for(TASK, {"stpes": 3})
    assert recipe_for(TASK, {"steps": 7, "seed": None}).steps == 7


def test_the_average_follows_weights_and_copies_statistics() -> None:
    net, average = (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)) for _ in range(2))
    start = average[0].weight.detach().clone()
    net[1].running_mean += 3
    follow(average.requires_grad_(False), net, 0.75)
    assert torch.allclose(average[0].weight, 0.75 * start + 0.25 * net[0].weight)
    assert torch.equal(average[1].running_mean, net[1].running_mean)
