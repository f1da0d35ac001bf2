"""Draws of masked sums against their exact cumulants, and against naive passes of torch's own dropout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from atomreel.nets.dropout import SMALL, kept, sample_sums

FEATURES, UNITS, PASSES, P = 3000, 20, 20_000, 0.2


def inputs(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Values as a layer of ReLU gives them, and weights: many alike, few strong among many, few alone, one alone."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(UNITS, FEATURES, generator=generator) / FEATURES**0.5
    values = torch.randn(FEATURES, generator=generator).relu()
    if kind == "few among many":
        values[:5] = torch.tensor([60.0, 45.0, 30.0, 30.0, 20.0])
    if kind == "few alone":
        values[6:] = 0
        values[:6] = 30
    if kind == "one among many":
        values[7] = 100
    return values, weight


def cumulants(values: torch.Tensor, weight: torch.Tensor) -> tuple[npt.NDArray[np.float64], ...]:
    """Mean, covariance and third cumulant of Σ w h m / q, term by term from those of a coin."""
    q = 1 - P
    terms = (weight * values).double().numpy() / q
    return q * terms.sum(1), q * P * terms @ terms.T, q * P * (P - q) * (terms**3).sum(1)


def draw(kind: str, *, passes: int = PASSES) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(11)
    return sample_sums(*inputs(kind), dropout=P, passes=passes, rng=rng).double().numpy()


@pytest.mark.parametrize("kind", ["many alike", "few among many", "few alone", "one among many"])
def test_draws_have_the_exact_cumulants(kind: str) -> None:
    drawn = draw(kind)
    mean, covariance, third = cumulants(*inputs(kind))
    sigma = np.sqrt(np.diag(covariance))
    assert drawn.shape == (PASSES, UNITS)
    assert (np.abs(drawn.mean(0) - mean) < 4 * sigma / PASSES**0.5).all()
    assert np.abs(drawn.std(0) / sigma - 1).max() < 0.03
    correlation = covariance / np.outer(sigma, sigma)
    assert np.abs(np.corrcoef(drawn.T) - correlation).max() < 0.05
    skew = ((drawn - mean) ** 3).mean(0) / sigma**3
    assert np.abs(skew - third / sigma**3).max() < 0.12 + SMALL * 1.5


def test_one_strong_input_makes_two_heaps_not_a_bell() -> None:
    values, weight = inputs("one among many")
    drawn, q = draw("one among many"), 1 - P
    rest = (weight * values).double().numpy()
    rest[:, 7] = 0
    unit = int(np.argmax(np.abs(weight[:, 7].numpy())))
    strong = float(weight[unit, 7] * values[7]) / q
    off = np.abs(drawn[:, unit] - rest[unit].sum()) < np.abs(drawn[:, unit] - rest[unit].sum() - strong)
    assert off.mean() == pytest.approx(P, abs=4 * np.sqrt(P * q / PASSES))


@pytest.mark.parametrize("kind", ["many alike", "one among many"])
def test_few_passes_at_a_time_have_the_same_cumulants(kind: str) -> None:
    """Fewer passes than units, where every input is masked one by one."""
    rng = np.random.default_rng(6)
    values, weight = inputs(kind)
    parts = [sample_sums(values, weight, dropout=P, passes=UNITS, rng=rng) for _ in range(100)]
    drawn = torch.cat(parts).double().numpy()
    mean, covariance, _ = cumulants(values, weight)
    sigma = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(0) - mean) < 4 * sigma / len(drawn) ** 0.5).all()
    assert np.abs(drawn.std(0) / sigma - 1).max() < 0.08


def test_nothing_on_gives_nothing() -> None:
    drawn = sample_sums(
        torch.zeros(50), torch.ones(4, 50), dropout=P, passes=30, rng=np.random.default_rng(0)
    )
    assert torch.equal(drawn, torch.zeros(30, 4))


def test_masks_are_independent_coins() -> None:
    rng = np.random.default_rng(5)
    masks = kept((400, 1001), dropout=P, rng=rng).double().numpy()
    assert masks.mean() == pytest.approx(1 - P, abs=4 * np.sqrt(P * (1 - P) / masks.size))
    neighbours = np.mean((masks[:, 1:] - 0.8) * (masks[:, :-1] - 0.8)) / 0.16
    assert abs(neighbours) < 4 / np.sqrt(masks.size)
    assert np.array_equal(
        kept((3, 5), dropout=P, rng=np.random.default_rng(1)),
        kept((3, 5), dropout=P, rng=np.random.default_rng(1)),
    )
