from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.bravais import WIDTH, build, describe, symmetry_distances
from atomreel.simulate.bravais import class_distances, random_tau, random_window


def test_distances_agree_with_the_definition(rng: np.random.Generator) -> None:
    for name in ("oblique", "rectangular", "centred"):
        tau = random_tau(name, rng=rng)
        square, rectangular, unit, half, hexagonal = symmetry_distances(torch.tensor(tau)).tolist()
        true = class_distances(tau)
        assert square == pytest.approx(true["square"], abs=2e-3)
        assert hexagonal == pytest.approx(true["hexagonal"], abs=2e-3)
        assert rectangular == pytest.approx(true["rectangular"], abs=2e-3)
        assert min(unit, half) == pytest.approx(true["centred"], abs=2e-3)


def test_description_has_the_width_of_the_network_and_is_finite(rng: np.random.Generator) -> None:
    windows = np.stack([random_window(rng).image for _ in range(6)] + [np.zeros((128, 128), np.float32)])
    described = describe(torch.from_numpy(windows))
    assert described.shape == (7, WIDTH)
    assert torch.isfinite(described).all()


def test_sampling_in_one_batch_equals_naive_passes() -> None:
    """Means within four standard errors of 4,000 naive passes, deviations of the logits within 5 %."""
    net = build(dropout=0.2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.12 if p.ndim > 1 else 0.1))
    x = torch.randn(2, WIDTH, generator=generator)
    x[1, 5:] = 0  # few strong activations
    net.eval()
    with torch.no_grad():
        at_once = net.sample(x, passes=8000, generator=generator)
        hidden = torch.nn.functional.gelu(net.first(net.standard(x)))
        drop = torch.nn.functional.dropout
        with torch.random.fork_rng(devices=[]):
            naive = []
            for _ in range(4000):
                first = drop(hidden, 0.2, training=True)
                naive.append(net.out(drop(torch.nn.functional.gelu(net.second(first)), 0.2, training=True)))
    passes = torch.stack(naive)
    assert ((at_once.std(0) / passes.std(0) - 1).abs() < 0.05).all() and (passes.std(0) > 0.05).all()
    passes, at_once = passes.softmax(-1), at_once.softmax(-1)
    error = torch.sqrt(passes.var(0) / 4000 + at_once.var(0) / 8000)
    assert ((passes.mean(0) - at_once.mean(0)).abs() < 4 * error + 1e-6).all()


def test_evaluation_is_without_dropout() -> None:
    net = build().eval()
    x = torch.randn(3, WIDTH)
    assert torch.equal(net(x), net(x))
