"""What a reader hands over: one Source per array in the file, with its calibration and where it came from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.image import Frames

MIN_SIDE = 8
REFUSED = {
    "spectrum": "a spectrum, not an image",
    "spectrum image": "a spectrum image (a spectrum at every pixel), not an image",
    "4D-STEM": "a 4D-STEM set (a diffraction pattern at every pixel), not an image or movie",
    "diffraction": "a diffraction pattern (its axes are in reciprocal units), not an image",
    "complex": "complex numbers; save the amplitude or the phase as an image",
    "object": "Python objects or text, which are never unpickled; save plain numbers",
    "table": "a table or a line, not an image",
    "tiny": f"smaller than {MIN_SIDE} × {MIN_SIDE} pixels, too small to hold a lattice",
    "empty": "empty",
    "volume": "an array of too many dimensions; give one of shape (Y, X) or (frames, Y, X)",
}
_LENGTH_A = {
    "m": 1e10,
    "cm": 1e8,
    "mm": 1e7,
    "um": 1e4,
    "µm": 1e4,
    "μm": 1e4,
    "micron": 1e4,
    "microns": 1e4,
    "nm": 10.0,
    "nanometer": 10.0,
    "nanometers": 10.0,
    "pm": 0.01,
    "a": 1.0,
    "\u00e5": 1.0,  # Å, lower case; the Angstrom sign U+212B becomes the same
    "angstrom": 1.0,
    "angstroms": 1.0,
    "ang": 1.0,
    "inch": 2.54e8,
}
_TIME_S = {
    "s": 1.0,
    "sec": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3600.0,
}


@dataclass(frozen=True)
class Dataset:
    """One array of a file. kind: "image", "movie", or why it cannot be used ("spectrum", "4D-STEM" …)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str


@dataclass(frozen=True)
class Source:
    """A Dataset with its frames and calibration, in the units of `core.image.Movie`.

    frames is None where kind is one of REFUSED. minor: a thumbnail or survey, passed over when another is there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    frames: Frames | None = None
    size: tuple[int, int] = (0, 0)
    pixel: tuple[float, float] | None = None
    times: npt.NDArray[np.float64] | None = None
    exposure: float | None = None
    dose: float | None = None
    defocus: npt.NDArray[np.float64] | None = None
    voltage: float | None = None
    modality: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    minor: bool = False

    @property
    def usable(self) -> bool:
        return self.kind not in REFUSED

    def dataset(self) -> Dataset:
        return Dataset(self.name, self.shape, self.dtype, self.kind)


@dataclass(frozen=True)
class Reader:
    """One family of files. sniff(path, first bytes) says whether the content is of this family."""

    name: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path, bytes], bool]
    read: Callable[[Path], list[Source]]
    library: str


@dataclass(frozen=True)
class LazyFrames:
    """Frames read one by one; anything that goes wrong in a library becomes a one-line InputError."""

    count: int
    read: Callable[[int], Any]
    where: str

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int, /) -> npt.NDArray[Any]:
        if not 0 <= i < self.count:
            raise IndexError(f"frame {i} of {self.count}")
        try:
            frame = self.read(i)
        except InputError:
            raise
        except Exception as error:  # third-party decoders raise anything
            raise InputError(
                f"{self.where}: frame {i} cannot be read ({one_line(error)}); "
                "the file is damaged there: take fewer frames or copy it again"
            ) from error
        return to_grey(np.asanyarray(frame))


def to_grey(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(Y, X) as it is; (Y, X, 3 or 4) or r, g, b fields to luma (ITU-R BT.601), alpha ignored; 2 = grey + alpha."""
    if frame.dtype.names:
        frame = np.stack([frame[name] for name in frame.dtype.names[:3]], axis=-1)
    if frame.ndim == 3 and frame.shape[-1] in (1, 2):
        frame = frame[..., 0]
    if frame.ndim == 3:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        frame = frame[..., :3].astype(np.float32) @ weights
    return frame.astype(np.uint8) if frame.dtype == bool else frame


def from_array(
    name: str, array: Any, *, where: str, facts: Mapping[str, Any] | None = None, minor: bool = False
) -> Source:
    """A Source from anything with `shape`, `dtype` and lazy indexing: (Y, X), (T, Y, X), colour last, ones squeezed.

    facts: fields of Source that the file states (pixel, times, sources, notices …).
    """
    shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
    known = dict(facts or {})
    notices = list(known.pop("notices", ()))
    kind, lead, size, colour = sort_out(shape, dtype)
    frames: Frames | None = None
    if kind in ("image", "movie"):
        if colour:
            notices.append("colour turned into grey (ITU-R BT.601 luma)")

        def read(i: int) -> Any:
            index = (0,) * (len(lead) - 1) + ((i,) if lead else ())
            frame = np.asanyarray(array[index] if index else array[...])
            return frame if colour else frame.reshape(size)

        frames = LazyFrames(int(np.prod(lead)) if lead else 1, read, where)
    return Source(name, shape, str(dtype), kind, frames, size, notices=tuple(notices), minor=minor, **known)


def sort_out(
    shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[str, tuple[int, ...], tuple[int, int], bool]:
    """(kind, leading axes, (Y, X), whether colour) of an array that says nothing about its axes."""
    none = (0, 0)
    rgb = dtype.names is not None and len(dtype.names) in (3, 4) and dtype[0].kind in "uif"
    if dtype.kind == "c":
        return "complex", (), none, False
    if not rgb and dtype.kind not in "buif":
        return "object", (), none, False
    if 0 in shape:
        return "empty", (), none, False
    if len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    colour = rgb
    if not rgb and len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) >= MIN_SIDE:
        colour, shape = True, shape[:-1]
    if len(shape) < 2 or min(shape[-2:]) == 1:
        return "table", (), none, False
    lead, size = shape[:-2], (shape[-2], shape[-1])
    if min(size) < MIN_SIDE:
        return ("table" if max(size) >= 4 * MIN_SIDE and not lead else "tiny"), (), none, False
    if sum(n > 1 for n in lead) > 1:
        return ("4D-STEM" if len(shape) == 4 else "volume"), (), none, False
    if len(lead) > 1 and lead[-1] == 1:  # only the last leading axis is walked
        return "volume", (), none, False
    return ("movie" if lead and lead[-1] > 1 else "image"), lead, size, colour


def angstrom(value: Any, unit: Any) -> float | None:
    """`value` of a length unit in Å; None when the unit is none of length or the value cannot be a pixel size."""
    factor = _LENGTH_A.get(str(unit or "").replace("\\u00B5", "µ").strip().lower())
    try:
        size = float(value) * factor if factor else 0.0
    except (TypeError, ValueError):
        return None
    return size if np.isfinite(size) and size > 0 else None


def seconds(value: Any, unit: Any) -> float | None:
    factor = _TIME_S.get(str(unit or "").strip().lower())
    try:
        step = float(value) * factor if factor else 0.0
    except (TypeError, ValueError):
        return None
    return step if np.isfinite(step) and step > 0 else None


def positive(value: Any) -> float | None:
    """The number if it is finite and above zero, however it is written; else None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def modality_of(text: str) -> str | None:
    """Guess from a detector's or signal's name."""
    words = set("".join(c if c.isalnum() else " " for c in text.upper()).split())
    if words & {"HAADF", "MAADF", "LAADF", "ADF", "ABF", "STEM", "IDPC", "DPC"}:
        return "stem"
    if words & {"TEM", "HRTEM", "CETA"}:
        return "hrtem"
    return "stm" if "STM" in words else None


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


class _Collect(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        self.into.append(" ".join(record.getMessage().split())[:200])


@contextmanager
def collected(into: list[str], *loggers: str) -> Iterator[None]:
    """Warnings and log lines of third-party libraries go into the list instead of onto the screen."""
    handler = _Collect(into)
    named = [logging.getLogger(name) for name in loggers]
    before = [(logger.propagate, logger.disabled) for logger in named]
    for logger in named:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for logger, (propagate, _) in zip(named, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
        ignore = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning, FutureWarning)
        into += [" ".join(str(w.message).split())[:200] for w in caught if not issubclass(w.category, ignore)]
