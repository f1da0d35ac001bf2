"""What surrounds a dopant: its inner atoms, how they are shifted and how bright, and the sub-classes that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.interpret.crops import Classes, classify

Floats = npt.NDArray[np.float64]
REACH = 1.3  # times the usual distance of the nearest atoms
DIM = 0.78  # of the usual brightness: below it the mean neighbour of a class lacks an atom
MOST = 0.85  # quantile of the number of neighbours found that is taken for that of a whole shell
COMPONENTS = 4


@dataclass(frozen=True, eq=False)
class Shell:
    """The nearest atoms of each dopant. rows: (N,) positions in the table given, of the dopants with a full shell. directions: (k,) [degrees,
    y down], rising from −180, the same for all. shift: (N, k, 2) from the place that direction and usual distance give, over that distance.
    brightness: (N, k) over the usual one; an atom that was not found has 0 and no shift."""

    rows: npt.NDArray[np.int64]
    directions: Floats
    shift: Floats
    brightness: Floats


@dataclass(frozen=True, eq=False)
class SubClasses:
    """classes: of the mixture. state: (N,) of each dopant: 0 for a whole shell, j when neighbour j alone is dim, −1 for anything else.
    of_class: (k,) the same of each class. brightness: (k, neighbours) mean of each class."""

    classes: Classes
    state: npt.NDArray[np.int64]
    of_class: npt.NDArray[np.int64]
    brightness: Floats


def inner_atoms(dopants: pd.DataFrame, atoms: pd.DataFrame, *, neighbours: int | None = None) -> Shell:
    """The nearest atoms of every dopant, sorted by direction.

    dopants: frame, y, x. atoms: frame, y, x, intensity; the dopant itself may be among them. neighbours: their number, by default what the
    fuller ones have. Directions are taken to be evenly spread and alike for all dopants: give the dopants of one grain and one sublattice.
    Raises InputError for missing columns, no dopants or no common directions.
    """
    for name, table, needed in (("dopants", dopants, "frame y x"), ("atoms", atoms, "frame y x intensity")):
        missing = [c for c in needed.split() if c not in table]
        if missing or not len(table):
            raise InputError(f"{name} need rows with {needed}; {', '.join(missing) or 'rows'} missing")
    near = _near(dopants, atoms)
    count = neighbours or int(np.quantile([len(n) for n in near], MOST))
    distance = float(np.median(np.concatenate([np.hypot(*n[:, :2].T) for n in near])))
    angle = np.concatenate([np.arctan2(*n[:, :2].T) for n in near if len(n) == count])
    phase = np.exp(1j * count * angle).mean() if len(angle) else 0.0
    if abs(phase) < 0.5:
        raise InputError(
            f"the {count} nearest atoms of the dopants have no directions in common ({abs(phase):.2f} of 1); "
            "give those of one grain and one sublattice"
        )
    turns = np.angle(phase) / count + 2 * np.pi / count * np.arange(count)
    directions = np.sort(np.angle(np.exp(1j * turns)))
    place = distance * np.stack([np.sin(directions), np.cos(directions)], axis=1)
    shift, bright = np.zeros((len(near), count, 2)), np.zeros((len(near), count))
    for n, found in enumerate(near):
        slot = np.cos(np.arctan2(*found[:, :2].T)[:, None] - directions).argmax(axis=1)
        shift[n, slot] = (found[:, :2] - place[slot]) / distance
        bright[n, slot] = found[:, 2]
    whole = np.array([len(n) > 0 for n in near])
    return Shell(np.flatnonzero(whole), np.rad2deg(directions), shift[whole], bright[whole])


def _near(dopants: pd.DataFrame, atoms: pd.DataFrame) -> list[Floats]:
    """Per dopant (n, 3): dy, dx, brightness over the usual one of such neighbours."""
    out: list[Floats] = [np.zeros((0, 3))] * len(dopants)
    by_frame = dict(list(atoms.groupby("frame")))
    place, frame = dopants[["y", "x"]].to_numpy(float), dopants["frame"].to_numpy(np.int64)
    for number in np.unique(frame):
        if number not in by_frame:
            continue
        own = np.flatnonzero(frame == number)
        where = by_frame[number][["y", "x"]].to_numpy(float)
        bright = by_frame[number]["intensity"].to_numpy(float)
        tree = cKDTree(where)
        spacing = float(np.median(tree.query(where, k=2)[0][:, 1]))
        members = [
            [m for m in found if np.hypot(*(where[m] - place[row])) > 0.5 * spacing]
            for row, found in zip(own, tree.query_ball_point(place[own], REACH * spacing), strict=True)
        ]
        bright = bright / max(float(bright.mean()), 1e-300)  # frames differ in exposure
        for row, found in zip(own, members, strict=True):
            if found:
                out[row] = np.column_stack([where[found] - place[row], bright[found]])
    usual = float(np.median(np.concatenate(out)[:, 2]))
    return [np.column_stack([n[:, :2], n[:, 2] / usual]) for n in out]


def sub_classes(shell: Shell, *, most: int = 6, criterion: str = "bic", rng: int = 0) -> SubClasses:
    """Dopants sorted by the distortion of their shell: principal components of all shifts and brightnesses, then a Gaussian mixture.

    The mixture knows nothing of directions; each class is named afterwards by which of its mean neighbours is dim. most, criterion, rng: as
    in `classify`; BIC here, since half an atom less is a group of its own even where the noise lets groups touch.
    """
    data = np.concatenate([shell.shift.reshape(len(shell.rows), -1), shell.brightness], axis=1)
    classes = classify(data, most=most, components=COMPONENTS, criterion=criterion, rng=rng)
    weight = classes.probability / np.maximum(classes.probability.sum(axis=0), 1e-300)
    mean = weight.T @ shell.brightness
    dim = mean < DIM * np.median(shell.brightness)
    named = np.where(dim.sum(axis=1) == 0, 0, np.where(dim.sum(axis=1) == 1, dim.argmax(axis=1) + 1, -1))
    return SubClasses(classes, named[classes.label], named, mean)
