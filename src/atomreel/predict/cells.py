"""Unit cells of windows: the lattice that explains the spectrum and agrees with the class, with its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from atomreel.core.lattice import Lattice
from atomreel.nets.bravais import symmetry_distances
from atomreel.nets.spectrum import SIZE, Lattices

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
SOUND = (
    0.5  # of the best candidate's evidence: less, and agreeing with the class does not make a candidate right
)
AGREES = 0.03  # hyperbolic distance, beside three errors, within which a candidate is of the class
TIE = 0.02  # relative difference of lengths below which a is the vector nearest to the x axis
SAME = 0.08  # of a's length: windows whose lattices differ by more do not show one crystal


@dataclass(frozen=True)
class Cells:
    """Of N windows: vectors (N, 2, 2), rows a and b as (y, x) of a reduced cell [px], and covariance (N, 4, 4) [px²].

    NaN where a window shows no lattice. Errors cover spots and their misfit, not what the instrument does to an image.
    """

    vectors: FloatArray
    covariance: FloatArray

    def scaled(self, factor: tuple[float, float]) -> Cells:
        """In other units, factor (y, x) per px, reduced anew as pixels need not be square."""
        scale = np.asarray(factor, dtype=float)
        four = np.tile(scale, 2)
        return _reduced(self.vectors * scale, self.covariance * np.outer(four, four))


def no_cells(number: int) -> Cells:
    return Cells(np.full((number, 2, 2), np.nan), np.full((number, 4, 4), np.nan))


def cells_of(found: Lattices, probability: torch.Tensor, *, scale: float, classes: tuple[str, ...]) -> Cells:
    """Cells of N windows, each of its likeliest class; NaN for noise.

    probability: (N, 6) in the order of `classes`. scale: px of the image per px of the window that was looked at.
    """
    named = probability.argmax(-1)
    which = _agreeing(found, named, classes)[:, None]
    first, second = (z.gather(1, which)[:, 0] for z in (found.first, found.second))
    spots = torch.view_as_real(torch.stack([first, second], 1)).flip(-1).double().numpy()
    own = found.covariance.gather(1, which[..., None].expand(-1, 1, 3))[:, 0].double()
    spread = (own * found.claim().gather(1, which).double().square()).numpy()
    pair = np.stack([spread[:, [0, 1]], spread[:, [1, 2]]], 1)
    vectors = np.linalg.inv(spots).transpose(0, 2, 1) * SIZE * scale
    # A = B⁻ᵀ, so dA = −A dBᵀ A: d a_rc = −Σ a_rl dB_kl a_kc
    slope = -np.einsum("nrl,nkc->nrckl", vectors, vectors).reshape(-1, 4, 4) / (SIZE * scale)
    noise = np.einsum("nij,kl->nikjl", pair, np.eye(2)).reshape(-1, 4, 4)
    cells = _reduced(vectors, slope @ noise @ slope.transpose(0, 2, 1))
    none = (named == classes.index("noise")).numpy()
    cells.vectors[none], cells.covariance[none] = np.nan, np.nan
    return cells


def _agreeing(found: Lattices, named: torch.Tensor, classes: tuple[str, ...]) -> torch.Tensor:
    """(N,) the candidate with the most evidence among those of the named class; without one, among all."""
    distance = symmetry_distances(found.second / found.first)
    square, rectangular, unit, half, hexagonal = distance.abs().unbind(-1)
    away = {"square": square, "rectangular": rectangular, "centred": torch.minimum(unit, half)}
    away |= {"hexagonal": hexagonal}
    own = torch.stack([away.get(name, torch.zeros_like(square)) for name in classes], -1)
    own = own.gather(2, named[:, None, None].expand(-1, own.shape[1], 1))[..., 0]
    near = own <= AGREES + 3 * found.sigma * found.claim()
    near &= found.score >= SOUND * found.score.amax(1, keepdim=True)
    return torch.where(near, found.score, found.score - 1e3).argmax(1)


def _reduced(vectors: FloatArray, covariance: FloatArray) -> Cells:
    """a the shortest vector, b the shortest other one at 60° to 90°; of equally short ones a is the one nearest to x."""
    change = np.broadcast_to(np.eye(2), vectors.shape).copy()
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    for _ in range(8):
        v = change @ vectors
        longer = (v[:, 0] ** 2).sum(-1) > (v[:, 1] ** 2).sum(-1)
        change[longer] = swap @ change[longer]
        v = change @ vectors
        turns = np.rint((v[:, 0] * v[:, 1]).sum(-1) / (v[:, 0] ** 2).sum(-1))
        change[:, 1] -= np.nan_to_num(turns)[:, None] * change[:, 0]
    v = change @ vectors
    change[:, 1] *= np.where((v[:, 0] * v[:, 1]).sum(-1) < 0, -1.0, 1.0)[:, None]
    options = np.array(
        [[[1.0, 0], [0, 1]], [[0, 1], [1, 0]], [[-1, 1], [0, 1]]]
    )  # (a, b), (b, a), (b − a, b)
    tried = np.einsum("oij,njk,nkl->noil", options, change, vectors)
    length = np.hypot(tried[:, :, 0, 0], tried[:, :, 0, 1])
    steep = np.abs(tried[:, :, 0, 0]) / np.where(length > 0, length, 1)
    short = length <= length.min(1, keepdims=True) * (1 + TIE)
    change = options[np.where(short, steep, 2.0).argmin(1)] @ change
    ahead = (change @ vectors)[:, 0]
    left = (ahead[:, 1] < 0) | ((ahead[:, 1] == 0) & (ahead[:, 0] > 0))
    change = change * np.where(left, -1.0, 1.0)[:, None, None]
    big = np.einsum("nij,kl->nikjl", change, np.eye(2)).reshape(-1, 4, 4)
    return Cells(change @ vectors, big @ covariance @ big.transpose(0, 2, 1))


def measures(cells: Cells) -> dict[str, FloatArray]:
    """a, b in the unit of the cells, gamma and angle (direction of a, counter-clockwise on screen) in degrees; each (N,)
    and with its 1σ error as NAME_err."""
    v, cov = cells.vectors, cells.covariance
    length = np.hypot(v[..., 0], v[..., 1])
    unit = v / length[..., None]
    turn = np.stack([unit[..., 1], -unit[..., 0]], -1) / length[..., None]  # dθ of θ = atan2(y, x), per row
    none = np.zeros_like(turn[:, 0])
    slopes = {
        "a": np.concatenate([unit[:, 0], none], -1),
        "b": np.concatenate([none, unit[:, 1]], -1),
        "gamma": np.concatenate([-turn[:, 0], turn[:, 1]], -1),
        "angle": np.concatenate([turn[:, 0], none], -1),
    }
    area = v[:, 0, 0] * v[:, 1, 1] - v[:, 0, 1] * v[:, 1, 0]
    values = {
        "a": length[:, 0],
        "b": length[:, 1],
        "gamma": np.degrees(np.arctan2(np.abs(area), (v[:, 0] * v[:, 1]).sum(-1))),
        "angle": np.degrees(np.arctan2(-v[:, 0, 0], v[:, 0, 1])),
    }
    out: dict[str, FloatArray] = {}
    for name, slope in slopes.items():
        error = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", slope, cov, slope), 0))
        out |= {name: values[name], f"{name}_err": error if name in "ab" else np.degrees(error)}
    return out


def cell_maps(cells: Cells, *, pixel: tuple[float, float] | None = None) -> dict[str, FloatArray]:
    """a_px, b_px, gamma_deg, angle_deg with their _err, (N,); where pixel (dy, dx) [Å] is known, also a_A and b_A, and
    γ and direction are those in the specimen."""
    own = measures(cells)
    names = {"a": "a_px", "b": "b_px", "gamma": "gamma_deg", "angle": "angle_deg"}
    found = {names[n] + end: own[n + end] for n in names for end in ("", "_err")}
    if pixel is not None:
        metric = measures(cells.scaled(pixel))
        names |= {"a": "a_A", "b": "b_A"}
        found |= {names[n] + end: metric[n + end] for n in names for end in ("", "_err")}
    return found


def common_lattice(
    cells: Cells, *, independent: float, pixel: tuple[float, float] | None = None
) -> tuple[Lattice | None, float]:
    """The lattice that most windows of one frame share, and the share of the windows with a lattice that do.

    independent: number of windows that would share no pixels with each other and see as much. Errors: those of
    the weighted mean, enlarged where windows scatter by more than they claim. None where no window has a lattice.
    """
    known = np.isfinite(cells.vectors).all((1, 2)) & np.isfinite(cells.covariance).all((1, 2))
    vectors, covariance = cells.vectors[known], cells.covariance[known]
    if vectors.shape[0] == 0:
        return None, 0.0
    best, turned, chosen = np.zeros(vectors.shape[0], bool), vectors, vectors
    for k in np.argsort(np.trace(covariance, axis1=1, axis2=2), kind="stable")[:16]:
        change = np.rint(vectors[k] @ np.linalg.inv(vectors))
        moved = change @ vectors
        off = np.linalg.norm(moved - vectors[k], axis=-1).max(-1)
        alike: BoolArray = (np.abs(np.abs(np.linalg.det(change)) - 1) < 0.1) & (
            off < SAME * np.linalg.norm(vectors[k, 0])
        )
        if int(alike.sum()) > int(best.sum()):
            best, turned, chosen = alike, moved, change
    big = np.einsum("nij,kl->nikjl", chosen[best], np.eye(2)).reshape(-1, 4, 4)
    spread = big @ covariance[best] @ big.transpose(0, 2, 1)
    weight = np.linalg.inv(spread + 1e-12 * np.eye(4))
    total = np.linalg.inv(weight.sum(0))
    flat = turned[best].reshape(-1, 4)
    mean = total @ np.einsum("nij,nj->i", weight, flat)
    n = flat.shape[0]
    chi2 = np.einsum("ni,nij,nj->", flat - mean, weight, flat - mean) / (4 * (n - 1)) if n > 1 else 1.0
    shared = max(1.0, n / max(independent * n / known.size, 1.0))
    merged = _reduced(mean.reshape(1, 2, 2), (total * max(1.0, chi2) * shared)[None])
    cov = np.zeros((6, 6))
    cov[2:, 2:] = merged.covariance[0]
    return Lattice(np.zeros(2), merged.vectors[0], cov, pixel=pixel), float(best.mean())


def lattice_row(lattice: Lattice | None) -> Mapping[str, Any]:
    """The columns of `cell_maps` for one lattice; NaN for none."""
    if lattice is None:
        return {name: float(value[0]) for name, value in cell_maps(no_cells(1), pixel=(1.0, 1.0)).items()}
    one = Cells(lattice.vectors[None], lattice.covariance[None, 2:, 2:])
    row = {name: float(value[0]) for name, value in cell_maps(one, pixel=lattice.pixel).items()}
    return cast(
        Mapping[str, Any],
        row if lattice.pixel else row | dict.fromkeys(("a_A", "a_A_err", "b_A", "b_A_err"), np.nan),
    )
