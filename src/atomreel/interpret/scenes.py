"""Scenes to learn defects from, made of one frame: soft labels from its residual, transplanted defects, and a pristine twin.

A frame is model + residual. A transplanted defect is the low-passed residual of a sure one, moved by a lattice vector. The
pristine twin is model − residual with the likely defects painted over: what noise and misfit look like without defects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import fft, ndimage

from atomreel.interpret.residual import Residual, candidates

Array = npt.NDArray[np.float64]
SURE, LIKELY = 0.9, 0.5  # probability of a donor, and of what a pristine twin must not keep
CORE, RIM = 1.4, 2.3  # σ: radius of a label, and of the ring around it that counts for nothing
MOST_Z = 12 / 1.15  # σ; of artificial defects
PATCH = 3.5  # σ: half width of what is transplanted
PRIOR = 0.1  # defects of a sign per unit of z that are expected before one has looked
LEVELS, QUANTILES = 10, 101  # bins of intensity and points of the distribution of noise in each
WINDOW = 3  # neighbours by height on either side over which the local false-discovery rate is taken


@dataclass(frozen=True, eq=False)
class Scene:
    """model, residual: (Y, X), image = model + residual. noise: 1σ of the low-passed residual. valid: where labels count.

    spots: y, x, sign, z, p (probability that it is a defect). sigma: low pass [px]. vectors: (2, 2) of the lattice [px].
    contrast: of the lattice, image units.
    """

    model: Array
    residual: Array
    noise: Array
    valid: npt.NDArray[np.bool_]
    spots: pd.DataFrame
    sigma: float
    vectors: Array
    contrast: float

    @property
    def z(self) -> Array:
        return np.where(self.valid, ndimage.gaussian_filter(self.residual, self.sigma) / self.noise, 0.0)

    def part(self, cut: tuple[slice, slice]) -> Scene:
        """A rectangle of the scene; places count from its corner."""
        corner = np.array([one.start for one in cut], dtype=float)
        moved = self.spots.assign(y=self.spots["y"] - corner[0], x=self.spots["x"] - corner[1])
        size = [one.stop - one.start for one in cut]
        inside = (
            (moved["y"] > -5) & (moved["x"] > -5) & (moved["y"] < size[0] + 5) & (moved["x"] < size[1] + 5)
        )
        maps = {name: getattr(self, name)[cut] for name in ("model", "residual", "noise", "valid")}
        return replace(self, **maps, spots=moved[inside].reset_index(drop=True))

    def channels(self) -> npt.NDArray[np.float32]:
        """(2, Y, X) for a network: the image in contrasts of the lattice around its median, and z/4, both bounded."""
        image = (self.model + self.residual - np.median(self.model)) / self.contrast
        return np.stack([np.clip(image, -4, 4), np.clip(self.z / 4, -6, 6)]).astype(np.float32)

    def targets(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(3, Y, X) probabilities of background, brighter, dimmer; (Y, X) weights, 0 where a label means nothing."""
        target = np.zeros((3, *self.model.shape), np.float32)
        target[0] = 1
        weight = self.valid.astype(np.float32)
        rows = self.spots.sort_values("p", kind="stable")
        for name, radius in (("rim", RIM), ("core", CORE)):
            for y, x, sign, p in rows[["y", "x", "sign", "p"]].to_numpy():
                cut, near = _disc(self.model.shape, (y, x), radius * self.sigma)
                if name == "rim":
                    weight[cut][near] *= p < 0.1
                else:
                    target[:, cut[0], cut[1]][:, near] = 0
                    target[0][cut][near], target[1 if sign > 0 else 2][cut][near] = 1 - p, p
                    weight[cut][near] = self.valid[cut][near]
        return target, weight


def scene_of(residual: Residual) -> Scene:
    """The frame itself, with its candidates and the probability 1 − local false-discovery rate of each."""
    maps = residual.maps.maps
    spots = candidates(residual)
    model = np.asarray(maps["model"], float)
    contrast = float(np.percentile(model, 99) - np.percentile(model, 1))
    return Scene(
        model,
        np.asarray(maps["residual"], float),
        np.asarray(maps["noise"], float),
        residual.valid,
        spots.assign(p=_probability(residual, spots)),
        residual.sigma,
        residual.reflections.vectors,
        max(contrast, 1e-12),
    )


def _probability(residual: Residual, spots: pd.DataFrame) -> Array:
    """(N,) 1 − local false-discovery rate (B. Efron 2004): noise maxima expected between neighbours in height over those
    found; where there are few neighbours, with a prior of one defect of each sign per 10σ of height."""
    p = np.zeros(len(spots))
    for sign in (1, -1):
        rows = np.flatnonzero(spots["sign"].to_numpy() == sign)
        if not len(rows):
            continue
        false = residual.false_maxima(spots["z"].to_numpy()[rows]) / 2  # grows down the list
        order = np.arange(len(rows))
        low, high = np.maximum(order - WINDOW, -1), np.minimum(order + WINDOW, len(rows) - 1)
        before = np.where(low < 0, 0.0, false[np.maximum(low, 0)])
        rate = (false[high] - before) / (high - low)
        u = np.abs(spots["z"].to_numpy()[rows])
        noise = u / residual.tail**2 * false  # maxima of noise per unit of z, the slope of `false`
        own = np.minimum(rate, noise / (noise + PRIOR))
        p[rows] = 1 - np.maximum.accumulate(np.clip(own, 0, 1))
    return p


def _disc(
    shape: tuple[int, ...], centre: tuple[float, float], radius: float
) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
    """The part of an image around `centre`, and which of its pixels are within `radius`."""
    cut = tuple(
        slice(max(0, int(np.floor(c - radius))), min(n, int(np.ceil(c + radius)) + 1))
        for c, n in zip(centre, shape, strict=True)
    )
    y, x = np.ogrid[cut[0], cut[1]]
    return (cut[0], cut[1]), (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def pristine(scene: Scene, rng: np.random.Generator) -> Scene:
    """The twin without defects: the residual with its likely defects painted over by residual from a lattice vector
    away, its sign turned, and then bent so that at every intensity it is distributed as before: counting noise is skew."""
    rest = _painted(scene, rng)
    return replace(scene, residual=_distributed(-rest, rest, scene), spots=scene.spots.iloc[:0])


def surrogate(scene: Scene, rng: np.random.Generator) -> Scene:
    """A twin without defects whose noise nobody has seen: random phases with the spectrum of the painted residual (in units of its
    noise), bent to its distribution at every intensity (J. Theiler & al. 1992). What is not random in a misfit is lost."""
    rest = _painted(scene, rng)
    power = np.abs(fft.rfft2(np.where(scene.valid, rest / scene.noise, 0.0)))
    white = fft.rfft2(rng.standard_normal(rest.shape))
    phases = white / np.maximum(np.abs(white), 1e-12)
    noise = scene.noise * fft.irfft2(power * phases, s=rest.shape) / np.sqrt(scene.valid.mean())
    return replace(scene, residual=_distributed(noise, rest, scene), spots=scene.spots.iloc[:0])


def _painted(scene: Scene, rng: np.random.Generator) -> Array:
    """The residual with its likely defects painted over by residual from a lattice vector away."""
    rest = scene.residual.copy()
    spline = ndimage.spline_filter(scene.residual)
    likely = scene.spots[scene.spots["p"] >= LIKELY][["y", "x"]].to_numpy(float)
    for centre in likely:
        source = _free_place(scene, centre, rng)
        if source is None:
            _fade(rest, centre, np.zeros_like(rest), scene.sigma)
        else:
            _fade(rest, centre, _moved(spline, source - centre, centre, scene.sigma), scene.sigma)
    return rest


def _distributed(values: Array, like: Array, scene: Scene) -> Array:
    """`values` bent to the distribution of `like`, in tenths of the image by intensity."""
    out = values.copy()
    level = scene.model[scene.valid]
    edges = np.quantile(level, np.linspace(0, 1, LEVELS + 1)[1:-1])
    bins = np.searchsorted(edges, scene.model)
    share = np.linspace(0, 1, QUANTILES)
    for k in range(LEVELS):
        here = bins == k
        known = here & scene.valid
        if known.sum() > QUANTILES:
            own, wanted = np.quantile(values[known], share), np.quantile(like[known], share)
            out[here] = np.interp(values[here], own, wanted)
    return out


def transplanted(
    scene: Scene,
    donors: Scene,
    rng: np.random.Generator,
    *,
    count: int,
    least: float = 2.3,
    corner: tuple[int, int] = (0, 0),
) -> Scene:
    """`scene` with `count` more defects of which the truth is known.

    Three of four are sure defects of `donors` (a scene of the same frame) at places that a lattice vector leads to; the others, and
    all where there is no donor, are Gaussians as wide as a column, brighter or dimmer, anywhere. Strengths are log-uniform
    from |z| = `least` to 1.15 of the donor's, or 12. corner: of `scene` in `donors`, where it is a part.
    """
    rest = scene.residual.copy()
    low = ndimage.gaussian_filter(donors.residual, 0.5 * donors.sigma)  # much less noise, nearly the shape
    low = ndimage.spline_filter(low)
    sure = donors.spots[donors.spots["p"] >= SURE]
    rows: list[dict[str, float]] = []
    taken = scene.spots[["y", "x", "sign", "z", "p"]]
    for _ in range(count):
        known = len(sure) and rng.random() < 0.75
        if known:
            spot = sure.iloc[int(rng.integers(len(sure)))]
            centre = spot[["y", "x"]].to_numpy(float)
            own, sign = abs(float(spot["z"])), int(spot["sign"])
        else:
            centre = np.array([rng.uniform(0, n - 1) for n in rest.shape])
            own, sign = MOST_Z, int(rng.choice((-1, 1)))
        size = float(np.exp(rng.uniform(np.log(least), np.log(max(1.15 * own, 2 * least)))))
        factor = size / own
        there = pd.concat([taken, pd.DataFrame(rows)])[["y", "x"]].to_numpy(float)
        start = centre - np.array(corner) if known else centre
        place = _free_place(replace(scene, spots=scene.spots.iloc[:0]), start, rng, taken=there)
        if place is None:
            continue
        if known:
            _add(rest, place, centre, factor * low, scene.sigma)
        else:
            _blob(rest, place, sign * size * _at(scene.noise, place), scene.sigma)
        rows.append({"y": place[0], "x": place[1], "sign": sign, "z": sign * size, "p": 1.0})
    return replace(scene, residual=rest, spots=pd.concat([taken, pd.DataFrame(rows)], ignore_index=True))


def _free_place(
    scene: Scene, centre: Array, rng: np.random.Generator, *, taken: Array | None = None
) -> Array | None:
    """A place that lattice vectors lead to from `centre`, valid and away from all spots; None where there is hardly any."""
    busy = scene.spots[scene.spots["p"] >= 0.1][["y", "x"]].to_numpy(float) if taken is None else taken
    shape = np.array(scene.model.shape)
    reach = int(np.ceil(shape.max() / np.linalg.norm(scene.vectors, axis=1).min()))
    for _ in range(40):
        place = centre + rng.integers(-reach, reach + 1, 2) @ scene.vectors
        if np.any(place < 1) or np.any(place > shape - 2):
            continue
        i, j = np.rint(place).astype(int)
        if not scene.valid[i, j]:
            continue
        if len(busy) == 0 or np.min(np.hypot(*(busy - place).T)) > 2 * RIM * scene.sigma:
            return np.asarray(place)
    return None


def _window(
    shape: tuple[int, ...], centre: Array, sigma: float
) -> tuple[tuple[slice, slice], Array, Array, Array]:
    """Slices, coordinates and feathered weights of the patch around `centre`."""
    cut, _ = _disc(shape, (float(centre[0]), float(centre[1])), PATCH * sigma)
    y, x = np.mgrid[cut[0], cut[1]].astype(float)
    far = np.hypot(y - centre[0], x - centre[1]) / sigma
    weight = np.clip((PATCH - far) / (PATCH - RIM), 0, 1)
    return cut, y, x, weight * weight * (3 - 2 * weight)


def _moved(spline: Array, shift: Array, centre: Array, sigma: float) -> Array:
    """What the spline coefficients stand for, moved so that what is at centre + shift comes to `centre`; elsewhere 0."""
    out = np.zeros_like(spline)
    cut, y, x, _ = _window(spline.shape, centre, sigma)
    where = [y + shift[0], x + shift[1]]
    out[cut] = ndimage.map_coordinates(spline, where, order=3, mode="mirror", prefilter=False)
    return out


def _fade(rest: Array, centre: Array, other: Array, sigma: float) -> None:
    cut, _, _, weight = _window(rest.shape, centre, sigma)
    rest[cut] = (1 - weight) * rest[cut] + weight * other[cut]


def _add(rest: Array, place: Array, centre: Array, low: Array, sigma: float) -> None:
    cut, y, x, weight = _window(rest.shape, place, sigma)
    shift = centre - place
    rest[cut] += weight * ndimage.map_coordinates(
        low, [y + shift[0], x + shift[1]], order=3, mode="mirror", prefilter=False
    )


def _blob(rest: Array, place: Array, height: float, sigma: float) -> None:
    """A Gaussian of width σ whose low-passed height is `height`: twice that before it."""
    cut, y, x, _ = _window(rest.shape, place, sigma)
    rest[cut] += 2 * height * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * sigma**2))


def _at(values: Array, place: Array) -> float:
    i, j = np.clip(np.rint(place).astype(int), 0, np.array(values.shape) - 1)
    return float(values[i, j])
