"""Names for motif sites and their defects: A, B, … by brightness, or those of a Material that fits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atomreel.core.lattice import Lattice, reduce_vectors, shape_distance, shape_of
from atomreel.core.material import Defect, Material
from atomreel.interpret.motif import primitive

Array = npt.NDArray[np.float64]
POWER = (
    1.7  # of Z in the brightness of a column: HAADF's usual exponent (Krivanek et al., Nature 464 (2010) 571)
)
SAME = 0.35  # of the nearest distance: how far a site may stand from the material's column
ALIKE = 0.85  # of the brighter one's brightness: above it two sites look alike
SKEW = 0.25  # greatest hyperbolic distance (twice the shear) between the lattice and the material's


@dataclass(frozen=True)
class SiteNames:
    """For each motif site: names[s], the kind of a vacancy, and (kind, brightness ratio) of each substitution."""

    names: tuple[str, ...]
    vacancy: tuple[str, ...]
    changes: tuple[tuple[tuple[str, float], ...], ...]

    def substitution(self, site: int, ratio: float) -> str:
        """The material's defect whose expected brightness ratio is nearest to the one seen; else unnamed."""
        side = [(kind, r) for kind, r in self.changes[site] if (r > 1) == (ratio > 1)]
        if not side:
            return f"substitution_{self.names[site]}"
        return min(side, key=lambda change: abs(np.log(max(ratio, 0.05) / max(change[1], 0.05))))[0]


def name_sites(lattice: Lattice, material: Material | None) -> SiteNames:
    """Site names of a lattice; those of `material` where its projection has this shape and motif."""
    match = match_sites(lattice, material) if material is not None else None
    if match is None or material is None:
        letters = _letters(lattice)
        return SiteNames(letters, tuple(f"vacancy_{name}" for name in letters), ((),) * len(letters))
    pattern = material.project()
    names, vacancies, changes = [], [], []
    for column in match:
        atoms = pattern.atoms[column]
        options = [
            (d.name, expected_ratio(d, atoms, material)) for d in material.defects if _at(d, atoms, material)
        ]
        gone = [name for name, ratio in options if ratio < 0.15]
        label = pattern.labels[column]
        names.append(label)
        vacancies.append(gone[0] if gone else f"V_{label}")
        changes.append(
            tuple((name, ratio) for name, ratio in options if ratio >= 0.15 and abs(ratio - 1) > 0.03)
        )
    return SiteNames(tuple(names), tuple(vacancies), tuple(changes))


def match_sites(lattice: Lattice, material: Material) -> tuple[int, ...] | None:
    """For each motif site the column of the material's projection; None where lattice or motif do not fit.

    Lattices are compared by shape (scale and rotation are free), motifs by position in the cell under
    every symmetry of the shape, and by brightness order (Z^1.7) where geometry leaves a choice.
    """
    pattern = material.project()
    vectors, seen = seen_cell(material)
    skew = shape_distance(shape_of(vectors), shape_of(lattice.vectors))
    if skew > SKEW or len(lattice.sites) > len(seen):
        return None
    flat = pattern.basis[seen] @ np.linalg.inv(vectors)
    sites = np.array([site.position for site in lattice.sites])
    weight = np.array([column_weight(pattern.atoms[c]) for c in seen])
    light = np.array([site.intensity for site in lattice.sites])
    best: tuple[float, tuple[int, ...]] | None = None
    tolerance = SAME * lattice.spacing()
    for turn in _automorphisms(lattice.vectors):
        turned = sites @ turn
        for anchor in range(len(seen)):
            gap = (turned - turned[0] + flat[anchor])[:, None] - flat[None]
            length = np.linalg.norm((gap - np.rint(gap)) @ lattice.vectors, axis=2)
            image = length.argmin(1)
            if np.any(length.min(1) > tolerance) or len(set(image.tolist())) < len(sites):
                continue
            cost = float((length.min(1) ** 2).mean()) / tolerance**2 + _disorder(light, weight[image])
            if best is None or cost < best[0] - 1e-9:
                best = (cost, tuple(int(seen[i]) for i in image))
    return best[1] if best else None


def seen_cell(material: Material) -> tuple[Array, npt.NDArray[np.int64]]:
    """(2, 2) reduced primitive vectors [Å] of what is seen of the material, and its columns (rows of its Pattern).

    Along many zone axes the visible columns repeat with a smaller cell than the crystal's.
    """
    pattern = material.project()
    seen = np.flatnonzero(pattern.visible)
    _, kind = np.unique([pattern.labels[c] for c in seen], return_inverse=True)
    tolerance = 0.1 * pattern.nearest
    # Translations are tried from the rarest kind of column: fewest candidates, and none is missed.
    order = np.argsort(np.bincount(kind)[kind], kind="stable")
    vectors = primitive(
        pattern.vectors, pattern.basis[seen[order]], np.asarray(2.0 * kind[order]), tolerance=tolerance
    )
    vectors = reduce_vectors(vectors) @ vectors
    kept: list[int] = []
    for c in seen:
        gap = (pattern.basis[c] - pattern.basis[kept].reshape(-1, 2)) @ np.linalg.inv(vectors)
        if np.all(np.linalg.norm((gap - np.rint(gap)) @ vectors, axis=1) > tolerance):
            kept.append(int(c))
    return vectors, np.array(kept)


def column_weight(atoms: tuple[str, ...]) -> float:
    """Brightness of a column in HAADF: ΣZ^1.7 of one repeat."""
    from ase.data import atomic_numbers

    return float(sum(atomic_numbers[a] ** POWER for a in atoms))


def expected_ratio(defect: Defect, atoms: tuple[str, ...], material: Material) -> float:
    """Brightness of the column with the defect over that without it."""
    species = {site.species for site in material.sites if site.name == defect.site}
    own = [a for a in atoms if a in species]
    if not own or defect.action == "move":
        return 1.0
    count = defect.share * len(own) if defect.share is not None else min(defect.atoms, len(own))
    before = column_weight(atoms)
    after = before - count * column_weight((own[0],))
    if defect.action == "replace" and defect.species:
        after += count * column_weight((defect.species,))
    return max(after / before, 0.0)


def _at(defect: Defect, atoms: tuple[str, ...], material: Material) -> bool:
    return any(site.name == defect.site and site.species in atoms for site in material.sites)


def _letters(lattice: Lattice) -> tuple[str, ...]:
    """A, B, … from bright to dim; sites that look alike share a letter, since which of them is which is chance."""
    light = np.array([site.intensity for site in lattice.sites], dtype=float)
    if not np.isfinite(light).all():
        return tuple(chr(65 + s) if s < 26 else f"S{s}" for s in range(len(light)))
    names = [""] * len(light)
    group, level = -1, np.inf
    for site in np.argsort(-light, kind="stable"):
        if light[site] < ALIKE * level:
            group, level = group + 1, light[site]
        names[site] = chr(65 + group) if group < 26 else f"S{group}"
    return tuple(names)


def _automorphisms(vectors: Array) -> list[Array]:
    """Integer changes of basis that keep the shape of the lattice (within 5 %): rotations and mirrors."""
    out = []
    gram = vectors @ vectors.T
    for entries in itertools.product((-1, 0, 1), repeat=4):
        m = np.array(entries, dtype=float).reshape(2, 2)
        if abs(abs(np.linalg.det(m)) - 1) < 1e-9 and np.abs(m @ gram @ m.T - gram).max() < 0.08 * gram.max():
            out.append(m)
    return sorted(out, key=lambda m: float(np.abs(m - np.eye(2)).sum()))


def _disorder(light: Array, weight: Array) -> float:
    """0 where brightness follows weight, up to 2 where it runs against it."""
    if not np.isfinite(light).all() or np.ptp(weight) < 1e-9 or np.ptp(light) < 1e-12:
        return 0.0
    return float(1 - np.corrcoef(light, weight)[0, 1])
