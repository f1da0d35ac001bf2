"""Every way of running the network gives the logits of torch float32, or is given up with a warning."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from atomreel.core.errors import AtomreelWarning, MissingExtraError, UnknownNameError
from atomreel.nets.columns import UNet, local_normalise
from atomreel.predict import backend
from atomreel.predict.backend import TOLERANCE, candidates, choose_backend, identify_backend
from atomreel.predict.tiles import map_tiles

ENGINES = ["openvino", "torch"]


def picture(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Counts of an oblique lattice of Gaussians that no other module makes."""
    rng = np.random.default_rng([seed, 5])
    i, j = np.mgrid[-45:45, -5:45].reshape(2, -1)
    gy, gx = (
        np.exp(-0.5 * ((np.arange(n)[:, None] - at) / 2.0) ** 2)
        for n, at in zip(shape, (9 * i + 2 * j, 8 * j), strict=True)
    )
    return rng.poisson(0.5 + 15 * gy @ gx.T).astype(np.float32)


@pytest.fixture
def unet() -> UNet:
    """Random weights, the norms' statistics from two pictures, logits that spread as a trained network's do."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(4)
        net = UNet(8)
    net.train()
    with torch.no_grad():
        for seed in range(8):
            net(local_normalise(torch.from_numpy(picture(seed % 2, (64, 64)))[None, None]))
        net.eval().requires_grad_(False)
        spread = net(local_normalise(torch.from_numpy(picture(2, (64, 64)))[None, None])).std()
        net.head.weight.mul_(2 / spread)
    return net


@pytest.fixture
def tile() -> torch.Tensor:
    return local_normalise(torch.from_numpy(picture(3, (176, 112)))[None, None])


def needs(engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    elif not backend.has_bf16():
        pytest.skip("torch float32 is the reference itself where there is no bfloat16")


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_are_those_of_the_reference(unet: UNet, tile: torch.Tensor, engine: str) -> None:
    needs(engine)
    chosen = choose_backend(unet, engine)
    assert (chosen.engine, chosen.notice) == (engine, "")
    answer, expected = chosen.network(tile), unet(tile)
    assert answer.shape == expected.shape and answer.dtype == torch.float32
    assert expected.std() > 1
    assert (answer - expected).abs().max() < TOLERANCE
    assert 0 < chosen.difference < TOLERANCE


def test_openvino_in_float32_is_torch_in_float32(unet: UNet, tile: torch.Tensor) -> None:
    needs("openvino")
    network = backend._openvino(unet, "f32", 1)
    assert (network(tile) - unet(tile)).abs().max() < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_have_no_plateaus(unet: UNet, tile: torch.Tensor, engine: str) -> None:
    """Rounded to bfloat16 as a whole, neighbours would share their value and a column would have many maxima."""
    needs(engine)
    answer = choose_backend(unet, engine).network(tile)
    equal = (answer[..., 1:] == answer[..., :-1]).float().mean()
    rounded = answer.bfloat16()
    assert (rounded[..., 1:] == rounded[..., :-1]).float().mean() > 10 * equal + 1e-3
    assert equal < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_bytes_again_and_in_other_tiles(unet: UNet, engine: str) -> None:
    needs(engine)
    image = picture(6, (300, 260))
    maps = []
    for side in (4096, 128, 128):
        backend._chosen.cache_clear()
        network, values = choose_backend(unet, engine).network, np.zeros(image.shape, dtype=np.float32)
        with torch.no_grad():
            for piece in map_tiles(image, network, zoom=1.0, tile=side):
                (y0, y1), (x0, x1) = piece.core
                (top, _), (left, _) = piece.rows, piece.cols
                values[y0:y1, x0:x1] = piece.values[y0 - top : y1 - top, x0 - left : x1 - left]
        maps.append(values)
    assert maps[1].tobytes() == maps[2].tobytes()
    assert np.abs(maps[0] - maps[1]).max() < 0.1 * TOLERANCE


def test_a_wrong_answer_is_not_used(unet: UNet, tile: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("openvino")
    monkeypatch.setattr(
        backend, "_openvino", lambda net, precision, threads: lambda x: net(x) + 2 * TOLERANCE
    )
    with pytest.warns(AtomreelWarning, match=r"openvino .* differs from torch float32 by 0\.2"):
        chosen = choose_backend(unet)
    assert chosen.engine == "torch" and "openvino" in chosen.notice
    assert "openvino" in chosen.describe()["notice"]  # type: ignore[operator]
    assert (chosen.network(tile) - unet(tile)).abs().max() < TOLERANCE


def test_not_a_number_is_a_wrong_answer(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "candidates", lambda asked: [("openvino", "bf16"), ("torch", "f32")])
    monkeypatch.setattr(backend, "_openvino", lambda *_: lambda x: x * torch.nan)
    with pytest.warns(AtomreelWarning, match="nan"):
        assert choose_backend(unet).network is unet


def test_a_library_that_fails_is_not_used(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(backend, "candidates", lambda asked: [("openvino", "bf16"), ("torch", "f32")])
    monkeypatch.setattr(backend, "_openvino", broken)
    with pytest.warns(AtomreelWarning, match="does not run here .*libtbb"):
        chosen = choose_backend(unet)
    assert chosen.network is unet and chosen.precision == "f32"


def test_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_bf16", lambda: True)
    assert candidates("torch") == [("torch", "bf16"), ("torch", "f32")]
    assert candidates("reference") == [("torch", "f32")]
    assert identify_backend("reference") == f"torch {torch.__version__} f32"
    monkeypatch.setattr(backend, "has_bf16", lambda: False)
    assert candidates("torch") == [("torch", "f32")]
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert candidates("auto") == [("torch", "f32")]
    with pytest.raises(MissingExtraError, match=r"atomreel\[fast\]"):
        candidates("openvino")
    with pytest.raises(UnknownNameError, match="openvino"):
        candidates("openvine")


def test_norms_are_folded_in_a_copy(unet: UNet, tile: torch.Tensor) -> None:
    before, keys = unet(tile), list(unet.state_dict())
    folded = backend._folded(unet)
    assert not any("running" in key for key in folded.state_dict())
    assert (folded(tile) - before).abs().max() < 1e-4
    assert list(unet.state_dict()) == keys and torch.equal(unet(tile), before)
