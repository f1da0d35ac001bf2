"""A smooth background: bilinear hats on a coarse grid of knots, fitted together with the columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import sparse

from atomreel.interpret.chunks import in_chunks
from atomreel.interpret.peaks import Floats, Windows


@dataclass(frozen=True)
class Hats:
    """rows: (Y', Ky) and cols: (X', Kx) weights of the knots on each padded row and column."""

    rows: npt.NDArray[np.float32]
    cols: npt.NDArray[np.float32]

    @property
    def knots(self) -> tuple[int, int]:
        return self.rows.shape[1], self.cols.shape[1]

    def draw(self, heights: Floats) -> npt.NDArray[np.float32]:
        """Padded image (Y', X') of knot heights (Ky·Kx,)."""
        return self.rows @ heights.reshape(self.knots).astype(np.float32) @ self.cols.T

    def collect(self, image: Floats) -> npt.NDArray[np.float64]:
        """(Ky·Kx,) sums of image × hat."""
        return (self.rows.T @ image @ self.cols).ravel().astype(float)


def count_knots(size: tuple[int, int], step: float) -> tuple[int, int]:
    """Knots about `step` px apart over (Y, X); a single constant where the image is shorter than 1.5 steps."""
    ky, kx = (max(1, round((n - 1) / step)) + 1 if n > 1.5 * step else 1 for n in size)
    return ky, kx


def make_hats(size: tuple[int, int], *, knots: tuple[int, int], border: int) -> Hats:
    """Hats over an image of unpadded `size`, the outermost knots on its border pixels."""
    rows, cols = (_hats_1d(length, count, border) for length, count in zip(size, knots, strict=True))
    return Hats(rows, cols)


def _hats_1d(length: int, count: int, border: int) -> npt.NDArray[np.float32]:
    if count == 1:
        return np.ones((length + 2 * border, 1), np.float32)
    place = np.clip(np.arange(-border, length + border), 0, length - 1) * (count - 1) / (length - 1)
    return np.asarray(np.maximum(1 - np.abs(place[:, None] - np.arange(count)), 0).astype(np.float32))


def own_matrix(hats: Hats, weight: Floats) -> sparse.csr_array:
    """(K, K) Σ weight · hat · hatᵀ, with a slight pull of each knot towards its neighbours.

    The pull decides knots that no pixel speaks for (masked or covered by columns).
    """
    ky, kx = hats.knots
    entries = []
    for oy in (-1, 0, 1):
        left = _shifted(hats.rows, oy).T @ weight
        for ox in (-1, 0, 1):
            if abs(oy) >= ky or abs(ox) >= kx:
                continue
            iy = np.arange(max(0, -oy), ky - max(0, oy))
            ix = np.arange(max(0, -ox), kx - max(0, ox))
            values = left @ _shifted(hats.cols, ox)  # of the knots that have a partner at (+oy, +ox)
            first = iy[:, None] * kx + ix
            entries.append((values.ravel(), first.ravel(), (first + oy * kx + ox).ravel()))
    data, row, col = (np.concatenate(part) for part in zip(*entries, strict=True))
    total = sparse.csr_array((data.astype(float), (row, col)), shape=(ky * kx, ky * kx))
    scale = float(total.diagonal().mean())
    return total + 1e-3 * scale * _roughness(ky, kx)


def _shifted(hats: Floats, offset: int) -> Floats:
    n = hats.shape[1]
    low, high = max(0, -offset), n - max(0, offset)
    return hats[:, low:high] * hats[:, low + offset : high + offset]


@cache
def _roughness(ky: int, kx: int) -> sparse.csr_array:
    def line(n: int) -> sparse.csr_array:
        if n == 1:
            return sparse.csr_array((1, 1))
        step = sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
        return sparse.csr_array(step.T @ step)

    return sparse.csr_array(
        sparse.kron(line(ky), sparse.eye_array(kx)) + sparse.kron(sparse.eye_array(ky), line(kx))
    )


def cross_matrix(hats: Hats, weight_windows: Floats, w: Windows, *, factor: Floats) -> sparse.csr_array:
    """(3·N, K) Σ weight · basis · hatᵀ, times factor (N, 3), of columns with the knots that their windows touch."""
    n, count = 2 * w.radius + 1, len(w.corner)
    side = np.arange(n, dtype=np.float32) - w.radius
    rows, first_y = _local(hats.rows, w.corner[:, 0], n)
    cols, first_x = _local(hats.cols, w.corner[:, 1], n)
    tilted_rows, tilted_cols = (
        line * (w.offset[:, k, None] + side)[:, :, None] for k, line in enumerate((rows, cols))
    )
    blocks = np.empty((count, 3, rows.shape[2], cols.shape[2]), np.float32)

    def fill(at: slice) -> None:
        down, across = rows[at].transpose(0, 2, 1), cols[at]
        by_value = (weight_windows[at] * w.value[at]).reshape(-1, n, n)
        by_slope = (weight_windows[at] * w.slope[at]).reshape(-1, n, n)
        blocks[at, 0] = down @ (by_value @ across)
        blocks[at, 1] = tilted_rows[at].transpose(0, 2, 1) @ (by_slope @ across)
        blocks[at, 2] = down @ (by_slope @ tilted_cols[at])

    in_chunks(fill, count)
    form = np.array([[w.shape.yy, w.shape.yx], [w.shape.yx, w.shape.xx]], np.float32)
    blocks[:, 1:] = np.einsum("kl,nlyx->nkyx", form, blocks[:, 1:])
    blocks *= factor[:, :, None, None].astype(np.float32)
    ky, kx = hats.knots
    # past the last knot the hats are zero, and so are the sums: any knot may take them
    knot_y = np.minimum(first_y[:, None] + np.arange(blocks.shape[2]), ky - 1)
    knot_x = np.minimum(first_x[:, None] + np.arange(blocks.shape[3]), kx - 1)
    col = (knot_y[:, :, None] * kx + knot_x[:, None, :])[:, None].repeat(3, axis=1)
    starts = np.arange(3 * count + 1) * (col.shape[2] * col.shape[3])
    return sparse.csr_array((blocks.ravel().astype(float), col.ravel(), starts), shape=(3 * count, ky * kx))


def _local(hats: Floats, start: npt.NDArray[np.integer], n: int) -> tuple[Floats, npt.NDArray[np.integer]]:
    """(N, n, l) hats on the rows of each window, and the first of its l knots."""
    first_of_row = np.argmax(hats > 0, axis=1)
    first = first_of_row[start]
    last = hats.shape[1] - 1 - np.argmax(hats[:, ::-1] > 0, axis=1)
    span = int((last[start + n - 1] - first).max()) + 1
    wide = np.pad(hats, ((0, 0), (0, span)))
    lines = start[:, None] + np.arange(n)
    knots = first[:, None] + np.arange(span)
    return wide[lines[:, :, None], knots[:, None, :]], first
