"""Which grain each place of a frame belongs to, finer than windows can tell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atomreel.core.field import Field
from atomreel.interpret.disorientation import mean_lattice
from atomreel.interpret.presence import SPREAD, open_spectrum, presence

FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
FINE = 20  # cells of the fine grid across a window
AROUND = 1.2  # windows: further from its own windows a grain is not looked for
HALF = 0.5  # of its amplitude inside: the edge of a grain
NARROW = 2.0  # shortest lattice vectors: gaps between or in grains narrower than this belong to them


def fine_step(window: int) -> int:
    """Step of the finer grid [px] for windows of this side [px]."""
    return max(1, round(window / FINE))


def grain_area(
    image: npt.NDArray[np.floating], field: Field, vectors: FloatArray, *, labels: Labels, window: int
) -> Field:
    """A Field with the map `grain`: the number of the grain at each place, 0 for none.

    image: (Y, X). field: of the windows. vectors: (Gy, Gx, 2, 2) their lattices [px], NaN where they are not to be
    believed. labels: (Gy, Gx) grains of the windows. A place is of the grain that has there the largest part of the
    amplitude that its lattice has inside (`presence`), and of none where that is less than half.
    """
    step = fine_step(window)
    grid = -(-image.shape[0] // step), -(-image.shape[1] // step)
    owner = np.zeros(grid, np.int32)
    numbers = [int(n) for n in np.unique(labels) if n]
    if numbers:
        lattices = [mean_lattice(vectors[labels == n])[0] for n in numbers]
        shortest = [float(np.hypot(*lattice[0])) for lattice in lattices]
        spectrum = open_spectrum(image, step=step, spread=max(SPREAD * max(shortest), step))
        y, x = (step * np.arange(n) + (step - 1) / 2 for n in grid)
        best = np.full(grid, HALF)
        for number, lattice in zip(numbers, lattices, strict=True):
            own, near = _nearby(field, labels == number, y=y, x=x, reach=AROUND * window)
            power = presence(spectrum, lattice)
            share = np.sqrt(power / _inside(power[own]))
            better = near & (share > best)
            owner[better], best[better] = number, share[better]
        owner = _tidied(owner, radius=max(1, round(NARROW / 2 * min(shortest) / step)))
    centre = (step - 1) / 2
    return Field({"grain": owner}, origin=(centre, centre), step=(float(step), float(step)))


def _inside(power: FloatArray) -> float:
    """Power of the lattice where it fills the Gaussian; windows that reach over its edge hold places outside too."""
    high = float(np.quantile(power, 0.9))
    return max(float(np.median(power[power >= HALF**2 * high])), 1e-30)


def _nearby(
    field: Field, own: npt.NDArray[np.bool_], *, y: FloatArray, x: FloatArray, reach: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Places (y) × (x) whose nearest window is `own`, and those within `reach` px of such a window's place."""
    rows, columns = (
        np.clip(np.rint((at - origin) / step), 0, n - 1).astype(int)
        for at, origin, step, n in zip((y, x), field.origin, field.step, own.shape, strict=True)
    )
    inside = own[np.ix_(rows, columns)]
    step = float(y[1] - y[0]) if len(y) > 1 else 1.0
    return inside, ndimage.distance_transform_edt(~inside) * step <= reach


def _tidied(owner: Labels, *, radius: int) -> Labels:
    """Specks of a grain and gaps that a disc of `radius` cells does not fit into go to what surrounds them."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = y**2 + x**2 <= radius**2 + 0.5
    pad = 2 * radius + 1
    wide = np.pad(owner, pad, mode="edge")
    kept = np.zeros(wide.shape, bool)
    for number in np.unique(wide):
        own = wide == number
        solid = ndimage.binary_opening(own, disc)
        # thin parts that hang on solid ones stay, specks and gaps do not
        kept |= ndimage.binary_propagation(solid, mask=own) if number else solid
    if not kept.any():
        return owner
    nearest = ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True)
    found = wide[tuple(nearest)]
    return np.asarray(found[pad:-pad, pad:-pad], dtype=np.int32)
