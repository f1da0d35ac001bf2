"""Species that their places tell apart: two sublattices whose columns differ by less than one of them scatters.

If t leads from a column to another one around which the same columns stand, both are of one sublattice, whatever lattice it is: the
intensities of such repeats are measurements of one species. Their median, over the mean of all columns around, falls into two heaps
where there are two sublattices of different species, and is one everywhere where there are not; thickness, illumination and dose, that
change slowly, cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree
from scipy.stats import median_abs_deviation

from atomreel.interpret.loops import compiled
from atomreel.interpret.species import (
    LEAST_SPREAD,
    Species,
    SpeciesModel,
    fit_species,
    label_species,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# (N, 2) positions [px], (N,) intensities and their errors, of one image
Measured = tuple[Floats, Floats, Floats]

AROUND = 30  # nearest columns that are looked at
TRIED = 18  # of them, to which translations lead
CARRIED = 8  # of them, which a translation is applied to
FEWEST = 4  # of these that stay in view, for it to count
AGREE = 0.8  # share of these that must land on columns
SAME = 0.3  # nearest distances within which it is the same place; also by how much the outline may be left
REPEATS = 3  # at least, for a column to be known by them
ROUNDS = 3  # medians of medians: the third is made of some forty columns
SAMPLE = 100  # columns by which a class is judged before all of its repeats are looked up
RESTLESS = 1.1  # times the scatter that chance gives the medians: less is one sublattice
APART = 2.0  # half the distance of the heaps over their scatter: 1.3 when a normal distribution is cut in two, 1.7 an even one
SHARE = 0.15  # of the smaller heap
ENOUGH = 20_000  # members that say whether a class is two sublattices
MEMBERS = 60  # of a class, with repeats, at least
PRIOR = 0.2  # columns that the shares of the whole image are worth beside the repeats of a column: antisites are rare
TURNS = 8  # of reading classes again with those of the repeats


def measured(atoms: pd.DataFrame | Mapping[str, npt.ArrayLike]) -> Measured:
    """Positions, intensities and their errors of a table of columns: y, x, intensity, intensity_err."""
    y, x, intensity, error = (
        np.asarray(atoms[name], float) for name in ("y", "x", "intensity", "intensity_err")
    )
    return np.stack([y, x], axis=1), intensity, error


@dataclass(frozen=True)
class PlacedSpecies:
    """Classes of intensities, and those of them that are two sublattices.

    classes: by intensity alone. halves: of each class None, or its two sublattices as classes of the intensity over the mean
    of the class's columns around. names: I1 …, class by class from the dimmest, the dimmer sublattice first.
    """

    classes: SpeciesModel
    halves: tuple[SpeciesModel | None, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"I{k + 1}" for k in range(sum(1 if half is None else 2 for half in self.halves)))

    def to_dict(self) -> dict[str, Any]:
        """As that of the classes; the sublattices of class k under sublattices.Ik, as the classes are counted."""
        cut = zip(self.classes.names, self.halves, strict=True)
        halves = {name: half.to_dict() for name, half in cut if half is not None}
        return self.classes.to_dict() | ({"sublattices": halves} if halves else {})


def find_species(
    images: Sequence[Measured], *, max_classes: int = 4, rng: np.random.Generator | int | None = 0
) -> PlacedSpecies:
    """The classes of intensities of all `images` together (`fit_species`), each cut in two where it is two sublattices.

    Raises InputError on lengths that differ.
    """
    intensity, error = (np.concatenate([one[k] for one in images]) for k in (1, 2))
    return cut_by_place(
        fit_species(intensity, error, max_classes=max_classes, rng=rng), images, max_classes=max_classes
    )


def cut_by_place(model: SpeciesModel, images: Sequence[Measured], *, max_classes: int = 4) -> PlacedSpecies:
    """The classes of `model`, each cut in two where it is two sublattices, as long as there are no more than max_classes."""
    halves: list[SpeciesModel | None] = []
    more = max_classes - len(model.means)
    for k in range(len(model.means)):
        half = _cut_in_two(model, k, images) if more > 0 else None
        more -= half is not None
        halves.append(half)
    return PlacedSpecies(model, tuple(halves))


def label_by_place(image: Measured, species: PlacedSpecies) -> Species:
    """The likeliest class of every column by its intensity, and the likeliest sublattice of a class that has two.

    With p_j the probabilities of the n repeats of a column, the shares that its own intensity is weighed against are
    (PRIOR · shares + Σ p_j) / (PRIOR + n), turn after turn.
    """
    position, intensity, error = image
    own = label_species(intensity, error, model=species.classes)
    if all(half is None for half in species.halves):
        return own
    chosen, number = own.probability.argmax(1), np.zeros(len(position), np.intp)
    probability: list[Floats] = []
    for k, half in enumerate(species.halves):
        mine, at, first = own.probability[:, k : k + 1], chosen == k, sum(p.shape[1] for p in probability)
        number[at] = first
        if half is not None:
            among = np.tile(half.shares, (len(position), 1))
            among[at] = _sublattice((position[at], intensity[at], error[at]), half)
            mine, number[at] = mine * among, first + among[at].argmax(1)
        probability.append(mine)
    names = np.array(species.names)
    return Species(names[number], np.concatenate(probability, axis=1), species.classes)


def _sublattice(part: Measured, half: SpeciesModel) -> Floats:
    """(N, 2) probabilities of the columns of a class to be of either of its sublattices."""
    position, intensity, error = (np.ascontiguousarray(values, float) for values in part)
    if len(position) <= REPEATS:
        return np.tile(half.shares, (len(position), 1))
    repeat, near = find_repeats(position, np.arange(len(position)))
    around = _around(intensity, near)
    shares = np.array(half.shares)
    probability = label_species(intensity / around, error / around, model=half).probability
    likelihood = probability / shares
    likelihood /= likelihood.max(1, keepdims=True)
    there, number = (repeat >= 0)[..., None], (repeat >= 0).sum(1)[:, None]
    for _ in range(TURNS):
        local = (PRIOR * shares + np.where(there, probability[repeat], 0).sum(1)) / (PRIOR + number)
        probability = likelihood * local
        probability /= probability.sum(1, keepdims=True)
    return probability


def _cut_in_two(model: SpeciesModel, k: int, images: Sequence[Measured]) -> SpeciesModel | None:
    """The sublattices of class k, if it has two."""
    parts = [_members(model, k, image) for image in images]
    if not _restless(max(parts, key=lambda part: len(part[0]))):
        return None
    looked = [_evened(*part) for part in parts]
    ratio, value, error = (np.concatenate(columns) for columns in zip(*looked, strict=True))
    if len(ratio) < MEMBERS:
        return None
    upper = _upper(ratio)
    if upper is None:
        return None
    two = [_heap(value[at], error[at], whole=len(ratio)) for at in (~upper, upper)]
    return SpeciesModel(*zip(*two, strict=True))


def _heap(intensity: Floats, error: Floats, *, whole: int) -> tuple[float, float, float]:
    """Share of the whole, mean and spread of a class of which these are nearly all; a few of another do not count."""
    mean = float(np.median(intensity))
    spread = float(median_abs_deviation(intensity, scale="normal")) ** 2 - float(np.median(error**2))
    return len(intensity) / whole, mean, float(np.sqrt(max(spread, (LEAST_SPREAD * mean) ** 2)))


def _members(model: SpeciesModel, k: int, image: Measured) -> Measured:
    """The columns of class k; of more than ENOUGH those in the middle."""
    position, intensity, error = (np.ascontiguousarray(part, float) for part in image)
    own = label_species(intensity, error, model=model).probability.argmax(1) == k
    which = np.flatnonzero(own & np.isfinite(intensity) & np.isfinite(error))
    if len(which) > ENOUGH:
        away = np.hypot(*(position[which] - np.median(position[which], axis=0)).T)
        which = which[np.sort(np.argpartition(away, ENOUGH)[:ENOUGH])]
    return position[which], intensity[which], error[which]


def _restless(part: Measured) -> bool:
    """Whether medians of repeats scatter by more than chance makes them, as some of the columns show."""
    position, intensity, _ = part
    if len(position) <= AROUND:
        return False
    # drawn, since every second column of a table may be of one sublattice
    some = np.random.default_rng(0).permutation(len(position))[:SAMPLE]
    repeat, near = find_repeats(position, some)
    ratio, number = _median_of(intensity, repeat) / _around(intensity, near), (repeat >= 0).sum(1)
    known = np.isfinite(ratio)
    if known.sum() <= REPEATS:
        return False
    among = np.where(repeat >= 0, intensity[repeat], np.nan)[known]
    within = float(np.median(np.nanstd(among, axis=1, ddof=1)))
    by_chance = np.sqrt(np.pi / 2 * np.mean(1 / number[known])) * within
    return bool(ratio[known].std() * abs(float(np.median(intensity))) > RESTLESS * by_chance)


def _evened(position: Floats, intensity: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the columns that have repeats: the intensity of a column's sublattice, its own, and its error, each over that of all around."""
    if len(position) <= AROUND:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    repeat, near = find_repeats(position, np.arange(len(position)))
    around = _around(intensity, near)
    ratio = _median_of(intensity, repeat) / around
    for _ in range(ROUNDS - 1):
        ratio = _median_of(ratio, repeat)
    known = np.isfinite(ratio)
    return ratio[known], (intensity / around)[known], (error / around)[known]


def _around(intensity: Floats, near: npt.NDArray[np.intp]) -> Floats:
    """(K,) size of the mean intensity of the nearest columns; NaN where it is 0."""
    mean = np.abs(np.nanmean(intensity[near], axis=1))
    return np.where(mean > 0, mean, np.nan)


def _median_of(value: Floats, repeat: Ints) -> Floats:
    """(K,) median of the values of a column's repeats; NaN where they are fewer than REPEATS."""
    ordered = np.sort(np.where(repeat >= 0, value[repeat], np.nan), axis=1)  # NaN come last
    number = np.isfinite(ordered).sum(1)
    low, high = (np.clip(at, 0, TRIED - 1)[:, None] for at in ((number - 1) // 2, number // 2))
    middle = (np.take_along_axis(ordered, low, 1) + np.take_along_axis(ordered, high, 1))[:, 0] / 2
    return np.where(number >= REPEATS, middle, np.nan)


def _upper(ratio: Floats) -> npt.NDArray[np.bool_] | None:
    """Which are of the upper one of two heaps; None where there are no two."""
    cut, before = float(ratio.mean()), np.inf
    while abs(cut - before) > 1e-6 * abs(cut):
        upper = ratio > cut
        if not SHARE < upper.mean() < 1 - SHARE:
            return None
        before, cut = cut, float(ratio[upper].mean() + ratio[~upper].mean()) / 2
    scatter = np.sqrt((ratio[upper].var() + ratio[~upper].var()) / 2)
    half = float(ratio[upper].mean() - ratio[~upper].mean()) / 2
    return upper if half > APART * scatter else None


def find_repeats(position: Floats, which: npt.NDArray[np.intp]) -> tuple[Ints, npt.NDArray[np.intp]]:
    """(K, TRIED) numbers of the columns around which the same columns stand as around each of `which`, −1: no more; and (K, M) their
    nearest columns, themselves first."""
    distance, near = cKDTree(position).query(position[which], k=min(AROUND + 1, len(position)))
    same = SAME * float(np.median(distance[:, 1]))
    repeat = np.full((len(which), TRIED), -1, np.int64)
    _repeats(position, (near, position.min(0) - same, position.max(0) + same, same), repeat)
    return repeat, near


@compiled
def _repeats(position, given, out):
    """Of each column's nearest those to which a translation carries most of its neighbours onto columns."""
    near, first, last, same = given
    count = near.shape[1]
    for i in range(len(near)):
        own = position[near[i, 0]]
        edge = position[near[i, count - 1]] - own
        reach, found = edge[0] * edge[0] + edge[1] * edge[1], 0
        for j in range(1, min(TRIED + 1, count)):
            to = position[near[i, j]]
            seen, missed = 0, 0
            for k in range(1, min(CARRIED + 1, count)):
                y = position[near[i, k], 0] + to[0] - own[0]
                x = position[near[i, k], 1] + to[1] - own[1]
                away = (y - own[0]) ** 2 + (x - own[1]) ** 2
                if away > reach or away < same * same:
                    continue
                if y < first[0] or x < first[1] or y > last[0] or x > last[1]:
                    continue
                seen += 1
                missed += 1
                for m in range(1, count):
                    if (position[near[i, m], 0] - y) ** 2 + (position[near[i, m], 1] - x) ** 2 < same * same:
                        missed -= 1
                        break
                if missed > (1 - AGREE) * CARRIED:
                    break  # no more that may land can make up for it
            if seen >= FEWEST and missed <= (1 - AGREE) * seen:
                out[i, found] = near[i, j]
                found += 1
