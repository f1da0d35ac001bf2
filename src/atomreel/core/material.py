"""Material: what a specimen is made of, as data. From TOML, or from a CIF file and a zone axis."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from math import gcd
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError, MissingExtraError, UnknownNameError

Array = npt.NDArray[np.float64]
FOLDER = Path(__file__).parents[1] / "materials"
ACTIONS = ("remove", "replace", "move")
MERGE = 0.25  # Å: atoms nearer than this in projection are one column
HIDDEN = {
    "layer": 0.03,
    "crystal": 0.11,
}  # columns below this share of the strongest one's Z^1.7 are not seen


@dataclass(frozen=True)
class Site:
    """An atom of the cell. position: fractional (3,). occupancy: 0…1."""

    name: str
    species: str
    position: tuple[float, float, float]
    occupancy: float = 1.0


@dataclass(frozen=True)
class Defect:
    """What can happen to a site: `atoms` of its column are removed, replaced by `species`, or the column moves.

    share: of the column's atoms, for crystals, where a column is many atoms long. shift: [Å] for "move".
    """

    name: str
    action: str
    site: str
    species: str | None = None
    atoms: int = 1
    share: float | None = None
    shift: float = 0.0


@dataclass(frozen=True)
class Pattern:
    """The two-dimensional cell that a beam along the zone axis sees.

    vectors: (2, 2), rows are (y, x) [Å]. basis: (n, 2) (y, x) [Å]. atoms: per column its elements in one
    repeat. labels: name of each column. visible: scatters enough to be seen in HAADF. repeat: [Å] along the beam.
    """

    vectors: Array
    basis: Array
    atoms: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    visible: tuple[bool, ...]
    repeat: float = 1.0

    @property
    def nearest(self) -> float:
        """Shortest distance between two visible columns [Å]."""
        return _nearest(self.vectors, self.basis[np.array(self.visible)])


@dataclass(frozen=True)
class Material:
    """cell: a, b, c [Å], α, β, γ [°]. zone: direct-lattice direction of the beam. kind: "layer" (one repeat thick)
    or "crystal" (thickness: range [Å]). sites, defects: see there. layer_group / plane_group: symmetry as written
    in the source; the plane group is that of the projection."""

    name: str
    title: str
    kind: str
    cell: tuple[float, float, float, float, float, float]
    sites: tuple[Site, ...]
    zone: tuple[int, int, int] = (0, 0, 1)
    defects: tuple[Defect, ...] = ()
    thickness: tuple[float, float] | None = None
    layer_group: str | None = None
    plane_group: str | None = None
    source: str = ""
    hidden: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.kind not in HIDDEN:
            raise InputError(f"material {self.name}: kind {self.kind!r}; it is one of {', '.join(HIDDEN)}")
        if not self.sites:
            raise InputError(f"material {self.name}: no sites")
        if gcd(*self.zone) != 1:
            raise InputError(
                f"material {self.name}: zone {self.zone} must have no common factor and not be zero"
            )
        names = {site.name for site in self.sites}
        for defect in self.defects:
            if defect.action not in ACTIONS:
                raise UnknownNameError("defect action", defect.action, ACTIONS)
            if defect.site not in names:
                raise UnknownNameError(f"site of defect {defect.name}", defect.site, names)

    def vectors(self) -> Array:
        """(3, 3) Å, rows a, b, c: a along x, b in the x-y plane (Cartesian, right-handed, z up)."""
        a, b, c, *angles = self.cell
        ca, cb, cg = np.cos(np.deg2rad(angles))
        sg = np.sqrt(1 - cg**2)
        cy = (ca - cb * cg) / sg
        return np.array(
            [[a, 0, 0], [b * cg, b * sg, 0], [c * cb, c * cy, c * np.sqrt(max(1 - cb**2 - cy**2, 0))]]
        )

    def to_ase(self) -> Any:
        """The cell as ase.Atoms (partial occupancies are in `info`, rounded up in the atoms)."""
        from ase import Atoms

        return Atoms(
            [site.species for site in self.sites],
            scaled_positions=[site.position for site in self.sites],
            cell=self.vectors(),
            pbc=[True, True, self.kind == "crystal"],
            info={"occupancy": [site.occupancy for site in self.sites], "zone": self.zone},
        )

    def to_dict(self) -> dict[str, Any]:
        """As a TOML file says it: lists, numbers and words; what is not known is left out."""
        table = {key: value for key, value in asdict(self).items() if value not in (None, ())}
        for key in ("sites", "defects"):
            rows = table.get(key, ())
            table[key] = [{k: _list(v) for k, v in row.items() if v is not None} for row in rows]
        return {key: _list(value) for key, value in table.items()}

    def project(self) -> Pattern:
        """What the beam sees: columns of the two-dimensional cell perpendicular to the zone axis."""
        return _project(self)

    def defect(self, name: str) -> Defect:
        for defect in self.defects:
            if defect.name == name:
                return defect
        raise UnknownNameError(f"defect of {self.name}", name, [d.name for d in self.defects])


@cache
def material_names() -> tuple[str, ...]:
    """Names of the materials that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_material(name: str | Path, *, zone: tuple[int, int, int] | None = None) -> Material:
    """A shipped material by name, or one from a .toml or .cif file. `zone`: another direction of the beam.

    Raises UnknownNameError for a name that is neither, InputError for a file that does not fit.
    """
    path = Path(name)
    if path.suffix.lower() in (".cif", ".toml"):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.suffix.lower() == ".cif":
            return _from_cif(path, zone or (0, 0, 1))
    else:
        if str(name) not in material_names():
            raise UnknownNameError("material", str(name), material_names())
        path = FOLDER / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a material file ({error})") from error
    if zone is not None:
        table["zone"] = zone
    return make_material(table, name=path.stem)


def make_material(table: Mapping[str, Any], *, name: str = "") -> Material:
    """A Material from the table of its TOML file, which `Material.to_dict` gives. name: where the table has none.

    Raises InputError, UnknownNameError.
    """
    try:
        values = {key: _tuple(value) for key, value in table.items() if key not in ("sites", "defects")}
        sites = tuple(_record(Site, entry, name) for entry in table.get("sites", ()))
        defects = tuple(_record(Defect, entry, name) for entry in table.get("defects", ()))
        return cast(
            Material, _record(Material, {"name": name, **values, "sites": sites, "defects": defects}, name)
        )
    except TypeError as error:
        raise InputError(f"material {name}: {error}") from error


def _record(kind: type[Any], entry: Mapping[str, Any], name: str) -> Any:
    known = [f.name for f in fields(kind)]
    for key in entry:
        if key not in known:
            raise UnknownNameError(f"key of {kind.__name__.lower()} in material {name}", key, known)
    return kind(**{key: _tuple(value) for key, value in entry.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_cif(path: Path, zone: tuple[int, int, int]) -> Material:
    try:
        from ase.io import read
    except ImportError as error:
        raise MissingExtraError("ase", extra="simulate", purpose="reading CIF files") from error
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd CIF tags, which do not change the atoms
            atoms: Any = read(path, format="cif", fractional_occupancies=True)
    except Exception as error:
        said = str(error) or type(error).__name__
        raise InputError(
            f"{path}: no crystal structure could be read; a cell and atoms are needed ({said})"
        ) from error
    partial = atoms.info.get("occupancy", {})
    kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms)))
    sites = tuple(
        Site(
            f"{species}{kind}",
            species,
            (float(position[0]), float(position[1]), float(position[2])),
            float(share),
        )
        for kind, position, symbol in zip(kinds, atoms.get_scaled_positions(), atoms.symbols, strict=True)
        for species, share in partial.get(str(kind), {symbol: 1.0}).items()
    )
    cell = tuple(map(float, atoms.cell.cellpar()))
    return Material(path.stem, path.stem, "crystal", cell, sites, zone, source=path.name)  # type: ignore[arg-type]


def _project(material: Material) -> Pattern:
    cell = material.vectors()
    axis = np.array(material.zone) @ cell
    repeat = float(np.linalg.norm(axis))
    frame = _plane(axis / repeat, cell)
    vectors = _flat_basis(cell @ frame.T, abs(np.linalg.det(cell)) / repeat)
    flat = np.array([site.position for site in material.sites]) @ cell @ frame.T
    # y of a picture points down: (x, y up) → (y down, x), so that the picture is not mirrored
    vectors, flat = (np.stack([-v[:, 1], v[:, 0]], axis=1) for v in (vectors, flat))
    return _columns(material, vectors, flat, repeat)


def _plane(beam: Array, cell: Array) -> Array:
    """(2, 3): unit vectors perpendicular to the beam, the first one along the projection of a (or b)."""
    first = next(v for v in (w - (w @ beam) * beam for w in cell) if np.linalg.norm(v) > 1e-6)
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(beam, first)])


def _flat_basis(flat: Array, area: float) -> Array:
    """Shortest two vectors that span the projected lattice: combinations whose cell has the right area."""
    n = np.arange(-4, 5)
    combos = np.stack(np.meshgrid(n, n, n), axis=-1).reshape(-1, 3) @ flat
    length = np.linalg.norm(combos, axis=1)
    order = np.lexsort((combos[:, 0].round(6), length.round(6)))
    combos = combos[order][length[order] > 1e-6][:200]
    first = combos[0]
    cross = first[0] * combos[:, 1] - first[1] * combos[:, 0]
    second = combos[np.abs(np.abs(cross) - area) < 1e-3 * area]
    if len(second) == 0:
        raise InputError("the zone axis is too long a direction of this cell: choose smaller indices")
    return np.stack([first, second[0]])


def _columns(material: Material, vectors: Array, flat: Array, repeat: float) -> Pattern:
    """Merge atoms that lie on top of each other (periodically) into columns."""
    from ase.data import atomic_numbers

    fractional = flat @ np.linalg.inv(vectors)
    groups: list[list[int]] = []
    for i in range(len(flat)):
        for group in groups:
            d = fractional[i] - fractional[group[0]]
            if np.linalg.norm((d - np.rint(d)) @ vectors) < MERGE:
                group.append(i)
                break
        else:
            groups.append([i])
    unique = [_once(group, material) for group in groups]
    weights = [
        sum(material.sites[i].occupancy * atomic_numbers[material.sites[i].species] ** 1.7 for i in group)
        for group in unique
    ]
    basis = np.array([(fractional[g[0]] % 1.0) @ vectors for g in groups])
    atoms = tuple(tuple(material.sites[i].species for i in g) for g in unique)
    labels = tuple(_label(a, material.kind) for a in atoms)
    floor = HIDDEN[material.kind] * max(weights)
    visible = tuple(
        bool(w > floor and label not in material.hidden) for w, label in zip(weights, labels, strict=True)
    )
    return Pattern(vectors, basis, atoms, labels, visible, repeat)


def _once(group: list[int], material: Material) -> list[int]:
    """Atoms of a column, heaviest first."""
    from ase.data import atomic_numbers

    return sorted(group, key=lambda i: -atomic_numbers[material.sites[i].species])


def _label(atoms: tuple[str, ...], kind: str) -> str:
    """Layers name what lies on top of each other (S2); crystals the heaviest element of the column."""
    if kind == "crystal":
        return atoms[0]
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in Counter(atoms).items())


def _nearest(vectors: Array, basis: Array) -> float:
    n = np.arange(-2, 3)
    shifts = np.stack(np.meshgrid(n, n), axis=-1).reshape(-1, 2) @ vectors
    gaps = basis[:, None, None] - basis[None, :, None] + shifts
    distance = np.linalg.norm(gaps, axis=-1)
    return float(distance[distance > 1e-6].min())
