"""Loops over the windows of columns, compiled: what a peak is on every pixel, and sums of images with it.

A window is one column's square of n × n pixels. `place` is (corner, offset): (N, 2) first pixel in the padded image and
(N, 2) centre pixel − position. `peak` is (value, slope): (N, n, n) g and −2·dg/dq, so that ∂g/∂position = slope · M · d,
with M the shape's form and d the pixel's distance from the column. `shape` is (yy, xx, yx, skirt). Nothing is
checked here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np

# sums in any order, for speed; nothing that would make results depend on whether the machine code was made or kept
LOOSE = {"reassoc", "nsz"}


def compiled(function: Any) -> Any:
    """Machine code of a function of arrays and numbers; kept beside the source, or made anew where nothing can be kept."""
    translate = partial(numba.njit, nogil=True, fastmath=LOOSE, error_model="numpy")
    try:
        return translate(cache=True)(function)
    except RuntimeError:  # a folder that cannot be written to
        return translate()(function)


REACH2 = 11.0  # squared radius, in units of the Gaussian's own width, at which the skirt ends
F = np.float32
HALF, ONE, TWO, NONE = F(0.5), F(1), F(2), F(0)
PART, SIX_PARTS = F(1 / REACH2), F(6 / REACH2)


@compiled
def _sides(n):
    side = np.empty(n, np.float32)
    for k in range(n):
        side[k] = F(k - n // 2)
    return side


@compiled
def _tilts(side, yx):
    """exp(−yx·k_y·k_x): what a tilted Gaussian has beside a row and a column, the same for all windows."""
    n = len(side)
    tilt = np.empty((n, n), np.float32)
    for j in range(n):
        for k in range(n):
            tilt[j, k] = np.exp(-yx * side[j] * side[k])
    return tilt


@compiled
def _one_peak(offset, given, peak):
    """g and −2·dg/dq of one window; on a grid the Gaussian is a product of a row, a column and `tilt`."""
    shape, side, tilt = given
    value, slope = peak
    yy, xx, yx, skirt = shape
    fy, fx = offset[0], offset[1]
    n = len(side)
    cols, across = np.empty(n, np.float32), np.empty(n, np.float32)
    for k in range(n):
        dx = fx + side[k]
        cols[k] = np.exp(-HALF * xx * dx * dx - yx * fy * side[k])
        across[k] = ONE - PART * xx * dx * dx
    for j in range(n):
        dy = fy + side[j]
        row = (ONE - skirt) * np.exp(-HALF * yy * dy * dy - yx * fx * dy)
        down, lean = PART * yy * dy * dy, TWO * PART * yx * dy
        for k in range(n):
            core = row * cols[k] * tilt[j, k]
            left = max(across[k] - down - lean * (fx + side[k]), NONE)
            square = skirt * left * left
            value[j, k] = core + square * left
            slope[j, k] = core + SIX_PARTS * square


@compiled
def inverses(blocks, out):
    """(N, 3, 3) inverses of symmetric positive blocks, by cofactors."""
    for i in range(len(blocks)):
        a, b, c = blocks[i, 0, 0], blocks[i, 0, 1], blocks[i, 0, 2]
        d, e, f = blocks[i, 1, 1], blocks[i, 1, 2], blocks[i, 2, 2]
        first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
        scale = 1 / (a * first + b * second + c * third)
        out[i, 0, 0] = first * scale
        out[i, 0, 1] = out[i, 1, 0] = second * scale
        out[i, 0, 2] = out[i, 2, 0] = third * scale
        out[i, 1, 1] = (a * f - c * c) * scale
        out[i, 1, 2] = out[i, 2, 1] = (b * c - a * e) * scale
        out[i, 2, 2] = (a * d - b * b) * scale


@compiled
def fill(offset, shape, peak):
    """Write the peaks of windows with these offsets."""
    value, slope = peak
    side = _sides(value.shape[1])
    given = shape, side, _tilts(side, shape[2])
    for c in range(len(offset)):
        _one_peak(offset[c], given, (value[c], slope[c]))


@compiled
def draw(image, window, coefficients):
    """Add Σ_k coefficients (N, 3) · (g, ∂g/∂y, ∂g/∂x) of every column to the padded image."""
    (corner, offset), (value, slope), (yy, xx, yx, _) = window
    n = value.shape[1]
    side = _sides(n)
    for c in range(len(corner)):
        h, gy, gx = F(coefficients[c, 0]), F(coefficients[c, 1]), F(coefficients[c, 2])
        by_y, by_x = yy * gy + yx * gx, yx * gy + xx * gx
        flat = by_y == NONE and by_x == NONE
        for j in range(n):
            line = image[corner[c, 0] + j, corner[c, 1] : corner[c, 1] + n]
            if flat:
                for k in range(n):
                    line[k] += h * value[c, j, k]
                continue
            first = by_y * (offset[c, 0] + side[j]) + by_x * offset[c, 1]
            for k in range(n):
                line[k] += h * value[c, j, k] + slope[c, j, k] * (first + by_x * side[k])


@compiled
def draw_shape_slopes(images, window, heights):
    """Add the derivatives of the model by yy, xx, yx and skirt to four padded images."""
    (corner, offset), (_, slope), (yy, xx, yx, skirt) = window
    n = slope.shape[1]
    side, dx = _sides(n), np.empty(n, np.float32)
    for c in range(len(corner)):
        h, y, x = F(heights[c]), corner[c, 0], corner[c, 1]
        for k in range(n):
            dx[k] = offset[c, 1] + side[k]
        for j in range(n):
            dy = offset[c, 0] + side[j]
            by_yy, by_xx, by_yx, by_skirt = (
                images[0, y + j, x : x + n],
                images[1, y + j, x : x + n],
                images[2, y + j, x : x + n],
                images[3, y + j, x : x + n],
            )
            for k in range(n):
                part = -HALF * h * slope[c, j, k]
                by_yy[k] += part * dy * dy
                by_xx[k] += part * dx[k] * dx[k]
                by_yx[k] += TWO * part * dy * dx[k]
                left = max(ONE - PART * (yy * dy * dy + xx * dx[k] * dx[k] + TWO * yx * dy * dx[k]), NONE)
                gauss = (slope[c, j, k] - SIX_PARTS * skirt * left * left) / (ONE - skirt)
                by_skirt[k] += h * (left * left * left - gauss)


@compiled
def project(image, window, out):
    """(N, 3) sums of the padded image times g, ∂g/∂y and ∂g/∂x."""
    (corner, offset), (value, slope), (yy, xx, yx, _) = window
    n = value.shape[1]
    side = _sides(n)
    # sums down the columns of pixels, which the compiler does several at a time
    by_value, by_slope, by_y = np.empty((3, n), np.float32)
    for c in range(len(corner)):
        by_value[:], by_slope[:], by_y[:] = NONE, NONE, NONE
        for j in range(n):
            line = image[corner[c, 0] + j, corner[c, 1] : corner[c, 1] + n]
            y = offset[c, 0] + side[j]
            for k in range(n):
                one = line[k] * slope[c, j, k]
                by_value[k] += line[k] * value[c, j, k]
                by_slope[k] += one
                by_y[k] += y * one
        whole, down, across = 0.0, 0.0, 0.0
        for k in range(n):
            whole += by_value[k]
            down += by_y[k]
            across += by_slope[k] * (offset[c, 1] + side[k])
        out[c, 0] = whole
        out[c, 1] = yy * down + yx * across
        out[c, 2] = yx * down + xx * across


@compiled
def means_under(image, window, out):
    """(N,) means of the padded image under each column, weighted by g where it is positive."""
    (corner, _), (value, _), _ = window
    n = value.shape[1]
    for c in range(len(corner)):
        total, weight = 0.0, 0.0
        for j in range(n):
            line = image[corner[c, 0] + j, corner[c, 1] : corner[c, 1] + n]
            for k in range(n):
                under = max(value[c, j, k], NONE)
                total += under * line[k]
                weight += under
        out[c] = total / max(weight, 1e-9)


@compiled
def _grid(n):
    """(n·n,) y and x of the pixels of a window about its centre."""
    y, x = np.empty(n * n, np.float32), np.empty(n * n, np.float32)
    for p in range(n * n):
        y[p], x[p] = F(p // n - n // 2), F(p % n - n // 2)
    return y, x


@compiled
def _cut(image, at, out):
    """The window at (corner, n) of an image in one piece, so that sums over it take many pixels at a time."""
    corner, n = at
    for j in range(n):
        for k in range(n):
            out[j * n + k] = image[corner[0] + j, corner[1] + k]


@compiled
def own_sums(weight, window, out):
    """(N, 3, 3) Σ weight · basis · basisᵀ of every column with itself and (N, 3) Σ weight · basis."""
    (corner, offset), (value, slope), shape = window
    own, flat = out
    n = value.shape[1]
    values, slopes = value.reshape(len(value), n * n), slope.reshape(len(value), n * n)
    grid, square = _grid(n), np.empty(n * n, np.float32)
    for c in range(len(corner)):
        _cut(weight, (corner[c], n), square)
        one = values[c], slopes[c], offset[c]
        _with_constant(square, (one, grid, shape), flat[c])
        _products(square, (one, one, grid, shape), own[c])


@compiled
def _with_constant(weight, column, out):
    """(3,) Σ weight · basis of one column, (value, slope, offset), on one window."""
    (value, slope, f), (y, x), (yy, xx, yx, _) = column
    whole, by_slope, by_y, by_x = NONE, NONE, NONE, NONE
    for p in range(len(weight)):
        whole += weight[p] * value[p]
        one = weight[p] * slope[p]
        by_slope += one
        by_y += one * y[p]
        by_x += one * x[p]
    down, across = by_y + by_slope * f[0], by_x + by_slope * f[1]
    out[0], out[1], out[2] = whole, yy * down + yx * across, yx * down + xx * across


@compiled
def _products(weight, pair, out):
    """(3, 3) Σ weight · basis · basis'ᵀ of two columns, each (value, slope, offset), on one window.

    By moments about the centre pixel, then moved to the columns.
    """
    (value, slope, f), (value_2, slope_2, g), (y, x), (yy, xx, yx, _) = pair
    vv, vs, vs_y, vs_x, sv, sv_y, sv_x = NONE, NONE, NONE, NONE, NONE, NONE, NONE
    for p in range(len(weight)):
        v, s = weight[p] * value[p], weight[p] * slope[p]
        vv += v * value_2[p]
        one, two = v * slope_2[p], s * value_2[p]
        vs += one
        vs_y += one * y[p]
        vs_x += one * x[p]
        sv += two
        sv_y += two * y[p]
        sv_x += two * x[p]
    ss, ss_y, ss_x, ss_yy, ss_yx, ss_xx = NONE, NONE, NONE, NONE, NONE, NONE
    for p in range(len(weight)):
        both = weight[p] * slope[p] * slope_2[p]
        ss += both
        ss_y += both * y[p]
        ss_x += both * x[p]
        ss_yy += both * y[p] * y[p]
        ss_yx += both * y[p] * x[p]
        ss_xx += both * x[p] * x[p]
    out[0, 0] = vv
    down, across = vs_y + vs * g[0], vs_x + vs * g[1]
    out[0, 1], out[0, 2] = yy * down + yx * across, yx * down + xx * across
    down, across = sv_y + sv * f[0], sv_x + sv * f[1]
    out[1, 0], out[2, 0] = yy * down + yx * across, yx * down + xx * across
    m_yy = ss_yy + ss_y * (f[0] + g[0]) + ss * f[0] * g[0]
    m_xx = ss_xx + ss_x * (f[1] + g[1]) + ss * f[1] * g[1]
    m_yx = ss_yx + ss_y * g[1] + ss_x * f[0] + ss * f[0] * g[1]
    m_xy = ss_yx + ss_y * f[1] + ss_x * g[0] + ss * f[1] * g[0]
    y_y, y_x = yy * m_yy + yx * m_xy, yy * m_yx + yx * m_xx
    x_y, x_x = yx * m_yy + xx * m_xy, yx * m_yx + xx * m_xx
    out[1, 1], out[1, 2] = y_y * yy + y_x * yx, y_y * yx + y_x * xx
    out[2, 1], out[2, 2] = x_y * yy + x_x * yx, x_y * yx + x_x * xx


@compiled
def pair_products(weight, at, out):
    """(P, 3, 3) Σ weight · basis · basis'ᵀ of pairs of columns. at: corners (P, 2) of the windows that they share,
    the offsets of the first and the second column there, the shape and the windows' side."""
    corner, first, second, shape, n = at
    side, grid = _sides(n), _grid(n)
    given = shape, side, _tilts(side, shape[2])
    two, square = np.empty((2, 2, n, n), np.float32), np.empty(n * n, np.float32)
    flat = two.reshape(2, 2, n * n)
    for p in range(len(corner)):
        _one_peak(first[p], given, (two[0, 0], two[0, 1]))
        _one_peak(second[p], given, (two[1, 0], two[1, 1]))
        _cut(weight, (corner[p], n), square)
        pair = (flat[0, 0], flat[0, 1], first[p]), (flat[1, 0], flat[1, 1], second[p]), grid, shape
        _products(square, pair, out[p])


@compiled
def slopes_along(images, window, out):
    """What jitter is measured by: sums over each window's rows and columns of (weight·residual)·m' and weight·m'·M'.

    images: weight·residual, weight and M', the slope of the whole model by one direction, all padded. window: with the
    heights and the direction (0 y, 1 x) of m', the slope of one column. out: gradient and information of the rows,
    then of the columns, (N, n) each.
    """
    weighted, weight, whole = images
    (corner, offset), (_, slope), (yy, xx, yx, _), heights, axis = window
    rows_g, rows_i, cols_g, cols_i = out
    n = slope.shape[1]
    side = _sides(n)
    by_y, by_x = (yy, yx) if axis == 0 else (yx, xx)
    for c in range(len(corner)):
        h, y, x = F(heights[c]), corner[c, 0], corner[c, 1]
        cols_g[c], cols_i[c] = NONE, NONE
        for j in range(n):
            first = h * (by_y * (offset[c, 0] + side[j]) + by_x * offset[c, 1])
            step = h * by_x
            g, i = NONE, NONE
            for k in range(n):
                own = slope[c, j, k] * (first + step * side[k])
                one = weighted[y + j, x + k] * own
                two = weight[y + j, x + k] * own * whole[y + j, x + k]
                g += one
                i += two
                cols_g[c, k] += one
                cols_i[c, k] += two
            rows_g[c, j], rows_i[c, j] = g, i
