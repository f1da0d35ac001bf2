"""Random specimens: a pattern (from a material or made up) grown into something that one would put under a beam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from atomreel.core.material import Defect, Material, Pattern, load_material
from atomreel.simulate import particles, structures
from atomreel.simulate.particles import Particle
from atomreel.simulate.stem import z_contrast
from atomreel.simulate.structures import Kind, Structure

Array = npt.NDArray[np.float64]
ELEMENTS = (
    "C",
    "N",
    "O",
    "Si",
    "S",
    "Ti",
    "Fe",
    "Ga",
    "As",
    "Se",
    "Sr",
    "Nb",
    "Mo",
    "Ag",
    "Ba",
    "La",
    "W",
    "Pt",
    "Au",
    "Pb",
)
FAINT = 0.04  # a made-up column below this share of the strongest one's Z^1.7 is no truth
FORMS = ("bulk", "grains", "holes", "particle", "network", "scattered", "faceted")
TALLEST = 16  # atoms in their highest column


@dataclass(frozen=True)
class Scene:
    """structure: what is there, beyond the field on all sides. family: its name. form: one of FORMS.
    particles: where the middle of each lies [Å], if every atom is known and not its columns alone."""

    structure: Structure
    family: str
    form: str
    nearest: float
    layer: bool
    particles: tuple[tuple[Array, Particle], ...] = ()


def random_pattern(rng: np.random.Generator) -> Pattern:
    """A two-dimensional lattice of any class with one to three columns of random elements, nearest distance 1…4 Å."""
    ratio = np.exp(abs(rng.normal(0, 0.25)))
    gamma = np.deg2rad(rng.choice([90.0, 60.0, 120.0, rng.uniform(60, 90)], p=[0.35, 0.25, 0.1, 0.3]))
    ratio = 1.0 if rng.random() < 0.5 else ratio
    vectors = np.array([[0.0, 1.0], [ratio * np.sin(gamma), ratio * np.cos(gamma)]])
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    special = np.array([[0, 0], [0.5, 0.5], [1 / 3, 1 / 3], [2 / 3, 2 / 3], [0.5, 0], [0, 0.5]])
    for _ in range(20):
        free = rng.random((count, 2)) if rng.random() < 0.4 else special[rng.permutation(6)[:count]]
        atoms = tuple((str(e),) for e in rng.choice(ELEMENTS, count))
        power = np.array([z_contrast(a) for a in atoms])
        seen = tuple(bool(p > FAINT * power.max()) for p in power)
        pattern = Pattern(vectors, free @ vectors, atoms, tuple(a[0] for a in atoms), seen)
        if count == 1 or pattern.nearest > 0.33:
            break
    size = rng.uniform(1.3, 3.2) / pattern.nearest
    return replace(pattern, vectors=vectors * size, basis=pattern.basis * size, repeat=rng.uniform(2, 5))


def defects_of(material: Material | None, pattern: Pattern, rng: np.random.Generator) -> tuple[Defect, ...]:
    """The material's own defects; for a made-up pattern: empty, doped and shifted sites."""
    if material is not None:
        return material.defects
    site = str(rng.choice(pattern.labels))
    return (
        Defect("vacancy", "remove", site),
        Defect("dopant", "replace", site, str(rng.choice(ELEMENTS))),
        Defect("shifted", "move", site, shift=0.15 * pattern.nearest),
    )


def add_defects(
    structure: Structure, defects: Sequence[Defect], rng: np.random.Generator, *, share: float
) -> Structure:
    """About `share` of all columns changed by randomly chosen defects of the list."""
    for defect in defects:
        fits = [any(a == defect.site for a in kind.atoms) for kind in structure.kinds]
        open_sites = np.flatnonzero(np.array(fits, dtype=bool)[structure.kind])
        count = min(rng.poisson(share * len(structure) / len(defects)), len(open_sites))
        if count:
            chosen = rng.choice(open_sites, count, replace=False)
            structure = structures.apply_defect(structure, np.sort(chosen), defect)
    return structure


def random_scene(
    rng: np.random.Generator,
    material: Material | None,
    *,
    nn_px: float,
    size: tuple[int, int],
    faceted: float = 0.0,
) -> Scene:
    """A specimen that fills a field of `size` px at `nn_px` px per nearest distance, with a margin around it.

    faceted: how often it is particles known atom by atom, where the material is a metal that they can be made of.
    Positions are relative to the field's first pixel [Å].
    """
    if faceted and rng.random() < faceted and (metal := _metal(material, rng)) is not None:
        return _faceted(rng, *metal, nn_px=nn_px, size=size)
    pattern = _projected(material) if material is not None else random_pattern(rng)
    layer = material.kind == "layer" if material is not None else bool(rng.random() < 0.5)
    pixel = pattern.nearest / nn_px
    margin = 2.5 * pattern.nearest + 40 * pixel
    box = (-margin, -margin, size[0] * pixel + margin, size[1] * pixel + margin)
    carbon = material is not None and material.name == "graphene"
    odds = {
        "bulk": 0.4,
        "grains": 0.16,
        "holes": 0.18,
        "particle": 0.0 if layer else 0.3,
        "network": 0.5 if carbon else 0.0,
        "scattered": 0.05,
    }
    p = np.array(list(odds.values()))
    form = str(rng.choice(list(odds), p=p / p.sum()))
    structure = _FORM[form](pattern, box, rng)
    if form != "scattered":
        structure = add_defects(
            structure,
            defects_of(material, pattern, rng),
            rng,
            share=rng.choice([0, 0.01, 0.05]) * rng.random(),
        )
        if rng.random() < 0.15:
            structure = _adatoms(structure, pattern, box, rng)
        structure = _strain(structure, pattern.nearest, box, rng)
    if len(structure.take(structure.visible)) < 3:
        structure = _bulk(pattern, box, rng)
    return Scene(
        structure, material.name if material is not None else "generic", form, pattern.nearest, layer
    )


def _metal(material: Material | None, rng: np.random.Generator) -> tuple[str, str] | None:
    """Element and zone axis where `material` is a metal whose particles can be made atom by atom; any without one."""
    zones = list(particles.ZONES)
    if material is None:
        return str(rng.choice(list(particles.CONSTANTS))), str(rng.choice(zones, p=[0.6, 0.2, 0.2]))
    elements = {site.species for site in material.sites}
    zone = "".join(str(abs(i)) for i in sorted(material.zone, key=abs, reverse=True))
    element = elements.pop() if len(elements) == 1 else ""
    cubic = np.allclose(material.cell[:3], particles.CONSTANTS.get(element, 0.0), rtol=0.02)
    return (element, zone) if cubic and len(material.sites) == 4 and zone in zones else None


def _faceted(
    rng: np.random.Generator, element: str, zone: str, *, nn_px: float, size: tuple[int, int]
) -> Scene:
    """One to four particles with facets and rough surfaces, each turned at random and nearly along the zone axis."""
    nearest = particles.NEAREST[zone] * particles.CONSTANTS[element]
    span = np.array(size) * nearest / nn_px
    placed: list[tuple[Array, Particle]] = []
    reach: list[float] = []
    for _ in range(4):
        largest = float(np.clip(0.5 * span.min(), 8.0, 30.0))
        made = particles.random_particle(
            rng,
            element=element,
            zone=zone,
            tilt=(0.0, 0.0) if rng.random() < 0.4 else (0.0, 1.5),
            radius=(min(8.0, 0.6 * largest), largest),
            thickest=TALLEST,
            support=0.0,
        )
        middle, radius = rng.uniform(0.15, 0.85, 2) * span, float(np.hypot(*made.atoms[:, :2].T).max())
        if all(np.hypot(*(middle - c)) > radius + r + 2 for (c, _), r in zip(placed, reach, strict=True)):
            placed.append((middle, made))
            reach.append(radius)
        if rng.random() < 0.4:
            break
    heights = np.concatenate([made.heights for _, made in placed]).astype(float)
    structure = Structure(
        np.concatenate([middle + made.columns for middle, made in placed]),
        np.zeros(len(heights), dtype=np.int64),
        heights,
        (Kind(element, (element,)),),
    )
    return Scene(structure, element.lower() + zone, "faceted", nearest, False, tuple(placed))


def _bulk(pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator) -> Structure:
    return structures.crystal(pattern, box, angle=rng.uniform(-180, 180), origin=rng.uniform(0, 10, 2))


def _grains(pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator) -> Structure:
    return structures.grains(pattern, box, rng, count=int(rng.integers(2, 5)))


def _holes(pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator) -> Structure:
    structure = _bulk(pattern, box, rng)
    span = np.array(box[2:]) - box[:2]
    for _ in range(int(rng.integers(1, 5))):
        centre = np.array(box[:2]) + rng.random(2) * span
        radius = rng.uniform(1.5 * pattern.nearest, max(0.4 * span.min(), 2 * pattern.nearest))
        inside = structures.blob_mask(structure.positions, rng, centre=centre, radius=radius)
        if np.mean(~inside) > 0.05:
            structure = structure.take(~inside)
    return structure


def _particle(
    pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator
) -> Structure:
    span = np.array(box[2:]) - box[:2]
    whole = Structure(np.empty((0, 2)), np.empty(0, dtype=np.int64), np.empty(0), ())
    for _ in range(int(rng.integers(1, 4))):
        part = structures.particle(
            pattern,
            rng,
            centre=np.array(box[:2]) + rng.uniform(0.2, 0.8, 2) * span,
            radius=float(rng.uniform(3.5 * pattern.nearest, max(0.45 * span.max(), 5 * pattern.nearest))),
            angle=float(rng.uniform(-180, 180)),
            repeat=pattern.repeat,
        )
        whole = structures.beside(whole, part, 1.2 * pattern.nearest)
    return whole


def _network(pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator) -> Structure:
    centres = structures.ring_centres(
        box,
        rng,
        spacing=pattern.nearest * np.sqrt(3),
        count=int(rng.integers(1, 4)),
        order=1 - 0.4 * rng.random() ** 3,
    )
    return structures.spread_apart(
        structures.honeycomb_network(centres, Kind(pattern.labels[0], pattern.atoms[0])),
        pattern.nearest,
        steps=6,
    )


def _adatoms(
    structure: Structure, pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator
) -> Structure:
    """A few foreign atoms on top, or on ground that is otherwise bare."""
    density = 0.03 * rng.random() / pattern.nearest**2
    points = structures.scatter_points(box, rng, density=density, gap=pattern.nearest)
    element = str(rng.choice(ELEMENTS))
    extra = Structure(
        points, np.zeros(len(points), dtype=np.int64), np.ones(len(points)), (Kind(element, (element,)),)
    )
    return structures.beside(structure, extra, 0.6 * pattern.nearest)


def _scattered(
    pattern: Pattern, box: tuple[float, float, float, float], rng: np.random.Generator
) -> Structure:
    density = np.exp(rng.uniform(np.log(0.02), np.log(0.3))) / pattern.nearest**2
    points = structures.scatter_points(box, rng, density=density, gap=0.9 * pattern.nearest)
    kinds = tuple(Kind(label, atoms) for label, atoms in zip(pattern.labels, pattern.atoms, strict=True))
    kind = rng.choice(
        len(kinds),
        len(points),
        p=np.r_[0.85, np.full(len(kinds) - 1, 0.15 / (len(kinds) - 1))] if len(kinds) > 1 else None,
    )
    return Structure(points, kind.astype(np.int64), np.ones(len(points)), kinds)


_FORM = {
    "bulk": _bulk,
    "grains": _grains,
    "holes": _holes,
    "particle": _particle,
    "network": _network,
    "scattered": _scattered,
}


def _strain(
    structure: Structure, nearest: float, box: tuple[float, float, float, float], rng: np.random.Generator
) -> Structure:
    """A random affine strain, a smooth wave of displacement, and static disorder."""
    affine = np.eye(2) + rng.normal(0, 0.01 if rng.random() < 0.7 else 0.04, (2, 2))
    positions = structure.positions @ affine
    if rng.random() < 0.3:
        span = box[2] - box[0]
        wave = rng.normal(0, 1, 2) * 2 * np.pi / (span * rng.uniform(0.3, 1.5))
        size = min(0.3 * nearest, 0.08 / np.hypot(*wave))  # at most 8 % of strain
        amplitude = size * rng.uniform(-1, 1, 2)
        positions = positions + np.sin(positions @ wave + rng.uniform(0, 6))[:, None] * amplitude
    disorder = nearest * rng.choice([0.0, 0.01, 0.03, 0.07], p=[0.3, 0.4, 0.2, 0.1])
    return structure.move(positions + rng.normal(0, disorder + 1e-12, positions.shape))


def pick_material(rng: np.random.Generator, names: Sequence[str | Material] | None) -> Material | None:
    """One of the materials, or None for a made-up pattern (a third of the time when no list is given)."""
    if names is None:
        from atomreel.core.material import material_names

        if rng.random() < 0.45:
            return None
        names = material_names()
    chosen = names[int(rng.integers(len(names)))]
    if isinstance(chosen, Material):
        return chosen
    return None if chosen == "generic" else _loaded(chosen)


@lru_cache(maxsize=64)
def _loaded(name: str) -> Material:
    return load_material(name)


@lru_cache(maxsize=64)
def _projected(material: Material) -> Pattern:
    return material.project()
