"""What a frame shows beside its lattice: the Fourier method for defects, with a stated false-discovery rate.

The reflections are taken out of the spectrum with Gaussian masks (C. Ge & al., review 2020, figure 12a: a defect map by FFT
and filtering); what stays is low-passed to the probe and divided by its robust noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import fft, ndimage

from atomreel.core.errors import InputError
from atomreel.core.field import Field
from atomreel.interpret.reflections import Reflections, find_reflections

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
REACHES = (5.0, 3.5, 2.5, 1.8, 1.3)  # σ of the window in which the lattice is one, in lattice spacings
TIE = 1.005  # cross-validation errors within half a percent are equal: the wider window takes less of a defect, and bends less beside holes
ROUNDS = 4  # of finding holes and outliers
STEPS = 4  # of each fit: one would do if nothing were missing
PRESENT = 0.4  # local amplitude of the lattice over that around: less is a hole or vacuum
LOOK = 0.8  # σ of the window for it, in lattice spacings: a single vacancy is no hole
SHORE = 1.2  # lattice spacings around a hole that are left out
OUTLIER = 4.0  # σ beyond which a pixel is no witness of the lattice
LEVELS = 10  # bins of intensity in which the noise is measured
FLOOR = 0.01  # least noise, in contrasts of the lattice: images without noise
BLOCK = 4.0  # lattice spacings over which the noise is local
MOST_TAIL = 1.8
LEAST = 2.0  # |z| of a candidate; the rate of noise maxima is known from here on


@dataclass(frozen=True, eq=False)
class Residual:
    """maps: a Field of step 1 px with z (residual over its noise), residual, model (image units), noise (1σ of the
    low-passed residual), valid. sigma: of the low pass [px]. reach: σ of the lattice's window [px].
    density: maxima of z per px² that noise alone makes above z = 2, of each sign. tail: how much wider than a Gaussian's
    their heights fall off, at least 1.
    """

    maps: Field
    reflections: Reflections
    sigma: float
    reach: float
    density: float
    tail: float = 1.0

    @property
    def z(self) -> Array:
        return np.asarray(self.maps.maps["z"])

    @property
    def valid(self) -> Mask:
        return np.asarray(self.maps.maps["valid"])

    def false_maxima(self, z: npt.ArrayLike) -> Array:
        """Expected number of maxima of either sign in the valid area that noise alone would make above |z| (at least 2).

        Λ u exp(−u²/2) / (2π)^1.5 per px² and sign (R. J. Adler, The Geometry of Random Fields, 1981), Λ measured on the slopes of
        z; the fall from z = 2 on is slower by `tail`, measured between 2 and 3 on the sign that has fewer maxima (an empirical
        null: B. Efron 2004), since defects are mostly of one sign and misfit of both.
        """
        u = np.maximum(np.abs(np.asarray(z, dtype=float)), LEAST)
        fall = u / LEAST * np.exp(-(u**2 - LEAST**2) / (2 * self.tail**2))
        return np.asarray(2 * self.density * self.valid.sum() * fall)


def lattice_residual(image: npt.ArrayLike, *, reflections: Reflections | None = None) -> Residual:
    """The z-map of one image (Y, X): deviations from its lattice in units of their noise.

    The model is Σ_G A_G(r) exp(2πi G·r), A_G being the image's own amplitude under a Gaussian window that is chosen by
    generalised cross-validation, so that drift and strain are followed; outliers, holes and all beyond the border have no
    weight in it. z is the residual under a Gaussian as wide as the columns, over its median absolute deviation at that
    intensity and, where the surroundings are noisier, there. Not valid: holes, vacuum, and 1.2 spacings around them.
    Raises InputError where the image has no lattice.
    """
    data = np.asarray(image, dtype=float)
    lattice = find_reflections(data) if reflections is None else reflections
    scale = float(np.percentile(data, 99) - np.percentile(data, 1)) or 1.0
    middle = float(np.median(data))
    data = (data - middle) / scale
    spacing = lattice.spacing
    masks = {reach: _Filter(data.shape, lattice, reach * spacing) for reach in REACHES}
    trusted = _robust_model(data, masks[REACHES[1]], spacing)[2]
    errors = {reach: _cross_validation(data, one, trusted) for reach, one in masks.items()}
    best = min(errors.values())
    reach = max(r for r, error in errors.items() if error <= TIE * best)
    flat, ripple, weight, valid = _robust_model(data, masks[reach], spacing)
    sigma = _column_width(flat + ripple, spacing)
    if valid.mean() < 0.05:
        raise InputError(
            f"only {valid.mean():.1%} of this image shows its lattice; choose another frame or region"
        )
    model = flat + ripple
    z, noise = _scaled(data - model, model, valid & (weight > 0), sigma=sigma, spacing=spacing)
    z = np.where(valid, z, 0.0)
    maps = {
        "z": z,
        "residual": (data - model) * scale,
        "model": model * scale + middle,
        "noise": noise * scale,
        "valid": valid,
    }
    tail = _tail(z, valid, sigma)
    field = Field(maps, (0.0, 0.0), (1.0, 1.0))
    return Residual(field, lattice, sigma, reach * spacing, _density(z, valid), tail)


class _Filter:
    """Gaussian masks around 0 and around ±G, on a grid that is wider than the image by the window."""

    def __init__(self, shape: tuple[int, ...], lattice: Reflections, reach: float) -> None:
        self.shape = shape
        self.size = [fft.next_fast_len(n + int(3 * reach), real=True) for n in shape]
        fy, fx = fft.fftfreq(self.size[0])[:, None], fft.rfftfreq(self.size[1])
        steep = 2 * (np.pi * reach) ** 2
        self.base = np.exp(-steep * (fy**2 + fx**2))
        self.spots = np.zeros_like(self.base)
        for g in lattice.frequencies:
            for gy, gx in (g, -g):
                along = np.exp(-steep * ((fy - gy + 0.5) % 1 - 0.5) ** 2)
                self.spots += along * np.exp(-steep * ((fx - gx + 0.5) % 1 - 0.5) ** 2)
        np.minimum(self.spots, 1.0 - self.base, out=self.spots)

    def apply(self, data: Array, mask: Array) -> Array:
        spectrum = fft.rfft2(data, s=self.size) * mask
        return np.asarray(fft.irfft2(spectrum, s=self.size)[: self.shape[0], : self.shape[1]])

    def fit(
        self, data: Array, weight: Array, start: tuple[Array, Array] | None = None
    ) -> tuple[Array, Array]:
        """What is slow and what is periodic in the weighted data, one step nearer than `start`."""
        flat, ripple = start or (np.zeros(self.shape), np.zeros(self.shape))
        there = np.maximum(self.apply(weight, self.base), 0.05)
        rest = weight * (data - flat - ripple)
        flat = flat + self.apply(rest, self.base) / there
        return flat, ripple + self.apply(weight * (data - flat - ripple), self.spots) / there

    def freedom(self, rounds: int) -> float:
        """Share of the data's degrees of freedom that the model takes."""
        return float(1 - ((1 - self.base - self.spots).clip(0, 1) ** rounds).mean())


def _cross_validation(data: Array, masks: _Filter, weight: Array) -> float:
    """Generalised cross-validation error of a model with these masks, without holes and outliers."""
    parts = masks.fit(data, weight, masks.fit(data, weight))
    rest = np.abs(data - parts[0] - parts[1])[weight > 0]
    if not len(rest):
        return np.inf
    rest = np.minimum(rest, 4 * 1.4826 * np.median(rest))
    return float(np.mean(rest**2)) / (1 - masks.freedom(2)) ** 2


def _robust_model(data: Array, masks: _Filter, spacing: float) -> tuple[Array, Array, Array, Mask]:
    """Slow and periodic part of the image, weights of its pixels, and where the lattice is there."""
    weight = np.ones(data.shape)
    parts = masks.fit(data, weight)
    hole = np.zeros(data.shape, bool)
    for turn in range(ROUNDS):
        hole = _holes(data - parts[0], parts[1], weight, spacing)
        sigma = _column_width(parts[0] + parts[1], spacing)
        loose = ndimage.gaussian_filter(data - parts[0] - parts[1], sigma)
        spread = 1.4826 * np.median(np.abs(loose[~hole])) if (~hole).any() else 0.0
        odd = np.abs(loose) > OUTLIER * max(spread, FLOOR)
        odd = ndimage.binary_dilation(odd, _disc(1.5 * sigma))
        if turn < ROUNDS - 2:  # what a hole has done to the model around it must not be taken for outliers
            odd = np.zeros_like(hole)
        weight = (~(odd | hole)).astype(float)
        parts = masks.fit(data, weight)  # from nothing: what a hole did to the last model is forgotten
        for _ in range(STEPS):
            parts = masks.fit(data, weight, parts)
    known = masks.apply((~hole).astype(float), masks.base) > 0.2
    edge = np.zeros(data.shape, bool)
    rim = max(1, round(sigma))
    edge[rim:-rim, rim:-rim] = True
    return *parts, weight, ~hole & known & edge


def _holes(ac: Array, ripple: Array, weight: Array, spacing: float) -> Mask:
    """Where the lattice seen nearby is missing, and its shore."""
    window = LOOK * spacing
    power = ndimage.gaussian_filter(ripple**2, window, mode="constant")
    share = ndimage.gaussian_filter(ac * ripple, window, mode="constant") / np.maximum(power, 1e-12)
    usual = np.percentile(power, 75)
    missing = (share < PRESENT) | (power < 0.05 * usual)
    return np.asarray(ndimage.binary_dilation(missing, _disc(SHORE * spacing)))


def _disc(radius: float) -> Mask:
    r = max(1, round(radius))
    y, x = np.ogrid[-r : r + 1, -r : r + 1]
    return np.asarray(y**2 + x**2 <= radius**2 + 0.5)


def _column_width(model: Array, spacing: float) -> float:
    """σ [px] of a column: √(−2h / ∇²) at the extrema that are sharper, h being their height over the lowest level.

    A Gaussian of height h has the Laplacian −2h/σ² at its top; lattices of overlapping columns come out a little narrow.
    """
    bend = ndimage.laplace(model)
    size = max(3, round(0.4 * spacing) | 1)
    widths, sharpness = [], []
    for sign in (1, -1):
        side = sign * model
        floor = np.percentile(side, 5)
        top = (side == ndimage.maximum_filter(side, size)) & (side > np.percentile(side, 80))
        h, curve = side[top] - floor, -sign * bend[top]
        good = (curve > 0) & (h > 0)
        if good.sum() >= 3:
            widths.append(float(np.median(np.sqrt(2 * h[good] / curve[good]))))
            sharpness.append(float(np.median(curve[good])))
    width = widths[int(np.argmax(sharpness))] if widths else 0.2 * spacing
    return float(np.clip(width, max(0.7, 0.1 * spacing), 0.35 * spacing))


def _scaled(rest: Array, model: Array, witness: Mask, *, sigma: float, spacing: float) -> tuple[Array, Array]:
    """z of the low-passed residual, and its noise: by intensity, and more where the surroundings are noisier."""
    low = ndimage.gaussian_filter(rest, sigma)
    level = ndimage.gaussian_filter(model, sigma)
    edges = np.quantile(level[witness], np.linspace(0, 1, LEVELS + 1))
    bins = np.clip(np.searchsorted(edges, level) - 1, 0, LEVELS - 1)
    middles = np.array([np.median(level[witness & (bins == k)]) for k in range(LEVELS)])
    spread = np.array([_deviation(low[witness & (bins == k)]) for k in range(LEVELS)])
    middles = np.maximum.accumulate(middles + 1e-9 * np.arange(LEVELS))
    floor = FLOOR * (np.percentile(level[witness], 99) - np.percentile(level[witness], 1))
    noise = np.hypot(np.interp(level, middles, spread), floor)
    step = max(1, round(sigma))
    coarse = np.where(witness, np.abs(low / noise), np.nan)[::step, ::step]
    local = _local_median(coarse, max(3, round(BLOCK * spacing / step) | 1)) / 0.6745
    local = np.clip(ndimage.zoom(local, step, order=1, mode="nearest", grid_mode=True), 1.0, None)
    pad = [(0, max(0, n - m)) for n, m in zip(rest.shape, local.shape, strict=True)]
    local = np.pad(local, pad, mode="edge")[: rest.shape[0], : rest.shape[1]]
    noise = noise * local
    return low / noise, noise


def _deviation(values: Array) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def _local_median(values: Array, size: int) -> Array:
    """Medians over windows of `size`, on a grid of half windows and interpolated; NaN does not count."""
    step = max(1, size // 2)
    out = np.ones([(n - 1) // step + 1 for n in values.shape])
    for i, j in np.ndindex(*out.shape):
        y, x = i * step, j * step
        part = values[max(0, y - step) : y + step + 1, max(0, x - step) : x + step + 1]
        part = part[np.isfinite(part)]
        out[i, j] = np.median(part) if len(part) > 8 else 0.6745
    y, x = (np.arange(n) / step for n in values.shape)
    grid = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(out, grid, order=1, mode="nearest"))


def _density(z: Array, valid: Mask) -> float:
    """Maxima above z = 2 per px² of a Gaussian field with the slopes of this one."""
    slopes = [np.diff(z, axis=axis)[_both(valid & (np.abs(z) < 3), axis)] for axis in (0, 1)]
    area = float(np.prod([max(_deviation(s), 1e-6) for s in slopes]))
    return area * LEAST * float(np.exp(-(LEAST**2) / 2)) / (2 * np.pi) ** 1.5


def _tail(z: Array, valid: Mask, sigma: float) -> float:
    """Width of the fall-off of the maxima's heights between 2 and 3, of the sign that has fewer; 1 for a Gaussian field."""
    fewest: tuple[int, int] | None = None
    for sign in (1, -1):
        heights = tops(sign * z, valid, sigma)[2]
        counts = int((heights >= LEAST + 1).sum()), int((heights >= LEAST).sum())
        fewest = counts if fewest is None else min(fewest, counts)
    high, low = fewest or (0, 0)
    ratio = (high + 0.5) / (low + 4.0)  # a Gaussian's 0.123 where there is nothing to count
    fall = np.log((LEAST + 1) / LEAST / min(ratio, 1.0))
    return float(np.clip(np.sqrt(((LEAST + 1) ** 2 - LEAST**2) / (2 * fall)), 1.0, MOST_TAIL))


def tops(z: Array, valid: Mask, sigma: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """Rows, columns and heights of the maxima ≥ 2 of z (Y, X) in the valid area, highest first."""
    size = 2 * max(1, round(1.5 * sigma)) + 1
    y, x = np.nonzero((z == ndimage.maximum_filter(z, size)) & (z >= LEAST) & valid)
    order = np.argsort(-z[y, x], kind="stable")
    return y[order], x[order], z[y, x][order]


def _both(mask: Mask, axis: int) -> Mask:
    first, second = [slice(None)] * 2, [slice(None)] * 2
    first[axis], second[axis] = slice(1, None), slice(None, -1)
    return np.asarray(mask[tuple(first)] & mask[tuple(second)])


def candidates(residual: Residual) -> pd.DataFrame:
    """Maxima of |z| ≥ 2, strongest first: y, x, y_err, x_err [px], sign, z, area_px2, q.

    Position: parabola through the maximum; 1σ error √2 σ/|z|, the Cramér–Rao bound of a Gaussian of width σ in white noise.
    area_px2: connected area above half of it. q: false-discovery rate of all down to this one (Y. Benjamini and Y. Hochberg
    1995): noise maxima expected above |z| over maxima found above it, of that sign; never less than for a stronger one.
    """
    parts = [_maxima(residual, sign) for sign in (1, -1)]
    return pd.concat(parts, ignore_index=True).sort_values(
        "z", key=lambda v: -np.abs(v), kind="stable", ignore_index=True
    )


def _maxima(residual: Residual, sign: int) -> pd.DataFrame:
    z, sigma = sign * residual.z, residual.sigma
    y, x, height = tops(z, residual.valid, sigma)
    false = residual.false_maxima(height) / 2
    q = np.maximum.accumulate(false / np.arange(1, len(y) + 1)).clip(max=1.0) if len(y) else np.zeros(0)
    position = np.array([vertex(z, i, j) for i, j in zip(y, x, strict=True)]).reshape(-1, 2)
    error = np.sqrt(2) * sigma / np.maximum(height, 1e-9)
    area = [_area(z, i, j, 4 * sigma) for i, j in zip(y, x, strict=True)]
    return pd.DataFrame(
        {
            "y": position[:, 0],
            "x": position[:, 1],
            "y_err": error,
            "x_err": error,
            "sign": np.full(len(y), sign, dtype=np.int64),
            "z": sign * height,
            "area_px2": np.array(area, dtype=float),
            "q": q,
        }
    )


def vertex(z: Array, i: int, j: int) -> tuple[float, float]:
    """Where the parabolas through (i, j) and its neighbours are highest, at most half a pixel away."""
    out = []
    for at, line, n in ((i, z[:, j], z.shape[0]), (j, z[i], z.shape[1])):
        shift = 0.0
        if 0 < at < n - 1:
            a, b, c = line[at - 1 : at + 2]
            bend = a - 2 * b + c
            shift = float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) if bend < 0 else 0.0
        out.append(at + shift)
    return out[0], out[1]


def _area(z: Array, i: int, j: int, reach: float) -> float:
    r = max(2, int(reach))
    y, x = max(0, i - r), max(0, j - r)
    part = z[y : i + r + 1, x : j + r + 1] > 0.5 * z[i, j]
    labels, _ = ndimage.label(part)
    return float((labels == labels[i - y, j - x]).sum())
