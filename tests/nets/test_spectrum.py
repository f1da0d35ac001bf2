from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets import spectrum
from atomreel.nets.sharpen import standardise
from atomreel.nets.spectrum import (
    BINS,
    PAD,
    SIZE,
    find_spots,
    fit_lattices,
    log_power,
    reduce_basis,
)


def waves(*frequencies: tuple[float, float], noise: float = 0.5, seed: int = 0) -> torch.Tensor:
    """A window of cosines at (y, x) cycles per window, and white noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    image = sum(np.cos(2 * np.pi * (fy * y + fx * x) + rng.uniform(0, 6)) for fy, fx in frequencies)
    return torch.from_numpy(image + noise * rng.standard_normal((SIZE, SIZE)))[None]


def test_white_noise_has_a_floor_of_one() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((8, SIZE, SIZE)))
    power = log_power(standardise(noise)).exp()
    assert power.shape == (8, BINS, BINS // 2 + 1)
    assert float(power[:, :, 4:].mean()) == pytest.approx(1.0, abs=0.1)


def test_brightness_scale_and_offset_do_not_matter() -> None:
    window = waves((12.3, 5.1))
    assert torch.allclose(log_power(standardise(window)), log_power(standardise(300 * window + 7)), atol=2e-2)


def test_a_constant_window_has_no_spots() -> None:
    logs = log_power(standardise(torch.full((1, SIZE, SIZE), 3.0)))
    assert torch.isfinite(logs).all()
    found = fit_lattices(logs, find_spots(logs))
    assert all(torch.isfinite(t.abs()).all() for t in (found.first, found.second, found.sigma, found.misfit))


def test_spots_are_found_between_bins() -> None:
    spots = find_spots(log_power(standardise(waves((12.3, 5.1), (-20.7, 9.4), noise=0.1))))
    where = spots.where[0, :2].numpy() / PAD
    where = where[np.argsort(where.real)]
    assert where[0] == pytest.approx(5.1 + 12.3j, abs=0.05)
    assert where[1] == pytest.approx(9.4 - 20.7j, abs=0.05)


def test_reduced_bases_are_short_and_span_the_same_lattice() -> None:
    rng = np.random.default_rng(1)
    z = torch.from_numpy(rng.standard_normal((200, 2)) + 1j * rng.standard_normal((200, 2)))
    first, second = reduce_basis(z[:, 0], z[:, 1])
    area = (z[:, 0].conj() * z[:, 1]).imag.abs()
    assert torch.allclose((first.conj() * second).imag.abs(), area)
    tau = second / first
    assert (tau.real >= -1e-9).all() and (tau.real <= 0.5 + 1e-9).all() and (tau.abs() >= 1 - 1e-9).all()


def test_error_of_a_lattice_is_honest() -> None:
    """Two hundred windows of one lattice in noise: the scatter of τ is within what is claimed, and not far below."""
    a, b = (14.2, 3.1), (-4.6, 16.9)
    places = (a, b, (a[0] + b[0], a[1] + b[1]), (a[0] - b[0], a[1] - b[1]))
    windows = torch.cat([waves(*places, noise=6.0, seed=seed) for seed in range(200)])
    logs = log_power(standardise(windows))
    found = fit_lattices(logs, find_spots(logs))
    tau = (found.second / found.first)[:, 0].numpy()
    tau = np.abs(tau.real) + 1j * np.abs(tau.imag)
    z = np.array([complex(*a[::-1]), complex(*b[::-1])])
    true = z[1] / z[0]
    true = complex(abs(true.real), abs(true.imag))
    deviation = np.abs(tau - true) / tau.imag / np.sqrt(2)
    claimed = (found.sigma * found.misfit)[:, 0].numpy()
    good = deviation < 0.1
    assert good.mean() > 0.97
    assert 0.4 < np.sqrt(np.mean(deviation[good] ** 2)) / np.sqrt(np.mean(claimed[good] ** 2)) < 1.2
    assert np.median(claimed) < 0.02


def test_the_quick_logarithm_of_the_power_is_the_plain_one() -> None:
    """Everything written out in numpy, ring by ring, where the module shares work and skips copies."""
    rng = np.random.default_rng(2)
    windows = np.stack(
        [waves((12.3, 5.1), (-20.7, 9.4), noise=n, seed=k)[0].numpy() for k, n in enumerate((0.2, 2, 8))]
    )
    windows[2] += np.linspace(0, 9, SIZE) + 3 * rng.standard_normal((SIZE, 1))
    found = log_power(standardise(torch.from_numpy(windows))).numpy()
    t = np.linspace(-1, 1, SIZE)
    taper = np.sin(np.pi * (np.arange(SIZE) + 0.5) / SIZE) ** 0.5
    ky, kx = np.fft.fftfreq(BINS, 1 / BINS), np.arange(BINS // 2 + 1)
    radius = np.hypot(ky[:, None], kx)
    ring = np.rint(radius / PAD)[::PAD, ::PAD].astype(int)
    for image, own in zip(windows, found, strict=True):
        flat = image - image.mean()
        norm = (t**2).sum() * SIZE
        flat = flat - (flat.sum(1) @ t) / norm * t[:, None] - (flat.sum(0) @ t) / norm * t
        power = np.abs(np.fft.rfft2(flat / flat.std() * np.outer(taper, taper), s=(BINS, BINS))) ** 2
        logs = np.log(power + spectrum.RANGE * power[radius >= spectrum.LEAST].max() + 1e-9)
        coarse = logs[::PAD, ::PAD]
        floor = np.array([coarse[ring == k].mean() for k in range(ring.max() + 1)])
        for _ in range(2):
            held = np.minimum(coarse, floor[ring] + 1.5)
            floor = np.array([held[ring == k].mean() for k in range(ring.max() + 1)])
        floor = np.convolve(np.r_[floor[0], floor, floor[-1]], np.ones(3) / 3, mode="valid")
        logs = logs - np.interp(radius / PAD, np.arange(len(floor)), floor) - 0.5772
        far = (kx > 3) & (np.abs(ky) > 3)[:, None]  # the rest is lowered along the axes
        far &= radius / PAD < len(floor) - 1
        assert np.abs(own - logs)[far].max() < 2e-3


def test_neighbours_and_their_largest_value_are_those_of_the_whole_plane() -> None:
    half = torch.from_numpy(np.random.default_rng(3).standard_normal((2, BINS, BINS // 2 + 1))).float()
    half[:, BINS // 2 + 1 :, 0] = half[:, 1 : BINS // 2, 0].flip(1)  # as the power of a real image
    grid = spectrum._extended(half)
    rng = np.random.default_rng(4)
    y, x = (torch.from_numpy(rng.integers(-BINS // 2 + 4, BINS // 2 - 4, (2, 50))) for _ in range(2))

    def value(n: int, y: int, x: int) -> float:
        y, x = (-y, -x) if x < 0 else (y, x)
        return float(half[n, y % BINS, x])

    around = spectrum._around(grid, y, x, reach=2)
    steps = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    for n, k in np.ndindex(2, 50):
        expected = [value(n, int(y[n, k]) + dy, int(x[n, k]) + dx) for dy, dx in steps]
        assert np.allclose(around[n, k], expected)
    pooled = spectrum._dilated(grid)
    plain = torch.nn.functional.max_pool2d(grid[:, None], 3, 1, 1)[:, 0]
    assert torch.equal(pooled[:, 1:-1, 1:-1], plain[:, 1:-1, 1:-1])
    assert torch.equal(pooled[:, 0], grid[:, 0]) and torch.equal(pooled[:, :, -1], grid[:, :, -1])
