from __future__ import annotations

import torch

from atomreel.nets.detector import CLASSES, build


def test_any_sides_come_back_and_the_network_is_small() -> None:
    net = build().eval()
    assert sum(p.numel() for p in net.parameters()) < 200_000
    for shape in ((48, 48), (49, 62), (51, 75)):
        out = net(torch.zeros(1, 2, *shape))
        assert out.shape == (1, len(CLASSES), *shape)


def test_an_image_alone_gives_what_it_gives_in_a_batch() -> None:
    net = build().eval()
    batch = torch.randn(3, 2, 40, 44, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(net(batch)[1:2], net(batch[1:2]), atol=1e-5)


def test_far_pixels_do_not_matter() -> None:
    net = build().eval()
    image = torch.randn(1, 2, 96, 96, generator=torch.Generator().manual_seed(1))
    other = image.clone()
    other[..., 80:] += 5
    with torch.no_grad():
        change = (net(other) - net(image)).abs().amax((0, 1, 2))
    assert change[:40].max() < 1e-5 < change[84:].max()
