"""Strain and rotation atom by atom: an ideal neighbourhood of two shells, turned and stretched until it fits.

After J. Madsen et al., Adv. Struct. Chem. Imag. 3 (2017) 14 (structural template matching of images; in graphene the
nine nearest neighbours) and P. Larsen et al., Model. Simul. Mater. Sci. Eng. 24 (2016) 055007 (templates, polar
decomposition, refusal by residual). No lattice has to run through the field, so edges and grain boundaries do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.lattice import Lattice

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NAMES = ("exx", "eyy", "exy", "rotation_deg")
SHELL = 0.08  # relative step between the distances of two shells: measured lattices are not exact
FIRST = 1.2  # of the least distance: any neighbour nearer than this may be the nearest one seen
REACH = 0.35  # of the nearest distance: how far from its place a neighbour may stand
INNER = 0.85  # of the outer shell's radius: an atom nearer than this must belong to the template
ROUNDS = 3
SLACK = (0.01, 0.1)  # strains that differ by less, between these bounds twice their error, tell neither
ALIKE = 0.5  # residuals that differ by a smaller share tell no orientation from another


@dataclass(frozen=True, eq=False)
class Template:
    """neighbours: for each kind of site the ideal vectors (M, 2) (y, x) [px] to its neighbours, nearest first."""

    neighbours: tuple[Array, ...]

    def __post_init__(self) -> None:
        for vectors in self.neighbours:
            array = np.asarray(vectors, dtype=float)
            if array.ndim != 2 or array.shape[1:] != (2,) or len(array) < 3 or not np.isfinite(array).all():
                raise InputError(f"a template needs three neighbours (M, 2) or more, got {array.shape}")
        if not self.neighbours:
            raise InputError("a template needs at least one site")

    @property
    def nearest(self) -> float:
        """Least distance of neighbours [px]."""
        return min(float(np.hypot(*v.T).min()) for v in self.neighbours)


def make_template(lattice: Lattice, *, shells: int = 2) -> Template:
    """The neighbourhoods of all motif sites of `lattice`, `shells` different distances far. Raises InputError."""
    if not 1 <= shells <= 6:
        raise InputError(f"shells: 1 to 6, got {shells}")
    n = np.arange(-4, 5)
    cells = np.stack(np.meshgrid(n, n, indexing="ij"), -1).reshape(-1, 2) @ lattice.vectors
    offsets = lattice.offsets()
    found = []
    for own in offsets:
        gaps = (cells[:, None] + offsets - own).reshape(-1, 2)
        length = np.hypot(*gaps.T)
        order = np.argsort(length, kind="stable")
        order = order[length[order] > 1e-6 * lattice.a]
        rise = np.diff(length[order]) > SHELL * length[order][:-1]
        shell = np.concatenate([[0], np.cumsum(rise)])
        found.append(gaps[order[shell < shells]])
    return Template(tuple(found))


def honeycomb(bond: float, *, angle: float = 0.0) -> Template:
    """The nine nearest neighbours of both atoms of graphene. bond: [px]. angle: of a bond, counter-clockwise [°]."""
    if not bond > 0:
        raise InputError(f"bond: a length in pixels above 0, got {bond}")
    t = np.deg2rad(angle + np.array([-30.0, 30.0]))
    vectors = np.sqrt(3) * bond * np.stack([-np.sin(t), np.cos(t)], axis=1)
    first = vectors.sum(0) / 3
    lattice = np.concatenate([[[0, 0]], vectors, [vectors[0] - vectors[1]]])
    lattice = np.unique(np.concatenate([lattice, -lattice]).round(12), axis=0)
    ring = lattice[np.hypot(*lattice.T) > 0.5 * bond]
    three = np.array([first, first - vectors[0], first - vectors[1]])
    return Template((np.concatenate([three, ring]), np.concatenate([-three, ring])))


def match_template(atoms: pd.DataFrame, template: Template, *, tolerance: float = 0.1) -> pd.DataFrame:
    """Strain and rotation of the neighbourhood of every atom of one frame against `template`.

    atoms: y, x and, for errors, y_err, x_err [px]. Columns, one row per atom: y, x; site (of the template; −1:
    refused); exx, eyy, exy, rotation_deg, each with _err (1σ); residual (rms per coordinate, in nearest distances),
    chi2 (per degree of freedom, of the claimed errors). NaN where refused: fewer neighbours than the template has,
    one more among them, or a residual above `tolerance` (edges, vacancies, rings of other sizes).

    Positions are fitted by c + F t to the template's points t, its centre included, with equal weights. F = V R; strain is
    V − 1 in the frame of the image (x right, y down, exx positive where the crystal is longer along x), so all atoms share
    one frame however the crystal is turned; R is counter-clockwise as seen on screen, from the template as given to
    the nearest of the orientations that fit alike. Errors follow y_err, x_err of all atoms of the neighbourhood
    (taken as independent; neighbouring rows share atoms, so theirs are not). Raises InputError.
    """
    if not {"y", "x"} <= set(atoms):
        raise InputError(f"templates need columns y, x; the table has {', '.join(map(str, atoms.columns))}")
    if not tolerance > 0:
        raise InputError(f"tolerance: a share of the nearest distance above 0, got {tolerance}")
    points = atoms[["y", "x"]].to_numpy(float)
    if not np.isfinite(points).all():
        raise InputError("templates: some positions are NaN or infinite; drop those rows first")
    known = {"y_err", "x_err"} <= set(atoms)
    errors = atoms[["y_err", "x_err"]].to_numpy(float) if known else np.full_like(points, np.nan)
    out = _nothing(points)
    if len(points) < 4:
        return out
    tree = cKDTree(points)
    held = _Held(out, np.full(len(points), np.inf), np.zeros((len(points), 2, 2)))
    for site, vectors in enumerate(template.neighbours):
        for start in _starts(tree, vectors):
            _try(held, (tree, errors), start, site=site, template=template, tolerance=tolerance)
    # One good fit gives the start of all orientations that fit alike, which a noisy nearest neighbour does not.
    first = np.array([np.arctan2(v[0, 1], v[0, 0]) for v in template.neighbours])[out["site"]]
    shape = held.shape.copy()
    for site, vectors in enumerate(template.neighbours):
        for y, x in _shell(vectors):
            start = shape @ _turn(first - np.arctan2(x, y))
            _try(held, (tree, errors), start, site=site, template=template, tolerance=tolerance)
    return out


@dataclass(frozen=True, eq=False)
class _Held:
    """The best fits so far, filled in as orientations are tried: table, best (N,) residual, shape (N, 2, 2) F."""

    table: pd.DataFrame
    best: Array
    shape: Array


def _try(
    held: _Held,
    given: tuple[cKDTree, Array],
    start: Array,
    *,
    site: int,
    template: Template,
    tolerance: float,
) -> None:
    """Fit `site` of the template to every atom from `start` (N, 2, 2), and keep what is better than what is held."""
    tree, errors = given
    vectors = template.neighbours[site]
    rows, near, fit = _fit(tree, vectors, start, nearest=template.nearest)
    if not len(rows):
        return
    values = _measure(np.asarray(tree.data), errors, (rows, near, fit), vectors, template.nearest)
    better = (values["residual"] <= tolerance) & _better(values, held.table.iloc[rows], held.best[rows])
    chosen = rows[better]
    held.best[chosen] = np.fmin(held.best[chosen], values["residual"][better])
    held.shape[chosen] = np.swapaxes(fit[better, 1:], 1, 2)
    for name, column in values.items():
        held.table.loc[chosen, name] = column[better]
    held.table.loc[chosen, "site"] = site


def _nothing(points: Array) -> pd.DataFrame:
    names = [*NAMES, *(f"{name}_err" for name in NAMES), "residual", "chi2"]
    return pd.DataFrame(
        {"y": points[:, 0], "x": points[:, 1], "site": -1, **dict.fromkeys(names, np.nan)},
        index=np.arange(len(points)),
    )


def _better(values: dict[str, Array], held: pd.DataFrame, best: Array) -> npt.NDArray[np.bool_]:
    """Whether a fit is to be preferred to the one held: by residual, then by strain, then by turn.

    An affine map makes a good fit of a wrong orientation too, at the price of a large strain; orientations that the
    template's symmetry makes equal, or equal within the errors, differ in the turn alone.
    """
    sharper = values["residual"] * (1 + ALIKE) + 1e-9 < best
    alike = values["residual"] <= best * (1 + ALIKE) + 1e-9
    own, other = (np.sqrt(v["exx"] ** 2 + v["eyy"] ** 2 + 2 * v["exy"] ** 2) for v in (values, held))
    error = np.sqrt(values["exx_err"] ** 2 + values["eyy_err"] ** 2 + 2 * values["exy_err"] ** 2)
    slack = np.where(np.isfinite(error), np.clip(2 * error, *SLACK), SLACK[1])
    gentler = own < other - slack
    turn = np.abs(values["rotation_deg"]) < np.abs(held["rotation_deg"]) - 1e-6
    return np.asarray(sharper | (alike & (gentler | ((own <= other + slack) & turn))))


def _starts(tree: cKDTree, vectors: Array) -> list[Array]:
    """Turns (N, 2, 2) that lay each vector of the nearest shell on every atom's nearest neighbour."""
    points = np.asarray(tree.data)
    _, near = tree.query(points, k=2)
    towards = points[near[:, 1]] - points
    angle = np.arctan2(towards[:, 1], towards[:, 0])
    return [_turn(angle - np.arctan2(x, y)) for y, x in _shell(vectors)]


def _shell(vectors: Array) -> Array:
    """Those that may be the nearest."""
    length = np.hypot(*vectors.T)
    return vectors[length <= length.min() * FIRST]


def _turn(angle: Array) -> Array:
    """(N, 2, 2) rotations of (y, x) vectors from +y towards +x: counter-clockwise on screen."""
    c, s = np.cos(angle), np.sin(angle)
    return np.moveaxis(np.array([[c, -s], [s, c]]), -1, 0)


def _fit(tree: cKDTree, vectors: Array, start: Array, *, nearest: float) -> tuple[Ints, Ints, Array]:
    """Atoms whose neighbourhood is complete (K,), their neighbours (K, M) and the map c, F (K, 3, 2) as rows 1, y, x."""
    points = np.asarray(tree.data)
    rows, shape, middle = np.arange(len(points)), start, points
    inverse = np.linalg.pinv(_design(vectors))
    for _ in range(ROUNDS):
        goal = middle[:, None] + np.einsum("kij,mj->kmi", shape, vectors)
        gap, near = tree.query(goal, distance_upper_bound=REACH * nearest)
        full = np.isfinite(gap).all(1)
        rows, near = rows[full], near[full]
        ordered = np.sort(np.column_stack([near, rows]), axis=1)
        once = (np.diff(ordered, axis=1) > 0).all(1)
        rows, near = rows[once], near[once]
        seen = np.concatenate([points[rows][:, None], points[near]], axis=1)
        fit = np.einsum("pm,kmi->kpi", inverse, seen)
        shape, middle = np.swapaxes(fit[:, 1:], 1, 2), fit[:, 0]
    radius = INNER * np.hypot(*vectors.T).max()
    inside = tree.query_ball_point(points[rows], radius, return_length=True) - 1
    expected = (np.linalg.norm(points[near] - points[rows][:, None], axis=2) <= radius).sum(1)
    whole = inside == expected
    return rows[whole], near[whole].astype(np.int64), fit[whole]


def _design(vectors: Array) -> Array:
    return np.column_stack([np.ones(len(vectors) + 1), np.vstack([np.zeros((1, 2)), vectors])])


def _measure(
    points: Array, errors: Array, found: tuple[Ints, Ints, Array], vectors: Array, nearest: float
) -> dict[str, Array]:
    """Strain, rotation, errors and misfit of each fitted neighbourhood."""
    rows, near, fit = found
    design = _design(vectors)
    inverse = np.linalg.pinv(design)
    who = np.column_stack([rows, near])
    gap = points[who] - np.einsum("mp,kpi->kmi", design, fit)
    freedom = 2 * len(design) - 6
    # Rows of F by axis i of the image; each has its own errors of the positions along that axis.
    variance = np.einsum("pm,qm,kmi->kipq", inverse[1:], inverse[1:], errors[who] ** 2)
    matrix = np.swapaxes(fit[:, 1:], 1, 2)
    values = _polar(matrix)
    step = 1e-6
    total = np.zeros_like(values)
    for i in (0, 1):
        slopes = []
        for j in (0, 1):
            nudge = np.zeros((2, 2))
            nudge[i, j] = step
            slopes.append((_polar(matrix + nudge) - _polar(matrix - nudge)) / (2 * step))
        slope = np.stack(slopes)
        total += np.einsum("pnk,qnk,kpq->nk", slope, slope, variance[:, i])
    out = dict(zip(NAMES, values, strict=True))
    out |= {f"{name}_err": np.sqrt(v) for name, v in zip(NAMES, total, strict=True)}
    out["residual"] = np.sqrt((gap**2).sum((1, 2)) / freedom) / nearest
    out["chi2"] = ((gap / errors[who]) ** 2).sum((1, 2)) / freedom
    return out


def _polar(matrix: Array) -> Array:
    """(4, K) exx, eyy, exy of V − 1 and the rotation [°] of F = V R, F (K, 2, 2) on (y, x)."""
    square = matrix @ np.swapaxes(matrix, 1, 2)
    root = np.sqrt(np.linalg.det(square))
    trace = np.sqrt(square[:, 0, 0] + square[:, 1, 1] + 2 * root)
    v = (square + root[:, None, None] * np.eye(2)) / trace[:, None, None]
    turn = np.degrees(np.arctan2(matrix[:, 1, 0] - matrix[:, 0, 1], matrix[:, 0, 0] + matrix[:, 1, 1]))
    return np.array([v[:, 1, 1] - 1, v[:, 0, 0] - 1, v[:, 0, 1], turn])
