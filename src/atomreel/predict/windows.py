"""Crops of an image at a model's sampling → kind of point defect with calibrated probabilities, and where it was seen (METHODS S3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d, map_coordinates, spline_filter

from atomreel.core.card import Card
from atomreel.core.errors import InputError, ModelError, UnknownNameError
from atomreel.nets.windows import WindowNet, gradient_maps
from atomreel.predict.model import load_model

MODEL = "windows"
METHODS = ("cam", "grad-cam")
CHUNK = 128  # crops at a time
LEAST_PX = 6.0  # px per lattice vector: below this the columns of a layer melt into each other
FloatArray = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


def crops_at(
    image: npt.ArrayLike, yx: npt.ArrayLike, *, lattice_px: float, model: str | Path = MODEL
) -> Float32:
    """Crops (N, side, side) around positions of an image (Y, X), resampled to the model's px per lattice vector.

    yx: (N, 2) y, x [px], each of which comes to lie in the middle, (side − 1) / 2. lattice_px: length of the shortest
    lattice vector [px]; the model bears an error of 5 %. Finer images are smoothed before they are thinned out. Beyond
    the border of the image there is none: NaN. Raises InputError, ModelError.
    """
    card = _load(model)[1]
    data, where = np.asarray(image, dtype=np.float64), np.asarray(yx, dtype=np.float64)
    if data.ndim != 2 or min(data.shape) < 2:
        raise InputError(f"an image must be an array (Y, X), got shape {data.shape}")
    if where.size == 0:
        where = where.reshape(0, 2)
    if where.ndim != 2 or where.shape[1] != 2 or not np.isfinite(where).all():
        raise InputError(f"yx must be finite positions (N, 2) in px, y first, got shape {where.shape}")
    if not np.isfinite(lattice_px) or lattice_px < LEAST_PX:
        raise InputError(
            f"lattice_px is the length of the shortest lattice vector in px of the image, at least {LEAST_PX:g}; got {lattice_px}"
        )
    side, step = int(card.input["window_px"]), float(lattice_px / card.input["lattice_px"])
    known = np.isfinite(data)
    filled = np.where(known, data, data[known].mean() if known.any() else 0.0)
    if step > 1:  # what a pixel of the crop covers, as a box of that width has this variance
        for axis in (0, 1):
            filled = gaussian_filter1d(filled, np.sqrt((step**2 - 1) / 12), axis=axis, mode="nearest")
    offset = (np.arange(side) - (side - 1) / 2) * step
    spline = spline_filter(filled, order=3, mode="mirror")
    crops = np.empty((len(where), side, side), np.float32)
    for start in range(0, len(where), CHUNK):
        part = where[start : start + CHUNK]
        y = part[:, 0, None, None] + offset[:, None] + np.zeros(side)
        x = part[:, 1, None, None] + offset + np.zeros((side, 1))
        seen = map_coordinates(spline, [y, x], order=3, mode="mirror", prefilter=False)
        unknown = map_coordinates((~known).astype(np.float32), [y, x], order=1, mode="constant", cval=1.0)
        crops[start : start + CHUNK] = np.where(unknown > 0.5, np.nan, seen)
    return crops


def classify_windows(crops: npt.ArrayLike, *, model: str | Path = MODEL) -> pd.DataFrame:
    """One row per crop: p_<class> for every class of the model, which sum to 1, `kind` (the likeliest) and `score` (its p).

    crops: (N, side, side) as `crops_at` cuts them, brightness in any unit. The classes are the kinds of defect, "pristine"
    and "none": nothing that the model knows. Probabilities are calibrated for classes as frequent as in training, see
    docs/windows.md. Where a tenth or more of a crop is unknown (NaN), or all of it one value, the answer is "none".
    Raises InputError, ModelError.
    """
    net, card = _load(model)
    array, blind = _checked(crops, card)
    temperature = float(card.calibration.get("temperature", 1.0))
    p = np.zeros((len(array), len(card.classes)))
    with torch.inference_mode():
        for start in range(0, len(array), CHUNK):
            logits = net(torch.from_numpy(array[start : start + CHUNK])).double()
            p[start : start + CHUNK] = torch.softmax(logits / temperature, 1).numpy()
    p[blind] = np.eye(len(card.classes))[-1]
    table = pd.DataFrame(p, columns=[f"p_{name}" for name in card.classes])
    return table.assign(kind=np.array(card.classes, dtype=object)[p.argmax(1)], score=p.max(1, initial=0.0))


def activation_maps(
    crops: npt.ArrayLike,
    kinds: str | npt.ArrayLike | None = None,
    *,
    method: str = "cam",
    model: str | Path = MODEL,
) -> Float32:
    """(N, side, side) maps of what speaks for a class at each place of crops (N, side, side).

    kinds: the class of all or of each; by default the likeliest one. method: "cam", M_c(y, x) = Σ_k w_k^c f_k(y, x), in units
    of the logit, whose mean over the map is that of the class less its bias (Zhou et al. 2016); or "grad-cam",
    ReLU(Σ_k α_k f_k) at the features before the last convolution (Selvaraju et al. 2017). The network's maps of a quarter of the
    sampling are interpolated linearly. Raises InputError, ModelError, UnknownNameError.
    """
    if method not in METHODS:
        raise UnknownNameError("method of activation maps", method, METHODS)
    net, card = _load(model)
    array, _ = _checked(crops, card)
    named = classify_windows(crops, model=model)["kind"] if kinds is None else kinds
    names = np.broadcast_to(np.asarray(named, dtype=object), len(array))
    for name in names:
        if name not in card.classes:
            raise UnknownNameError(f"class of model {card.name}", str(name), card.classes)
    chosen = np.array([card.classes.index(name) for name in names], dtype=np.int64)
    maps = np.zeros(array.shape, np.float32)
    for start in range(0, len(array), CHUNK):
        part = torch.from_numpy(array[start : start + CHUNK])
        wanted = torch.from_numpy(chosen[start : start + CHUNK])
        if method == "cam":
            with torch.no_grad():
                found = net.maps(net.features(part))[torch.arange(len(part)), wanted]
        else:
            found = gradient_maps(net, part, wanted)
        whole = F.interpolate(found[:, None], size=array.shape[1:], mode="bilinear", align_corners=False)
        maps[start : start + CHUNK] = whole[:, 0].numpy()
    return maps


def paste_maps(
    shape: tuple[int, int],
    yx: npt.ArrayLike,
    maps: npt.ArrayLike,
    *,
    lattice_px: float,
    model: str | Path = MODEL,
) -> FloatArray:
    """(Y, X) maps (N, side, side) of crops around yx (N, 2), put back into the frame that they were cut from.

    Where several overlap the largest counts; where there is none, 0. Raises InputError.
    """
    card = _load(model)[1]
    stack, where = np.asarray(maps, dtype=np.float64), np.asarray(yx, dtype=np.float64).reshape(-1, 2)
    if len(stack) != len(where):
        raise InputError(f"one map per position is needed, got {len(stack)} for {len(where)}")
    step, side = lattice_px / float(card.input["lattice_px"]), int(card.input["window_px"])
    whole, reach = np.zeros(shape), (side - 1) / 2 * step
    for centre, one in zip(where, stack, strict=True):
        low = np.maximum(np.ceil(centre - reach), 0).astype(int)
        high = np.minimum(np.floor(centre + reach) + 1, shape).astype(int)
        if (low >= high).any():
            continue
        y, x = (
            (np.arange(a, b) - c) / step + (side - 1) / 2 for a, b, c in zip(low, high, centre, strict=True)
        )
        part = map_coordinates(one, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
        here = whole[low[0] : high[0], low[1] : high[1]]
        np.maximum(here, part, out=here)
    return whole


def _load(model: str | Path) -> tuple[WindowNet, Card]:
    net, card = load_model(model)
    if not isinstance(net, WindowNet):
        raise ModelError(
            f"model {card.name!r} does not name defects in windows; train one with `atomreel train windows`"
        )
    return net, card


def _checked(crops: npt.ArrayLike, card: Card) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Crops without NaN, which become the mean of the rest, and (N,) where a crop shows too little."""
    array: npt.NDArray[Any] = np.asarray(crops)
    side = int(card.input["window_px"])
    if array.ndim != 3 or array.shape[1:] != (side, side) or not np.isrealobj(array):
        raise InputError(
            f"crops must be a real array (N, {side}, {side}), got {array.dtype} of shape {array.shape}; `crops_at` cuts them"
        )
    array = array.astype(np.float32)
    known = np.isfinite(array)
    number = known.sum((1, 2))
    mean = np.where(known, array, 0).sum((1, 2), dtype=np.float64) / np.maximum(number, 1)
    filled = np.where(known, array, mean[:, None, None]).astype(np.float32)
    blind = (number < 0.9 * side * side) | (np.ptp(filled, axis=(1, 2)) == 0 if len(filled) else False)
    return np.ascontiguousarray(filled), np.asarray(blind)
