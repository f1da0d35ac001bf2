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
    heat, height = net(series, torch.tensor([3.0, torch.nan]), torch.tensor([torch.nan, 5.0]))
    assert heat.shape == (2, 1, 64, 48)
    assert height.shape == (2, 7, 32, 24)
    assert torch.isfinite(heat).all() and torch.isfinite(height).all()
    assert sum(p.numel() for p in build().parameters()) * 2 < 4_000_000  # as shipped, in half precision


def test_gain_offset_and_ramp_do_not_matter(series):
    """As long as the level of the vacuum is given in the same units, or not at all."""
    net = build(width=8).eval()
    dose = torch.zeros(2)
    with torch.no_grad():
        for level in (torch.full((2,), 4.0), torch.full((2,), torch.nan)):
            plain = net(series, dose, level)[0]
            offsets = torch.tensor([1.0, 7.0, -3.0])[:, None, None]
            torch.testing.assert_close(
                net(3.7 * series + offsets, dose, 3.7 * level)[0], plain, atol=2e-3, rtol=1e-3
            )
    ramp = torch.linspace(0, 30, 48)
    flat = normalise_series(ramp.expand(1, 3, 64, 48))[0][..., 20:28]
    assert flat.abs().max() < 0.3  # of the largest local rms, which is at the borders


def test_one_divisor_keeps_the_ratio_between_places_and_images(series):
    series = series - series.mean()
    series[:, :, :, :24] *= 0.1
    series[:, 1] *= 3
    done, divisor = normalise_series(series)
    assert divisor.shape == (2,) and (divisor > 1).all()
    assert float(done[:, 0, :, :16].std() / done[:, 0, :, 32:].std()) == pytest.approx(0.1, rel=0.2)
    assert float(done[:, 1].std() / done[:, 0].std()) == pytest.approx(3, rel=0.05)


def test_dose_and_level_are_read(series):
    net = build(width=8).eval()
    known = torch.ones(2)
    for ask in (lambda d: net(series, d, known)[1], lambda v: net(series, known, v)[1]):
        one, other, unknown = (ask(torch.full((2,), d)) for d in (2.0, 4.0, torch.nan))
        assert (one - other).abs().max() > 1e-4
        assert (one - unknown).abs().max() > 1e-4


def test_context_adds_the_same_everywhere_and_hears_every_place():
    context = build(width=8).context
    maps = torch.randn((1, 32, 9, 7), generator=torch.Generator().manual_seed(2))
    other = maps.clone()
    other[:, :, 0, 0] += 5
    added, changed = context(maps) - maps, context(other) - other
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added), atol=1e-5, rtol=0)
    assert (changed - added)[:, :, -1, -1].abs().max() > 1e-3


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
        loss = torch.nn.functional.cross_entropy(net(series, torch.zeros(2), torch.ones(2))[1], wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
