"""The classifier of windows: its maps are exact, its answer knows no gain, it can learn."""

from __future__ import annotations

import pytest
import torch

from atomreel.nets.windows import build, gradient_maps, normalise


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(2)
        return build(classes=5, width=4, depth=2).eval()


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.randn((3, 64, 64), generator=torch.Generator().manual_seed(0)) + 4


def test_shapes_and_size(net, windows):
    features = net.features(windows)
    assert net(windows).shape == (3, 5) and features.shape == (3, 16, 16, 16)
    assert net.maps(features).shape == (3, 5, 16, 16)
    assert sum(p.numel() for p in build().parameters()) < 500_000


def test_the_mean_of_an_activation_map_is_the_logit_less_its_bias(net, windows):
    with torch.no_grad():
        means = net.maps(net.features(windows)).mean((2, 3)) + net.last.bias
        torch.testing.assert_close(means, net(windows), atol=1e-5, rtol=1e-5)


def test_grad_cam_of_the_last_features_is_the_activation_map(net, windows):
    """α_k = w_k / (h·w) there, whatever the network before; at earlier features it is another map."""
    chosen = torch.tensor([0, 3, 4])
    with torch.no_grad():
        maps = net.maps(net.features(windows))[torch.arange(3), chosen]
    torch.testing.assert_close(gradient_maps(net, windows, chosen, left=0), maps.relu() / 256)
    early = gradient_maps(net, windows, chosen)
    assert early.shape == maps.shape and (early >= 0).all() and not early.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_grad_cam_against_differences(net, windows):
    """α by raising one early feature everywhere: the slope of the logits, over the number of places."""
    double, image, step = net.double(), windows[:1].double(), 1e-5
    with torch.no_grad():
        f = double.early(image)
        slope = []
        for k in range(f.shape[1]):
            shifted = [f.clone(), f.clone()]
            shifted[0][:, k] += step
            shifted[1][:, k] -= step
            up, down = (double.answer(double.body(one))[0] for one in shifted)
            slope.append((up - down) / 2 / step / 256)
        wanted = torch.einsum("kc,kyx->cyx", torch.stack(slope), f[0]).relu()
    found = [gradient_maps(double, image, torch.tensor([c]), left=2)[0] for c in range(5)]
    torch.testing.assert_close(torch.stack(found), wanted, atol=1e-6, rtol=1e-2)
    assert wanted.max() > 1e-5


def test_gain_and_offset_do_not_matter(net, windows):
    torch.testing.assert_close(net(7.0 * windows - 100), net(windows), atol=1e-3, rtol=1e-3)
    assert normalise(torch.full((1, 8, 8), 3.0)).abs().max() == 0


def test_the_middle_is_told_from_the_rim(net):
    """An even window, two places that no border reaches: only their distance from the middle differs."""
    with torch.no_grad():
        early = net.early(torch.zeros((1, 64, 64)))
    assert float((early[..., 8, 8] - early[..., 8, 4]).abs().max()) > 1e-4


def test_it_can_learn():
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        net = build(classes=2, width=4, depth=1).train()
        images = torch.randn(16, 64, 64)
    images[8:, 28:36, 28:36] += 2
    label = (torch.arange(16) > 7).long()
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(net(images), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2
