from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.bravais_2018 import PaperNet, amplitude, build


def small(*, everywhere: bool) -> PaperNet:
    net = build(reach=8, filters=(4, 4, 8), dense=16, everywhere=everywhere).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in (*net.convolutions, net.first, net.out):
            layer.weight.copy_(0.2 * torch.randn(layer.weight.shape, generator=generator))
            layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))
    return net


def shown() -> torch.Tensor:
    """Amplitudes (2, 1, 16, 8): everywhere some, and one strong spot alone, whose few activations dominate."""
    x = torch.rand(2, 1, 16, 8, generator=torch.Generator().manual_seed(1))
    x[1] = 0
    x[1, 0, 5, 3] = 12.0
    return x


@torch.no_grad()
def naive(net: PaperNet, x: torch.Tensor, passes: int) -> torch.Tensor:
    """Whole passes with torch's own dropout, a thousand at a time only so that the test is quick."""
    net.train()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(9)
        drawn = [net(x.repeat(1000, 1, 1, 1)).reshape(1000, len(x), 6) for _ in range(passes // 1000)]
    net.eval()
    return torch.cat(drawn)


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_quick_posterior_is_that_of_naive_passes(everywhere: bool) -> None:
    """Means within four standard errors, standard deviations within 5 %, for many and for few strong activations."""
    net, x, passes = small(everywhere=everywhere), shown(), 20_000
    slow = naive(net, x, passes)
    quick = net.sample(x, passes=passes, generator=torch.Generator().manual_seed(3))
    assert quick.shape == (passes, 2, 6)
    assert (slow.std(0) > 0.02).all()
    assert ((quick.std(0) / slow.std(0) - 1).abs() < 0.05).all()
    slow, quick = slow.softmax(-1), quick.softmax(-1)
    error = ((slow.var(0) + quick.var(0)) / passes).sqrt()
    assert ((quick.mean(0) - slow.mean(0)).abs() < 4 * error + 1e-6).all()
    assert ((quick.std(0) / slow.std(0) - 1).abs() < 0.05).all()


def test_same_generator_same_draws() -> None:
    net = small(everywhere=False)
    first, again = (
        net.sample(shown(), passes=7, generator=torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first, again)


def test_amplitude_is_half_of_the_plane_in_order() -> None:
    """A wave of (fy, fx) cycles is one bright pixel at row reach + fy and column fx; brightness does not matter."""
    y, x = np.mgrid[:128, :128] / 128
    for fy, fx in ((5, 9), (-7, 2), (-31, 30)):
        wave = torch.from_numpy(np.cos(2 * np.pi * (fy * y + fx * x)))[None]
        shown = amplitude(wave, reach=32)
        assert shown.shape == (1, 1, 64, 32)
        assert int(shown.argmax()) == (32 + fy) * 32 + fx
        assert torch.allclose(amplitude(700 * wave + 3, reach=32), shown, atol=1e-3)
    assert torch.equal(amplitude(torch.full((1, 128, 128), 5.0), reach=32), torch.zeros(1, 1, 64, 32))


def test_the_layers_are_those_of_the_paper() -> None:
    net = build()
    assert [tuple(c.weight.shape) for c in net.convolutions] == [
        (32, 1, 3, 3),
        (32, 32, 3, 3),
        (64, 32, 3, 3),
    ]
    assert net.first.in_features == 64 * 32 * 16 and net.first.out_features == 128
    x = torch.rand(2, 1, 64, 32)
    net.eval()
    with torch.no_grad():
        assert torch.allclose(net(x), net.out(net.hidden(net.flat(x))), atol=1e-5)
        assert torch.equal(net(x), net(x))


def test_windows_are_read_with_their_lattices(rng: np.random.Generator) -> None:
    windows = torch.from_numpy(rng.poisson(4, (3, 128, 128)).astype(np.float32))
    described, found = build().read(windows)
    assert described.shape == (3, 1, 64, 32) and len(found.first) == 3
