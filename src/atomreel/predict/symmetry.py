"""Bravais symmetry of windows, whole images and maps, with Monte-Carlo dropout (METHODS S1)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from atomreel.core.errors import InputError, ModelError
from atomreel.core.field import Field
from atomreel.core.image import Image
from atomreel.core.lattice import Lattice
from atomreel.kinetics.phases import effective_number
from atomreel.nets.bravais import probabilities
from atomreel.nets.spectrum import SIZE, Lattices, join_lattices
from atomreel.predict.cells import Cells, cell_maps, cells_of, common_lattice, no_cells
from atomreel.predict.model import load_model
from atomreel.predict.sliding import WindowGrid, window_grid
from atomreel.predict.uncertainty import entropy, mutual_information
from atomreel.simulate.bravais import CLASSES

CHUNK = 64  # windows whose spectra are made together: their buffers then stay in the cache
DRAWS = 8192  # windows × passes sampled together
LEAST_PX = 16  # the smallest window that can hold four cells
SPACINGS = (
    10.0  # nearest-neighbour distances across a window that follows the lattice: six cells of a honeycomb
)
FloatArray = npt.NDArray[np.float64]
Rng = np.random.Generator | int | None


@runtime_checkable
class SymmetryNet(Protocol):
    """What a network offers that names lattices: `atomreel.nets` has two, and a model's card says which."""

    def read(self, windows: torch.Tensor) -> tuple[torch.Tensor, Lattices]:
        """(N, 128, 128) windows → (N, …), whatever `__call__` and `sample` take, and the lattices of their spectra."""
        ...

    def __call__(self, described: torch.Tensor) -> torch.Tensor:
        """Logits (N, 6) in the order of CLASSES."""
        ...

    def sample(self, described: torch.Tensor, *, passes: int, generator: torch.Generator) -> torch.Tensor:
        """Logits (passes, N, 6) with dropout."""
        ...


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
    """Class probabilities (6,) of a whole image and their standard deviation; see `read_image`."""
    found = read_image(image, window=window, model=model, passes=passes, rng=rng)
    return found.mean, found.std


@dataclass(frozen=True)
class ImageSymmetry:
    """mean, std: (6,) class probabilities of a whole image. lattice: of most of its windows, None without one; its
    origin means nothing. share: of the windows with a lattice that have this one. window: their side [px]."""

    mean: FloatArray
    std: FloatArray
    lattice: Lattice | None
    share: float
    window: int

    @property
    def name(self) -> str:
        """The likeliest class."""
        return CLASSES[int(self.mean.argmax())]


def read_image(
    image: Image | npt.NDArray[Any],
    *,
    window: int | None = None,
    pixel: tuple[float, float] | None = None,
    model: str | Path | None = None,
    passes: int = 0,
    rng: Rng = None,
) -> ImageSymmetry:
    """Class probabilities of a whole image, and its lattice with errors.

    The image is looked at in square windows that overlap by half; their probabilities are averaged. window:
    px; by default the whole of a small image, else 128, 256, … px, whichever sees a lattice most clearly (least
    probability of noise). std joins dropout and the scatter over the windows. pixel: (dy, dx) [Å] of the lattice.
    Raises InputError.
    """
    data = np.asarray(image)
    rng = np.random.default_rng(rng)
    tried = [
        _slide(data, window=side, step=max(1, side // 2), flush=False, model=model, passes=passes, rng=rng)
        for side in ([window] if window else _sides(data.shape))
    ]
    grid, seen = min(tried, key=lambda pair: float(pair[1].mean[:, CLASSES.index("noise")].mean()))
    number = effective_number(np.ones(grid.shape, bool), window=grid.side, step=grid.step)
    lattice, share = common_lattice(seen.cells, independent=number, pixel=pixel)
    std = np.sqrt(np.square(seen.std).mean(0) + seen.mean.var(0))
    return ImageSymmetry(seen.mean.mean(0), std, lattice, share, grid.side)


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
    pixel: tuple[float, float] | None = None,
    passes: int = 0,
    model: str | Path | None = None,
    rng: Rng = None,
) -> Field:
    """Sliding windows over a frame (Y, X): a Field at the windows' centres.

    Its maps are p_<class> and std_<class>, and in nats the predictive entropy and the mutual_information over dropout
    passes (`predict.uncertainty`; 0 without passes). The lattice of each window: a_px, b_px, gamma_deg, angle_deg with
    their _err (`predict.cells`) and the vectors a_y_px … b_x_px, NaN for noise; with pixel (dy, dx) [Å] also a_A and b_A.
    window: px; one larger than the frame is cut to it. step: px, or (dy, dx), whole or not. flush: shorten the step by as
    little as lets the last windows end at the border; else less than a step of the frame may be left uncovered there.
    Raises InputError for a frame of less than 2 × 2 px.
    """
    grid, answer = _slide(
        np.asarray(image), window=window, step=step, flush=flush, model=model, passes=passes, rng=rng
    )
    columns = {"entropy": answer.entropy, "mutual_information": answer.mutual}
    for kind, values in (("p", answer.mean), ("std", answer.std)):
        columns |= {f"{kind}_{name}": values[:, k] for k, name in enumerate(CLASSES)}
    columns |= cell_maps(answer.cells, pixel=pixel)
    for i, j in np.ndindex(2, 2):
        columns["ab"[i] + "_" + "yx"[j] + "_px"] = answer.cells.vectors[:, i, j]
    maps = {name: values.reshape(grid.shape).astype(np.float32) for name, values in columns.items()}
    return Field(maps, origin=grid.origin, step=grid.step)


def _slide(
    data: npt.NDArray[Any],
    *,
    window: int,
    step: float | tuple[float, float],
    flush: bool,
    model: str | Path | None,
    passes: int,
    rng: Rng,
) -> tuple[WindowGrid, _Answer]:
    if data.ndim != 2 or min(data.shape) < 2 or not np.isrealobj(data):
        raise InputError(f"a frame must be a real array (Y, X), got {data.dtype} of shape {data.shape}")
    grid = window_grid(data.shape, window=window, step=step, flush=flush)
    frame = torch.from_numpy(data.astype(np.float32))
    answer = _classify(grid.cut(frame, most=CHUNK), model=model, passes=passes, rng=rng)
    return grid, answer


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
class _Calibration:
    """What a model's card says about turning its logits into probabilities."""

    temperature: float
    tilt: float

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        return probabilities(logits, temperature=self.temperature, tilt=self.tilt)


@dataclass(frozen=True)
class _Answer:
    """Of N windows: mean and standard deviation over passes (N, 6), entropy and mutual information (N,) [nats], cells."""

    mean: FloatArray
    std: FloatArray
    entropy: FloatArray
    mutual: FloatArray
    cells: Cells


def _classify(parts: Iterable[torch.Tensor], *, model: str | Path | None, passes: int, rng: Rng) -> _Answer:
    """parts: windows (n, Y, X), a few at a time, so that a fine map of a large frame fits into memory."""
    if passes < 0:
        raise InputError(f"passes must be 0 or more, got {passes}")
    loaded, card = load_model(model or "bravais")
    if card.classes != CLASSES or not isinstance(loaded, SymmetryNet):
        raise ModelError(
            f"model {card.name!r} does not tell Bravais lattices; `atomreel models` lists those that do"
        )
    calibration = _Calibration(
        float(card.calibration.get("temperature", 1.0)), float(card.calibration.get("tilt", 0.0))
    )
    with torch.inference_mode():
        seen = _read_all(loaded, parts)
        if not seen:
            return _Answer(np.zeros((0, 6)), np.zeros((0, 6)), np.zeros(0), np.zeros(0), no_cells(0))
        described = torch.cat([one.described for one in seen])
        flat = torch.cat([one.flat for one in seen])
        if not passes:
            logits = torch.cat([loaded(part) for part in described.split(CHUNK)])
            mean = calibration(logits)
            std, inner = torch.zeros_like(mean), entropy(mean)
        else:
            mean, std, inner = _sample(loaded, described, calibration=calibration, passes=passes, rng=rng)
        mutual = torch.where(flat, 0.0, mutual_information(mean, inner))
        mean = torch.where(flat[:, None], _certain_noise(mean), mean)
        std = torch.where(flat[:, None], 0.0, std)
        values = [
            cast(FloatArray, value.numpy()) for value in (mean.double(), std.double(), entropy(mean), mutual)
        ]
        found = join_lattices([one.found for one in seen])
        cells = cells_of(found, mean, scale=seen[0].scale, classes=CLASSES)
    return _Answer(values[0], values[1], values[2], values[3], cells)


@dataclass(frozen=True)
class _Seen:
    """described: (n, features). found: lattices. flat: (n,) constant windows. scale: px of the image per px of these."""

    described: torch.Tensor
    found: Lattices
    flat: torch.Tensor
    scale: float


def _read(net: SymmetryNet, part: torch.Tensor) -> _Seen:
    with torch.inference_mode():  # which each thread must be told
        described, found = net.read(fit_window(part))
        pixels = part.flatten(1).nan_to_num()
        flat = (pixels == pixels[:, :1]).all(1)
    return _Seen(described, found, flat, min(part.shape[1:]) / SIZE)


def _read_all(net: SymmetryNet, parts: Iterable[torch.Tensor]) -> list[_Seen]:
    """Batches on as many threads as torch may use, each on its own: the many small steps of one batch gain nothing from
    threads. The answers do not depend on their number."""
    threads, coming = torch.get_num_threads(), iter(parts)
    some = list(islice(coming, 4 * threads))
    if threads == 1 or len(some) < 2:
        return [_read(net, part) for part in chain(some, coming)]
    seen: list[_Seen] = []
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            while some:
                seen += pool.map(lambda part: _read(net, part), some)
                some = list(islice(coming, 4 * threads))
    finally:
        torch.set_num_threads(threads)
    return seen


def _certain_noise(like: torch.Tensor) -> torch.Tensor:
    noise = torch.zeros_like(like)
    noise[:, CLASSES.index("noise")] = 1
    return noise


def _sample(
    net: SymmetryNet, described: torch.Tensor, *, calibration: _Calibration, passes: int, rng: Rng
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, standard deviation and mean entropy over dropout masks, a bounded number of draws at a time."""
    seed = int(np.random.default_rng(rng).integers(2**62))
    generator = torch.Generator().manual_seed(seed)
    at_once = min(passes, DRAWS)
    found = []
    for part in described.split(max(1, DRAWS // at_once)):
        total, squares = torch.zeros(2, len(part), len(CLASSES), dtype=torch.float64)
        inner = torch.zeros(len(part), dtype=torch.float64)
        for start in range(0, passes, at_once):
            logits = net.sample(part, passes=min(at_once, passes - start), generator=generator)
            p = calibration(logits).double()
            total += p.sum(0)
            squares += p.square().sum(0)
            inner += entropy(p).sum(0)
        mean = total / passes
        found.append((mean, (squares / passes - mean.square()).clamp_min(0).sqrt(), inner / passes))
    mean, std, inner = (torch.cat(pieces) for pieces in zip(*found, strict=True))
    return mean, std, inner


def fit_window(windows: torch.Tensor) -> torch.Tensor:
    """(N, Y, X) → (N, 128, 128) float32 without NaN: cut to a square, shrunk by averaging or enlarged."""
    x = windows.float()
    if not bool(torch.isfinite(x.sum())):  # a sum is quicker than a look at every pixel
        good = torch.isfinite(x)
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
