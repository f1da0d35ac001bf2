"""Symmetry or drift? The classes that a lattice may have in the specimen, given how far imaging may have sheared it.

Drift at constant speed during a raster scan with slow axis y moves (y, x) to (y·(1 + e), x + s·y): s and e are px of drift
along and across the lines, per px of the slow scan. With vectors as complex numbers a true vector is x′ + w·y′ of the
one seen, w = (i − s)/(1 + e): a point of the upper half plane, i without drift. Lattices of a class are then points
(square, hexagonal) or geodesics (rectangular, centred) of that plane, and the hyperbolic distance d of i from them is the
least change of shape that any linear distortion needs. It is given as the simple shear that changes the shape by as much, 2·sinh(d/2)
(shear s: x′ = x + s·y along the axis where it works best): twice the shear strain, to first order √(s² + e²).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice, reduce_vectors

Array = npt.NDArray[np.float64]
Scan = Literal["any", "rows", "columns"]
SYMMETRIC = ("square", "rectangular", "centred", "hexagonal")
SHEAR = 0.02  # default bound: what drift and a badly aligned scan usually stay below
POINTS = {"square": 1j, "hexagonal": complex(0.5, 0.75**0.5)}
SURE = {1: 2.576, 2: 3.035}  # standard errors that hold 99 % of a line's and of a point's distance


@dataclass(frozen=True)
class Reach:
    """The least distortion that makes the imaged lattice out of one of a class.

    shear: its size, as a simple shear (`scan` any) or √(s² + e²); shear_err: 1σ from the lattice's errors. s, e: the
    distortion itself, in a slow scan along y (x for columns). consistent: within the bound and the 99 % error.
    vectors: (2, 2) of the lattice without the distortion, rows (y, x), in the unit of the lattice asked about.
    """

    name: str
    shear: float
    shear_err: float
    s: float
    e: float
    consistent: bool
    vectors: Array


def reachable(
    lattice: Lattice,
    *,
    bound: float = SHEAR,
    scan: Scan = "any",
    drift: tuple[float, float] = (0.0, 0.0),
    drift_err: tuple[float, float] = (0.0, 0.0),
    names: tuple[str, ...] = SYMMETRIC,
) -> tuple[Reach, ...]:
    """How far the lattice is from each class of `names`, as seen through a distortion.

    lattice: with covariance; where its pixel size is known, lengths are those in the specimen. bound: largest size of
    the distortion. scan: "rows" where the slow axis is y, "columns" where it is x, "any" for every linear distortion
    (camera, unknown scan). drift: known s and e, which are undone first, with their errors. Raises InputError.
    """
    if not (np.isfinite(bound) and bound >= 0):
        raise InputError(f"a bound on the shear must be 0 or more, got {bound}; 0.02 is 2 %")
    vectors, covariance = _metric(lattice, scan)
    vectors, covariance = _undone(vectors, covariance, drift, drift_err)
    return tuple(_reach(name, vectors, covariance, bound=bound, scan=scan) for name in names)


def describe_reach(name: str, reaches: tuple[Reach, ...], *, bound: float = SHEAR) -> str:
    """In words, for a lattice called `name` as imaged: "oblique as imaged; hexagonal within 2 % shear (1.4 ± 0.2 %)".

    Named are the most symmetric classes within the bound; what a class implies (a hexagonal lattice is centred too) is not.
    Where there is none, the shear is told that the nearer of square and hexagonal would need.
    """
    inside = {reach.name: reach for reach in reaches if reach.consistent and reach.name != name}
    points: list[str] = [n for n in ("hexagonal", "square") if n in inside]
    if name in POINTS:
        return f"{name} as imaged"
    shown = points or [n for n in ("centred", "rectangular") if n in inside]
    if name in ("centred", "rectangular"):
        shown = points
    limit = f"within {100 * bound:.3g} % shear"
    if shown:
        return f"{name} as imaged; " + " or ".join(f"{n} {limit} ({_percent(inside[n])})" for n in shown)
    nearest = min((reach for reach in reaches if reach.name in POINTS), key=lambda reach: reach.shear)
    return f"{name} as imaged; no more symmetric class {limit} ({nearest.name} at {_percent(nearest)})"


def _percent(reach: Reach) -> str:
    return f"{100 * reach.shear:.2g} ± {100 * reach.shear_err:.1g} %"


def true_range(
    lattice: Lattice, *, bound: float = SHEAR, level: float = 1.96
) -> dict[str, tuple[float, float]]:
    """Lowest and highest a, b [px, or Å where the pixel size is known] and γ [°] of the cells within the bound.

    The cell is the imaged one under every distortion of a slow scan along y up to the bound, `level` errors added.
    """
    vectors, covariance = _metric(lattice, "rows")
    angles = np.linspace(0, 2 * np.pi, 73)
    own = replace(lattice, vectors=vectors, covariance=_wide(covariance), pixel=None)
    errors = own.errors
    found = {}
    for key in ("a", "b", "gamma"):
        values = [
            getattr(replace(own, vectors=undo(vectors, bound * np.sin(t), bound * np.cos(t))), key)
            for t in angles
        ]
        found[key] = (min(values) - level * errors[key], max(values) + level * errors[key])
    return found


def undo(vectors: npt.ArrayLike, s: float, e: float) -> Array:
    """Vectors (…, 2) as (y, x) before (y, x) → (y·(1 + e), x + s·y)."""
    seen = np.asarray(vectors, dtype=float)
    y = seen[..., 0] / (1 + e)
    return np.stack([y, seen[..., 1] - s * y], -1)


def scan_shears(vectors: Array) -> dict[str, Array]:
    """√(s² + e²) of the least distortion of a slow scan along y that leads to each lattice from each class of SYMMETRIC, (N,).

    vectors: (N, 2, 2) reduced bases, rows (y, x), 60° to 90° between them: the nearest lattice of a class is then reached
    with the basis as it is, to the first order in the distortion.
    """
    points = {name: _point(vectors, shape) for name, shape in POINTS.items()}
    lines = {name: _nearest_on_line(vectors, name, hyperbolic=False) for name in ("rectangular", "centred")}
    other = np.stack([vectors[:, 1] - vectors[:, 0], vectors[:, 1]], 1)  # |b − a| = |b| is the other way
    across = _nearest_on_line(other, "centred", hyperbolic=False)
    found = {name: _scan_size(w) for name, w in (points | lines).items()}
    found["centred"] = np.fmin(found["centred"], _scan_size(across))
    return {name: found[name] for name in SYMMETRIC}


def _scan_size(w: npt.NDArray[np.complexfloating]) -> Array:
    with np.errstate(all="ignore"):
        size = np.hypot(w.real / w.imag, 1 / w.imag - 1)
    return np.asarray(np.where(w.imag > 1e-6, size, np.inf))


def strain_vector(vectors: Array, *, target: str, change: npt.ArrayLike | None = None) -> tuple[Array, Array]:
    """The distortion (s, e) that separates a lattice from a square or hexagonal one, and the cell (2, 2) used for it.

    Its length is the equivalent simple shear 2·sinh(d/2). change: (2, 2) integers that make the cell whose a and b are
    those of the target; without it the nearest one is taken. Followed through a movie with one `change` it has a sign.
    """
    changes = _CHANGES if change is None else np.asarray(change, dtype=float)[None]
    w = _point(changes @ vectors, POINTS[target])
    cayley = (w - 1j) / (w + 1j)
    best = int(np.abs(cayley).argmin())
    c = cayley[best]
    size = abs(c)
    length = 2 * size / np.sqrt(max(1 - size**2, 1e-12))  # 2 sinh(d/2) with tanh(d/2) = |c|
    unit = np.array([c.imag, -c.real]) / size if size > 0 else np.zeros(2)
    return length * unit, changes[best]


def strain_of(
    lattice: Lattice, *, target: str, change: npt.ArrayLike | None = None
) -> tuple[Array, Array, Array]:
    """`strain_vector` of a lattice: (s, e), covariance (2, 2), and the cell used."""
    vectors, covariance = _metric(lattice, "any")
    value, used = strain_vector(vectors, target=target, change=change)
    slope = _slope(lambda v: strain_vector(v, target=target, change=used)[0], vectors)
    return value, slope @ covariance @ slope.T, used


def _metric(lattice: Lattice, scan: Scan) -> tuple[Array, Array]:
    """Vectors and covariance (4, 4) on the specimen, reduced; (x, y) for a scan by columns, so that its slow axis is first."""
    scale = np.ones(2) if lattice.pixel is None else np.asarray(lattice.pixel, dtype=float)
    vectors = lattice.vectors * scale
    covariance = lattice.covariance[2:, 2:] * np.outer(np.tile(scale, 2), np.tile(scale, 2))
    change = reduce_vectors(vectors).astype(float)
    big = np.kron(change, np.eye(2))
    vectors, covariance = change @ vectors, big @ covariance @ big.T
    if scan == "columns":
        order = [1, 0, 3, 2]
        vectors, covariance = vectors[:, ::-1], covariance[np.ix_(order, order)]
    return np.ascontiguousarray(vectors), covariance


def _wide(covariance: Array) -> Array:
    full = np.zeros((6, 6))
    full[2:, 2:] = covariance
    return full


def _undone(
    vectors: Array, covariance: Array, drift: tuple[float, float], drift_err: tuple[float, float]
) -> tuple[Array, Array]:
    if not any(drift) and not any(drift_err):
        return vectors, covariance
    before = undo(vectors, *drift)
    linear = _slope(lambda v: undo(v, *drift).ravel(), vectors)
    step = 1e-6
    turns = np.stack(
        [
            (undo(vectors, drift[0] + a, drift[1] + b) - before).ravel() / step
            for a, b in ((step, 0), (0, step))
        ],
        1,
    )
    own = turns @ np.diag(np.square(drift_err)) @ turns.T
    return before, linear @ covariance @ linear.T + own


def _reach(name: str, vectors: Array, covariance: Array, *, bound: float, scan: Scan) -> Reach:
    free = 2 if name in POINTS else 1
    solve = _solver(name, scan)
    value, which = solve(vectors, None)
    slope = _slope(lambda v: solve(v, which)[0], vectors)
    spread = slope @ covariance @ slope.T
    size = float(np.hypot(*value)) if scan != "any" else _simple_shear(value)
    if size > 1e-9:
        unit = value / np.hypot(*value)
        error = float(np.sqrt(max(unit @ spread @ unit, 0)))
    else:
        error = float(np.sqrt(np.linalg.eigvalsh(spread)[-1]))
    within = size <= bound + SURE[free] * error
    without = undo(vectors, float(value[0]), float(value[1]))
    return Reach(
        name,
        size,
        error,
        float(value[0]),
        float(value[1]),
        bool(within),
        without[:, ::-1] if scan == "columns" else without,
    )


def _simple_shear(value: Array) -> float:
    """2·sinh(d/2) of the distortion (s, e): from the distance of w = (i − s)/(1 + e) to i."""
    w = complex(-value[0], 1) / (1 + value[1])
    return float(abs(w - 1j) / np.sqrt(w.imag))


def _solver(name: str, scan: Scan) -> Callable[[Array, Array | None], tuple[Array, Array]]:
    """A function (vectors, cell or None) → ((s, e), cell used): the smallest distortion to a lattice of the class."""

    def solve(vectors: Array, change: Array | None) -> tuple[Array, Array]:
        changes = _CHANGES if change is None else change[None]
        bases = changes @ vectors
        if name in POINTS:
            w = _point(bases, POINTS[name])
        else:
            w = _nearest_on_line(bases, name, hyperbolic=scan == "any")
        w = np.where(w.imag > 1e-6, w, complex(np.nan, np.nan))
        values = np.stack([-w.real / w.imag, 1 / w.imag - 1], -1)
        sizes = np.abs(w - 1j) / np.sqrt(w.imag) if scan == "any" else np.hypot(values[:, 0], values[:, 1])
        best = int(np.where(np.isfinite(sizes), sizes, np.inf).argmin())
        return values[best], changes[best]

    return solve


def _point(bases: Array, target: complex) -> npt.NDArray[np.complex128]:
    """(M,) w for which each basis (M, 2, 2) has b/a = shape: (b_x + w b_y) = shape·(a_x + w a_y)."""
    (ay, ax), (by, bx) = bases[:, 0].T, bases[:, 1].T
    shape = np.where(
        ay * bx - ax * by > 0, target.conjugate(), target
    )  # mirrored: w stays in the upper half plane
    return np.asarray((shape * ax - bx) / (by - shape * ay))


def _nearest_on_line(bases: Array, name: str, *, hyperbolic: bool) -> npt.NDArray[np.complex128]:
    """(M,) the w nearest to i at which each basis is rectangular (a ⊥ b) or rhombic (|a| = |b|).

    With w = u + iv both are A (u² + v²) + B u + C = 0. Newton steps to the foot of the perpendicular from i, measured
    in (s, e) or, where `hyperbolic`, found exactly: the geodesic's foot.
    """
    (ay, ax), (by, bx) = bases[:, 0].T, bases[:, 1].T
    if name == "rectangular":
        quadratic, linear, constant = ay * by, ax * by + ay * bx, ax * bx
    else:
        quadratic, linear, constant = ay**2 - by**2, 2 * (ax * ay - bx * by), ax**2 - bx**2
    if hyperbolic:
        return _foot(quadratic, linear, constant)
    s, e = np.zeros(len(bases)), np.zeros(len(bases))
    for _ in range(30):
        v = 1 / (1 + e)
        u = -s * v
        f = quadratic * (u**2 + v**2) + linear * u + constant
        fu, fv = 2 * quadratic * u + linear, 2 * quadratic * v
        fs, fe = -v * fu, v**2 * (s * fu - fv)
        norm = np.maximum(fs**2 + fe**2, 1e-30)
        ahead = (fs * s + fe * e - f) / norm
        s, e = np.clip(fs * ahead, -0.6, 0.6), np.clip(fe * ahead, -0.6, 0.6)
    w = np.array((1j - s) / (1 + e), dtype=np.complex128)
    miss = quadratic * np.abs(w) ** 2 + linear * w.real + constant
    scale = np.abs(quadratic) + np.abs(linear) + np.abs(constant)
    return np.asarray(np.where(np.abs(miss) < 1e-6 * scale, w, complex(np.nan, np.nan)))


def _foot(quadratic: Array, linear: Array, constant: Array) -> npt.NDArray[np.complex128]:
    """The point nearest to i of the geodesic A |w|² + B Re w + C = 0: half way to the mirror image of i in it."""
    discriminant = linear**2 - 4 * quadratic * constant
    with np.errstate(all="ignore"):
        # inversion in the geodesic: w → (−(B/2) w̄ − C) / (A w̄ + B/2)
        image = (-(linear / 2) * -1j - constant) / (quadratic * -1j + linear / 2)
        cayley = (image - 1j) / (image + 1j)
        size = np.abs(cayley)
        half = np.where(
            size > 0, np.tanh(np.arctanh(np.minimum(size, 1 - 1e-15)) / 2) / np.where(size > 0, size, 1), 0
        )
        c = cayley * half
        w = 1j * (1 + c) / (1 - c)
    return np.asarray(np.where((discriminant > 0) & (w.imag > 0), w, complex(np.nan, np.nan)))


def _slope(function: Callable[[Array], Array], vectors: Array) -> Array:
    step = 1e-6 * float(np.abs(vectors).max())
    moves = np.eye(4).reshape(4, 2, 2) * step
    return np.stack([(function(vectors + m) - function(vectors - m)) / (2 * step) for m in moves], 1)


def _changes(reach: int) -> Array:
    """Integer matrices of determinant 1 or −1 with entries up to `reach`, one of each pair ±M."""
    steps = np.arange(-reach, reach + 1)
    grid = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), -1).reshape(-1, 2, 2)
    det = grid[:, 0, 0] * grid[:, 1, 1] - grid[:, 0, 1] * grid[:, 1, 0]
    flat = grid.reshape(-1, 4)
    first = flat[np.arange(len(flat)), np.argmax(flat != 0, axis=1)]
    return grid[(np.abs(det) == 1) & (first > 0)].astype(float)


_CHANGES = _changes(2)
