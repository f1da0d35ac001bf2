"""Entropy and mutual information against cases that can be worked out by hand."""

from __future__ import annotations

import math

import torch

from atomreel.predict.uncertainty import entropy, mutual_information


def test_entropy_is_in_nats() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
    assert torch.allclose(entropy(p), torch.tensor([0.0, math.log(4), math.log(2)], dtype=torch.float64))
    assert entropy(p).dtype == torch.float64


def test_passes_that_contradict_each_other_are_told_from_open_questions() -> None:
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # two passes, each certain of another class
    torn = torch.tensor([[0.5, 0.5], [0.5, 0.5]])  # two passes that agree that nobody knows
    for passes, expected in ((sure, math.log(2)), (torn, 0.0)):
        mean = passes.mean(0)
        assert math.isclose(float(entropy(mean)), math.log(2), rel_tol=1e-6)
        assert math.isclose(float(mutual_information(mean, entropy(passes).mean())), expected, abs_tol=1e-7)


def test_mutual_information_lies_between_nothing_and_the_entropy() -> None:
    p = torch.softmax(3 * torch.randn(50, 200, 6, generator=torch.Generator().manual_seed(0)), -1)
    mean, inner = p.mean(0), entropy(p).mean(0)
    mutual = mutual_information(mean, inner)
    assert bool((mutual >= 0).all()) and bool((mutual <= entropy(mean)).all())
    assert bool((entropy(mean) <= math.log(6)).all())
