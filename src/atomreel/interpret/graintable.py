"""What each grain of a symmetry map is: class, lattice, direction, area, each with its error; and the boundaries."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.field import Field
from atomreel.core.tables import check_table, empty_table
from atomreel.interpret.disorientation import disorientation, lattice_change, mean_lattice, right_handed

FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
PLACE = 0.5  # shortest lattice vectors: 1σ of the place of a boundary between two grains
CORRELATED = 4.0  # shortest lattice vectors along a boundary, beyond which its place errs anew
RIM = 0.3  # shortest lattice vectors: 1σ of the place where a grain ends in no lattice
SHARED = 0.65  # windows: lattices of windows further apart err independently, as the scatter of simulated ones shows
_ERRORS = ("a_px_err", "b_px_err", "gamma_deg_err", "angle_deg_err")


def grain_table(
    field: Field,
    vectors: FloatArray,
    *,
    labels: Labels,
    area: Field,
    shape: tuple[int, ...],
    window: int,
    pixel: tuple[float, float] | None,
) -> pd.DataFrame:
    """The table `grains`, frame 0, in the order of the labels.

    vectors: (Gy, Gx, 2, 2) lattices [px], NaN where they are not to be believed. labels, area, window, pixel: as in
    `grains.find_grains`. shape: (Y, X) of the frame. Lattice: the mean over the grain's windows; its errors are what the
    windows claim or how far they scatter, whichever is more, over the root of the number of windows that err
    independently. Errors of areas: `area_error`.
    """
    names = [name.removeprefix("p_") for name in field.maps if name.startswith("p_")]
    extent, (y, x) = cell_areas(area, shape), area.positions()
    rows: list[dict[str, Any]] = []
    for number in range(1, int(labels.max(initial=0)) + 1):
        own, whole = labels == number, area.maps["grain"] == number
        mean = {name: float(np.asarray(field.maps[f"p_{name}"], dtype=float)[own].mean()) for name in names}
        best = max((n for n in names if n != "noise"), key=lambda n: mean[n])
        lattice = _lattice(field, vectors, own=own, window=window, pixel=pixel)
        weight = extent * whole
        size = float(weight.sum())
        error = area_error(area, number, spacing=lattice["a_px"])
        rows.append(
            {
                "frame": 0,
                "grain": number,
                "symmetry": best,
                "p": mean[best],
                **lattice,
                "area_px2": size,
                "area_px2_err": error,
                "y": float((weight.sum(1) * y).sum() / max(size, 1e-9)),
                "x": float((weight.sum(0) * x).sum() / max(size, 1e-9)),
                "windows": int(own.sum()),
                "cut": bool(whole[[0, -1]].any() or whole[:, [0, -1]].any()),
            }
        )
        if pixel is not None:
            square = pixel[0] * pixel[1] / 100
            rows[-1] |= {"area_nm2": size * square, "area_nm2_err": error * square}
    return check_table(pd.DataFrame(rows), "grains") if rows else empty_table("grains")


def boundary_table(
    vectors: FloatArray,
    *,
    labels: Labels,
    area: Field,
    table: pd.DataFrame,
    pixel: tuple[float, float] | None,
) -> pd.DataFrame:
    """The table `boundaries`, frame 0: one row per pair of grains that touch in `area`."""
    rows: list[dict[str, Any]] = []
    middle = {n: right_handed(mean_lattice(vectors[labels == n])[0]) for n in table["grain"]}
    errors = dict(zip(table["grain"], table["angle_deg_err"], strict=True))
    for first, second in combinations(table["grain"], 2):
        length = _length(area, (first, second))
        if not length:
            continue
        row = {
            "frame": 0,
            "first": first,
            "second": second,
            "turn_deg": float(disorientation(middle[first], middle[second])),
            "turn_deg_err": float(np.hypot(errors[first], errors[second])),
            "change_deg": float(lattice_change(middle[first], middle[second])),
            "length_px": length,
        }
        rows.append(row if pixel is None else row | {"length_nm": length * float(np.mean(pixel)) / 10})
    return check_table(pd.DataFrame(rows), "boundaries") if rows else empty_table("boundaries")


def cell_areas(field: Field, shape: tuple[int, ...]) -> FloatArray:
    """(Gy, Gx) pixels of a frame of `shape` that are nearest to each point; all of them together are the frame."""
    sides = []
    for places, length in zip(field.positions(), shape, strict=True):
        edges = np.r_[-0.5, (places[1:] + places[:-1]) / 2, length - 0.5]
        sides.append(np.diff(edges))
    return sides[0][:, None] * sides[1]


def area_error(area: Field, number: int, *, spacing: float) -> float:
    """1σ of a grain's area [px²]; spacing: its shortest lattice vector [px].

    Its boundary with other grains stands off by PLACE vectors, anew every CORRELATED of them; where it ends in no lattice
    it does so by RIM of a vector, alike all along.
    """
    owner = area.maps["grain"]
    length = sum(_length(area, (number, int(n))) for n in np.unique(owner) if n not in (0, number))
    rim = _length(area, (number, 0))
    apart = CORRELATED * spacing
    place = PLACE * spacing * np.sqrt(length * max(min(length, apart), 1.0))
    return float(np.hypot(place, RIM * spacing * rim))


def _lattice(
    field: Field, vectors: FloatArray, *, own: BoolArray, window: int, pixel: tuple[float, float] | None
) -> dict[str, float]:
    mean, turned = mean_lattice(vectors[own])
    known = own & np.isfinite(vectors).all((-1, -2))
    number = _independent(known, window=window, step=field.step)
    claimed = [
        float(np.sqrt(np.mean(np.square(np.asarray(field.maps[name], dtype=float)[known]))))
        for name in _ERRORS
    ]
    found: dict[str, float] = {}
    metrics = [("px", np.ones(2))] if pixel is None else [("px", np.ones(2)), ("A", np.asarray(pixel, float))]
    for unit, scale in metrics:
        values, middle = _measures(turned * scale), _measures((mean * scale)[None])[:, 0]
        values[3] = (values[3] - middle[3] + 180) % 360 - 180 + middle[3]
        scatter = values.std(1, ddof=1) if values.shape[1] > 1 else np.zeros(4)
        size = float(np.mean(scale))
        for k, (name, width) in enumerate(
            ((f"a_{unit}", size), (f"b_{unit}", size), ("gamma_deg", 1.0), ("angle_deg", 1.0))
        ):
            error = max(float(scatter[k]), claimed[k] * width) / np.sqrt(number)
            found |= {name: float(middle[k]), f"{name}_err": float(error)}
    return found


def _measures(vectors: FloatArray) -> FloatArray:
    """(4, N): a, b, γ and the direction of a [degrees]."""
    a, b = (np.hypot(vectors[:, k, 0], vectors[:, k, 1]) for k in (0, 1))
    cosine = (vectors[:, 0] * vectors[:, 1]).sum(-1) / (a * b)
    angle = np.degrees(np.arctan2(-vectors[:, 0, 0], vectors[:, 0, 1]))
    return np.stack([a, b, np.degrees(np.arccos(np.clip(cosine, -1, 1))), angle])


def _independent(used: BoolArray, *, window: int, step: tuple[float, float]) -> float:
    """Number of windows that err independently and see as much: n² over the sum of what pairs have in common."""
    weights = used.astype(float)
    common = weights
    for axis, size in enumerate(used.shape):
        distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) * step[axis]
        common = np.moveaxis(
            np.tensordot(np.maximum(0, 1 - distance / (SHARED * window)), common, axes=(1, axis)), 0, axis
        )
    return float(weights.sum() ** 2 / max(float((weights * common).sum()), 1.0))


def _length(area: Field, pair: tuple[int, int]) -> float:
    """Length of the line between two labels [px], as if it were straight: its projections on both axes combined."""
    owner, sides = area.maps["grain"], []
    for axis in (0, 1):
        before = owner[:-1] if axis == 0 else owner[:, :-1]
        after = owner[1:] if axis == 0 else owner[:, 1:]
        met = ((before == pair[0]) & (after == pair[1])) | ((before == pair[1]) & (after == pair[0]))
        sides.append(float(met.sum()) * area.step[1 - axis])
    return float(np.hypot(sides[0], sides[1]))
