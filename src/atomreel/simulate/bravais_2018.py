"""Lattice windows as Vasudevan et al. made their training set (npj Comput. Mater. 4, 30 (2018), "Training set").

All parameters of the cell are varied, the lattice is turned at random, and every atom is displaced at random. Noise is an
oblique lattice whose atoms are displaced more and more until its spectrum shows no spot. Nothing keeps two classes
apart: a rectangle of almost equal sides is drawn as often as any other. What the paper leaves open is fixed here: ranges,
width of the atoms, and how a spot is told.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import UnknownNameError
from atomreel.simulate.bravais import (
    CLASSES,
    HEXAGONAL,
    Look,
    Window,
    class_margin,
    lattice_image,
    reduce_tau,
)

SHORTEST, LONGEST = 6.0, 32.0  # px, of the vectors of the reduced basis: four cells across 128 px at least
RATIO = 2.5  # of the sides of a cell, at most
WIDTH = (0.12, 0.25)  # σ of an atom / shortest vector
DISORDER = 0.08  # largest σ of each coordinate / shortest vector
COUNTS = 1e6  # per atom: no noise but that of the positions
SHELL = 64  # bins of about equal frequency
SPOT = 6.0  # lower quartiles of a shell: one window in four that has no order at all shows such a maximum
FAINT = 0.02  # of the strongest shell: what lies below is not looked at
WORST = 0.8  # disorder / shortest vector at which nothing is left to be displaced


def free_tau(name: str, *, rng: np.random.Generator) -> complex:
    """Shape (b/a)·exp(iγ) of the reduced basis of a lattice class, its parameters uniform. Raises UnknownNameError."""
    ratio = float(rng.uniform(1, RATIO))
    if name == "square":
        return 1j
    if name == "hexagonal":
        return HEXAGONAL
    if name == "rectangular":
        return 1j * ratio
    if name == "centred":  # one corner and the middle of the cell of sides 1 and `ratio`
        return reduce_tau(complex(0.5, 0.5 * ratio))
    if name == "oblique":
        return reduce_tau(ratio * complex(np.exp(1j * np.deg2rad(rng.uniform(45, 90)))))
    raise UnknownNameError("lattice class", name, CLASSES[:5])


def paper_window(name: str, *, rng: np.random.Generator, size: int = 128) -> Window:
    """A window of class `name` (one of CLASSES) under the conditions of the paper. Raises UnknownNameError."""
    tau = free_tau("oblique" if name == "noise" else name, rng=rng)
    a = float(rng.uniform(SHORTEST, LONGEST * size / 128 / abs(tau)))
    look = Look(width=float(rng.uniform(*WIDTH)), disorder=float(rng.uniform(0, DISORDER)), counts=COUNTS)
    angle = float(rng.uniform(0, 360))
    image = lattice_image(tau, a=a, look=look, size=size, rng=rng, angle=angle)
    if name == "noise":
        while has_spots(image) and look.disorder < WORST:
            look = replace(look, disorder=look.disorder + 0.05)
            image = lattice_image(tau, a=a, look=look, size=size, rng=rng, angle=angle)
        return Window(image, 5, complex(np.nan, np.nan), a, float("nan"), look.disorder, COUNTS, "disordered")
    return Window(image, CLASSES.index(name), tau, a, class_margin(name, tau), look.disorder, COUNTS)


def has_spots(image: npt.NDArray[np.float32]) -> bool:
    """Whether the Fourier amplitude stands out of others of about its frequency, from 3 bins to a quarter of the sampling."""
    size = image.shape[0]
    fade = (
        np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 0.5
    )  # the rim of a window has streaks, which are no spots
    amplitude = np.abs(np.fft.rfft2((image - image.mean()) * fade[:, None] * fade))
    radius = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.arange(size // 2 + 1))
    inside = (radius >= 3) & (radius < size / 4)
    order = np.argsort(radius[inside], kind="stable")
    shells = amplitude[inside][order][: len(order) // SHELL * SHELL].reshape(-1, SHELL)
    level = np.quantile(shells, 0.25, axis=1)  # three of four bins may belong to spots
    return bool((shells.max(1) > SPOT * np.maximum(level, FAINT * level.max())).any())
