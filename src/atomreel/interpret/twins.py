"""Dumbbells that are not resolved: each elongated blob is fitted as two equal peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.tables import check_table, empty_table
from atomreel.interpret.dumbbells import axis_angle

Array = npt.NDArray[np.float64]
ROUNDS = 4  # the others' peaks are taken off before each, and the discs follow the blobs
WANDERED = 0.6  # of the radius: a blob that ended further from its start is another one
LONGEST = 1.5  # of the radius: ends further apart are two blobs
NARROWEST = 0.2  # of the mean width: σ of an end never gets below


@dataclass(frozen=True)
class _Blob:
    """Pixels (P,) around a blob: positions in the unit of the scale, and values."""

    y: Array
    x: Array
    values: Array


def fit_twins(
    image: npt.ArrayLike,
    positions: npt.ArrayLike,
    *,
    pixel: tuple[float, float] | None = None,
    bright: bool = True,
    radius: float | None = None,
) -> pd.DataFrame:
    """Separation and angle of dumbbells of which each is one elongated blob: a table of dumbbells (see core.tables).

    image: (Y, X), pixels that are not finite do not count. positions: (N, 2) y, x [px] of the blobs, right to about a
    quarter of their distance. pixel: (dy, dx) [Å] or None. bright: False for dark blobs. radius: of the disc
    that is fitted [Å, or px without pixel]; by default half the median distance of nearest blobs.

    Each blob is A·(g(r − d/2) + g(r + d/2)) + constant with one round Gaussian g of width σ, fitted by least squares
    from its second moments, four times over, the other blobs' peaks taken off. In terms of an ellipse's widths,
    d² = 4 (σ_long² − σ_short²). Ends of shares f and 1 − f look like equal ones √(4f(1 − f)) as far apart.
    Free is w = d²·(cos 2θ, sin 2θ), in which the model is smooth down to a round blob; errors come from the sandwich
    covariance (White, Econometrica 48 (1980) 817), so unequal pixel noise is allowed, correlated noise is not.
    score = 1 − exp(−wᵀC⁻¹w/2): confidence that the blob is no round one; below about 0.99 neither separation nor
    angle means much. Blobs that cannot be fitted are left out. Raises InputError.
    """
    data, start = _checked(image, positions, radius)
    scale = np.ones(2) if pixel is None else np.asarray(pixel, dtype=float)
    if not len(start):
        return empty_table("dumbbells")
    upright = data if bright else -data
    reach = radius or _half_distance(start * scale, data.shape, scale)
    found = _fit_all(upright, start * scale, reach, scale)
    rows = [
        _row(values, covariance, scale, pixel is not None)
        for values, covariance in found
        if values is not None
    ]
    if not rows:
        return empty_table("dumbbells")
    return check_table(pd.DataFrame(rows), "dumbbells")


def _checked(image: npt.ArrayLike, positions: npt.ArrayLike, radius: float | None) -> tuple[Array, Array]:
    data, start = np.asarray(image, dtype=float), np.asarray(positions, dtype=float)
    if data.ndim != 2 or min(data.shape) < 4:
        raise InputError(
            f"an image must be two-dimensional with at least 4 × 4 pixels, got shape {data.shape}"
        )
    if start.size == 0:
        start = start.reshape(0, 2)
    if start.ndim != 2 or start.shape[1] != 2 or not np.isfinite(start).all():
        raise InputError(f"positions must be (N, 2) finite numbers (y, x), got shape {start.shape}")
    if radius is not None and not radius > 0:
        raise InputError(f"radius: a positive distance is needed, got {radius}")
    return data, start


def _half_distance(points: Array, shape: tuple[int, ...], scale: Array) -> float:
    if len(points) < 2:
        return float(0.25 * (np.asarray(shape) * scale).min())
    return float(0.5 * np.median(cKDTree(points).query(points, k=2)[0][:, 1]))


def _piece(data: Array, where: Array, reach: float, scale: Array) -> _Blob:
    """The disc around `where`, (y, x) in the unit of the scale."""
    low = np.maximum(np.ceil((where - reach) / scale), 0).astype(int)
    high = np.minimum(np.floor((where + reach) / scale), np.array(data.shape) - 1).astype(int)
    sides = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    y, x = (v.ravel() for v in np.meshgrid(*sides, indexing="ij"))
    dy, dx = y * scale[0] - where[0], x * scale[1] - where[1]
    inside = (dy**2 + dx**2 <= reach**2) & np.isfinite(data[y, x])
    y, x = y[inside], x[inside]
    return _Blob(y * scale[0], x * scale[1], data[y, x])


def _fit_all(data: Array, start: Array, reach: float, scale: Array) -> list[tuple[Array | None, Array]]:
    """Parameters and covariance of each blob, None where there is no fit."""
    values: list[Array | None] = [None] * len(start)
    out: list[tuple[Array | None, Array]] = []
    near = cKDTree(start).query_ball_point(start, 4 * reach)
    for _ in range(ROUNDS):
        out = []
        for i, (where, last) in enumerate(zip(start, values, strict=True)):
            blob = _piece(data, where if last is None else last[:2], reach, scale)
            others = [p for j in near[i] if j != i and (p := values[j]) is not None]
            seen = blob.values - sum(
                (_model(p, blob.y, blob.x) - p[6] for p in others), np.zeros(len(blob.y))
            )
            out.append(_fit(blob, seen, start=last, centre=where, reach=reach))
        values = [found for found, _ in out]
    return out


def _model(p: Array, y: Array, x: Array) -> Array:
    """p: y, x, log s, u, v, A, background. s² is the mean of the blob's two variances, so that w = (u, v) stays free."""
    s2, size = np.exp(2 * p[2]), np.hypot(p[3], p[4])
    variance = max(s2 - size / 8, NARROWEST**2 * s2)
    angle, half = 0.5 * np.arctan2(p[4], p[3]), 0.5 * np.sqrt(size)
    dy, dx = -half * np.sin(angle), half * np.cos(angle)
    total = np.zeros_like(y)
    for sign in (1, -1):
        total += np.exp(-((y - p[0] - sign * dy) ** 2 + (x - p[1] - sign * dx) ** 2) / (2 * variance))
    return np.asarray(p[5] * total + p[6])


def _start(seen: Array, y: Array, x: Array, centre: Array, reach: float) -> Array:
    """Second moments above the level of the rim."""
    dy, dx = y - centre[0], x - centre[1]
    rim = dy**2 + dx**2 > (0.8 * reach) ** 2
    level = float(np.median(seen[rim])) if rim.any() else float(seen.min())
    weight = np.maximum(seen - level, 0) * np.exp(-(dy**2 + dx**2) / reach**2)
    if weight.sum() <= 0:
        weight = np.ones_like(seen)
    weight = weight / weight.sum()
    cy, cx = (weight * dy).sum(), (weight * dx).sum()
    yy, xx, yx = (
        (weight * a * b).sum() for a, b in ((dy - cy, dy - cy), (dx - cx, dx - cx), (dy - cy, dx - cx))
    )
    u, v = 4 * (xx - yy), -8 * yx
    if np.hypot(u, v) < 0.1 * (xx + yy):
        u += 0.1 * (xx + yy)
    return np.array(
        [centre[0] + cy, centre[1] + cx, 0.5 * np.log(0.5 * (xx + yy)), u, v, np.ptp(seen) / 2, level]
    )


def _fit(
    blob: _Blob, seen: Array, *, start: Array | None, centre: Array, reach: float
) -> tuple[Array | None, Array]:
    nothing = None, np.full((7, 7), np.nan)
    if len(seen) < 14 or not np.ptp(seen) > 0:
        return nothing
    y, x = blob.y, blob.x
    first = start if start is not None else _start(seen, y, x, centre, reach)
    size = np.array([reach, reach, 1, reach**2, reach**2, np.ptp(seen), np.ptp(seen)])
    done = least_squares(lambda p: _model(p, y, x) - seen, first, x_scale=size, method="trf", max_nfev=60)
    away = np.hypot(*(done.x[:2] - centre))
    apart = np.sqrt(np.hypot(*done.x[3:5]))
    if not np.isfinite(done.x).all() or away > WANDERED * reach or done.x[5] <= 0:
        return nothing
    if np.exp(done.x[2]) > reach or apart > LONGEST * reach:
        return nothing
    normal = np.linalg.pinv(done.jac.T @ done.jac)
    middle = done.jac.T @ (done.jac * done.fun[:, None] ** 2)
    return done.x, normal @ middle @ normal * len(seen) / (len(seen) - 7)


def _row(p: Array, covariance: Array, scale: Array, with_a: bool) -> dict[str, object]:
    size = max(float(np.hypot(p[3], p[4])), 1e-12)
    along = p[3:5] / size
    block = covariance[3:5, 3:5]
    length = np.sqrt(size)
    length_err = float(np.sqrt(along @ block @ along)) / (2 * length)
    across = np.array([-along[1], along[0]])
    angle = 0.5 * np.arctan2(p[4], p[3])
    step = np.array([[-np.sin(angle), np.cos(angle)]])
    px = float(np.hypot(*(step[0] / scale)))
    row: dict[str, object] = {"frame": 0, "y": p[0] / scale[0], "x": p[1] / scale[1]}
    row |= {f"{n}_err": np.sqrt(covariance[k, k]) / scale[k] for k, n in enumerate(("y", "x"))}
    row |= {"separation_px": length * px, "separation_px_err": length_err * px}
    if with_a:
        row |= {"separation_A": length, "separation_A_err": length_err}
    row |= {"angle_deg": float(axis_angle(step)[0])}
    row |= {"angle_deg_err": np.degrees(np.sqrt(across @ block @ across) / (2 * size)), "directed": False}
    row["score"] = 1 - np.exp(-0.5 * p[3:5] @ np.linalg.pinv(block) @ p[3:5])
    s2 = np.exp(2 * p[2])
    return row | {"width_px": np.sqrt(max(s2 - size / 8, NARROWEST**2 * s2) / np.prod(scale))}
