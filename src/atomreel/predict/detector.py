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
from atomreel.interpret.residual import tops, vertex
from atomreel.interpret.sampling import to_image
from atomreel.interpret.scenes import Scene, pristine, surrogate, transplanted
from atomreel.nets.detector import CLASSES

Array = npt.NDArray[np.float64]
KINDS = CLASSES[1:]
BOUND = 1e-3  # outputs of the network are taken to be no nearer to 0 and 1
# |z| below which hardly anything is a defect; maxima by which their number is shrunk towards a twin's.
WEAK, FEW = 2.75, 10.0
DENIED = float(np.log(0.01 / 0.99))  # log odds of the network up to which a detection is none, however high
TWINS = 4  # made of every frame that calibrates; with fewer, chance of theirs decides about scores
LEAST = 2.0  # |z| of a detection
# z of what is so strong that its far light lifts others, how far [σ], and the ring in which others are compared with their surroundings [σ].
GLARE, REACH, RING = 25.0, 14.0, (2.3, 5.0)
MIDDLE, MOST = 4.0, 6.0  # |z| from which heights count, and up to which
# What is known of a calibration before any detection. Heights: maxima of noise become rarer by u·exp(−u²/2), those of defects hardly;
# the network: its log odds add little to what the height says (found on simulated movies).
LEVEL, LEVEL_SD = -2.0, 1.5
SLOPE, SLOPE_SD = 0.3, 0.3
HEIGHT, HEIGHT_SD = 3.0, 1.5
COLUMNS = ("y", "x", "y_err", "x_err", "kind", "logit", "z")


def defect_maps(net: torch.nn.Module, scene: Scene) -> npt.NDArray[np.float32]:
    """(3, Y, X) outputs of the network, 1 in sum: background, brighter, dimmer; background where the lattice is not seen."""
    with torch.inference_mode():
        out = torch.softmax(net(torch.from_numpy(scene.channels()[None])), 1)[0]
    background = np.array([1, 0, 0], np.float32)[:, None, None]
    return np.where(scene.valid, out.numpy(), background)


def detections(maps: npt.NDArray[np.float32], scene: Scene, *, factor: float = 1.0) -> pd.DataFrame:
    """What stands out of the residual, and what the network says of it: y, x, y_err, x_err [px of the image], kind, logit, z.

    A detection is a maximum of z (brighter) or −z (dimmer) of at least 2 in the valid area; 1σ of its position is √2 σ/|z|. logit: log
    odds of the network's largest output of that kind within 1 σ, 7 at most either way. The weakest are nearly all noise: their
    scores tell. Within 14 σ of one of 25σ and more, z is what a maximum has more than the median of the ring around it: a strong one's far
    light lifts all that stands there.
    """
    reach = 2 * max(1, round(scene.sigma)) + 1
    z = scene.z
    parts = []
    for number, (kind, sign) in enumerate(zip(KINDS, (1, -1), strict=True), start=1):
        rows, columns, height = tops(sign * z, scene.valid, scene.sigma)
        height = height - _glare(sign * z, scene, np.stack([rows, columns], axis=1), height)
        kept = height >= LEAST
        rows, columns, height = rows[kept], columns[kept], height[kept]
        place = [vertex(sign * z, int(i), int(j)) for i, j in zip(rows, columns, strict=True)]
        y, x = to_image(np.array(place, dtype=float).reshape(-1, 2), factor).T
        output = ndimage.maximum_filter(maps[number], reach)[rows, columns].astype(float)
        error = np.sqrt(2) * scene.sigma / np.maximum(height, 1e-9) * factor
        values = (y, x, error, error, kind, logit(np.clip(output, BOUND, 1 - BOUND)), sign * height)
        parts.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), columns=list(COLUMNS)))
    return pd.concat(parts, ignore_index=True)


def _glare(z: Array, scene: Scene, at: npt.NDArray[np.int64], height: Array) -> Array:
    """(N,) what the far light of strong maxima adds to the others: the median of a ring around each, 0 where none is near."""
    out = np.zeros(len(height))
    strong = np.flatnonzero(height >= GLARE)
    reach = int(np.ceil(RING[1] * scene.sigma))
    for k in np.setdiff1d(np.arange(len(height)), strong):
        if len(strong) and np.hypot(*(at[strong] - at[k]).T).min() < REACH * scene.sigma:
            cut = tuple(
                slice(max(0, int(c) - reach), min(n, int(c) + reach + 1))
                for c, n in zip(at[k], z.shape, strict=True)
            )
            y, x = np.ogrid[cut]
            far = np.hypot(y - at[k, 0], x - at[k, 1]) / scene.sigma
            ring = (far > RING[0]) & (far < RING[1]) & scene.valid[cut]
            out[k] = max(0.0, float(np.median(z[cut][ring]))) if ring.any() else 0.0
    return out


def _over(z: Array) -> Array:
    """How far |z| is above 4, at most 2: beyond, height says nothing more."""
    return np.minimum(np.abs(z), MOST) - MIDDLE


@dataclass(frozen=True)
class Calibration:
    """score = sigmoid(level[kind] + slope · logit + height · (|z| − 4)). frames: how many it was measured on. found, false: detections in
    them, and in one twin of each on average. covariance: of the levels, the slope and the height."""

    level: dict[str, float]
    slope: float
    height: float
    frames: int
    found: dict[str, int]
    false: dict[str, float]
    covariance: tuple[tuple[float, ...], ...] = ()

    def scores(self, table: pd.DataFrame) -> Array:
        """(N,) probability that each detection is no noise; 0 where the network is sure of that (output below 1 %)."""
        level = table["kind"].map(self.level).to_numpy(float)
        t, z = table["logit"].to_numpy(float), table["z"].to_numpy(float)
        return np.where(t > DENIED, expit(level + self.slope * t + self.height * _over(z)), 0.0)


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
    """Detections in TWINS twins of a frame without its defects: all of them false.

    Half are pristine twins, which keep what is not random in the misfit but turn its sign, and so the skewness of the noise, and differ in what is
    painted over their defects; the others have noise of their own, as often bright as dark. learned: the network has learned from this frame
    and a pristine twin of it, so all are of the second sort.
    """
    twins = [
        pristine(scene, rng) if k % 2 == 0 and not learned else surrogate(scene, rng) for k in range(TWINS)
    ]
    return pd.concat([detections(defect_maps(net, one), one) for one in twins], ignore_index=True)


def calibrate(found: Sequence[pd.DataFrame], false: Sequence[pd.DataFrame]) -> Calibration:
    """What an output is worth, from detections in frames (`found`) and in their TWINS twins (`false`), frame by frame.

    If false ones come at rate λ₀ at log odds t and height z, all come at λ₀ + λ₁; with η = log λ₁/λ₀ = a + b t + c (|z| − 4), a for each
    kind, a detection among both lists is from a frame with probability (1 + e^η)/(1 + n + e^η) for n twins, and true with
    e^η/(1 + e^η). Maximum a posteriori with a ~ N(−2, 1.5²), b ~ N(0.3, 0.3²), c ~ N(3, 1.5²), b and c not negative; |z| counts up to
    6. True means: not what noise and misfit make, as far as the twins know them. Raises InputError for lists of unequal length.
    """
    if len(found) != len(false) or not found:
        raise InputError(
            f"calibration: {len(found)} frames and {len(false)} twins; one twin per frame is needed"
        )
    both = pd.concat([*found, *false], ignore_index=True)
    real = np.arange(len(both)) < sum(len(one) for one in found)
    kind = both["kind"].map({name: k for k, name in enumerate(KINDS)}).to_numpy(int)
    t, over = both["logit"].to_numpy(float), _over(both["z"].to_numpy(float))

    centre = np.array([LEVEL] * len(KINDS) + [SLOPE, HEIGHT])
    spread = np.array([LEVEL_SD] * len(KINDS) + [SLOPE_SD, HEIGHT_SD])

    own = np.log([_share_of_noise(over[kind == k], real[kind == k]) for k in range(len(KINDS))])[kind]

    def cost(values: Array) -> float:
        eta = values[kind] + values[-2] * t + values[-1] * over
        here = own + np.logaddexp(0, eta)
        either = np.logaddexp(np.log(TWINS), here)
        return float(
            (((values - centre) / spread) ** 2).sum() / 2 - np.where(real, here - either, -either).sum()
        )

    bounds = [(-30, 30)] * len(KINDS) + [(0, 5), (0, 12)]
    best = optimize.minimize(cost, centre, method="L-BFGS-B", bounds=bounds).x
    return Calibration(
        {name: float(best[k]) for k, name in enumerate(KINDS)},
        float(best[-2]),
        float(best[-1]),
        len(found),
        {name: int(((kind == k) & real).sum()) for k, name in enumerate(KINDS)},
        {name: int(((kind == k) & ~real).sum()) / TWINS for k, name in enumerate(KINDS)},
        _covariance(best, kind, t, over, own=own),
    )


def _share_of_noise(over: Array, real: npt.NDArray[np.bool_]) -> float:
    """How many of the weakest maxima the frames have for one of a twin; 1 at most. Turning the sign of a misfit makes more than there are."""
    weak = over < WEAK - MIDDLE
    return min(1.0, ((weak & real).sum() + FEW) / ((weak & ~real).sum() / TWINS + FEW))


def _covariance(
    best: Array, kind: npt.NDArray[np.int64], t: Array, over: Array, *, own: Array
) -> tuple[tuple[float, ...], ...]:
    """Inverse of the expected Fisher information, prior included, at the best values."""
    rows = np.column_stack([*(kind == k for k in range(len(KINDS))), t, over]).astype(float)
    eta = best[kind] + best[-2] * t + best[-1] * over
    root = np.log(TWINS) + own - 2 * np.logaddexp(np.log(TWINS), own + np.logaddexp(0, eta))
    weight = np.exp(root + eta) * expit(eta)
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
