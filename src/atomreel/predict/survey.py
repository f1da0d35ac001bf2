"""Looking at a few pieces of a movie first: how far apart are its columns, and are they bright or dark?

The column network itself answers: at the right zoom and contrast it is sure of more columns than at any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.image import Image, Movie
from atomreel.nets.columns import STRIDE, ColumnFinder, local_normalise
from atomreel.predict.backend import Network, choose_backend
from atomreel.predict.model import load_model
from atomreel.prepare.scale import spectral_spacing, zoom_image, zoomed_shape
from atomreel.tasks.columns import find_peaks
from atomreel.tasks.scores import calibrated

FloatArray = npt.NDArray[np.float32]
Frame = npt.NDArray[np.generic]
TARGET = 8.0  # spacing that the column network is given [px]; it knows 5–14
SPACINGS = tuple(6.2 * 1.88**i for i in range(7))  # px: each covers a factor 0.66 to 1.23 about it
DEFAULT_SPACING = 10.0  # assumed where an image shows neither lattice nor columns [px]
ZOOM_LIMITS = (1 / 32, 3.0)
PIECE = 192  # px: side of a piece at the network's scale
SMALLEST = 48  # px: pieces under this show too little
SURE = 0.7  # least score of a column that counts
FEW = 8  # columns in all pieces below which a reading says nothing about spacings
MEASURED = (4.5, 14.0)  # px at the network's scale: what it knows as distances of neighbours
REGULAR = 0.3  # quartile range of the distances of neighbours, of their median, in a lattice
ALIKE = 0.9  # of the greatest mass: readings from there on are as good, and the one whose zoom suits it best counts
SHARP = 3.0  # odds of one spacing against another: ratio of their masses to this power
# weights of `evidence` in the log odds of bright: benchmarks/fit_contrast.py
EVIDENCE = (1.0, 0.6, 1.1, 1.35, 1.5, 2.2, 2.0)
TWICE, ROOT_3, SAME = (
    (np.log(2), 0.05),
    (0.5 * np.log(3), 0.05),
    (0.0, 0.05),
)  # log ratios of spacings, how far from them counts
WAVES = np.sqrt(2 / 3)  # skewness of three waves that cross
SKEW_ERROR, TILES = 0.25, 4  # error at which skewness counts half; tiles along a side that it is read off
LEAST_NEAR = 0.05  # nearness to √3 or 1 below which skewness is not looked at
DOT, CROWD = 0.09, 0.6  # spacings: blurs between which dots are looked at
NEAR = 1.25  # a spacing within this factor is the same
TURNS = 3  # of reading the strongest again
FRAMES = 3  # that are looked at
UNSURE = 0.8  # certainty of the spacing below which a warning is due
NO_LATTICE = 6.0  # strength of the strongest spectral spot below which an image has no lattice


@dataclass(frozen=True)
class Survey:
    """What all frames of a movie are analysed with.

    zoom: from image to network. bright: columns are brighter than their surroundings; p_bright: the odds of
    that. spacing_px: typical distance of neighbouring columns in the image. scale_source: "image", "given" or
    "default". model: name or folder. warnings: in words.
    """

    zoom: float
    bright: bool
    p_bright: float
    spacing_px: float
    scale_source: str
    model: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What the network sees at one zoom and contrast.

    mass: columns per px² of the image, each counted by how sure the network is of it (2 · score − 1).
    spacing: median distance of neighbours [px of the image]; that which suits the zoom where none is `measured`.
    """

    bright: bool
    zoom: float
    mass: float
    spacing: float
    columns: int
    measured: bool = True


def survey_columns(
    movie: Movie | Image | npt.ArrayLike,
    *,
    model: str | Path = "columns",
    contrast: str = "auto",
    spacing: float | None = None,
    backend: str = "auto",
) -> Survey:
    """Scale and contrast of a movie, from pieces of a few frames at several zooms.

    contrast: "auto", "bright" or "dark". spacing: distance of neighbouring columns [px], if known.
    backend: what runs the network, see `predict.backend.candidates`.
    Raises InputError on another contrast or a spacing that is not positive, ModelError on a bad model.
    """
    if contrast not in ("auto", "bright", "dark"):
        raise InputError(f"contrast {contrast!r}: it is auto, bright or dark")
    if spacing is not None and not spacing > 0:
        raise InputError(f"spacing {spacing!r}: it must be a positive number of px")
    frames = list(_frames(movie))
    net, card = load_model(model)
    network = choose_backend(cast(ColumnFinder, net).columns, backend).network
    signs = (True, False) if contrast == "auto" else (contrast == "bright",)
    readings = read_scales(network, card.calibration, frames, spacing=spacing, signs=signs)
    p_bright = odds(readings, frames) if contrast == "auto" else float(signs[0])
    bright = p_bright >= 0.5
    warnings = []
    if contrast == "auto" and 0.1 < p_bright < 0.9:
        other = "dark" if bright else "bright"
        warnings.append(
            f"columns are taken as {'bright' if bright else 'dark'}, but {other} is possible: the odds of bright "
            f"are {p_bright:.2f} (set columns.contrast if you know it)"
        )
    source, found = "given", spacing
    if found is None:
        found, source, notes = _settle([r for r in readings if r.bright == bright], frames)
        warnings += notes
    zoom = float(np.clip(TARGET / found, *ZOOM_LIMITS))
    return Survey(zoom, bright, p_bright, float(found), source, str(model), tuple(warnings))


def read_scales(
    network: Network,
    calibration: Mapping[str, Any],
    frames: Sequence[Frame],
    *,
    spacing: float | None,
    signs: tuple[bool, ...],
) -> list[Reading]:
    """Readings at all zooms, or at that of `spacing`. For each sign the strongest is read again at the zoom that suits
    its spacing; one that does not find that spacing there is dropped, and the next strongest has its turn."""
    wanted = SPACINGS if spacing is None else (spacing,)
    zooms = dict.fromkeys(float(np.clip(TARGET / s, *ZOOM_LIMITS)) for s in wanted)
    readings = [r for zoom in zooms for r in _read(network, calibration, frames, zoom=zoom, signs=signs)]
    for sign in signs if spacing is None else ():
        for _ in range(TURNS):
            best = strongest([r for r in readings if r.bright == sign])
            if best is None or best.columns < FEW:
                break
            zoom = float(np.clip(TARGET / best.spacing, *ZOOM_LIMITS))
            again = _read(network, calibration, frames, zoom=zoom, signs=(sign,))
            readings += again
            if not again or 1 / NEAR < again[0].spacing / best.spacing < NEAR:
                break
            readings.remove(best)
    return readings


def strongest(readings: Sequence[Reading]) -> Reading | None:
    """Of the readings with the greatest mass the one whose zoom suits its measured spacing best; None if there is none."""
    most = max((r.mass for r in readings), default=0.0)
    alike = [r for r in readings if r.mass >= ALIKE * most]
    return min(alike, key=lambda r: (not r.measured, abs(np.log(r.zoom * r.spacing / TARGET))), default=None)


def odds(readings: Sequence[Reading], frames: Sequence[Frame]) -> float:
    """Probability that columns are bright."""
    return float(1 / (1 + np.exp(-evidence(readings, frames) @ np.array(EVIDENCE))))


def evidence(readings: Sequence[Reading], frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """(7,) what speaks for bright columns, and negative for dark ones.

    From the readings of greatest mass in either contrast the log ratios of their masses and of how full their lattices
    are. From how the image was recorded: where bright pixels are noisier than dark ones, signal is counted on a dark
    ground; where lines are noisier than columns of pixels, a probe or tip was scanned. Both show columns bright.
    From the ratio of their spacings: one of 2 is that of columns to the fringes between them, as waves that interfere make
    them, and speaks for the wider; one of √3 that of a close-packed layer and a honeycomb, of which one is columns and the other
    their holes; one of 1 that of lattices whose holes are a lattice alike. There the sharper are the columns (`skewness`).
    """
    best = [
        max((r for r in readings if r.bright == sign), key=lambda r: r.mass, default=None)
        for sign in (True, False)
    ]
    bright, dark = (r.mass if r else 0.0 for r in best)
    full = [r.mass * r.spacing**2 if r else 0.0 for r in best]  # about 1 where every site shows
    faint = 1e-3 * (bright + dark) + 1e-9
    mass = np.clip(np.log((bright + faint) / (dark + faint)), -4, 4)
    fill = np.clip(np.log((full[0] + 0.01) / (full[1] + 0.01)), -4, 4)
    noise = np.clip(np.median([noise_rise(_central(f)) for f in frames]), -2.5, 2.5)
    lines = np.clip(np.median([line_noise(_central(f)) for f in frames]), 1, 6)
    clearest = [strongest([r for r in readings if r.bright == sign]) for sign in (True, False)]
    return np.array([mass, fill, noise / lines**2, np.log(lines), *_wider(clearest, frames)])


def _wider(best: Sequence[Reading | None], frames: Sequence[Frame]) -> tuple[float, float, float]:
    """How near the bright reading is to twice the spacing of the dark one, 0…1, negative the other way round; how near to √3
    times and to once the spacing, times by how much more skew the frames are than waves that cross: at √3 in the sense of
    the wider dots, at 1 in either."""
    bright, dark = best
    if bright is None or dark is None or not (bright.measured and dark.measured):
        return 0.0, 0.0, 0.0
    ratio = float(np.log(bright.spacing / dark.spacing))
    way = float(np.sign(ratio))
    twice, root, same = (
        float(np.exp(-0.5 * ((abs(ratio) - at) / width) ** 2)) for at, width in (TWICE, ROOT_3, SAME)
    )
    if max(root, same) < LEAST_NEAR:
        return way * twice, 0.0, 0.0
    found = np.array([skewness(_central(f), max(bright.spacing, dark.spacing)) for f in frames])
    skew, error = float(np.clip(np.median(found[:, 0]), -2, 2)), float(np.median(found[:, 1]))
    trust = 1 / (1 + (error / SKEW_ERROR) ** 2)
    beyond = float(np.sign(skew)) * max(abs(skew) - WAVES, 0.0)
    return way * twice, trust * root * (skew - way * WAVES), trust * same * beyond


def skewness(frame: FloatArray, spacing: float) -> tuple[float, float]:
    """Skewness of the pixels of a frame (Y, X) at the scale of dots `spacing` px apart, without that of noise; and its error.

    Bright columns are sharper than the ground between them and skew it upwards, dark ones downwards. Three waves that cross in
    a close-packed layer of dots have √(2/3) by themselves: columns there have more, the holes of a honeycomb less, for the second
    harmonic of a honeycomb has the other sign. Moments are means of products of images made of pixels of their own, so that noise which
    is independent from pixel to pixel, whatever else it depends on, has no part in them. The error is a jackknife over TILES² tiles.
    """
    y, x = np.indices(frame.shape)
    parts = []
    for k in range(3):
        mask = ((y + x) % 3 == k).astype(np.float32)
        fine, coarse = (
            ndimage.gaussian_filter(mask * frame, sigma)
            / np.maximum(ndimage.gaussian_filter(mask, sigma), 1e-6)
            for sigma in (max(DOT * spacing, 0.8), CROWD * spacing)
        )
        parts.append(fine - coarse)
    a, b, c = (part - part.mean() for part in parts)
    sums = np.array([_by_tiles((a * b + b * c + c * a) / 3), _by_tiles(a * b * c)])
    power, third = sums.mean(1)
    if not power > 0:
        return 0.0, np.inf
    count = sums.shape[1]
    less = (sums.sum(1, keepdims=True) - sums) / (count - 1)  # without each tile
    each = less[1] / np.maximum(less[0], 1e-3 * power) ** 1.5
    return float(third / power**1.5), float(np.sqrt((count - 1) * each.var()))


def _by_tiles(image: FloatArray) -> FloatArray:
    """(TILES²,) means of the tiles of an image."""
    return np.array(
        [part.mean() for rows in np.array_split(image, TILES) for part in np.array_split(rows, TILES, axis=1)]
    )


def noise_rise(frame: FloatArray) -> float:
    """Log ratio of the noise power at bright and at dark pixels; third differences, so that lattices count little."""
    rise = []
    for rows in (frame.astype(float), frame.T.astype(float)):
        power = np.diff(rows, n=3, axis=1) ** 2
        if power.size < 64:
            return 0.0
        level = (rows[:, :-3] + rows[:, 1:-2] + rows[:, 2:-1] + rows[:, 3:]) / 4
        low, high = np.quantile(level, (0.15, 0.85))
        floor = 1e-9 * power.mean() + 1e-30
        rise.append(np.log((power[level >= high].mean() + floor) / (power[level <= low].mean() + floor)))
    return float(np.mean(rise))


def line_noise(frame: FloatArray) -> float:
    """How much noisier means of rows are than means of columns: about 1, above where an image was scanned line by line."""
    level = []
    for axis in (0, 1):
        third = np.diff(frame.astype(float), n=3, axis=axis)
        if third.size < 64:
            return 1.0
        alone = third.std() / np.sqrt(third.shape[1 - axis])
        level.append(float(np.median(np.abs(third.mean(axis=1 - axis)))) / max(alone, 1e-12))
    return level[0] / max(level[1], 1e-12) if level[0] > 0 else 1.0


def certainty(readings: Sequence[Reading]) -> float:
    """Probability that the spacing of the strongest reading is right, against the strongest one of another spacing."""
    best = strongest(readings)
    if best is None or best.mass == 0:
        return 0.0
    others = [r.mass for r in readings if not 1 / NEAR < r.spacing / best.spacing < NEAR]
    return float(1 / (1 + (max(others, default=0.0) / best.mass) ** SHARP))


def _settle(readings: Sequence[Reading], frames: Sequence[Frame]) -> tuple[float, str, list[str]]:
    """Spacing [px], where it comes from, and what to say about it."""
    advice = "(set columns.spacing_px if you know it)"
    best = strongest(readings)
    if best is None or best.columns < FEW:
        lattice = max((spectral_spacing(_central(f)) for f in frames), key=lambda found: found.strength)
        if lattice.strength < NO_LATTICE:
            said = f"neither a lattice nor columns set the scale; {DEFAULT_SPACING:g} px between columns is assumed"
            return DEFAULT_SPACING, "default", [f"{said} {advice}"]
        said = f"hardly a column is seen; {lattice.spacing:.3g} px, as its lattice planes, between columns is assumed"
        return lattice.spacing, "image", [f"{said} {advice}"]
    sure = certainty(readings)
    said = (
        f"the distance between columns is uncertain: {best.spacing:.3g} px, with a probability of {sure:.2f}"
    )
    return best.spacing, "image", [f"{said} {advice}"] if sure < UNSURE else []


def _read(
    network: Network,
    calibration: Mapping[str, Any],
    frames: Sequence[Frame],
    *,
    zoom: float,
    signs: tuple[bool, ...],
) -> list[Reading]:
    """One reading for each sign; none when the zoomed image is too small to show a lattice."""
    pieces = [p for frame in frames for p in _pieces(frame, zoom) if np.ptp(p) > 0]
    if not pieces:
        return []
    normal = [local_normalise(torch.from_numpy(p)[None, None]) for p in pieces]
    area = sum(p.size for p in pieces) / zoom**2
    readings = []
    for bright in signs:
        mass, count, near = 0.0, 0, [np.zeros(0)]
        for piece in normal:
            with torch.no_grad():
                at, logit, _ = find_peaks(network(piece if bright else -piece)[0, 0].float().numpy())
            score = calibrated(at, logit, calibration)
            at, score = at[score > SURE], score[score > SURE]
            mass, count = mass + float((2 * score - 1).sum()), count + len(at)
            if len(at) > 2:
                near.append(cKDTree(at).query(at, k=2)[0][:, 1])
        spacing = _distance(np.concatenate(near))
        readings.append(
            Reading(
                bright, zoom, mass / area, (spacing or TARGET) / zoom, count, measured=spacing is not None
            )
        )
    return readings


def _distance(near: npt.NDArray[np.float64]) -> float | None:
    """The median distance of neighbours where it is one that the network knows, or that of a lattice."""
    if len(near) < FEW:
        return None
    low, middle, high = np.quantile(near, (0.25, 0.5, 0.75))
    known = MEASURED[0] < middle < MEASURED[1] or high - low < REGULAR * middle
    return float(middle) if known else None


def _pieces(frame: Frame, zoom: float) -> Iterator[FloatArray]:
    """Up to four pieces, evenly spread; none when the zoomed image is too small to show a lattice."""
    shape = zoomed_shape((frame.shape[0], frame.shape[1]), zoom)
    if min(shape) < SMALLEST:
        return
    side = [min(PIECE, n // STRIDE * STRIDE) for n in shape]
    starts = []
    for n, s in zip(shape, side, strict=True):
        count = 1 if n < 1.3 * s else 2
        rest = n - count * s
        # four pieces of a large image stand in the middle of its quarters
        starts.append(
            [
                round(rest * (2 * i + 1) / (2 * count)) + i * s if rest > 0 else i * (n - s)
                for i in range(count)
            ]
        )
    for y in starts[0]:
        for x in starts[1]:
            yield zoom_image(frame, zoom, rows=(y, y + side[0]), cols=(x, x + side[1]))


def _frames(movie: Movie | Image | npt.ArrayLike) -> Iterator[Frame]:
    """First, middle and last frame, or the one that there is."""
    if isinstance(movie, Movie):
        for i in np.unique(np.linspace(0, len(movie) - 1, FRAMES).round().astype(int)):
            yield movie[int(i)].data
    else:
        yield as_frame(movie)


def as_frame(image: Image | npt.ArrayLike) -> Frame:
    """An array (Y, X) that can be sliced; what is lazy stays lazy. Raises InputError on anything else."""
    data = image.data if isinstance(image, Image) else image
    lazy = hasattr(data, "shape") and hasattr(data, "__getitem__")
    array = data if lazy else np.asarray(data)
    if len(array.shape) != 2 or min(array.shape) < 2:  # type: ignore[union-attr]
        raise InputError(f"an image of shape (Y, X) is needed, got {tuple(array.shape)}")  # type: ignore[union-attr]
    return cast("npt.NDArray[np.generic]", array)


def _central(frame: Frame, side: int = 1024) -> FloatArray:
    y, x = (max(0, (n - side) // 2) for n in frame.shape)
    return np.nan_to_num(np.asarray(frame[y : y + side, x : x + side], dtype=np.float32))
