"""A detector trained on one frame, applied to frames of the same movie; and what its scores are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage, optimize
from scipy.special import expit, logit

from atomreel.core.errors import InputError
from atomreel.interpret.sampling import to_image
from atomreel.interpret.scenes import Scene, pristine, surrogate, transplanted
from atomreel.nets.detector import CLASSES

Array = npt.NDArray[np.float64]
KINDS = CLASSES[1:]
AGREES = 1.5  # least z, of the right sign, near a detection
LEAST = 0.03  # output of the network below which nothing is even counted
# what is known of the calibration before any detection
SLOPE, SLOPE_SD = 1.0, 0.5
LEVEL, LEVEL_SD = 0.0, 3.0
HEIGHT_SD = 1.0
COLUMNS = ("y", "x", "y_err", "x_err", "kind", "logit", "z")


def defect_maps(net: torch.nn.Module, scene: Scene) -> npt.NDArray[np.float32]:
    """(3, Y, X) outputs of the network, 1 in sum: background, brighter, dimmer; background where the lattice is not seen."""
    with torch.inference_mode():
        out = torch.softmax(net(torch.from_numpy(scene.channels()[None])), 1)[0]
    background = np.array([1, 0, 0], np.float32)[:, None, None]
    return np.where(scene.valid, out.numpy(), background)


def detections(maps: npt.NDArray[np.float32], scene: Scene, *, factor: float = 1.0) -> pd.DataFrame:
    """What the maps of the network say: y, x, y_err, x_err [px of the image], kind, logit (of the output), z.

    A detection is a maximum of "brighter" or "dimmer" within the valid area. Its position is the nearest maximum of the residual's
    z of that sign, at most 1.5 σ away, with √2 σ/|z| as its 1σ error. Where |z| is nowhere 1.5 there, the residual says nothing
    of the kind and it is no detection: the rims of strong defects, of which no label says what they are.
    """
    rows = []
    z = scene.z
    size = 2 * max(1, round(1.5 * scene.sigma)) + 1
    for number, kind in enumerate(KINDS, start=1):
        part = maps[number]
        top = (part == ndimage.maximum_filter(part, size)) & (part > LEAST) & scene.valid
        sign = 1 if kind == "brighter" else -1
        for i, j in np.argwhere(top):
            place, height = _summit(sign * z, int(i), int(j), 1.5 * scene.sigma)
            if height < AGREES:
                continue
            error = np.sqrt(2) * scene.sigma / height
            y, x = to_image(np.array(place), factor)
            value = float(logit(np.clip(part[i, j], 1e-6, 1 - 1e-6)))
            rows.append((y, x, error * factor, error * factor, kind, value, sign * height))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    floats = [name for name in COLUMNS if name != "kind"]
    return _once(table.astype(dict.fromkeys(floats, float)), 1.5 * scene.sigma * factor)


def _summit(z: Array, i: int, j: int, reach: float) -> tuple[tuple[float, float], float]:
    """The highest point of z near (i, j), by parabolas, and its height."""
    r = max(1, round(reach))
    a, b = max(0, i - r), max(0, j - r)
    part = z[a : i + r + 1, b : j + r + 1]
    k, m = np.unravel_index(int(np.argmax(part)), part.shape)
    y, x = a + int(k), b + int(m)
    if (
        not (0 < y < z.shape[0] - 1 and 0 < x < z.shape[1] - 1)
        or z[y, x] < z[y - 1 : y + 2, x - 1 : x + 2].max()
    ):
        return (float(i), float(j)), 0.0  # rises beyond: no maximum of its own
    out = []
    for at, line in ((y, z[y - 1 : y + 2, x]), (x, z[y, x - 1 : x + 2])):
        bend = line[0] - 2 * line[1] + line[2]
        out.append(at + (float(np.clip(0.5 * (line[0] - line[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0))
    return (out[0], out[1]), float(z[y, x])


def _once(table: pd.DataFrame, apart: float) -> pd.DataFrame:
    """Of detections that share a place and a kind, the surest."""
    table = table.sort_values("logit", ascending=False, kind="stable", ignore_index=True)
    where, kinds = table[["y", "x"]].to_numpy(float), table["kind"].to_numpy()
    kept: list[int] = []
    for row in range(len(table)):
        same = [k for k in kept if kinds[k] == kinds[row]]
        if not same or np.min(np.hypot(*(where[same] - where[row]).T)) > apart:
            kept.append(row)
    return table.iloc[kept].reset_index(drop=True)


def _over(z: Array) -> Array:
    """How far |z| is above 4, at most 4: beyond, height says nothing more."""
    return np.minimum(np.abs(z), 8.0) - 4.0


@dataclass(frozen=True)
class Calibration:
    """score = sigmoid(level[kind] + slope · logit + height · (|z| − 4)). frames: how many it was measured on. found, false: detections in them, and
    in their pristine twins. covariance: of the levels, the slope and the height."""

    level: dict[str, float]
    slope: float
    height: float
    frames: int
    found: dict[str, int]
    false: dict[str, int]
    covariance: tuple[tuple[float, ...], ...] = ()

    def scores(self, table: pd.DataFrame) -> Array:
        """(N,) probability that each detection is no noise."""
        level = table["kind"].map(self.level).to_numpy(float)
        t, z = table["logit"].to_numpy(float), table["z"].to_numpy(float)
        return np.asarray(expit(level + self.slope * t + self.height * _over(z)))


def expected_error(calibration: Calibration, table: pd.DataFrame, share: Array) -> float:
    """1σ of Σ share · score over detections (with the detector's own kinds), as the calibration is known no better.

    share: (N,) what each score is multiplied with. To first order, √(gᵀ C g).
    """
    p = calibration.scores(table)
    slope = share * p * (1 - p)
    kinds = [(table["kind"] == kind).to_numpy() for kind in KINDS]
    rows = [*kinds, table["logit"].to_numpy(float), _over(table["z"].to_numpy(float))]
    gradient = np.array([float((slope * row).sum()) for row in rows])
    return float(np.sqrt(max(0.0, gradient @ np.array(calibration.covariance) @ gradient)))


def twin_detections(
    net: torch.nn.Module, scene: Scene, rng: np.random.Generator, *, learned: bool = False
) -> pd.DataFrame:
    """Detections in the pristine twin of a frame: all of them false. learned: the network has learned from this frame and its
    twin, so that one with noise of its own is taken."""
    twin = surrogate(scene, rng) if learned else pristine(scene, rng)
    return detections(defect_maps(net, twin), twin)


def calibrate(found: Sequence[pd.DataFrame], false: Sequence[pd.DataFrame]) -> Calibration:
    """What an output is worth, from detections in frames (`found`) and in their pristine twins (`false`), frame by frame.

    If false ones come at rate λ₀ at logit t and height z, all come at λ₀ + λ₁; with η = log λ₁/λ₀ = a + b t + c (|z| − 4), a for each
    kind, a detection among both lists is from a frame with probability (1 + e^η)/(2 + e^η), and true with e^η/(1 + e^η).
    Maximum a posteriori with a ~ N(0, 3²), b ~ N(1, 0.5²), c ~ N(0, 1), b and c not negative; |z| counts up to 8. True means: not what noise and misfit make, which the twins know
    as far as they are as often bright as dark. Raises InputError for lists of unequal length.
    """
    if len(found) != len(false) or not found:
        raise InputError(
            f"calibration: {len(found)} frames and {len(false)} twins; one twin per frame is needed"
        )
    both = pd.concat([*found, *false], ignore_index=True)
    real = np.arange(len(both)) < sum(len(one) for one in found)
    kind = both["kind"].map({name: k for k, name in enumerate(KINDS)}).to_numpy(int)
    t, over = both["logit"].to_numpy(float), _over(both["z"].to_numpy(float))

    def cost(values: Array) -> float:
        eta = values[kind] + values[-2] * t + values[-1] * over
        here = np.logaddexp(0, eta) - np.logaddexp(np.log(2), eta)
        there = -np.logaddexp(np.log(2), eta)
        prior = np.sum((values[:-2] - LEVEL) ** 2) / (2 * LEVEL_SD**2) + (values[-2] - SLOPE) ** 2 / (
            2 * SLOPE_SD**2
        )
        prior += values[-1] ** 2 / (2 * HEIGHT_SD**2)
        return float(prior - np.where(real, here, there).sum())

    best = optimize.minimize(
        cost,
        np.array([0.0] * len(KINDS) + [SLOPE, 0.0]),
        method="L-BFGS-B",
        bounds=[(-30, 30)] * len(KINDS) + [(0.05, 5), (0, 5)],
    ).x
    return Calibration(
        {name: float(best[k]) for k, name in enumerate(KINDS)},
        float(best[-2]),
        float(best[-1]),
        len(found),
        {name: int(((kind == k) & real).sum()) for k, name in enumerate(KINDS)},
        {name: int(((kind == k) & ~real).sum()) for k, name in enumerate(KINDS)},
        _covariance(best, kind, t, over),
    )


def _covariance(
    best: Array, kind: npt.NDArray[np.int64], t: Array, over: Array
) -> tuple[tuple[float, ...], ...]:
    """Inverse of the expected Fisher information, prior included, at the best values."""
    rows = np.column_stack([*(kind == k for k in range(len(KINDS))), t, over]).astype(float)
    eta = best[kind] + best[-2] * t + best[-1] * over
    weight = expit(eta - np.log(2)) ** 2 * expit(-eta)
    prior = np.diag([LEVEL_SD**-2.0] * len(KINDS) + [SLOPE_SD**-2.0, HEIGHT_SD**-2.0])
    made = np.linalg.inv((rows * weight[:, None]).T @ rows + prior)
    return tuple(tuple(float(v) for v in row) for row in made)


def recovered(
    net: torch.nn.Module, scene: Scene, donors: Scene, *, rng: np.random.Generator, calibration: Calibration
) -> pd.DataFrame:
    """Defects put into a frame and whether they are found again: sign, z, found (score at least a half, right sign, within 2 σ)."""
    made = transplanted(scene, donors, rng, count=8)
    added = made.spots.iloc[len(scene.spots) :]
    table = detections(defect_maps(net, made), made)
    table = table[calibration.scores(table) >= 0.5]
    rows = []
    for y, x, sign, z in added[["y", "x", "sign", "z"]].to_numpy(float):
        same = table[table["kind"] == KINDS[0 if sign > 0 else 1]]
        near = np.hypot(same["y"] - y, same["x"] - x).min() if len(same) else np.inf
        rows.append((int(sign), abs(z), bool(near < 2 * scene.sigma)))
    return pd.DataFrame(rows, columns=["sign", "z", "found"])
