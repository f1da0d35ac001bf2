"""Faceted and roughened metal particles on an oxide, tilted off their zone axis, and their exit waves by multislice.

Shapes as in J. Madsen et al., Adv. Theory Simul. 1 (2018) 1800037, section 4.1; multislice after E. J. Kirkland,
Advanced Computing in Electron Microscopy (2010), chapter 6. Atoms are (y, x, z) [Å], z along the beam.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

from atomreel.core.errors import UnknownNameError
from atomreel.simulate.hrtem import phase_object
from atomreel.simulate.stem import wavelength

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Complex = npt.NDArray[np.complex64]
CONSTANTS = {"Au": 4.078, "Pt": 3.924, "Ag": 4.086, "Cu": 3.615}  # Å (CRC Handbook, room temperature)
ZONES = {"110": (1, 1, 0), "111": (1, 1, 1), "100": (1, 0, 0)}
NEAREST = {"110": 0.375**0.5, "111": 6**-0.5, "100": 0.5}  # distance of columns / lattice constant
OXIDES = {"CeO2": ("Ce", 5.411), "ZrO2": ("Zr", 5.135)}  # fluorite structure: cation, lattice constant [Å]
BOND = 12  # neighbours of an fcc site
_NEAR = np.zeros((3, 3, 3), dtype=np.int64)  # nearest neighbours on the grid of half lattice constants
for _step in product((-1, 0, 1), repeat=3):
    _NEAR[tuple(np.array(_step) + 1)] = int(np.abs(_step).sum() == 2)


@dataclass(frozen=True)
class Particle:
    """atoms: (M, 3) (y, x, z) [Å], centred on 0. columns: (N, 2) mean (y, x) of the atoms of each column [Å].
    heights: (N,) atoms in it. support: element → (S, 3) [Å]. tilt: [°] off the zone axis."""

    element: str
    zone: str
    atoms: Array
    columns: Array
    heights: Index
    support: Mapping[str, Array]
    tilt: float


def random_particle(
    rng: np.random.Generator,
    *,
    element: str = "Au",
    zone: str = "110",
    tilt: tuple[float, float] = (0.0, 3.0),
    radius: tuple[float, float] = (6.0, 16.0),
    thickest: int = 12,
    support: float = 0.25,
    field: float = 48.0,
) -> Particle:
    """A particle with {100}, {110} and {111} facets, roughened, turned about the beam and tilted.

    tilt: range [°]. radius: range of the distance of its facets [Å]. thickest: atoms; thicker ones are flattened.
    support: how often it sits on an oxide that reaches the edge of `field` [Å]. Raises UnknownNameError.
    """
    if element not in CONSTANTS:
        raise UnknownNameError("element", element, CONSTANTS)
    if zone not in ZONES:
        raise UnknownNameError("zone axis", zone, ZONES)
    a, axes = CONSTANTS[element], _axes(ZONES[zone])
    repeat = a * {"110": np.sqrt(0.5), "111": np.sqrt(3.0), "100": 1.0}[zone]
    size = float(rng.uniform(*radius))
    thick = min(1.05 * size, 0.5 * thickest * repeat * float(rng.uniform(0.35, 1.0)))
    while True:
        sites = faceted_sites(rng, size=size / (a / 2), beam=axes[2], thick=thick / (a / 2))
        sites = roughen(
            sites, rng, share=float(rng.uniform(0, 0.6)), temperature=float(np.exp(rng.uniform(-1.2, 0.7)))
        )
        where = sites @ axes.T * (a / 2)
        column = np.unique(np.rint(where[:, :2] / 0.05).astype(np.int64), axis=0, return_inverse=True)[
            1
        ].ravel()
        heights = np.bincount(column)
        if len(sites) > 8 and heights.max() <= thickest:
            break
    angle, lean = float(rng.uniform(*tilt)), float(rng.uniform(0, 2 * np.pi))
    turn = _rotation(np.array([0, 0, 1.0]), float(rng.uniform(0, 2 * np.pi)))
    atoms = where @ turn.T @ _rotation(np.array([np.cos(lean), np.sin(lean), 0]), np.deg2rad(angle)).T
    atoms -= 0.5 * (atoms.max(0) + atoms.min(0))
    columns = np.stack([np.bincount(column, atoms[:, k]) / heights for k in (0, 1)], 1)
    carrier = _oxide(rng, atoms, field=field) if rng.random() < support else {}
    return Particle(element, zone, atoms, columns, heights, carrier, angle)


def faceted_sites(rng: np.random.Generator, *, size: float, beam: Array, thick: float) -> Index:
    """(M, 3) fcc sites, in half lattice constants, within planes at a random number of layers in each direction of
    {100}, {110}, {111} (distances about `size`) and within ± `thick` along `beam`."""
    reach = int(np.ceil(1.3 * size)) + 1
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[grid.sum(1) % 2 == 0]
    middle = rng.uniform(-1, 1, 3)
    family = {1: rng.uniform(0.8, 1.25), 2: rng.uniform(0.9, 1.3), 3: rng.uniform(0.75, 1.1)}
    inside = np.abs((grid - middle) @ beam) <= thick
    for direction in product((-1, 0, 1), repeat=3):
        if any(direction):
            order = int(np.abs(direction).sum())
            limit = size * family[order] * float(rng.uniform(0.75, 1.1))
            inside &= (grid - middle) @ np.array(direction) / np.sqrt(order) <= limit
    return np.asarray(grid[inside], dtype=np.int64)


def roughen(sites: Index, rng: np.random.Generator, *, share: float, temperature: float) -> Index:
    """`sites` and more atoms beside them: `share` of the number of surface atoms, one after the other.

    The next atom goes to an empty site with n ≥ 1 neighbours with probability ∝ exp(n / T) (Madsen 2018, equation 9).
    """
    if not len(sites):
        return sites
    corner = sites.min(0) - 3
    full = np.zeros(tuple(sites.max(0) - corner + 4), dtype=bool)
    full[tuple((sites - corner).T)] = True
    near = ndimage.convolve(full.astype(np.int64), _NEAR, mode="constant")
    even = (np.indices(full.shape).sum(0) + corner.sum()) % 2 == 0
    even[[0, -1]] = even[:, [0, -1]] = even[:, :, [0, -1]] = False
    steps = np.argwhere(_NEAR) - 1
    for _ in range(int(rng.poisson(share * np.count_nonzero(full & (near < BOND))))):
        free = np.flatnonzero(even & ~full & (near > 0))
        weight = np.exp((near.ravel()[free] - BOND) / temperature)
        at = np.array(np.unravel_index(rng.choice(free, p=weight / weight.sum()), full.shape))
        full[tuple(at)] = True
        near[tuple((at + steps).T)] += 1
    return np.asarray(np.argwhere(full) + corner, dtype=np.int64)


def exit_wave(
    particle: Particle,
    *,
    side: int,
    pixel: float,
    voltage: float = 300.0,
    thermal: float = 0.07,
    slice_thickness: float = 1.5,
) -> Complex:
    """Wave (side, side) in the plane of the last atom, particle in the middle, edges wrap; the mean intensity is 1.

    pixel: [Å], at most 0.2 for metals. thermal: rms displacement per axis [Å], blurs the potential (Debye–Waller).
    Frequencies above two thirds of the Nyquist frequency are cut, so that products do not alias.
    """
    shape = (side, side)
    at = {particle.element: particle.atoms}
    for element, more in particle.support.items():
        at[element] = np.concatenate([at[element], more]) if element in at else more
    low = min(float(v[:, 2].min()) for v in at.values() if len(v))
    layer = {k: np.floor((v[:, 2] - low) / slice_thickness + 1e-6).astype(int) for k, v in at.items()}
    q2 = np.add.outer(np.fft.fftfreq(side, pixel) ** 2, np.fft.fftfreq(side, pixel) ** 2)
    pass_band = q2 <= (1 / (3 * pixel)) ** 2
    wave, depth = np.ones(shape, dtype=np.complex64), 0.0
    for n in sorted(set(np.concatenate(list(layer.values())).tolist())):
        here = {k: v[layer[k] == n] for k, v in at.items()}
        centre = float(np.concatenate([v[:, 2] for v in here.values()]).mean()) - low
        phase = phase_object(
            {k: v[:, :2] / pixel + side / 2 for k, v in here.items()},
            {k: np.ones(len(v)) for k, v in here.items()},
            shape,
            pixel=pixel,
            voltage=voltage,
            thermal=thermal,
        )
        step = np.where(pass_band, np.exp(-1j * np.pi * wavelength(voltage) * (centre - depth) * q2), 0)
        spectrum = scipy.fft.fft2(wave) * step.astype(np.complex64)
        wave, depth = scipy.fft.ifft2(spectrum) * phase, centre
    last = max(float(v[:, 2].max()) for v in at.values() if len(v)) - low
    step = np.where(pass_band, np.exp(-1j * np.pi * wavelength(voltage) * (last - depth) * q2), 0)
    return np.asarray(scipy.fft.ifft2(scipy.fft.fft2(wave) * step), dtype=np.complex64)


def coarser(wave: Complex, side: int) -> Complex:
    """`wave` (Y, Y) on `side` × `side` px over the same field: its lowest frequencies. `side` is even."""
    n = wave.shape[0]
    spectrum = np.fft.fftshift(scipy.fft.fft2(wave))
    cut = slice(n // 2 - side // 2, n // 2 + side // 2)
    low = scipy.fft.ifft2(np.fft.ifftshift(spectrum[cut, cut])) * np.float32((side / n) ** 2)
    return np.asarray(low, dtype=np.complex64)


def _axes(zone: tuple[int, int, int]) -> Array:
    """(3, 3) rows y, x, z of a right-handed frame (x × y = −z as y points down) with z along `zone`."""
    z = np.array(zone, dtype=float) / np.linalg.norm(zone)
    y = np.cross(z, [0.0, 0.0, 1.0] if abs(z[2]) < 0.5 or zone == (1, 1, 1) else [1.0, 0.0, 0.0])
    y /= np.linalg.norm(y)
    return np.stack([y, np.cross(z, y), z])


def _rotation(axis: Array, angle: float) -> Array:
    """(3, 3) rotation by `angle` [rad] about a unit `axis` (Rodrigues)."""
    a, b, c = axis
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _oxide(rng: np.random.Generator, atoms: Array, *, field: float) -> dict[str, Array]:
    """Oxide in profile: a half plane beside the particle, in a random orientation, or disordered like a glass."""
    cation, a = list(OXIDES.values())[int(rng.integers(len(OXIDES)))]
    reach = int(np.ceil(0.9 * field / a))
    cell = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    metal = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    oxygen = np.array([[x, y, z] for x in (0.25, 0.75) for y in (0.25, 0.75) for z in (0.25, 0.75)])
    axis = rng.normal(size=3)
    turn = _rotation(axis / np.linalg.norm(axis), float(rng.uniform(0, 2 * np.pi)))
    loose = float(rng.choice([0.05, 0.9]))
    depth = float(rng.uniform(3, 0.6 * np.ptp(atoms[:, 2]) + 4))
    side = float(rng.uniform(0, 2 * np.pi))
    normal = np.array([np.sin(side), np.cos(side)])
    edge = float((atoms[:, :2] @ normal).min()) - 1.5
    out: dict[str, Array] = {}
    for name, basis in ((cation, metal), ("O", oxygen)):
        at = ((cell[:, None] + basis).reshape(-1, 3) * a) @ turn.T
        keep = (
            (np.abs(at[:, 2]) < depth) & (np.abs(at[:, :2]).max(1) < field / 2) & (at[:, :2] @ normal < edge)
        )
        out[name] = at[keep] + rng.normal(0, loose, (int(keep.sum()), 3))
    return {name: at for name, at in out.items() if len(at)}
