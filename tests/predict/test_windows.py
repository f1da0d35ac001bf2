"""Crops and their kinds: geometry, calibrated answers of the shipped model, where its maps point, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from atomreel.core.card import Card, write_card
from atomreel.core.errors import InputError, ModelError, UnknownNameError
from atomreel.predict.windows import activation_maps, classify_windows, crops_at, paste_maps
from atomreel.simulate.strangers import random_strangers
from atomreel.simulate.windows import CELL_PX, SIDE, add_noise, random_noise, random_windows
from atomreel.tasks.task import build_network
from atomreel.tasks.windows import TASK


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An untrained network with a card: enough to see what goes in and out."""
    folder = tmp_path_factory.mktemp("model") / "windows"
    folder.mkdir()
    network = dict(TASK.network) | {"width": 4, "depth": 1}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(1)
        net = build_network(network)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
    card = Card("windows", "windows", "a test", network, TASK.classes, TASK.input, TASK.scope)
    write_card(folder / "card.toml", replace(card, calibration={"temperature": 2.0}))
    return folder


@pytest.fixture(scope="module")
def fresh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of every kind with noise: images, labels, positions."""
    rng = np.random.default_rng(77)
    made = random_windows(TASK.material, rng, labels=np.arange(250) % 5, kinds=TASK.kinds)
    noise = [random_noise(rng) for _ in range(250)]
    images = [add_noise(one, *how, rng=rng) for one, how in zip(made.images, noise, strict=True)]
    return np.stack(images), made.label, made.position


def test_table(model, fresh):
    table = classify_windows(fresh[0][:7], model=model)
    assert list(table) == [*(f"p_{name}" for name in TASK.classes), "kind", "score"] and len(table) == 7
    p = table.filter(like="p_").to_numpy()
    assert p.sum(1) == pytest.approx(np.ones(7))
    assert (table["score"] == p.max(1)).all()
    assert list(table["kind"]) == [TASK.classes[k] for k in p.argmax(1)]
    again = classify_windows(5 * fresh[0][:7] - 40, model=model)
    np.testing.assert_allclose(again.filter(like="p_"), p, atol=1e-4)
    assert list(classify_windows(fresh[0][:0], model=model)) == list(table)
    assert len(classify_windows(fresh[0][:0], model=model)) == 0


def test_a_temperature_of_two_halves_the_log_odds(model, fresh):
    p = classify_windows(fresh[0][:5], model=model).filter(like="p_").to_numpy()
    from atomreel.predict.model import load_model

    with torch.no_grad():
        logits = load_model(model)[0](torch.from_numpy(fresh[0][:5])).numpy()
    np.testing.assert_allclose(
        np.log(p[:, 0] / p[:, 1]), (logits[:, 0] - logits[:, 1]) / 2, rtol=1e-3, atol=1e-4
    )


def test_what_shows_nothing_is_none(model):
    windows = np.random.default_rng(0).normal(0, 1, (3, SIDE, SIDE))
    windows[0] = 4.0
    windows[1, :, :10] = np.nan
    table = classify_windows(windows, model=model)
    assert list(table["kind"][:2]) == ["none", "none"] and (table["p_none"][:2] == 1).all()
    assert table["p_none"][2] < 1


def picture(px: float, shape: tuple[int, int], centre: tuple[float, float]) -> np.ndarray:
    """A smooth picture of waves with `px` per lattice vector, the same around `centre` at any sampling."""
    y, x = ((np.arange(n) - c) / px for n, c in zip(shape, centre, strict=True))
    return 2 + np.cos(2 * np.pi * y)[:, None] * np.cos(3.1 * x) + np.outer(y, np.sin(5 * x)) / 3


@pytest.mark.parametrize("px", [11.0, 16.0, 25.3, 38.0])
def test_crops_of_any_sampling_show_the_same(model, px):
    size = int(7 * px)
    centre = (0.52 * size, 0.47 * size + 0.3)
    crop = crops_at(picture(px, (size, size), centre), [centre], lattice_px=px, model=model)[0]
    wanted = picture(CELL_PX, (SIDE, SIDE), (31.5, 31.5))
    assert crop.shape == (SIDE, SIDE) and crop.dtype == np.float32
    assert np.abs(crop - wanted).max() < 0.05 and np.isfinite(crop).all()


def test_crops_are_cut_around_y_x_and_beyond_the_border_there_is_nothing(model):
    image = np.zeros((90, 120))
    image[20, 100] = 1
    crops = crops_at(image, [[20, 100], [60, 50]], lattice_px=16.0, model=model)
    centre = np.unravel_index(np.nanargmax(crops[0]), (SIDE, SIDE))
    assert centre in [(31, 31), (31, 32), (32, 31), (32, 32)]
    assert np.isnan(crops[0][:10]).all() and np.isnan(crops[0][:, -10:]).all()
    assert np.isfinite(crops[1][5:-3]).all()
    assert crops_at(image, np.zeros((0, 2)), lattice_px=16.0, model=model).shape == (0, SIDE, SIDE)


def test_thinning_out_keeps_the_mean_of_the_noise_small(model):
    """White noise at twice the sampling: a crop averages four pixels, so its spread is about halved."""
    noise = np.random.default_rng(0).normal(0, 1, (300, 300))
    crop = crops_at(noise, [[150, 150]], lattice_px=2 * CELL_PX, model=model)[0]
    assert 0.35 < crop.std() < 0.65


def test_maps_have_the_shape_of_crops_and_name_their_class(model, fresh):
    some = fresh[0][:4]
    kinds = classify_windows(some, model=model)["kind"]
    np.testing.assert_array_equal(
        activation_maps(some, model=model), activation_maps(some, kinds, model=model)
    )
    first, second = (activation_maps(some, kind, model=model) for kind in ("V_S", "none"))
    assert first.shape == (4, SIDE, SIDE) and np.abs(first - second).max() > 1e-4
    assert (activation_maps(some, "V_S", method="grad-cam", model=model) >= 0).all()
    from atomreel.predict.model import load_model

    net, card = load_model(model)
    with torch.no_grad():
        logit = net(torch.from_numpy(some))[:, 1] - net.last.bias[1]
    np.testing.assert_allclose(first.mean((1, 2)), logit, atol=2e-3)
    assert card.classes[1] == "V_S"


def test_maps_are_pasted_where_the_crops_were_cut(model):
    maps = np.zeros((2, SIDE, SIDE))
    maps[0, 31:33, 31:33] = 1.0
    maps[1, 10:12, 40:42] = 2.0
    at = np.array([[60.0, 70.0], [80.0, 75.0]])
    whole = paste_maps((150, 160), at, maps, lattice_px=2 * CELL_PX, model=model)
    assert whole.shape == (150, 160)
    assert np.unravel_index(np.argmax(whole), whole.shape) == pytest.approx(
        (80 - 2 * 21, 75 + 2 * 9), abs=1.5
    )
    assert whole[60, 70] == pytest.approx(1, abs=0.2) and whole[60, 79] == 0


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda m: classify_windows(np.ones((2, 32, 32)), model=m), InputError, "64, 64"),
        (lambda m: classify_windows(np.ones((64, 64)), model=m), InputError, "64, 64"),
        (lambda m: classify_windows(np.ones((1, 64, 64)), model="bravais"), ModelError, "defects in windows"),
        (lambda m: crops_at(np.ones((9, 9, 9)), [[1, 1]], lattice_px=16, model=m), InputError, "shape"),
        (lambda m: crops_at(np.ones((99, 99)), [1, 1, 1], lattice_px=16, model=m), InputError, "yx"),
        (lambda m: crops_at(np.ones((99, 99)), [[np.nan, 1]], lattice_px=16, model=m), InputError, "finite"),
        (lambda m: crops_at(np.ones((99, 99)), [[1, 1]], lattice_px=3, model=m), InputError, "at least 6"),
        (lambda m: crops_at(np.ones((99, 99)), [[1, 1]], lattice_px=np.nan, model=m), InputError, "at least"),
        (lambda m: activation_maps(np.ones((1, 64, 64)), "V_Se", model=m), UnknownNameError, "V_Se"),
        (lambda m: activation_maps(np.ones((1, 64, 64)), method="lrp", model=m), UnknownNameError, "lrp"),
        (
            lambda m: paste_maps((9, 9), [[1, 1]], np.ones((2, 64, 64)), lattice_px=16, model=m),
            InputError,
            "one map",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(call, error, said, model):
    with pytest.raises(error, match=said):
        call(model)


def test_the_shipped_model_names_defects(fresh):
    images, label, _ = fresh
    table = classify_windows(images)
    named = table["kind"].map({name: k for k, name in enumerate(TASK.classes)}).to_numpy()
    assert (named == label).mean() >= 0.97
    assert table["score"].mean() == pytest.approx((named == label).mean(), abs=0.03)


@pytest.mark.parametrize("method", ["cam", "grad-cam"])
def test_maps_of_the_shipped_model_point_at_the_defect(fresh, method):
    """Within 2 Å in at least 0.8 of the windows; a place at random would be so in about 0.08."""
    images, label, position = fresh
    with_defect = label < 4
    maps = activation_maps(images[with_defect], np.array(TASK.kinds)[label[with_defect]], method=method)
    top = np.array([np.unravel_index(np.argmax(one), one.shape) for one in maps])
    off = np.linalg.norm(top - position[with_defect], axis=1) * 3.153 / CELL_PX
    assert (off < 2).mean() >= 0.8


def test_the_shipped_model_does_not_take_strangers_for_its_own():
    rng = np.random.default_rng(78)
    images, _ = random_strangers(TASK.material, 150, rng)
    noisy = np.stack([add_noise(image, *random_noise(rng), rng=rng) for image in images])
    assert (classify_windows(noisy)["kind"] == "none").mean() > 0.9
    empty = rng.poisson(20, (20, SIDE, SIDE))
    assert (classify_windows(empty)["kind"] == "none").all()


@pytest.mark.parametrize("px", [12.0, 30.0])
def test_the_shipped_model_answers_alike_at_another_sampling(fresh, px):
    """Windows enlarged or shrunk by Fourier, noise of the new pixels, and back by `crops_at`."""
    rng = np.random.default_rng(5)
    made = random_windows(TASK.material, rng, labels=np.arange(60) % 5, kinds=TASK.kinds)
    side = round(SIDE * px / CELL_PX)
    at = (np.arange(side) + 0.5) * SIDE / side - 0.5
    from scipy.ndimage import map_coordinates

    grid = np.meshgrid(at, at, indexing="ij")
    smooth = [gaussian_filter(one, 0.3) for one in made.images]
    other = np.stack([map_coordinates(one, grid, order=3, mode="nearest") for one in smooth])
    other = other + rng.normal(0, 0.01, other.shape)
    middle = [((side - 1) / 2, (side - 1) / 2)]
    crops = np.stack([crops_at(one, middle, lattice_px=CELL_PX * side / SIDE)[0] for one in other])
    named = classify_windows(crops)["kind"].to_numpy()
    native = classify_windows(made.images)["kind"].to_numpy()
    assert (named == native).mean() >= 0.95
