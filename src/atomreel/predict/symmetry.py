"""Bravais symmetry of windows, whole images and maps, with Monte-Carlo dropout (METHODS S1)."""

from __future__ import annotations

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
    return _classify(torch.from_numpy(array.astype(np.float32)), model=model, passes=passes, rng=rng)


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
    step: int = 16,
    passes: int = 0,
    model: str | Path | None = None,
    rng: Rng = None,
) -> Field:
    """Sliding windows over a frame (Y, X): a Field with p_<class> and std_<class> at the windows' centres.

    window, step: px; a window larger than the frame is cut to it. The last row and column of windows may leave
    less than a step of the frame uncovered. Raises InputError for a frame of less than 2 × 2 px.
    """
    data = np.asarray(image)
    if data.ndim != 2 or min(data.shape) < 2 or not np.isrealobj(data):
        raise InputError(f"a frame must be a real array (Y, X), got {data.dtype} of shape {data.shape}")
    if window < 2 or step < 1:
        raise InputError(f"window ({window}) must be at least 2 px and step ({step}) at least 1 px")
    side = min(window, *data.shape)
    frame = torch.from_numpy(data.astype(np.float32))
    views = frame.unfold(0, side, step).unfold(1, side, step)
    gy, gx = views.shape[:2]
    mean, std = _classify(views.reshape(-1, side, side), model=model, passes=passes, rng=rng)
    maps = {
        f"{kind}_{name}": values[:, k].reshape(gy, gx).astype(np.float32)
        for kind, values in (("p", mean), ("std", std))
        for k, name in enumerate(CLASSES)
    }
    centre = (side - 1) / 2
    return Field(maps, origin=(centre, centre), step=(float(step), float(step)))


def window_for_lattice(spacing_px: float, shape: tuple[int, int]) -> int:
    """Side [px] of a window that follows the lattice, inside a frame of `shape`.

    spacing_px: nearest-neighbour distance of the columns. Ten of them give six cells of a honeycomb and ten of
    a lattice with one column per cell; four are the least. A frame too small for that gives its smaller side:
    the answer is then uncertain, and says so. Raises InputError.
    """
    if not np.isfinite(spacing_px) or spacing_px <= 0:
        raise InputError(f"a lattice spacing must be a positive number of px, got {spacing_px}")
    return int(min(max(LEAST_PX, int(np.ceil(SPACINGS * spacing_px))), *shape))


def _classify(
    windows: torch.Tensor, *, model: str | Path | None, passes: int, rng: Rng
) -> tuple[FloatArray, FloatArray]:
    if passes < 0:
        raise InputError(f"passes must be 0 or more, got {passes}")
    loaded, card = load_model(model or "bravais")
    if card.classes != CLASSES or not isinstance(loaded, BravaisNet):
        raise ModelError(
            f"model {card.name!r} does not tell Bravais lattices; `atomreel models` lists those that do"
        )
    temperature = float(card.calibration.get("temperature", 1.0))
    if not len(windows):
        return np.zeros((0, len(CLASSES))), np.zeros((0, len(CLASSES)))
    with torch.inference_mode():
        described = torch.cat([describe(fit_window(part)) for part in windows.split(CHUNK)])
        if not passes:
            p = (loaded(described) / temperature).softmax(-1)
            mean, std = p, torch.zeros_like(p)
        else:
            mean, std = _sample(loaded, described, temperature=temperature, passes=passes, rng=rng)
        flat = torch.cat([part.flatten(1).nan_to_num().std(1) == 0 for part in windows.split(CHUNK)])
        mean = torch.where(flat[:, None], _certain_noise(mean), mean)
        std = torch.where(flat[:, None], 0.0, std)
    return cast(FloatArray, mean.double().numpy()), cast(FloatArray, std.double().numpy())


def _certain_noise(like: torch.Tensor) -> torch.Tensor:
    noise = torch.zeros_like(like)
    noise[:, CLASSES.index("noise")] = 1
    return noise


def _sample(
    net: BravaisNet, described: torch.Tensor, *, temperature: float, passes: int, rng: Rng
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation over dropout masks, a bounded number of draws at a time."""
    seed = int(np.random.default_rng(rng).integers(2**62))
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(described), len(CLASSES), dtype=torch.float64)
    squares = torch.zeros_like(total)
    at_once = max(1, DRAWS // len(described))
    for start in range(0, passes, at_once):
        logits = net.sample(described, passes=min(at_once, passes - start), generator=generator)
        p = (logits / temperature).softmax(-1).double()
        total += p.sum(0)
        squares += p.square().sum(0)
    mean = total / passes
    return mean, (squares / passes - mean.square()).clamp_min(0).sqrt()


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
