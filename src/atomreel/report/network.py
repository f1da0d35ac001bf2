"""The reaction network: states as pictures, rates with their intervals on the arrows between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.report.drawing import GRID, INK, Drawing, figure, finish, picture_axes, plain, style

Floats = npt.NDArray[np.float64]
APART = 0.38  # from the middle of a state to where its arrows begin
EDGE = "#59636e"
LABEL = 0.4  # of the way along an arrow: where its rate stands
BEND = 0.16  # of its length: how far an arrow bows out, so that there and back are two
OUTWARD = (0.04, 0.26)  # the same of those around a middle, the way there and the way back, both away from it
INNER = 0.6  # of half a picture: within it the brightest pixel is white


def draw_network(
    names: tuple[str, ...],
    q: npt.ArrayLike,
    ends: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    unit: str,
    folder: Path,
    pictures: Mapping[str, npt.ArrayLike] | None = None,
    name: str = "network",
) -> Drawing:
    """NAME.png and .svg in `folder`: n states, the first in the middle of the others from four on.

    q: (n, n) rates from row to column, ends: of their intervals. Arrows are the thicker the faster; those of rate 0 are left out. pictures: of
    some states, a mean crop each; a state without one is a disc.
    """
    rate = np.asarray(q, dtype=float)
    low, high = (np.asarray(end, dtype=float) for end in ends)
    place = _places(len(names))
    fastest = max(float(rate.max(initial=0)), 1e-300)
    with style():
        made, ((ax,),) = figure(7.4, 6.6 if len(names) > 2 else 3.0)
        picture_axes(ax)
        for i in range(len(names)):
            for j in range(len(names)):
                if i != j and rate[i, j] > 0:
                    words = f"{rate[i, j]:.2g}\n{low[i, j]:.2g} … {high[i, j]:.2g}"
                    strength = float(np.sqrt(rate[i, j] / fastest))
                    _arrow(ax, (place[i], place[j]), words, strength=strength, bend=_bend(i, j, len(names)))
        span = _span([np.asarray(p, dtype=float) for p in (pictures or {}).values()])
        for where, state in zip(place, names, strict=True):
            _node(ax, where, state, None if pictures is None else pictures.get(state), span)
        low_end, high_end = (
            place.min(axis=0) - np.array([0.62, 0.6]),
            place.max(axis=0) + np.array([0.62, 0.5]),
        )
        ax.set(xlim=(low_end[0], high_end[0]), ylim=(low_end[1], high_end[1]), aspect="equal")
        seen = " Pictures are the mean of all crops of the state." if pictures else ""
        caption = f"Rates ({unit}) with their 95 % intervals; the thicker an arrow, the faster.{seen}"
        return finish(made, folder, name, title="Reaction network", caption=caption, wide=True)


def _places(n: int) -> Floats:
    """(n, 2) x, y: two side by side, three in a ring, more in a ring around the first."""
    if n <= 2:
        return np.array([[-1.1, 0.0], [1.1, 0.0]])[:n]
    ring = n if n == 3 else n - 1
    angle = np.pi / 2 - 2 * np.pi * np.arange(ring) / ring
    around = 2.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return around if n == 3 else np.concatenate([[[0.0, 0.0]], around])


def _bend(i: int, j: int, n: int) -> float:
    """How far the arrow from i to j bows to its right, as a share of its length."""
    if n < 4 or 0 in (i, j):
        return BEND
    around = (j - i) % (n - 1)  # clockwise, so that outwards is to the left
    return -OUTWARD[0] if 2 * around <= n - 1 else OUTWARD[1]


def _span(pictures: list[Floats]) -> tuple[float, float] | None:
    """Darkest and brightest value of the middles of all pictures."""
    if not pictures:
        return None
    middles = []
    for p in pictures:
        y, x = np.indices(p.shape) - (np.array(p.shape) - 1)[:, None, None] / 2
        middles.append(p[np.hypot(y, x) < INNER * p.shape[0] / 2])
    return float(min(m.min() for m in middles)), float(max(m.max() for m in middles))


def _node(
    ax: Any, where: Floats, name: str, picture: npt.ArrayLike | None, span: tuple[float, float] | None
) -> None:
    from matplotlib.patches import Circle

    x, y = where
    size = 0.3
    disc = Circle((x, y), size * 1.06, facecolor="white", edgecolor=INK, lw=1.0, zorder=3)
    ax.add_patch(disc)
    if picture is not None:
        shown = ax.imshow(
            picture,
            cmap="gray",
            vmin=span and span[0],
            vmax=span and span[1],
            extent=(x - size, x + size, y - size, y + size),
            zorder=4,
        )
        shown.set_clip_path(Circle((x, y), size, transform=ax.transData))
    above = y > 0.5  # the topmost has its arrows below it
    words = ax.text(x, y + (0.34 if above else -0.34), plain(name), ha="center", fontsize=9, zorder=6)
    words.set(va="bottom" if above else "top", fontweight="bold")
    words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})


def _arrow(ax: Any, ends: tuple[Floats, Floats], words: str, *, strength: float, bend: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    start, end = ends
    way = end - start
    aside = np.array([way[1], -way[0]])  # to the right of the way, y up
    # A quadratic curve through a control point beside the middle; it begins and ends at the rims of the states.
    control = (start + end) / 2 + bend * aside
    first, last = (p + APART * (control - p) / np.hypot(*(control - p)) for p in ends)
    ax.add_patch(
        FancyArrowPatch(
            tuple(first),
            tuple(last),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=11,
            lw=0.6 + 2.6 * strength,
            color=EDGE,
            zorder=2,
            shrinkA=0,
            shrinkB=0,
        )
    )
    whole = last - first
    middle = (first + last) / 2 + bend * np.array([whole[1], -whole[0]])
    at = (1 - LABEL) ** 2 * first + 2 * LABEL * (1 - LABEL) * middle + LABEL**2 * last
    text = ax.text(*at, words, ha="center", va="center", fontsize=7.2, linespacing=1.05, zorder=5)
    text.set_bbox({"facecolor": "white", "edgecolor": GRID, "lw": 0.4, "boxstyle": "round,pad=0.18"})
