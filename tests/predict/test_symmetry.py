from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.torch import save_file

from atomreel.core.card import Card, write_card
from atomreel.core.errors import InputError
from atomreel.core.image import Image
from atomreel.predict.symmetry import (
    CLASSES,
    classify_image,
    classify_windows,
    fit_window,
    map_symmetry,
    window_for_lattice,
)
from atomreel.tasks.task import build_network

ANGLES = {
    "square": (1, 90),
    "rectangular": (1.3, 90),
    "centred": (1, 76),
    "hexagonal": (1, 60),
    "oblique": (1.25, 77),
}


def draw(
    ratio: float, gamma: float, *, rng: np.random.Generator, a: float = 13.0, size: int = 128,
    turn: float | None = None, counts: float = 30.0, disorder: float = 0.03,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """A lattice image made without the package: every atom added by itself, site by site."""
    turn = rng.uniform(0, 360) if turn is None else turn
    t, g = np.deg2rad(turn), np.deg2rad(gamma)
    first = a * np.array([np.sin(t), np.cos(t)])
    second = a * ratio * np.array([np.sin(t + g), np.cos(t + g)])
    image = np.full((size, size), 0.2)
    y, x = np.mgrid[:size, :size]
    reach = int(1.6 * size / a)
    for i in range(-reach, reach):
        for j in range(-reach, reach):
            cy, cx = size / 2 + i * first + j * second + disorder * a * rng.standard_normal(2)
            if -a < cy < size + a and -a < cx < size + a:
                ys, xs = max(0, int(cy - a)), max(0, int(cx - a))
                box = np.s_[ys : int(cy + a) + 1, xs : int(cx + a) + 1]
                image[box] += np.exp(-((y[box] - cy) ** 2 + (x[box] - cx) ** 2) / (2 * (0.18 * a) ** 2))
    return rng.poisson(counts * image).astype(np.float32)


def named(p: npt.NDArray[np.float64]) -> list[str]:
    return [CLASSES[k] for k in p.argmax(-1)]


def test_clear_lattices_of_another_generator_are_named() -> None:
    rng = np.random.default_rng(7)
    names = [name for name in ANGLES for _ in range(6)]
    windows = np.stack([draw(*ANGLES[name], rng=rng, a=rng.uniform(9, 17)) for name in names])
    p, std = classify_windows(windows)
    assert p.shape == std.shape == (30, 6)
    assert np.allclose(p.sum(1), 1)
    assert np.mean([n == m for n, m in zip(named(p), names, strict=True)]) >= 0.96
    assert np.mean([p[i, CLASSES.index(name)] for i, name in enumerate(names)]) > 0.93


def test_noise_is_noise(rng: np.random.Generator) -> None:
    points = rng.uniform(0, 128, (12, 60, 2))
    y, x = np.mgrid[:128, :128]
    scattered = [sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18) for a, b in some) for some in points]
    windows = rng.poisson(20 * np.stack([*scattered, *np.full((12, 128, 128), 0.3)])).astype(np.float32)
    p, _ = classify_windows(windows)
    assert np.mean(p.argmax(1) == 5) >= 0.95


def test_turning_mirroring_and_brightness_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    windows = np.stack([draw(1.25, 77, rng=rng, turn=turn, a=12) for turn in range(0, 180, 15)])
    p, _ = classify_windows(windows)
    assert (p[:, 4] > 0.8).all()
    turned, _ = classify_windows(np.rot90(windows, axes=(1, 2)).copy())
    mirrored, _ = classify_windows(windows[:, :, ::-1].copy() * -3 + 50)
    assert np.abs(turned - p).max() < 0.1 and np.abs(mirrored - p).max() < 0.1


@pytest.mark.parametrize("a", [8, 11, 15, 20])
def test_scale_does_not_matter(a: float) -> None:
    rng = np.random.default_rng(int(a))
    p, _ = classify_windows(np.stack([draw(1, 60, rng=rng, a=a) for _ in range(4)]))
    assert (p[:, 3] > 0.7).all()


def test_windows_of_other_sizes_are_resampled() -> None:
    rng = np.random.default_rng(0)
    for size, a in ((64, 8), (200, 25), (300, 30)):
        p, _ = classify_windows(draw(1, 90, rng=rng, a=a, size=size)[None])
        assert named(p) == ["square"]
    assert classify_windows(draw(1, 90, rng=rng, size=128)[None, :, :90])[0].shape == (1, 6)


def test_probabilities_are_honest_below_two_counts_and_near_the_boundary() -> None:
    """Confidence and accuracy agree where mistakes are made."""
    rng = np.random.default_rng(11)
    names, windows = [], []
    for k in range(80):
        name = ("square", "rectangular", "hexagonal", "oblique")[k % 4]
        ratio, gamma = {"rectangular": (1.05, 90), "oblique": (1.04, 63)}.get(name, ANGLES[name])
        windows.append(draw(ratio, gamma, rng=rng, a=rng.uniform(9, 18), counts=1.5, disorder=0.05))
        names.append(name)
    p, _ = classify_windows(np.stack(windows))
    right = np.array([n == m for n, m in zip(named(p), names, strict=True)])
    error = np.sqrt((p.max(1) * (1 - p.max(1))).sum()) / len(p)
    assert abs(right.mean() - p.max(1).mean()) < 3 * error + 0.03
    assert right.mean() > 0.75


def test_unusable_pixels_and_constant_windows() -> None:
    rng = np.random.default_rng(5)
    good = draw(1, 60, rng=rng)
    spoilt = good.copy()
    spoilt[3, 4:9], spoilt[50, 50] = np.nan, np.inf
    windows = np.stack([np.full_like(good, 7), np.zeros_like(good), np.full_like(good, np.nan), spoilt])
    for passes in (0, 20):
        p, std = classify_windows(windows, passes=passes, rng=0)
        assert np.isfinite(p).all() and np.isfinite(std).all()
        assert named(p) == ["noise", "noise", "noise", "hexagonal"]
        assert np.allclose(p[:3, 5], 1) and np.allclose(std[:3], 0)


def test_dropout_passes_agree_with_the_plain_answer_and_repeat() -> None:
    rng = np.random.default_rng(2)
    windows = np.stack([draw(1, 90, rng=rng), draw(1.02, 90, rng=rng, counts=0.6, disorder=0.08)])
    plain, none = classify_windows(windows)
    mean, std = classify_windows(windows, passes=400, rng=1)
    again, _ = classify_windows(windows, passes=400, rng=1)
    assert np.array_equal(mean, again)
    assert np.allclose(none, 0) and np.allclose(mean.sum(1), 1)
    assert np.abs(mean - plain).max() < 0.25
    assert std[1].max() > 0.002


def test_map_shows_two_lattices_side_by_side() -> None:
    rng = np.random.default_rng(4)
    frame = np.hstack([draw(1, 90, rng=rng, size=192), draw(1, 60, rng=rng, size=192)])
    field = map_symmetry(Image(frame), window=128, step=32)
    assert field.shape == (3, 9) and field.origin == (63.5, 63.5) and field.step == (32.0, 32.0)
    assert set(field.maps) >= {f"{kind}_{name}" for kind in ("p", "std") for name in CLASSES}
    assert field.maps["p_square"][:, :3].mean() > 0.8 and field.maps["p_hexagonal"][:, -3:].mean() > 0.8


def test_entropy_and_mutual_information_light_up_at_a_grain_boundary() -> None:
    """Two hexagonal grains that differ by 17°: open only where a window holds both. Windows end at both borders."""
    inside, at, mutual = [], [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        grains = [draw(1, 60, rng=rng, a=11, size=300, turn=turn) for turn in (4.0, 21.0)]
        frame = np.hstack([grains[0][:, :150], grains[1][:, 150:]])
        field = map_symmetry(frame, window=96, step=20, flush=True, passes=30, rng=seed)
        centre = field.positions()[1]
        assert centre[-1] + 48 == pytest.approx(299.5) and field.shape == (12, 12)
        entropy, information = field.maps["entropy"], field.maps["mutual_information"]
        assert (information >= 0).all() and (information <= entropy + 1e-6).all()
        assert entropy.max() <= np.log(6)
        both = np.abs(centre - 149.5) < 24
        neither = np.abs(centre - 149.5) > 48
        at.append(entropy[:, both].mean())
        inside.append(entropy[:, neither].mean())
        mutual.append(information[:, both].mean() / information[:, neither].mean())
    assert np.mean(at) > 1.7 * np.mean(inside) and np.mean(mutual) > 1.7


def test_without_passes_there_is_no_mutual_information() -> None:
    rng = np.random.default_rng(1)
    frame = np.hstack([draw(1, 60, rng=rng, a=11), rng.poisson(9, (128, 128))])
    field = map_symmetry(frame, window=64, step=24)
    assert (field.maps["mutual_information"] == 0).all()
    p = np.stack([field.maps[f"p_{name}"] for name in CLASSES]).astype(float)
    np.testing.assert_allclose(field.maps["entropy"], -(p * np.log(np.maximum(p, 1e-30))).sum(0), atol=1e-5)


def test_the_map_of_a_fine_step_has_the_windows_of_a_coarse_one() -> None:
    frame = draw(1.3, 90, rng=np.random.default_rng(8), size=160)
    fine, coarse = (map_symmetry(frame, window=96, step=step).maps["p_rectangular"] for step in (4, 16))
    np.testing.assert_allclose(fine[::4, ::4], coarse, atol=1e-5)


def test_the_map_does_not_depend_on_the_number_of_threads() -> None:
    import torch

    frame = draw(1, 60, rng=np.random.default_rng(8), size=256)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(map_symmetry(frame, step=12).maps)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(
        np.array_equal(found[0][name], other[name], equal_nan=True) for other in found[1:] for name in other
    )


def test_whole_images_large_and_small() -> None:
    rng = np.random.default_rng(6)
    for image in (
        draw(1, 60, rng=rng),
        draw(1, 60, rng=rng, a=14, size=300),
        draw(1, 60, rng=rng, a=50, size=270),
    ):
        p, std = classify_image(image)
        assert CLASSES[int(p.argmax())] == "hexagonal"
        assert p.sum() == pytest.approx(1) and std.shape == (6,)
    tiny, _ = classify_image(np.ones((3, 2)))
    assert tiny[5] == 1


def test_window_follows_the_lattice() -> None:
    assert window_for_lattice(20.0, (512, 600)) >= 80
    assert window_for_lattice(100.0, (128, 300)) == 128
    assert window_for_lattice(1.0, (512, 512)) >= 16
    with pytest.raises(InputError, match="spacing"):
        window_for_lattice(0.0, (64, 64))


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match="windows"):
        classify_windows(np.zeros((5, 5)))
    with pytest.raises(InputError, match="frame"):
        map_symmetry(np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match="passes"):
        classify_windows(np.zeros((1, 8, 8)), passes=-1)
    assert classify_windows(np.zeros((0, 8, 8)))[0].shape == (0, 6)


def test_a_network_of_another_kind_is_used_the_same_way(tmp_path: Path) -> None:
    """A folder of the paper's network, small and untrained: windows, maps, passes; its card names its kind."""
    network = {"kind": "bravais_2018", "reach": 8, "filters": [4, 4, 4], "dense": 16}
    save_file(build_network(network).state_dict(), tmp_path / "weights.safetensors")
    write_card(tmp_path / "card.toml", Card("mine", "bravais-2018", "test", network, CLASSES))
    rng = np.random.default_rng(1)
    frame = draw(1.2, 80, rng=rng, size=160)
    plain, none = classify_windows(frame[None], model=tmp_path)
    mean, std = classify_windows(frame[None], model=tmp_path, passes=3000, rng=2)
    again, _ = classify_windows(frame[None], model=tmp_path, passes=3000, rng=2)
    assert np.allclose(plain.sum(1), 1) and np.allclose(none, 0)
    assert np.abs(mean - plain).max() < 0.1 and (std > 0).all() and np.array_equal(mean, again)
    field = map_symmetry(frame, window=128, step=16, model=tmp_path, passes=30, rng=3)
    assert field.shape == (3, 3) and field.maps["std_oblique"].min() > 0
    assert np.abs(field.maps["p_oblique"] - plain[0, 4]).max() < 0.3


def test_fit_window_keeps_what_has_the_right_size() -> None:
    import torch

    x = torch.rand(2, 128, 128)
    assert torch.equal(fit_window(x), x)
    assert fit_window(torch.rand(2, 50, 70)).shape == (2, 128, 128)


@pytest.mark.data
def test_the_papers_drifted_image_is_nearly_hexagonal(real) -> None:  # type: ignore[no-untyped-def]
    from imageio.v3 import imread

    path = next(p for p in (real / "stm-hexagonal-drift").iterdir() if p.suffix in (".png", ".jpg", ".tif"))
    image = np.asarray(imread(path), float)
    grey = image[..., :3].mean(-1) if image.ndim == 3 else image
    p, _ = classify_image(grey)
    assert p[5] < 0.2
