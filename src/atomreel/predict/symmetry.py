"""Bravais symmetry of windows, whole images and maps, with Monte-Carlo dropout (METHODS S1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from atomreel.core.errors import InputError, ModelError
from atomreel.core.field import Field
from atomreel.core.image import Image
from atomreel.nets.bravais import BravaisNet, describe
from atomreel.nets.spectrum import SIZE
from atomreel.predict.model import load_model
from atomreel.predict.sliding import window_grid
from atomreel.predict.uncertainty import entropy, mutual_information
from atomreel.simulate.bravais import CLASSES

CHUNK = 64  # windows whose spectra are made together: their buffers then stay in the cache
DRAWS = 4096  # windows × passes sampled together
LEAST_PX = 16  # the smallest window that can hold four cells
SPACINGS = (
    10.0  # nearest-neighbour distances across a window that follows the lattice: six cells of a honeycomb
)
FloatArray = npt.NDArray[np.float64]
Rng = np.random.Generator | int | None


def classify_windows(
    windows: npt.NDArray[Any], *, model: str | Path | None = None, passes: int = 0, rng: Rng = None
) -> tuple[FloatArray, FloatArray]:
    """Class probabilities of windows of any one size.

    windows: (N, Y, X), brightness in any unit, at least four cells across; NaN counts as the window's mean.
    passes: Monte-Carlo dropout passes; 0 gives the calibrated probabilities of the network as it is.
    Returns mean and standard deviation, both (N, 6) in the order of CLASSES; the deviation is 0 without passes.
    A constant window is noise. Raises InputError and ModelError.
    """
    array = np.asarray(windows)
    if array.ndim != 3 or min(array.shape[1:], default=0) < 2 or not np.isrealobj(array):
        raise InputError(f"windows must be a real array (N, Y, X), got {array.dtype} of shape {array.shape}")
    parts = torch.from_numpy(array.astype(np.float32)).split(CHUNK)
    answer = _classify(parts if len(array) else (), model=model, passes=passes, rng=rng)
    return answer.mean, answer.std


def classify_image(
    image: Image | npt.NDArray[Any],
    *,
    window: int | None = None,
    model: str | Path | None = None,
    passes: int = 0,
    rng: Rng = None,
) -> tuple[FloatArray, FloatArray]:
    """Class probabilities (6,) of a whole image and their standard deviation.

    The image is looked at in square windows that overlap by half; their probabilities are averaged. window:
    px; by default the whole of a small image, else 128, 256, … px, whichever sees a lattice most clearly (least
    probability of noise). std joins dropout and the scatter over the windows. Raises InputError.
    """
    data = np.asarray(image)
    rng = np.random.default_rng(rng)
    fields = [
        map_symmetry(data, window=side, step=max(1, side // 2), model=model, passes=passes, rng=rng)
        for side in ([window] if window else _sides(data.shape))
    ]
    field = min(fields, key=lambda f: float(f.maps["p_noise"].mean()))
    mean = np.array([field.maps[f"p_{name}"].mean() for name in CLASSES])
    inner = np.array([np.mean(np.square(field.maps[f"std_{name}"])) for name in CLASSES])
    scatter = np.array([field.maps[f"p_{name}"].var() for name in CLASSES])
    return mean, np.sqrt(inner + scatter)


def _sides(shape: tuple[int, ...]) -> list[int]:
    """Window sizes to try on a frame."""
    smaller = min(shape, default=0)
    if smaller <= 1.5 * SIZE:
        return [max(2, smaller)]
    return [SIZE * 2**k for k in range(8) if SIZE * 2**k <= smaller]


def map_symmetry(
    image: Image | npt.NDArray[Any],
    *,
    window: int = SIZE,
    step: float | tuple[float, float] = 16,
    flush: bool = False,
    passes: int = 0,
    model: str | Path | None = None,
    rng: Rng = None,
) -> Field:
    """Sliding windows over a frame (Y, X): a Field at the windows' centres.

    Its maps are p_<class> and std_<class>, and in nats the predictive entropy and the mutual_information over dropout
    passes (`predict.uncertainty`; 0 without passes).
    window: px; one larger than the frame is cut to it. step: px, or (dy, dx), whole or not. flush: shorten the step by as
    little as lets the last windows end at the border; else less than a step of the frame may be left uncovered there.
    Raises InputError for a frame of less than 2 × 2 px.
    """
    data = np.asarray(image)
    if data.ndim != 2 or min(data.shape) < 2 or not np.isrealobj(data):
        raise InputError(f"a frame must be a real array (Y, X), got {data.dtype} of shape {data.shape}")
    grid = window_grid(data.shape, window=window, step=step, flush=flush)
    frame = torch.from_numpy(data.astype(np.float32))
    answer = _classify(grid.cut(frame, most=CHUNK), model=model, passes=passes, rng=rng)
    columns = {"entropy": answer.entropy, "mutual_information": answer.mutual}
    for kind, values in (("p", answer.mean), ("std", answer.std)):
        columns |= {f"{kind}_{name}": values[:, k] for k, name in enumerate(CLASSES)}
    maps = {name: values.reshape(grid.shape).astype(np.float32) for name, values in columns.items()}
    return Field(maps, origin=grid.origin, step=grid.step)


def window_for_lattice(spacing_px: float, shape: tuple[int, int]) -> int:
    """Side [px] of a window that follows the lattice, inside a frame of `shape`.

    spacing_px: nearest-neighbour distance of the columns. Ten of them give six cells of a honeycomb and ten of
    a lattice with one column per cell; four are the least. A frame too small for that gives its smaller side:
    the answer is then uncertain, and says so. Raises InputError.
    """
    if not np.isfinite(spacing_px) or spacing_px <= 0:
        raise InputError(f"a lattice spacing must be a positive number of px, got {spacing_px}")
    return int(min(max(LEAST_PX, int(np.ceil(SPACINGS * spacing_px))), *shape))


@dataclass(frozen=True)
class _Answer:
    """Of N windows: mean and standard deviation over passes (N, 6), entropy and mutual information (N,) [nats]."""

    mean: FloatArray
    std: FloatArray
    entropy: FloatArray
    mutual: FloatArray


def _classify(parts: Iterable[torch.Tensor], *, model: str | Path | None, passes: int, rng: Rng) -> _Answer:
    """parts: windows (n, Y, X), a few at a time, so that a fine map of a large frame fits into memory."""
    if passes < 0:
        raise InputError(f"passes must be 0 or more, got {passes}")
    loaded, card = load_model(model or "bravais")
    if card.classes != CLASSES or not isinstance(loaded, BravaisNet):
        raise ModelError(
            f"model {card.name!r} does not tell Bravais lattices; `atomreel models` lists those that do"
        )
    temperature = float(card.calibration.get("temperature", 1.0))
    with torch.inference_mode():
        seen = [(describe(fit_window(part)), part.flatten(1).nan_to_num().std(1) == 0) for part in parts]
        if not seen:
            return _Answer(np.zeros((0, 6)), np.zeros((0, 6)), np.zeros(0), np.zeros(0))
        described, flat = (torch.cat(pieces) for pieces in zip(*seen, strict=True))
        if not passes:
            mean = (loaded(described) / temperature).softmax(-1)
            std, inner = torch.zeros_like(mean), entropy(mean)
        else:
            mean, std, inner = _sample(loaded, described, temperature=temperature, passes=passes, rng=rng)
        mutual = torch.where(flat, 0.0, mutual_information(mean, inner))
        mean = torch.where(flat[:, None], _certain_noise(mean), mean)
        std = torch.where(flat[:, None], 0.0, std)
        values = (mean.double(), std.double(), entropy(mean), mutual)
    return _Answer(*(cast(FloatArray, value.numpy()) for value in values))


def _certain_noise(like: torch.Tensor) -> torch.Tensor:
    noise = torch.zeros_like(like)
    noise[:, CLASSES.index("noise")] = 1
    return noise


def _sample(
    net: BravaisNet, described: torch.Tensor, *, temperature: float, passes: int, rng: Rng
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, standard deviation and mean entropy over dropout masks, a bounded number of draws at a time."""
    seed = int(np.random.default_rng(rng).integers(2**62))
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(described), len(CLASSES), dtype=torch.float64)
    squares = torch.zeros_like(total)
    inner = torch.zeros(len(described), dtype=torch.float64)
    at_once = max(1, DRAWS // len(described))
    for start in range(0, passes, at_once):
        logits = net.sample(described, passes=min(at_once, passes - start), generator=generator)
        p = (logits / temperature).softmax(-1).double()
        total += p.sum(0)
        squares += p.square().sum(0)
        inner += entropy(p).sum(0)
    mean = total / passes
    return mean, (squares / passes - mean.square()).clamp_min(0).sqrt(), inner / passes


def fit_window(windows: torch.Tensor) -> torch.Tensor:
    """(N, Y, X) → (N, 128, 128) float32 without NaN: cut to a square, shrunk by averaging or enlarged."""
    x = windows.float()
    good = torch.isfinite(x)
    if not bool(good.all()):
        mean = torch.where(good, x, 0.0).sum((1, 2), keepdim=True) / good.sum((1, 2), keepdim=True).clamp_min(
            1
        )
        x = torch.where(good, x, mean)
    side = min(x.shape[1:])
    top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
    x = x[:, top : top + side, left : left + side]
    if side == SIZE:
        return x
    resized = F.interpolate(x[:, None], size=(SIZE, SIZE), mode="bicubic", antialias=side > SIZE)
    return resized[:, 0]
