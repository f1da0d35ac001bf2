"""Windows that hold none of a material's single defects: what a classifier of windows must answer with "none of these".

Crystals that are not the one it knows (other lattice, scale, contrast, two grains, two layers), that one where it ends or
has no order left, and images without columns at all (`simulate.outsiders`). Drawn with the same probes as `simulate.windows`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from atomreel.core.material import Material
from atomreel.core.registry import lookup
from atomreel.simulate import outsiders
from atomreel.simulate.windows import (
    CELL_PX,
    JITTER,
    ROUGH,
    SIDE,
    Views,
    draw,
    grow,
    instrument,
    random_views,
)

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
SMALLER, LARGER = (0.5, 0.75), (1.33, 2.5)  # lattice vectors of a wrong scale, in units of CELL_PX
BRIGHTER = (2.2, 7.0)  # a column that has another element instead, in units of its own brightness
MIDDLE = (SIDE - 1) / 2
NO_COLUMNS = "no columns"
SHARES = {
    NO_COLUMNS: 0.25,
    "wrong contrast": 0.15,
    "alloy": 0.15,
}  # of the kinds; the others share the rest evenly


def random_strangers(
    material: Material, count: int, rng: np.random.Generator | int | None, *, kind: str | None = None
) -> tuple[Float32, tuple[str, ...]]:
    """(count, SIDE, SIDE) images without noise at a scale of about one, and the kind of each; kind: one of KINDS, or any.

    The same generator state gives the same bytes. Raises UnknownNameError.
    """
    rng = np.random.default_rng(rng)
    names = sorted(KINDS)
    odds = np.array(
        [SHARES.get(name, (1 - sum(SHARES.values())) / (len(names) - len(SHARES))) for name in names]
    )
    which = [kind or str(name) for name in rng.choice(names, count, p=odds)]
    images = np.empty((count, SIDE, SIDE), np.float32)
    for name in dict.fromkeys(which):
        rows = np.flatnonzero(np.array(which) == name)
        images[rows] = lookup("kind of stranger", name, KINDS)(material, len(rows), rng)
    return images, tuple(which)


def _own(material: Material, count: int, rng: np.random.Generator, scale: Array | None = None) -> Views:
    target = rng.uniform(-JITTER, JITTER, (count, 2)) + MIDDLE
    return random_views(
        material, rng, target=target, column=np.zeros(count, np.int64), scale=scale, rough=ROUGH
    )


def wrong_scale(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """The material's lattice at a sampling that is not the model's."""
    low, high = _between(SMALLER, rng, count), _between(LARGER, rng, count)
    return draw(_own(material, count, rng, scale=np.where(rng.random(count) < 0.5, low, high)))


def wrong_contrast(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """The material's lattice with other elements: its faintest columns are brighter."""
    views = _own(material, count, rng)
    factor = _between(BRIGHTER, rng, count)[:, None]
    heights = np.where(_faintest(views), views.heights * factor, views.heights)
    return draw(replace(views, heights=heights / np.maximum(heights.max(1, keepdims=True), 1)))


def alloy(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """The material's lattice whose faintest columns hold two elements at random, none, one or two atoms of the brighter one;
    the other one may be brighter than the material's own, too."""
    views = _own(material, count, rng)
    share = rng.uniform(0.15, 0.6, (count, 1))
    atoms = rng.binomial(2, np.broadcast_to(share, views.heights.shape))
    factor = 1 + (_between(BRIGHTER, rng, count)[:, None] - 1) * atoms / 2
    base = np.where(rng.random(count) < 0.5, 1.0, rng.uniform(1, 3, count))[:, None]
    heights = np.where(_faintest(views), views.heights * factor * base, views.heights)
    return draw(replace(views, heights=heights / np.maximum(heights.max(1, keepdims=True), 1)))


def _faintest(views: Views) -> npt.NDArray[np.bool_]:
    """(N, S) which columns are of the faintest kind."""
    shown = np.where(views.column >= 0, views.heights, np.inf)
    return np.asarray(views.column == np.take_along_axis(views.column, shown.argmin(1)[:, None], 1))


def other_lattice(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """Square, rectangular and oblique lattices of like density with one to three columns per cell."""
    length = CELL_PX * np.exp(rng.uniform(np.log(0.6), np.log(1.3), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    between = np.deg2rad(np.where(rng.random(count) < 0.5, 90, rng.uniform(70, 90, count)))
    stretch = np.where(rng.random(count) < 0.4, 1.0, np.exp(rng.uniform(0.1, 0.6, count)))
    first = length[:, None] * np.stack([np.sin(angle), np.cos(angle)], -1)
    second = (length * stretch)[:, None] * np.stack([np.sin(angle + between), np.cos(angle + between)], -1)
    vectors = np.stack([first, second], 1)
    columns = int(rng.integers(1, 4))
    share = rng.uniform(0.3, 0.7, (count, columns, 2))
    share[:, 0] = 0
    sites, which = grow(
        vectors, share @ vectors, target=np.full((count, 2), MIDDLE), column=np.zeros(count, np.int64)
    )
    bright = rng.uniform(0.1, 1, (count, columns))
    bright[:, 0] = 1
    heights = np.take_along_axis(bright, np.maximum(which, 0), 1)
    unit = np.ones(count)
    transfer, wobble, backdrop = instrument(count, rng, rough=ROUGH)
    return draw(Views(sites, which, heights, transfer, wobble, backdrop, unit, unit))


def two_grains(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """A boundary near the middle, with another orientation of the same layer beyond it."""
    first, second = _own(material, count, rng), _own(material, count, rng)
    beyond = _halves(count, rng)
    one = draw(replace(first, heights=first.heights * ~beyond(first.sites, -1.5)))
    other = draw(replace(second, heights=second.heights * beyond(second.sites, 1.5), transfer=first.transfer))
    return np.asarray(one + other - second.backdrop)


def two_layers(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """Two layers on top of each other in unlike orientations: moiré."""
    first, second = _own(material, count, rng), _own(material, count, rng)
    both = draw(first) + draw(replace(second, transfer=first.transfer)) - second.backdrop
    return np.asarray(both / 1.5)


def edge(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """The layer ends near the middle; beyond is vacuum."""
    views = _own(material, count, rng)
    return draw(replace(views, heights=views.heights * ~_halves(count, rng)(views.sites, 0.0)))


def hole(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """All columns in a circle about a place near the middle are gone, at least a column and its neighbours."""
    views = _own(material, count, rng)
    centre = rng.uniform(-JITTER, JITTER, (count, 1, 2)) + MIDDLE
    radius = CELL_PX * rng.uniform(0.8, 2.2, (count, 1))
    return draw(
        replace(views, heights=views.heights * (np.linalg.norm(views.sites - centre, axis=2) > radius))
    )


def disorder(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """Columns displaced at random by so much that the lattice is lost."""
    views = _own(material, count, rng)
    off = rng.standard_normal(views.sites.shape) * CELL_PX * rng.uniform(0.18, 0.5, (count, 1, 1))
    return draw(replace(views, sites=views.sites + off))


def covered(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """The layer under lumps brighter than its columns, near the middle."""
    images = draw(_own(material, count, rng))
    y, x = np.mgrid[:SIDE, :SIDE]
    for image in images:
        for _ in range(int(rng.integers(1, 4))):
            cy, cx = rng.uniform(-JITTER, JITTER, 2) + MIDDLE
            wide = rng.uniform(0.45, 1.2, 2) * CELL_PX
            lump = np.exp(-0.5 * (((y - cy) / wide[0]) ** 2 + ((x - cx) / wide[1]) ** 2))
            image += (rng.uniform(1.2, 4) * lump).astype(np.float32)
    return images


def no_columns(material: Material, count: int, rng: np.random.Generator) -> Float32:
    """Images of `simulate.outsiders`: vacuum, amorphous films, textures, particles … at a scale of about one."""
    with np.errstate(over="ignore"):  # of a sharp band's far side, which is 0
        images = np.stack([outsiders.random_outsider(rng, size=(SIDE, SIDE)).image for _ in range(count)])
    low, high = (np.quantile(images, q, axis=(1, 2), keepdims=True) for q in (0.02, 0.98))
    scaled = (images - low) / np.maximum(high - low, 1e-6) + rng.uniform(0, 0.5, (count, 1, 1))
    return np.asarray(scaled.clip(0, 3), dtype=np.float32)


def _between(limits: tuple[float, float], rng: np.random.Generator, count: int) -> Array:
    """Log-uniform (count,)."""
    low, high = limits
    return np.asarray(low * (high / low) ** rng.random(count))


def _halves(count: int, rng: np.random.Generator) -> Callable[[Array, float], npt.NDArray[np.bool_]]:
    """Whether sites (N, S, 2) lie beyond N straight lines near the middle, and `more` px behind them."""
    angle, depth = rng.uniform(0, 2 * np.pi, count), rng.uniform(-0.6, 0.6, count) * JITTER
    normal = np.stack([np.sin(angle), np.cos(angle)], -1)

    def beyond(sites: Array, more: float) -> npt.NDArray[np.bool_]:
        return np.asarray(((sites - MIDDLE) * normal[:, None]).sum(2) > depth[:, None] + more)

    return beyond


KINDS: dict[str, Callable[[Material, int, np.random.Generator], Float32]] = {
    NO_COLUMNS: no_columns,
    "wrong scale": wrong_scale,
    "wrong contrast": wrong_contrast,
    "alloy": alloy,
    "other lattice": other_lattice,
    "two grains": two_grains,
    "two layers": two_layers,
    "edge": edge,
    "hole": hole,
    "disorder": disorder,
    "covered": covered,
}
