"""The height reader: brightness does not matter, shapes fit, interpolation starts bilinear, it can learn."""

from __future__ import annotations

import pytest
import torch

from atomreel.nets.heights import build, normalise_series


@pytest.fixture
def series() -> torch.Tensor:
    return torch.randn((2, 3, 64, 48), generator=torch.Generator().manual_seed(0)) + 5


def test_shapes_and_size(series):
    net = build(heights=7, width=8).eval()
    heat, height = net(series, torch.tensor([3.0, torch.nan]))
    assert heat.shape == (2, 1, 64, 48)
    assert height.shape == (2, 7, 32, 24)
    assert torch.isfinite(heat).all() and torch.isfinite(height).all()
    assert sum(p.numel() for p in build().parameters()) * 2 < 4_000_000  # as shipped, in half precision


def test_gain_offset_and_ramp_do_not_matter(series):
    net = build(width=8).eval()
    dose = torch.zeros(2)
    with torch.no_grad():
        plain = net(series, dose)[0]
        offsets = torch.tensor([1.0, 7.0, -3.0])[:, None, None]
        torch.testing.assert_close(net(3.7 * series + offsets, dose)[0], plain, atol=2e-3, rtol=1e-3)
    ramp = torch.linspace(0, 30, 48)
    flat = normalise_series(ramp.expand(1, 3, 64, 48))[..., 20:28]
    assert flat.abs().max() < 0.3  # of the largest local rms, which is at the borders


def test_one_divisor_keeps_the_ratio_between_places_and_images(series):
    series = series - series.mean()
    series[:, :, :, :24] *= 0.1
    series[:, 1] *= 3
    done = normalise_series(series)
    assert float(done[:, 0, :, :16].std() / done[:, 0, :, 32:].std()) == pytest.approx(0.1, rel=0.2)
    assert float(done[:, 1].std() / done[:, 0].std()) == pytest.approx(3, rel=0.05)


def test_the_dose_is_read(series):
    net = build(width=8).eval()
    one, other, unknown = (net(series, torch.full((2,), d))[1] for d in (2.0, 4.0, torch.nan))
    assert (one - other).abs().max() > 1e-4
    assert (one - unknown).abs().max() > 1e-4


def test_upsampling_begins_as_bilinear_interpolation():
    up = build(width=8).up[-1]
    maps = torch.rand((1, 16, 9, 9), generator=torch.Generator().manual_seed(1))
    mean = 0.5 * (maps[:, :8] + maps[:, 8:])
    wanted = torch.nn.functional.interpolate(mean, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up(maps)[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2])


def test_it_learns_two_heights_of_one_picture(series):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = build(heights=2, width=8)
    wanted = (series[:, 0, ::2, ::2] > 5).long()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(net(series, torch.zeros(2))[1], wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
