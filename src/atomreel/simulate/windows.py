"""Windows of 64 × 64 px of a simulated layer in HAADF with one point defect near the middle, or with none.

The classes of S. Jariwala, J. Qian & Y. Wu (2018): for WS2 a Mo dopant, a vacancy of S, one of W, a W dopant on a S
site, and no defect; and their four noises. Kinds of defects come from the material's file. Every window has the same
sampling, CELL_PX px per shortest lattice vector, which a crop of any image is brought to. Columns are points whose
Fourier sum is exact, ⊗ any probe, so that nothing is drawn on a grid before it is blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.core.material import Defect, Material
from atomreel.simulate import detector
from atomreel.simulate.stem import z_contrast
from atomreel.simulate.structures import Kind, Structure, apply_defect

SIDE = 64  # px
CELL_PX = 16.0  # px per shortest lattice vector: four cells across
SCALE_OFF = 0.05  # how far the assumed pixel size may be off, as a share
JITTER = SIDE / 4  # px: the defect is at most so far from the middle, along y and along x
RIM = 24.0  # px: further defects are at least so far from the middle, along y or along x
ROUGH = 0.3  # share of training windows on a support, under contamination or on a strong ramp
CROWDED = 0.35  # share of windows with further defects at the rim
PRISTINE = "pristine"
EXPONENTS = (1.5, 1.9)  # of Z, by detector and specimen
FWHM = (0.24, 0.45)  # of the probe, in lattice vectors: 0.75 to 1.4 Å in WS2
# Level of each noise, in units of the brightest column's height: σ; share of pixels; 1/√(counts at that column); σ of the factor.
NOISES: dict[str, tuple[float, float]] = {
    "gaussian": (0.005, 0.05),
    "salt_pepper": (0.002, 0.05),
    "poisson": (0.02, 0.1),
    "speckle": (0.01, 0.15),
}
STRAIN, SHEAR = (
    0.012,
    0.025,
)  # standard deviations of every component of the strain, and of the shear of a drifting scan
WOBBLE = 1.0  # px: the largest standard deviation of the shifts of scan lines
PAD = 16  # px around a window, so that what the Fourier sum wraps around stays outside
BOX = SIDE + 2 * PAD
Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Views:
    """N windows before they are drawn. sites: (N, S, 2) px from the centre of pixel (0, 0). column: (N, S) index into
    the cell's columns, −1 for places that are not used. heights: (N, S) peak of each column, 1 for the brightest.

    transfer: (N, BOX, BOX // 2 + 1) of the probe. wobble: (N, BOX): scan line i is read at x + wobble[i] [px]. backdrop: (N, SIDE, SIDE).
    exponent: (N,) of Z. unit: (N,) scattering of the brightest column.
    """

    sites: Array
    column: npt.NDArray[np.int64]
    heights: Array
    transfer: Float32
    wobble: Float32
    backdrop: Float32
    exponent: Array
    unit: Array


@dataclass(frozen=True)
class Windows:
    """images: (N, SIDE, SIDE) float32 without noise, in heights of the brightest column. label: (N,) index into
    `classes`. position: (N, 2) y, x of the defect [px], nan without one. site: (N,) its index in `views.sites`, −1
    without one. views: what was drawn."""

    images: Float32
    label: npt.NDArray[np.int64]
    position: Array
    site: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    views: Views


def kinds_of(material: Material) -> tuple[str, ...]:
    """Names of the point defects of a layer that windows can show: atoms of a column removed or replaced."""
    return tuple(d.name for d in material.defects if d.action in ("remove", "replace") and d.share is None)


def random_windows(
    material: Material,
    rng: np.random.Generator | int | None,
    *,
    labels: Sequence[int] | npt.NDArray[np.int64],
    kinds: Sequence[str] | None = None,
    rough: float = 0.0,
) -> Windows:
    """One window per label, without noise: index into `kinds` (by default all of the material), or len(kinds) for pristine.

    rough: share of the windows on a grainy support, under contamination, or on a strong ramp.
    The same generator state gives the same bytes. Raises InputError, UnknownNameError.
    """
    rng = np.random.default_rng(rng)
    chosen = checked_kinds(material, kinds)
    label = np.asarray(labels, dtype=np.int64)
    if label.ndim != 1 or not len(label) or label.min() < 0 or label.max() > len(chosen):
        raise InputError(f"labels must be a list of numbers from 0 to {len(chosen)}, got {labels!r}")
    target = rng.uniform(-JITTER, JITTER, (len(label), 2)) + (SIDE - 1) / 2
    at_column = np.array(
        [int(rng.choice(changes(material, chosen[k])[0])) if k < len(chosen) else 0 for k in label]
    )
    views = random_views(material, rng, target=target, column=at_column, rough=rough)
    site = np.where(label < len(chosen), 0, -1)  # `random_views` puts the target first
    heights = views.heights.copy()
    for k, name in enumerate(chosen):
        rows = np.flatnonzero(label == k)
        heights[rows, 0] = changed_heights(views, material, name)[rows, 0]
    views = _crowd(replace(views, heights=heights), material, chosen, rng)
    position = np.where((site >= 0)[:, None], views.sites[:, 0], np.nan)
    return Windows(draw(views), label, position, site, (*chosen, PRISTINE), views)


def checked_kinds(material: Material, kinds: Sequence[str] | None = None) -> tuple[str, ...]:
    """The kinds, if the material is a layer that has them. Raises InputError, UnknownNameError."""
    known = kinds_of(material)
    if material.kind != "layer" or not known:
        raise InputError(
            f"material {material.name}: windows show point defects of a layer, one column per site; it is a {material.kind} with "
            f"{len(known)} such defects; add [[defects]] to a material of kind 'layer'"
        )
    for name in kinds or ():
        if name not in known:
            raise UnknownNameError(f"point defect of {material.name}", name, known)
    return tuple(kinds or known)


@lru_cache(maxsize=64)
def changes(material: Material, kind: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Indices of the cell's columns at which a defect can be, and the atoms that it leaves of such a column."""
    defect, pattern = material.defect(kind), material.project()
    species = {site.species for site in material.sites if site.name == defect.site}
    fits = tuple(i for i, atoms in enumerate(pattern.atoms) if species & set(atoms))
    if not fits:
        raise InputError(f"material {material.name}: no column holds the site {defect.site} of {kind}")
    return fits, _left(pattern.atoms[fits[0]], defect)


def _left(atoms: tuple[str, ...], defect: Defect) -> tuple[str, ...]:
    one = Structure(np.zeros((1, 2)), np.zeros(1, np.int64), np.ones(1), (Kind("", atoms),))
    made = apply_defect(one, np.array([0]), defect)
    return made.kinds[made.kind[0]].atoms if len(made) else ()


def changed_heights(views: Views, material: Material, kind: str) -> Array:
    """(N, S) heights that the columns would have with this defect, whichever columns they are."""
    _, atoms = changes(material, kind)
    power = np.array([z_contrast(atoms, e) for e in views.exponent])
    return np.broadcast_to((power / views.unit)[:, None], views.heights.shape)


def random_views(
    material: Material,
    rng: np.random.Generator,
    *,
    target: Array,
    column: npt.NDArray[np.int64],
    scale: Array | None = None,
    rough: float = 0.0,
) -> Views:
    """Pristine windows that have a site of the column `column` (N,) at `target` (N, 2) [px], their first one.

    scale: (N,) how much larger than CELL_PX a lattice vector is; near 1 by default. rough: see `random_windows`.
    """
    count, pattern = len(target), material.project()
    if scale is None:
        scale = np.exp(rng.uniform(-SCALE_OFF, SCALE_OFF, count))
    unit_px = CELL_PX / float(np.linalg.norm(pattern.vectors, axis=1).min())
    frame = random_frames(count, rng) * (unit_px * scale)[:, None, None]
    sites, which = grow(pattern.vectors @ frame, pattern.basis @ frame, target=target, column=column)
    exponent = rng.uniform(*EXPONENTS, count)
    power = np.array([[z_contrast(atoms, e) for atoms in pattern.atoms] for e in exponent])
    unit = power.max(1)
    heights = np.take_along_axis(power / unit[:, None], np.maximum(which, 0), 1) * (which >= 0)
    heights = heights * np.clip(1 + 0.01 * rng.standard_normal(heights.shape), 0.9, 1.1)
    return Views(sites, which, heights, *instrument(count, rng, rough=rough), exponent, unit)


def random_frames(count: int, rng: np.random.Generator) -> Array:
    """(count, 2, 2) random turns and mirrors, with slight strain and the shear of a drifting scan; rows are (y, x)."""
    angle = rng.uniform(0, 2 * np.pi, count)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
    turn[:, 0] *= rng.choice([-1.0, 1.0], count)[:, None]
    strain = np.eye(2) + rng.normal(0, STRAIN, (count, 2, 2))
    strain[:, 0, 1] += rng.normal(0, SHEAR, count)  # x moves with y: the scan drifts
    return np.asarray(turn @ strain)


def grow(
    vectors: Array, basis: Array, *, target: Array, column: npt.NDArray[np.int64]
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Sites (N, S, 2) of lattices (N, 2, 2) with basis (N, C, 2) [px] in the box around the window, and their column,
    −1 where a window has fewer. The first one is at `target` (N, 2)."""
    count, columns = basis.shape[:2]
    shortest = float(np.sqrt(np.abs(np.linalg.det(vectors)).min() * 0.7))
    reach = int(np.ceil(1.5 * BOX / shortest)) + 1
    n = np.arange(-reach, reach + 1)
    cells = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2)
    cells = cells[np.argsort((cells**2).sum(1), kind="stable")]  # the target's own cell comes first
    origin = target - np.take_along_axis(basis, column[:, None, None].repeat(2, 2), 1)[:, 0]
    sites = (cells @ vectors)[:, :, None] + basis[:, None] + origin[:, None, None]
    sites = sites.reshape(count, -1, 2)
    which = np.broadcast_to(np.tile(np.arange(columns), len(cells)), sites.shape[:2])
    inside = np.all((sites > -PAD) & (sites < SIDE - 1 + PAD), axis=2)
    rank = (~inside).astype(np.int8)
    rank[np.arange(count), column] = -1
    order = np.argsort(rank, axis=1, kind="stable")[:, : int(inside.sum(1).max())]
    sites = np.take_along_axis(sites, order[..., None], 1)
    which = np.where(np.take_along_axis(inside, order, 1), np.take_along_axis(which, order, 1), -1)
    return sites, which


def instrument(
    count: int, rng: np.random.Generator, *, rough: float = 0.0
) -> tuple[Float32, Float32, Float32]:
    """Transfer of random probes (blur and tails), wobble of scan lines and backdrops of as many windows."""
    fwhm = rng.uniform(*FWHM, count) * CELL_PX / np.sqrt(8 * np.log(2))
    tail, wide = rng.uniform(0, 0.4, count) * (rng.random(count) < 0.7), rng.uniform(2, 4, count)
    ratio = np.exp(np.abs(rng.normal(0, 0.1, count)))
    turn = rng.uniform(0, np.pi, count)
    qy = scipy.fft.fftfreq(BOX)[None, :, None]
    qx = scipy.fft.rfftfreq(BOX)[None, None]
    c, s = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    q2 = (
        (qx * c - qy * s) ** 2 * ratio[:, None, None] + (qx * s + qy * c) ** 2 / ratio[:, None, None]
    ).astype(np.float32)
    spread = (2 * np.pi**2 * fwhm**2).astype(np.float32)[:, None, None]
    share = tail.astype(np.float32)[:, None, None]
    transfer = (1 - share) * np.exp(-spread * q2)
    transfer += share * np.exp(-spread * (wide**2).astype(np.float32)[:, None, None] * q2)
    weight = np.full(BOX // 2 + 1, 2.0, np.float32)
    weight[[0, -1]] = 1
    transfer /= ((transfer * weight).sum((1, 2)) / BOX**2)[:, None, None]  # unit peak
    wobble = (
        rng.normal(0, 1, (count, BOX)) * (rng.uniform(0, WOBBLE, count) * (rng.random(count) < 0.7))[:, None]
    )
    return transfer, wobble.astype(np.float32), _backdrops(count, rng, rough)


def _backdrops(count: int, rng: np.random.Generator, rough: float) -> Float32:
    """(count, SIDE, SIDE): an even level, a ramp, and now and then a thin soft layer of something else. The share `rough` of them
    is worse by far: grain of an amorphous support, soft lumps, a steep ramp, a high level."""
    made, shape = np.empty((count, SIDE, SIDE), np.float32), (SIDE, SIDE)
    for one in made:
        bad = rng.random() < rough
        ramp = rng.normal(0, 0.05, 2) if not bad else rng.normal(0, 0.15, 2)
        soft = rng.uniform(0, 0.5 if bad else 0.06) * (rng.random() < (0.5 if bad else 0.3))
        grain = rng.uniform(0.01, 0.15) * (bad and rng.random() < 0.6)
        more = soft * (detector.smooth_field(shape, rng, scale=SIDE / 2) + 1).clip(0)
        if grain:
            fine = detector.smooth_field(shape, rng, scale=CELL_PX * rng.uniform(0.14, 0.5))
            more = more + grain * (fine + 2).clip(0)
        level = rng.uniform(0, 0.9 if bad else 0.3) + np.abs(ramp).sum() / 2
        one[:] = detector.add_background(more, level=level, ramp=(ramp[0], ramp[1]))
    return made


def _crowd(views: Views, material: Material, kinds: tuple[str, ...], rng: np.random.Generator) -> Views:
    """Some windows with one to three further defects at the rim, whole or cut off by the border."""
    heights = views.heights.copy()
    off = np.abs(views.sites - (SIDE - 1) / 2).max(2)
    may = (off > RIM) & (off < SIDE / 2 + 6) & (views.column >= 0)
    changed = {name: (changes(material, name)[0], changed_heights(views, material, name)) for name in kinds}
    for row in np.flatnonzero(rng.random(len(heights)) < CROWDED):
        for name in rng.choice(list(changed), int(rng.integers(1, 4))):
            fits, new = changed[str(name)]
            places = np.flatnonzero(may[row] & np.isin(views.column[row], fits))
            if len(places):
                place = int(rng.choice(places))
                heights[row, place] = new[row, place]
    return replace(views, heights=heights)


def draw(views: Views) -> Float32:
    """(N, SIDE, SIDE) images without noise: exact Fourier sum of the columns ⊗ probe, lines shifted, on the backdrop."""
    k = np.arange(BOX // 2 + 1, dtype=np.float32) * np.float32(2 * np.pi / BOX)
    at = (views.sites + PAD).astype(np.float32)
    half_y, along_x = _waves(at[..., 0], k), _waves(at[..., 1], k)
    along_y = np.concatenate([half_y, half_y[..., -2:0:-1].conj()], axis=2)
    weighted = along_y * (views.heights * (views.column >= 0)).astype(np.float32)[..., None]
    spectrum = np.matmul(weighted.transpose(0, 2, 1), along_x) * views.transfer
    rows = scipy.fft.ifft(spectrum, axis=1)
    rows = rows * np.conj(_waves(views.wobble.astype(np.float32), k))
    image = scipy.fft.irfft(rows, n=BOX, axis=2)[:, PAD : PAD + SIDE, PAD : PAD + SIDE]
    return np.asarray(image + views.backdrop, dtype=np.float32)


def _waves(position: Float32, k: Float32) -> npt.NDArray[np.complex64]:
    """exp(−i k · position), (…,) → (…, K)."""
    phase = position[..., None] * k
    waves = np.empty(phase.shape, np.complex64)
    waves.real, waves.imag = np.cos(phase), -np.sin(phase)
    return waves


def random_noise(rng: np.random.Generator) -> tuple[str, float]:
    """One of the four noises with equal odds, and a level from its range."""
    name = str(rng.choice(list(NOISES)))
    return name, float(rng.uniform(*NOISES[name]))


def add_noise(image: npt.ArrayLike, noise: str, level: float, *, rng: np.random.Generator) -> Float32:
    """`image` (Y, X), in heights of the brightest column, with one of NOISES at `level`. Raises UnknownNameError."""
    clean = np.asarray(image, dtype=np.float32)
    if noise == "gaussian":
        return clean + np.float32(level) * rng.standard_normal(clean.shape, dtype=np.float32)
    if noise == "speckle":
        return clean * (1 + np.float32(level) * rng.standard_normal(clean.shape, dtype=np.float32))
    if noise == "poisson":
        return detector.add_counts(clean / level**2, rng) * np.float32(level**2)
    if noise == "salt_pepper":
        lot = rng.random(clean.shape, dtype=np.float32)
        noisy = np.where(lot < level / 2, clean.min(), clean)
        return np.where(lot > 1 - level / 2, clean.max(), noisy)
    raise UnknownNameError("noise", noise, NOISES)
