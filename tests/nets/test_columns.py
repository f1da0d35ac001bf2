"""What the tiling relies on: normalisation and reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.columns import HALO, STRIDE, UNet, local_normalise


def picture(seed: int, side: int = 128) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, side, side)).astype(np.float32))


def test_normalisation_removes_level_and_gain() -> None:
    x = picture(0)
    assert torch.allclose(local_normalise(5 + 300 * x), local_normalise(x), atol=2e-3)
    assert abs(float(local_normalise(x).mean())) < 0.02
    assert float(local_normalise(x).std()) == pytest.approx(1, abs=0.03)


def test_normalisation_follows_a_background() -> None:
    x = picture(1, 256)
    ramp = torch.linspace(0, 10, 256)[None, None, None]
    inner = (..., slice(64, -64), slice(64, -64))
    assert float((local_normalise(x + ramp) - local_normalise(x))[inner].abs().mean()) < 0.15


def test_an_empty_image_stays_finite() -> None:
    assert torch.isfinite(local_normalise(torch.zeros(1, 1, 64, 64))).all()


def test_the_network_sees_no_further_than_its_halo() -> None:
    net = UNet(8).eval()
    x = picture(2, 3 * HALO // STRIDE * STRIDE).requires_grad_()
    middle = x.shape[-1] // 2
    for at in (middle, middle + 5, middle + 15):
        (seen,) = torch.autograd.grad(net(x)[0, 0, at, at], x)
        used = torch.nonzero(seen[0, 0])
        assert int((used - at).abs().max()) <= HALO
