"""Windows of the five two-dimensional Bravais lattices and of noise, for the symmetry network.

A lattice up to size and rotation is the point τ = (b/a)·exp(iγ) of its reduced basis (a ≤ b, 60° ≤ γ ≤ 90°,
cos γ ≤ a/2b), a point of the hyperbolic triangle 0 ≤ Re τ ≤ ½, |τ| ≥ 1. Its corners are the square (i) and the
hexagonal lattice (exp(iπ/3)), its left edge the rectangular lattices, its other two edges the centred ones, its
inside the oblique ones. Hyperbolic distance is twice the shear strain between two lattices.
Classes and training set after Vasudevan et al., npj Comput. Mater. 4, 30 (2018).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from atomreel.core.errors import InputError, UnknownNameError

CLASSES = ("square", "rectangular", "centred", "hexagonal", "oblique", "noise")
NOISE_KINDS = ("disordered", "discs", "empty", "blobs", "filtered", "clusters", "stripes", "rows")
HEXAGONAL = complex(0.5, np.sqrt(3) / 2)
KIND_SHARES = (0.22, 0.22, 0.13, 0.09, 0.09, 0.09, 0.07, 0.09)
BORDERLINE = 0.5  # of the lattices stand between classes
PERFECT = 0.06  # share of windows almost without noise and disorder
MIN_CELLS = 4.0  # fewer cells do not define a lattice type
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """One simulated window and its truth.

    image: (size, size) float32 counts. label: index into CLASSES. tau: reduced-basis point, nan for noise.
    a: shortest lattice vector [px]. margin: hyperbolic distance to the nearest class that it could be taken for
    (nan for square, hexagonal and noise). disorder: Gaussian σ of each coordinate in units of a.
    counts: expected counts at the centre of an average atom. kind: of the noise, else "".
    """

    image: npt.NDArray[np.float32]
    label: int
    tau: complex
    a: float
    margin: float
    disorder: float
    counts: float
    kind: str = ""


def reduce_tau(tau: complex) -> complex:
    """The point of the triangle 0 ≤ Re τ ≤ ½, |τ| ≥ 1 of the same lattice, mirror images taken as equal."""
    if tau.imag == 0:
        raise InputError("two parallel lattice vectors do not make a lattice")
    tau = complex(tau.real, abs(tau.imag))
    for _ in range(200):
        tau = complex(abs(tau.real - round(tau.real)), tau.imag)
        if abs(tau) >= 1 - 1e-12:
            return tau
        tau = 1 / tau.conjugate()
    return tau


def class_distances(tau: complex) -> dict[str, float]:
    """Hyperbolic distance of a reduced point from each class of higher symmetry."""
    x, y = tau.real, tau.imag

    def point(other: complex) -> float:
        return float(np.arccosh(1 + abs(tau - other) ** 2 / (2 * y * other.imag)))

    edges = np.arcsinh([abs(abs(tau) ** 2 - 1) / (2 * y), abs(0.5 - x) / y])
    return {
        "square": point(1j),
        "rectangular": float(np.arcsinh(abs(x) / y)),
        "centred": float(edges.min()),
        "hexagonal": point(HEXAGONAL),
    }


def class_margin(name: str, tau: complex) -> float:
    """Distance to the nearest class that a lattice of class `name` could be taken for; nan without one."""
    rivals = {
        "oblique": ("square", "rectangular", "centred", "hexagonal"),
        "rectangular": ("square", "centred"),
        "centred": ("square", "hexagonal", "rectangular"),
    }.get(name, ())
    distances = class_distances(tau) if rivals else {}
    return min((distances[rival] for rival in rivals), default=float("nan"))


def random_tau(
    name: str, *, rng: np.random.Generator, margin: tuple[float, float] = (0.08, np.inf)
) -> complex:
    """A random lattice shape of a class whose margin lies in the given range."""
    if name not in CLASSES[:5]:
        raise UnknownNameError("lattice class", name, CLASSES[:5])
    if name in ("square", "hexagonal"):
        return 1j if name == "square" else HEXAGONAL
    for _ in range(20_000):
        if name == "rectangular":
            tau = 1j * float(np.exp(rng.uniform(0, 0.9)))
        elif name == "centred" and rng.random() < 0.6:  # rhombus that is wider than 60°
            tau = complex(np.exp(1j * np.deg2rad(rng.uniform(60, 90))))
        elif name == "centred":
            tau = complex(0.5, float(np.exp(rng.uniform(np.log(np.sqrt(3) / 2), np.log(2.2)))))
        else:
            tau = complex(
                rng.uniform(0, 0.5), float(np.exp(rng.uniform(np.log(np.sqrt(3) / 2), np.log(2.3))))
            )
        if abs(tau) >= 1 - 1e-12 and margin[0] <= class_margin(name, tau) <= margin[1]:
            return tau
    raise InputError(f"no {name} lattice has a margin in {margin}; lattices of this class reach 0.005 to 0.4")


@dataclass(frozen=True)
class Look:
    """How one window looks, apart from its lattice; by default as well as can be. Lengths in units of the shortest lattice vector."""

    width: float
    disorder: float
    counts: float
    spread: float = 0.0
    empty: float = 0.0
    background: float = 0.0
    ramp: float = 0.0
    readout: float = 0.0
    lines: float = 0.0
    covered: float = 1.0
    haze: float = 0.0
    blur: float = 0.0
    basis: tuple[tuple[float, float, float], ...] = ()


def random_look(rng: np.random.Generator) -> Look:
    """Conditions of METHODS S1 in half of the cases, else beyond them, so that real windows lie inside.

    Beyond are: more disorder, read-out noise, scan lines that differ in brightness, the edge of the crystal,
    contamination, and noise that neighbouring pixels share (resampled or smoothed images). A few are as good as perfect: simulated
    images, averages of many frames.
    """
    if rng.random() < PERFECT:
        return Look(
            width=float(rng.uniform(0.1, 0.27)),
            disorder=float(rng.uniform(0, 0.01)),
            counts=float(np.exp(rng.uniform(np.log(1e3), np.log(1e6)))),
            background=float(rng.uniform(0, 0.6)),
            basis=_random_basis(rng),
        )
    beyond = rng.random() < 0.5

    def sometimes(share: float, low: float, high: float, otherwise: float) -> float:
        return float(rng.uniform(low, high)) if beyond and rng.random() < share else otherwise

    return Look(
        width=float(rng.uniform(0.1, 0.27)),
        disorder=sometimes(0.3, 0.08, 0.12, float(rng.uniform(0, 0.08))),
        spread=float(rng.uniform(0, 0.25 if beyond else 0.15)),
        empty=float(rng.uniform(0, 0.04)),
        counts=float(np.exp(rng.uniform(np.log(0.5), np.log(sometimes(0.25, 100, 3000, 100.0))))),
        background=float(rng.uniform(0, 0.6)),
        ramp=float(rng.uniform(0, 0.4)),
        readout=sometimes(0.5, 0, 0.6, 0.0),
        lines=sometimes(0.3, 0, 0.15, 0.0),
        covered=sometimes(0.3, 0.6, 1.0, 1.0),
        haze=sometimes(0.4, 0, 0.8, 0.0),
        blur=sometimes(0.3, 0.4, 1.3, 0.0),
        basis=_random_basis(rng),
    )


def _random_basis(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Further atoms (u, v, brightness) of the cell: none, at random, or at the usual special places."""
    kind = int(rng.choice(4, p=[0.45, 0.25, 0.12, 0.18]))
    if kind == 3:  # the honeycomb place and the middle of the cell; 0.75 keeps the cell from becoming smaller
        u, brightest = [(1 / 3, 1.0), (0.5, 0.75)][int(rng.integers(2))]
        return ((u, u, float(rng.uniform(0.1, brightest))),)
    return tuple(
        (float(rng.uniform(0, 1)), float(rng.uniform(0, 1)), float(rng.uniform(0.1, 0.9)))
        for _ in range(kind)
    )


def random_window(
    rng: np.random.Generator | int | None = None,
    *,
    name: str | None = None,
    size: int = 128,
    margin: tuple[float, float] | None = None,
    look: Look | None = None,
) -> Window:
    """A window of a random class (or of `name`) under random conditions (or those of `look`).

    margin: range of the distance to the nearest other class; without it half of the windows have at least
    0.08 and half lie between 0.01 and 0.08, where no one can be sure: probabilities learn to be honest there.
    """
    rng = np.random.default_rng(rng)
    name = CLASSES[int(rng.integers(len(CLASSES)))] if name is None else name
    look = random_look(rng) if look is None else look
    if name == "noise":
        return _noise_window(rng, look, size=size)
    if margin is None:
        margin = (0.01, 0.08) if rng.random() < BORDERLINE else (0.08, np.inf)
    tau = random_tau(name, rng=rng, margin=margin)
    smallest = max(6.0, 0.9 / look.width)
    a = float(np.exp(rng.uniform(np.log(smallest), np.log(max(smallest, size / MIN_CELLS / abs(tau))))))
    image = lattice_image(tau, a=a, look=look, size=size, rng=rng)
    return Window(image, CLASSES.index(name), tau, a, class_margin(name, tau), look.disorder, look.counts)


def lattice_image(
    tau: complex, *, a: float, look: Look, size: int, rng: np.random.Generator, angle: float | None = None
) -> npt.NDArray[np.float32]:
    """(size, size) counts of the lattice `tau` with shortest vector `a` [px] in a random direction and phase."""
    angle = rng.uniform(0, 2 * np.pi) if angle is None else np.deg2rad(angle)
    mirror = rng.random() < 0.5
    first = a * np.exp(1j * angle)
    second = first * (np.conj(tau) if mirror else tau)
    reach = int(np.ceil(1.8 * size / (a * tau.imag))) + 2
    along = int(np.ceil(size / a)) + reach + 2
    i, j = np.meshgrid(np.arange(-along, along + 1), np.arange(-reach, reach + 1), indexing="ij")
    phase = rng.uniform(0, 1, 2)
    sites, height = [], []
    for u, v, brightness in ((0.0, 0.0, 1.0), *look.basis):
        z = (i + u + phase[0]).ravel() * first + (j + v + phase[1]).ravel() * second
        sites.append(z + size / 2 * (1 + 1j))
        height.append(np.full(z.size, brightness))
    z, h = np.concatenate(sites), np.concatenate(height)
    edge = 4 * look.width * a
    inside = (z.real > -edge) & (z.imag > -edge) & (z.real < size + edge) & (z.imag < size + edge)
    z, h = z[inside], h[inside]
    z = z + look.disorder * a * (rng.standard_normal(z.size) + 1j * rng.standard_normal(z.size))
    h = (
        h
        * np.clip(1 + look.spread * rng.standard_normal(z.size), 0, None)
        * (rng.random(z.size) >= look.empty)
    )
    if look.covered < 1:  # a straight edge: crystal on one side, nothing on the other
        direction = np.exp(1j * rng.uniform(0, 2 * np.pi))
        depth = ((z - size / 2 * (1 + 1j)) * np.conj(direction)).real
        h = h * (depth < np.quantile(depth, look.covered))
    signal = draw_atoms(np.column_stack([z.imag, z.real]), h, width=look.width * a, size=size)
    return add_noise(signal, look=look, rng=rng)


def draw_atoms(
    positions: FloatArray, heights: FloatArray, *, width: float, size: int
) -> npt.NDArray[np.float32]:
    """(size, size) sum of Gaussians of σ = `width` [px], as one product of two thin matrices."""
    grid = np.arange(size, dtype=np.float32)
    points = np.asarray(positions, np.float32)
    profile = np.exp(-0.5 * ((points[:, :, None] - grid) / np.float32(width)) ** 2)
    return np.asarray((profile[:, 0] * np.asarray(heights, np.float32)[:, None]).T @ profile[:, 1])


def add_noise(
    signal: npt.NDArray[np.float32], *, look: Look, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Background, ramp, Poisson counts, read-out noise and brightness that changes from scan line to line."""
    size = signal.shape[0]
    t = np.linspace(-0.5, 0.5, size)
    direction = rng.uniform(0, 2 * np.pi)
    ramp = look.ramp * (np.sin(direction) * t[:, None] + np.cos(direction) * t)
    if look.haze:
        signal = signal + look.haze * _smooth_field(rng, size)
    mean = look.counts * np.clip(signal + look.background + ramp, 0, None)
    mean = mean * np.clip(1 + look.lines * rng.standard_normal((size, 1)), 0, None)
    counts = rng.poisson(mean).astype(np.float32)
    if look.readout:
        counts += (look.readout * np.sqrt(look.counts) * rng.standard_normal(signal.shape)).astype(np.float32)
    return gaussian_filter(counts, look.blur) if look.blur else counts


def _smooth_field(rng: np.random.Generator, size: int) -> npt.NDArray[np.float32]:
    """(size, size) from 0 to 1, without detail finer than a third of the window: contamination, bending."""
    field = rng.standard_normal((6, 6))
    field = zoom(field, size / 6, order=3, mode="nearest", grid_mode=True)
    return np.asarray((field - field.min()) / max(float(np.ptp(field)), 1e-9), np.float32)


def _noise_window(rng: np.random.Generator, look: Look, *, size: int) -> Window:
    kind = NOISE_KINDS[int(rng.choice(len(NOISE_KINDS), p=KIND_SHARES))]
    a = float(np.exp(rng.uniform(np.log(6), np.log(size / MIN_CELLS))))
    if kind == "disordered":
        tau = random_tau("oblique", rng=rng, margin=(0.05, np.inf))
        a = min(a, size / MIN_CELLS / abs(tau))
        look = replace(look, disorder=float(rng.uniform(0.35, 0.6)), basis=look.basis[:1])
        image = lattice_image(tau, a=a, look=look, size=size, rng=rng)
    else:
        image = add_noise(_NOISE[kind](rng, a, look.width * a, size), look=look, rng=rng)
    return Window(image, 5, complex(np.nan, np.nan), a, float("nan"), look.disorder, look.counts, kind)


def _discs(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    """Atoms at random that keep a least distance (random sequential addition)."""
    wanted = int(rng.uniform(0.3, 1.0) * (size + 2 * a) ** 2 / a**2)
    tries = rng.uniform(-a, size + a, (max(wanted, 3) * 4, 2))
    least = rng.uniform(0.5, 0.95) * a
    kept = np.full((wanted + 1, 2), np.inf)
    n = 0
    for point in tries:
        if n < wanted and not (((kept[:n] - point) ** 2).sum(1) < least**2).any():
            kept[n] = point
            n += 1
    return draw_atoms(kept[:n], rng.uniform(0.7, 1.3, n), width=width, size=size)


def _empty(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    return np.full((size, size), rng.uniform(0, 0.4), np.float32)


def _blobs(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    """A few broad lumps: contamination, thickness."""
    n = int(rng.integers(1, 8))
    lumps = [
        draw_atoms(rng.uniform(0, size, (1, 2)), np.ones(1), width=rng.uniform(0.05, 0.4) * size, size=size)
        for _ in range(n)
    ]
    return np.asarray(np.sum(lumps, axis=0) * rng.uniform(0.2, 1), np.float32)


def _filtered(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    """Noise with a ring in its spectrum (amorphous film) or with a power law (1/f)."""
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) + 1 / size
    if rng.random() < 0.5:
        shape = np.exp(-0.5 * ((k * a - 1) / rng.uniform(0.1, 0.4)) ** 2)
    else:
        shape = k ** -rng.uniform(0.5, 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * shape, s=(size, size))
    return np.asarray(np.clip(0.5 + rng.uniform(0.05, 0.3) * field / field.std(), 0, None), np.float32)


def _clusters(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    """Atoms without any order, some of them in clumps."""
    n = int(rng.uniform(0.05, 1.2) * size**2 / a**2) + 1
    points = rng.uniform(0, size, (n, 2))
    clump = rng.random(n) < 0.4
    points[clump] = points[int(rng.integers(n))] + 2.5 * a * rng.standard_normal((int(clump.sum()), 2))
    return draw_atoms(points, rng.uniform(0.3, 1.2, n), width=width, size=size)


def _stripes(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    """Fringes: periodic in one direction only, which is no two-dimensional lattice."""
    angle = rng.uniform(0, 2 * np.pi)
    t = np.arange(size) - size / 2
    across = np.cos(angle) * t[:, None] + np.sin(angle) * t
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * across / a + rng.uniform(0, 6.3))
    return np.asarray(wave ** rng.uniform(1, 3), np.float32)


def _rows(rng: np.random.Generator, a: float, width: float, size: int) -> npt.NDArray[np.float32]:
    """Rows at equal distances that do not know of each other: order in one direction, and liquid or shifted along them."""
    turn, apart = np.exp(1j * rng.uniform(0, 2 * np.pi)), a * rng.uniform(0.8, 1.4)
    across = np.arange(-size, size, apart) + rng.uniform(0, apart)
    number = int(2 * size / a) + 2
    loose = rng.uniform(0.15, 0.4) if rng.random() < 0.7 else 0.0
    steps = np.clip(1 + loose * rng.standard_normal((len(across), number)), 0.5, None)
    along = a * (steps.cumsum(1) + rng.uniform(0, 1, (len(across), 1))) - size
    z = ((along + 1j * across[:, None]) * turn).ravel() + size / 2 * (1 + 1j)
    z = z + 0.06 * a * (rng.standard_normal(z.size) + 1j * rng.standard_normal(z.size))
    z = z[(np.abs(z.real - size / 2) < size / 2 + a) & (np.abs(z.imag - size / 2) < size / 2 + a)]
    return draw_atoms(
        np.column_stack([z.imag, z.real]), rng.uniform(0.7, 1.3, z.size), width=width, size=size
    )


_NOISE = {
    "discs": _discs,
    "empty": _empty,
    "blobs": _blobs,
    "filtered": _filtered,
    "clusters": _clusters,
    "stripes": _stripes,
    "rows": _rows,
}
