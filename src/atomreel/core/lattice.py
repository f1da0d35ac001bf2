"""Lattice: a two-dimensional crystal lattice in an image, with its motif and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CLASSES = ("square", "rectangular", "centred", "hexagonal", "oblique")
_SQUARE, _HEXAGON = 1j, complex(0.5, math.sqrt(0.75))
# 99 % of a χ² with one and two degrees of freedom: what "within errors" means for a line and for a point.
_LIMIT = {1: 6.635, 2: 9.210}


@dataclass(frozen=True)
class Site:
    """One column of the motif.

    position: fractional coordinates along a and b, in [0, 1). species: element or intensity class, "" if
    unknown. intensity: median of its columns, NaN if unknown. occupancy: share of cells where it was found.
    """

    position: tuple[float, float]
    species: str = ""
    intensity: float = math.nan
    occupancy: float = 1.0


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice with a motif.

    origin: (y, x) [px] of site 0 in cell (0, 0). vectors: (2, 2), rows a and b as (y, x) [px], the reduced
    primitive cell: a ≤ b, 60° ≤ γ ≤ 90°, cos γ ≤ a/2b (within errors). covariance: (6, 6) of
    (origin, a, b) in that order [px²]. sites: the motif. pixel: (dy, dx) [Å] or None.
    """

    origin: Array
    vectors: Array
    covariance: Array = field(default_factory=lambda: np.zeros((6, 6)))
    sites: tuple[Site, ...] = (Site((0.0, 0.0)),)
    pixel: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, shape in (("origin", (2,)), ("vectors", (2, 2)), ("covariance", (6, 6))):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != shape:
                raise InputError(f"lattice {name}: expected shape {shape}, got {value.shape}")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if abs(np.linalg.det(self.vectors)) < 1e-9:
            raise InputError("lattice vectors are parallel: two independent ones are needed")
        if not self.sites:
            raise InputError("a lattice needs at least one site in its motif")

    @property
    def a(self) -> float:
        """Length of a [px]."""
        return float(np.hypot(*self.vectors[0]))

    @property
    def b(self) -> float:
        """Length of b [px]."""
        return float(np.hypot(*self.vectors[1]))

    @property
    def gamma(self) -> float:
        """Angle between a and b [degrees]."""
        return _gamma(self.vectors)

    @property
    def angle(self) -> float:
        """Direction of a [degrees], counter-clockwise as seen on screen."""
        return screen_angle(self.vectors[0])

    @property
    def area(self) -> float:
        """Area of the primitive cell [px²]."""
        return float(abs(np.linalg.det(self.vectors)))

    @property
    def errors(self) -> dict[str, float]:
        """1σ of a, b [px], gamma and angle [degrees], to first order in the covariance."""
        cov = self.covariance[2:, 2:]
        functions: dict[str, Callable[[Array], float]] = {
            "a": lambda v: float(np.hypot(*v[0])),
            "b": lambda v: float(np.hypot(*v[1])),
            "gamma": _gamma,
            "angle": lambda v: _turn(screen_angle(v[0]) - self.angle),
        }
        return {name: math.sqrt(_variance(f, self.vectors, cov)) for name, f in functions.items()}

    def in_angstrom(self) -> dict[str, float] | None:
        """a_A, b_A, gamma_deg and errors in the specimen, where the pixel size is known; else None.

        Vectors are scaled per axis before lengths are taken, so pixels need not be square.
        """
        if self.pixel is None:
            return None
        scale = np.tile(np.asarray(self.pixel, dtype=float), 3)
        metric = replace(
            self,
            vectors=self.vectors * scale[:2],
            covariance=self.covariance * np.outer(scale, scale),
            pixel=None,
        )
        errors = metric.errors
        return {
            "a_A": metric.a,
            "a_A_err": errors["a"],
            "b_A": metric.b,
            "b_A_err": errors["b"],
            "gamma_deg": metric.gamma,
            "gamma_deg_err": errors["gamma"],
        }

    def offsets(self) -> Array:
        """(S, 2) positions of the motif's sites relative to the origin [px]."""
        return np.array([site.position for site in self.sites]) @ self.vectors

    def positions(self, index: npt.ArrayLike, site: npt.ArrayLike = 0) -> Array:
        """(…, 2) pixel positions of cells `index` (…, 2) and motif sites `site` (…)."""
        return np.asarray(
            self.origin + np.asarray(index, dtype=float) @ self.vectors + self.offsets()[np.asarray(site)]
        )

    def fractional(self, positions: npt.ArrayLike) -> Array:
        """(…, 2) coordinates along a and b of pixel positions (…, 2)."""
        return np.asarray(
            (np.asarray(positions, dtype=float) - self.origin) @ np.linalg.inv(self.vectors), dtype=np.float64
        )

    def locate(self, positions: npt.ArrayLike) -> tuple[Ints, Ints, Array]:
        """The nearest site of each position (N, 2): cell (N, 2), site (N,), and position minus site (N, 2) [px]."""
        points = np.asarray(positions, dtype=float).reshape(-1, 2)
        fractional = self.fractional(points)
        cells, gaps = [], []
        for site in self.sites:
            cell = np.rint(fractional - site.position)
            gaps.append((fractional - site.position - cell) @ self.vectors)
            cells.append(cell)
        gap = np.array(gaps)
        best = np.argmin((gap**2).sum(2), axis=0)
        rows = np.arange(len(points))
        return np.array(cells)[best, rows].astype(np.int64), best.astype(np.int64), gap[best, rows]

    def inside(self, shape: tuple[int, int], *, margin: float = 0.0) -> tuple[Ints, Ints]:
        """Cells (M, 2) and sites (M,) whose positions lie in a field of `shape`, `margin` px from its border."""
        corners = np.array([[0, 0], [0, shape[1]], [shape[0], 0], [shape[0], shape[1]]], dtype=float)
        fractional = self.fractional(corners)
        low, high = np.floor(fractional.min(0)) - 2, np.ceil(fractional.max(0)) + 2
        grid = np.stack(
            np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij"), -1
        )
        cells = np.repeat(grid.reshape(-1, 2), len(self.sites), axis=0)
        sites = np.tile(np.arange(len(self.sites)), grid.shape[0] * grid.shape[1])
        where = self.positions(cells, sites)
        keep = np.all((where >= margin) & (where <= np.array(shape) - 1 - margin), axis=1)
        return cells[keep].astype(np.int64), sites[keep].astype(np.int64)

    def spacing(self) -> float:
        """Distance between nearest sites [px]."""
        offsets = self.offsets()
        cells = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 2) @ self.vectors
        gaps = offsets[:, None, None] - offsets[None, :, None] + cells
        lengths = np.hypot(gaps[..., 0], gaps[..., 1])
        return float(lengths[lengths > 1e-6 * self.a].min())

    def symmetry(self, *, distortion: float = 0.0) -> str:
        """The most symmetric of CLASSES that the lattice agrees with at the 99 % level.

        distortion: shear (1σ, such as 0.005) that the imaging itself may have added. The distance is the
        hyperbolic one between points τ = (b/a)·exp(iγ), twice the shear strain between two lattices.
        """
        tau = shape_of(self.vectors)
        cov = _tau_covariance(self.vectors, self.covariance[2:, 2:])
        cov = cov + np.eye(2) * (2 * distortion * tau.imag) ** 2 + np.eye(2) * 1e-12
        for name, point in (("square", _SQUARE), ("hexagonal", _HEXAGON)):
            gap = np.array([tau.real - point.real, tau.imag - point.imag])
            if gap @ np.linalg.solve(cov, gap) <= _LIMIT[2]:
                return name
        for name, lines in (("rectangular", _RECTANGULAR), ("centred", _CENTRED)):
            for line in lines:
                slope = _gradient(line, tau)
                if line(tau) ** 2 <= _LIMIT[1] * (slope @ cov @ slope):
                    return name
        return "oblique"

    def conventional(self, *, distortion: float = 0.0) -> Array:
        """(2, 2) vectors of the conventional cell of its class [px]: twice the primitive one where centred."""
        a, b = self.vectors
        if self.symmetry(distortion=distortion) != "centred":
            return np.array(self.vectors)
        tau = shape_of(self.vectors)
        upright, rhombic = (abs(line(tau)) for line in _CENTRED)
        pair = np.array([a, 2 * b - a]) if upright <= rhombic else np.array([a - b, a + b])
        return pair[np.argsort(np.hypot(pair[:, 0], pair[:, 1]), kind="stable")]


def screen_angle(vector: npt.ArrayLike) -> float:
    """Direction of (dy, dx), y down, in degrees counter-clockwise as seen on screen, in (−180, 180]."""
    dy, dx = np.asarray(vector, dtype=float)
    return _turn(math.degrees(math.atan2(-dy, dx)))


def reduce_vectors(vectors: npt.ArrayLike, *, tie: float = 0.0) -> Ints:
    """(2, 2) integer matrix M with M @ vectors the reduced basis (Lagrange–Gauss), |det M| = 1.

    a points to the right half of the screen. tie: relative difference of lengths that counts as none;
    among bases that are equally short the one with a nearest to the x axis is taken, so that noise does
    not turn a hexagonal lattice by 60° from one frame to the next.
    """
    base = np.asarray(vectors, dtype=float)
    change = np.eye(2, dtype=np.int64)
    for _ in range(100):
        v = change @ base
        if v[1] @ v[1] < v[0] @ v[0]:
            change, v = change[::-1].copy(), v[::-1]
        shift = int(np.rint(v[0] @ v[1] / (v[0] @ v[0])))
        if shift == 0:
            break
        change[1] -= shift * change[0]
    options = [change[0], change[1], change[0] - change[1], change[0] + change[1]]
    lengths = [float(np.hypot(*(option @ base))) for option in options]
    short = np.flatnonzero(np.array(lengths) <= min(lengths) * (1 + tie))
    ranked = [options[i] * _forward(options[i] @ base) for i in short]
    first = min(ranked, key=lambda m: (abs(round(screen_angle(m @ base), 9)), -screen_angle(m @ base)))
    partners = [sign * m for m in options for sign in (1, -1) if abs(first[0] * m[1] - first[1] * m[0]) == 1]
    acute = [m for m in partners if (first @ base) @ (m @ base) >= 0]
    second = min(acute, key=lambda m: float(np.hypot(*(m @ base))))
    return np.array([first, second], dtype=np.int64)


def shape_of(vectors: npt.ArrayLike) -> complex:
    """τ = (b/a)·exp(iγ) of a reduced basis: the lattice up to size and rotation."""
    a, b = np.asarray(vectors, dtype=float)
    return complex(a @ b, abs(a[0] * b[1] - a[1] * b[0])) / float(a @ a)


def shape_distance(tau: complex, other: complex) -> float:
    """Hyperbolic distance of two lattice shapes: twice the shear strain between them."""
    return math.acosh(1 + abs(tau - other) ** 2 / (2 * tau.imag * other.imag))


# Signed hyperbolic distances to the geodesics on which a class lies.
_RECTANGULAR: tuple[Callable[[complex], float], ...] = (lambda t: math.asinh(t.real / t.imag),)
_CENTRED: tuple[Callable[[complex], float], ...] = (
    lambda t: math.asinh((t.real - 0.5) / t.imag),
    lambda t: math.asinh((abs(t) ** 2 - 1) / (2 * t.imag)),
)


def _gradient(line: Callable[[complex], float], tau: complex) -> Array:
    step = 1e-6
    return np.array(
        [(line(tau + step) - line(tau - step)), (line(tau + 1j * step) - line(tau - 1j * step))]
    ) / (2 * step)


def _tau_covariance(vectors: Array, covariance: Array) -> Array:
    real = _slope(lambda v: shape_of(v).real, vectors)
    imaginary = _slope(lambda v: shape_of(v).imag, vectors)
    jacobian = np.array([real, imaginary])
    return np.asarray(jacobian @ covariance @ jacobian.T)


def _slope(function: Callable[[Array], float], vectors: Array) -> Array:
    step = 1e-6 * float(np.abs(vectors).max())
    moves = np.eye(4).reshape(4, 2, 2) * step
    return np.array([(function(vectors + m) - function(vectors - m)) / (2 * step) for m in moves])


def _variance(function: Callable[[Array], float], vectors: Array, covariance: Array) -> float:
    slope = _slope(function, vectors)
    return max(float(slope @ covariance @ slope), 0.0)


def _gamma(vectors: Array) -> float:
    a, b = vectors
    return math.degrees(math.atan2(abs(a[0] * b[1] - a[1] * b[0]), float(a @ b)))


def _turn(degrees: float) -> float:
    """Into (−180, 180]."""
    return -((-degrees + 180.0) % 360.0 - 180.0)


def _forward(vector: Array) -> int:
    angle = screen_angle(vector)
    return 1 if -90 < angle <= 90 else -1
