"""The surveyor's spectrum shows spacings, and its answer is a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.surveyor import BINS, RINGS, Surveyor, spacing_bins, spectral_rings


@pytest.mark.parametrize("spacing", [4.0, 9.0, 20.0])
def test_rings_show_a_spacing(spacing: float) -> None:
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    noise = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 1, 128, 128)).astype(np.float32))
    wave = torch.cos(2 * torch.pi * (0.6 * x + 0.8 * y) / spacing)[None, None]
    rings = spectral_rings(wave + 0.5 * noise)[0, RINGS:]
    q = np.geomspace(1 / 40, 1 / 2.05, RINGS)
    assert 1 / q[int(rings.argmax())] == pytest.approx(spacing, rel=0.12)


def test_the_answer_is_a_distribution_over_contrast_and_spacing() -> None:
    reader = Surveyor(10).eval()
    told = reader(1e3 * torch.from_numpy(np.random.default_rng(1).normal(size=(4, 10)).astype(np.float32)))
    assert told.shape == (4, 2, BINS)
    assert torch.allclose(told.exp().sum((1, 2)), torch.ones(4), atol=1e-5)
    assert 2 ** float(spacing_bins()[0]) < 2
    assert 2 ** float(spacing_bins()[-1]) > 36
