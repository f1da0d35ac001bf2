"""Patches of material: where the columns are and what is in them. Positions are (y, x) [Å]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import Voronoi, cKDTree

from atomreel.core.errors import InputError
from atomreel.core.material import Defect, Pattern

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """What a column can be: label, its elements in one repeat, and whether it is seen (else it is no truth)."""

    label: str
    atoms: tuple[str, ...]
    visible: bool = True


@dataclass(frozen=True)
class Structure:
    """positions: (N, 2) (y, x) [Å]. kind: (N,) index into `kinds`. height: (N,) repeats along the beam."""

    positions: Array
    kind: npt.NDArray[np.int64]
    height: Array
    kinds: tuple[Kind, ...]

    def __post_init__(self) -> None:
        if not len(self.positions) == len(self.kind) == len(self.height):
            raise InputError("a structure needs one kind and one height per position")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def labels(self) -> npt.NDArray[np.str_]:
        names = np.array([kind.label for kind in self.kinds], dtype=str)
        return names[self.kind]

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        return np.array([kind.visible for kind in self.kinds], dtype=bool)[self.kind]

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Structure:
        return replace(
            self, positions=self.positions[index], kind=self.kind[index], height=self.height[index]
        )

    def move(self, positions: Array) -> Structure:
        return replace(self, positions=np.asarray(positions, dtype=float))


def crystal(
    pattern: Pattern,
    box: Sequence[float],
    *,
    angle: float = 0.0,
    origin: Sequence[float] | Array = (0.0, 0.0),
) -> Structure:
    """A perfect crystal that fills `box` = (y0, x0, y1, x1) [Å].

    angle: rotation [°], counter-clockwise as seen on screen. origin: where the corner of a cell lies [Å].
    """
    vectors, basis = rotate(pattern.vectors, angle), rotate(pattern.basis, angle)
    y0, x0, y1, x1 = box
    corners = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]]) - np.asarray(origin)
    index = corners @ np.linalg.inv(vectors)
    low, high = np.floor(index.min(0)).astype(int) - 1, np.ceil(index.max(0)).astype(int) + 1
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
    )
    cells = grid.reshape(-1, 2) @ vectors + np.asarray(origin)
    positions = (cells[:, None] + basis).reshape(-1, 2)
    kind = np.tile(np.arange(len(basis)), len(cells))
    inside = np.all((positions >= (y0, x0)) & (positions <= (y1, x1)), axis=1)
    kinds = tuple(
        Kind(label, atoms, seen)
        for label, atoms, seen in zip(pattern.labels, pattern.atoms, pattern.visible, strict=True)
    )
    return Structure(positions[inside], kind[inside], np.ones(int(inside.sum())), kinds)


def rotate(vectors: Array, angle: float) -> Array:
    """(N, 2) (y, x) vectors turned by `angle` [°] counter-clockwise as seen on screen (y down)."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.asarray(np.asarray(vectors) @ np.array([[c, s], [-s, c]]))


def merge(parts: Sequence[Structure]) -> Structure:
    """All columns of several structures; equal kinds become one."""
    kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.kinds))
    number = {kind: i for i, kind in enumerate(kinds)}
    recode = [np.array([number[kind] for kind in part.kinds], dtype=np.int64) for part in parts]
    return Structure(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([code[part.kind] for code, part in zip(recode, parts, strict=True)]),
        np.concatenate([part.height for part in parts]),
        kinds,
    )


def spread_apart(structure: Structure, gap: float, *, steps: int = 4) -> Structure:
    """Remove one of each pair nearer than 0.6 `gap` [Å], then push the rest of the near ones apart."""
    structure = structure.take(_thin_out(structure.positions, 0.6 * gap))
    positions = structure.positions.copy()
    for _ in range(steps):
        pairs = cKDTree(positions).query_pairs(0.97 * gap, output_type="ndarray")
        if len(pairs) == 0:
            break
        between = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        length = np.linalg.norm(between, axis=1, keepdims=True)
        push = 0.25 * (gap - length) * between / np.maximum(length, 1e-9)
        np.add.at(positions, pairs[:, 0], -push)
        np.add.at(positions, pairs[:, 1], push)
    return structure.move(positions)


def grains(
    pattern: Pattern, box: Sequence[float], rng: np.random.Generator, *, count: int = 2, twist: float = 60.0
) -> Structure:
    """`count` crystals of random orientation (within ± `twist` °), each in its Voronoi cell, pushed apart where they meet.

    The structure of a real boundary is only imitated: no pair is much nearer than the crystal's nearest distance.
    """
    y0, x0, y1, x1 = box
    seeds = rng.uniform((y0, x0), (y1, x1), (count, 2))
    first = rng.uniform(-180, 180)
    parts = []
    for i in range(count):
        angle = first + (rng.uniform(-twist, twist) if i else 0.0)
        part = crystal(pattern, box, angle=angle, origin=rng.uniform(0, 10, 2))
        nearest = cKDTree(seeds).query(part.positions)[1]
        parts.append(part.take(nearest == i))
    return spread_apart(merge(parts), pattern.nearest)


def honeycomb_network(centres: Array, kind: Kind) -> Structure:
    """Three-fold coordinated network: atoms are the vertices of the Voronoi cells of `centres` (N, 2) [Å].

    Ring centres of graphene give graphene; where two crystals of centres meet, five- and seven-rings
    (J. Madsen et al., Adv. Theory Simul. 1 (2018) 1800037, for graphene with defects).
    """
    vertices = Voronoi(centres).vertices
    low, high = centres.min(0), centres.max(0)
    vertices = vertices[np.all((vertices > low) & (vertices < high), axis=1)]
    n = len(vertices)
    return Structure(vertices, np.zeros(n, dtype=np.int64), np.ones(n), (kind,))


def ring_centres(
    box: Sequence[float], rng: np.random.Generator, *, spacing: float, count: int, order: float = 1.0
) -> Array:
    """(N, 2) centres of the rings of `count` grains, triangular with `spacing` [Å]; relaxed by Lloyd-like steps.

    order: 1 for perfect grains; below, centres are displaced at random first (σ = (1 − order)·spacing/2).
    """
    lattice = Pattern(
        spacing * np.array([[0.0, 1.0], [np.sqrt(0.75), 0.5]]), np.zeros((1, 2)), (("C",),), ("C",), (True,)
    )
    centres = grains(lattice, box, rng, count=count, twist=30.0).positions
    centres = centres + rng.normal(0, (1 - order) * spacing / 2 + 1e-9, centres.shape)
    for _ in range(2):
        cells = Voronoi(centres)
        regions = [cells.regions[r] for r in cells.point_region]
        size = np.array([len(region) for region in regions])
        corner = np.array([v for region in regions for v in region], dtype=int)
        owner = np.repeat(np.arange(len(centres)), size)
        closed = np.bincount(owner, corner < 0, minlength=len(centres)) == 0
        total = [np.bincount(owner, cells.vertices[corner, k], minlength=len(centres)) for k in (0, 1)]
        moved = np.stack(total, axis=1) / np.maximum(size, 1)[:, None]
        near = closed & (size > 0) & (np.linalg.norm(moved - centres, axis=1) < spacing)
        centres = np.where(near[:, None], moved, centres)
    return centres


def blob_mask(
    positions: Array,
    rng: np.random.Generator,
    *,
    centre: Sequence[float],
    radius: float,
    rough: float = 0.2,
) -> npt.NDArray[np.bool_]:
    """Which positions lie in a closed region of about `radius` [Å] whose outline wobbles by the share `rough`."""
    return _blob_distance(positions, rng, centre, rough) < radius


def blob_order(
    positions: Array, rng: np.random.Generator, *, centre: Sequence[float], rough: float = 0.2
) -> npt.NDArray[np.int64]:
    """(N,) indices of the positions from the middle of such a region outwards: the order in which a hole takes them."""
    return np.argsort(_blob_distance(positions, rng, centre, rough), kind="stable")


def _blob_distance(
    positions: Array, rng: np.random.Generator, centre: Sequence[float], rough: float
) -> Array:
    d = positions - np.asarray(centre)
    angle = np.arctan2(d[:, 0], d[:, 1])
    order = np.arange(1, 6)
    amplitude = rough * rng.normal(0, 1, 5) / order
    outline = 1 + (amplitude * np.cos(order * angle[:, None] + rng.uniform(0, 2 * np.pi, 5))).sum(1)
    return np.asarray(np.hypot(d[:, 0], d[:, 1]) / np.clip(outline, 0.2, 3.0))


def particle(
    pattern: Pattern,
    rng: np.random.Generator,
    *,
    centre: Sequence[float],
    radius: float,
    angle: float,
    repeat: float,
) -> Structure:
    """A faceted particle: crystal inside a random polygon with lattice-like edges; height falls towards the edges.

    repeat: length of one repeat along the beam in units of the height that is wanted per Å of lateral distance.
    """
    cy, cx = centre
    box = (cy - 1.6 * radius, cx - 1.6 * radius, cy + 1.6 * radius, cx + 1.6 * radius)
    solid = crystal(pattern, box, angle=angle, origin=np.asarray(centre) + rng.uniform(-2, 2, 2))
    sides = int(rng.integers(4, 9))
    normals = np.deg2rad(angle + np.arange(sides) * 360 / sides + rng.normal(0, 6, sides))
    reach = radius * rng.uniform(0.75, 1.2, sides)
    d = solid.positions - np.asarray(centre)
    depth = (reach - (d[:, :1] * -np.sin(normals) + d[:, 1:] * np.cos(normals))).min(1)
    keep = depth > 0
    steps = 1 + np.floor(
        np.minimum(depth[keep] * rng.uniform(0.5, 1.6), rng.uniform(0.5, 1.2) * radius) / repeat
    )
    roughness = np.where(depth[keep] < 3.0, rng.integers(-1, 2, int(keep.sum())), 0)
    height = np.maximum(steps + roughness, 0)
    return replace(solid.take(keep), height=height).take(height > 0)


def scatter_points(box: Sequence[float], rng: np.random.Generator, *, density: float, gap: float) -> Array:
    """(N, 2) random points, `density` per Å² before those nearer than `gap` [Å] to an earlier one are dropped."""
    y0, x0, y1, x1 = box
    n = rng.poisson(density * (y1 - y0) * (x1 - x0))
    points = rng.uniform((y0, x0), (y1, x1), (n, 2))
    return points[_thin_out(points, gap)]


def _thin_out(points: Array, gap: float) -> npt.NDArray[np.bool_]:
    """(N,) which points to keep so that no two are nearer than `gap`; the earlier one of a pair stays."""
    pairs = np.sort(cKDTree(points).query_pairs(gap, output_type="ndarray"), axis=1)
    keep = [True] * len(points)
    for i, j in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
        if keep[i]:
            keep[j] = False
    return np.array(keep, dtype=bool)


def beside(first: Structure, second: Structure, gap: float) -> Structure:
    """Both, without the columns of the second that lie within `gap` [Å] of one of the first."""
    if len(first) == 0:
        return second
    distance = cKDTree(first.positions).query(second.positions)[0]
    return merge([first, second.take(distance > gap)])


def apply_defect(structure: Structure, index: npt.NDArray[np.int64], defect: Defect) -> Structure:
    """`defect` made at the columns `index`: atoms removed (an empty column goes), replaced, or the column moved.

    A column of a crystal keeps the share of its atoms that the defect leaves (in `height`).
    """
    if defect.action == "move":
        positions = structure.positions.copy()
        positions[index, 0] += defect.shift
        return structure.move(positions)
    kinds = list(structure.kinds)
    kind, height = structure.kind.copy(), structure.height.copy()
    gone = np.zeros(len(structure), dtype=bool)
    for old in np.unique(kind[index]):
        chosen = index[structure.kind[index] == old]
        if defect.action == "remove" and defect.share is not None:
            height[chosen] *= 1 - defect.share
            continue
        left = _altered(structure.kinds[old], defect)
        if left is None:
            gone[chosen] = True
            continue
        if left not in kinds:
            kinds.append(left)
        kind[chosen] = kinds.index(left)
    return Structure(structure.positions, kind, height, tuple(kinds)).take(~gone)


def _altered(kind: Kind, defect: Defect) -> Kind | None:
    if defect.action == "remove":
        atoms = kind.atoms[defect.atoms :]
        return Kind(_name(atoms, single=len(kind.atoms) > 1), atoms) if atoms else None
    species = defect.species or kind.atoms[0]
    if defect.share is not None:
        return Kind(kind.label, (*kind.atoms, species), kind.visible)
    atoms = (species, *kind.atoms[defect.atoms :])
    return Kind(_name(atoms, single=False), atoms)


def _name(atoms: tuple[str, ...], *, single: bool) -> str:
    """S of a column that had two is S1, so that it is not taken for a full one."""
    if single and len(atoms) == 1:
        return f"{atoms[0]}1"
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in {a: atoms.count(a) for a in atoms}.items())
