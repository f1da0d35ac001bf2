"""Image and Movie: the two things that every stage takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, cast, overload

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError

FloatArray = npt.NDArray[np.float32]


class Frames(Protocol):
    """Anything that gives frame `i` as a real (Y, X) array without reading the others."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class Image:
    """One frame.

    data: (Y, X) float32, any unit of brightness. pixel: (dy, dx) [Å] or None.
    meta: where each number came from, and notices about this frame.
    """

    data: FloatArray
    pixel: tuple[float, float] | None = None
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        data = np.asarray(self.data, dtype=np.float32)
        if data.ndim != 2 or min(data.shape) < 2:
            raise InputError(
                f"an image must be two-dimensional with at least 2 × 2 pixels, got shape {data.shape}"
            )
        object.__setattr__(self, "data", data)

    @property
    def shape(self) -> tuple[int, int]:
        return cast(tuple[int, int], self.data.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)


@dataclass(frozen=True)
class Movie:
    """A lazy sequence of Images; one image is a movie of one. Never loads whole files.

    frames: gives frame `i` as (Y, X). shape: (Y, X). pixel: (dy, dx) [Å] or None.
    times: (T,) [s] or None (recordings pause, so one per frame). exposure: [s] per frame or None.
    dose: incident e⁻/Å² per frame or None. defocus: (T,) [Å], positive = underfocus, or None.
    voltage: [kV] or None. sources: for each calibrated number, where it came from.
    notices: what the reader guessed or changed. `modality`: "stem", "hrtem", "stm" or None.
    """

    frames: Frames
    shape: tuple[int, int]
    pixel: tuple[float, float] | None = None
    times: npt.NDArray[np.float64] | None = None
    exposure: float | None = None
    dose: float | None = None
    defocus: npt.NDArray[np.float64] | None = None
    voltage: float | None = None
    modality: str | None = None
    name: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.frames)
        if n == 0:
            raise InputError(f"{self.name or 'movie'}: no frames")
        for label in ("times", "defocus"):
            values = getattr(self, label)
            if values is not None and len(values) != n:
                raise InputError(f"{label}: {len(values)} values for {n} frames; one per frame is needed")
        if self.times is not None and np.any(np.diff(self.times) <= 0):
            raise InputError("times must increase from frame to frame")

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, i: int) -> Image: ...
    @overload
    def __getitem__(self, i: slice) -> Movie: ...
    def __getitem__(self, i: int | slice) -> Image | Movie:
        if isinstance(i, slice):
            return self.take(range(*i.indices(len(self))))
        if not -len(self) <= i < len(self):
            raise IndexError(f"frame {i} of a movie of {len(self)}")
        i %= len(self)
        data = np.asarray(self.frames[i])
        if data.shape != self.shape:
            raise InputError(f"frame {i} has shape {data.shape}, the movie {self.shape}")
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which cleaning knows how to treat
            data = data.astype(np.float32, copy=False)
        return Image(data, self.pixel, MappingProxyType({"frame": i}))

    def __iter__(self) -> Iterator[Image]:
        return (self[i] for i in range(len(self)))

    def take(self, index: range | npt.NDArray[np.int_]) -> Movie:
        """The frames of `index`, in that order, still lazy."""
        chosen = np.asarray(index, dtype=int)
        return replace(
            self,
            frames=_Taken(self.frames, chosen),
            times=None if self.times is None else self.times[chosen],
            defocus=None if self.defocus is None else self.defocus[chosen],
        )

    def map(
        self, function: Callable[[FloatArray], FloatArray], *, shape: tuple[int, int] | None = None
    ) -> Movie:
        """Every frame through `function` when it is asked for; `shape` if it changes."""
        return replace(self, frames=_Mapped(self.frames, function), shape=shape or self.shape)


@dataclass(frozen=True)
class _Taken:
    frames: Frames
    index: npt.NDArray[np.int_]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int, /) -> npt.NDArray[Any]:
        return self.frames[int(self.index[i])]


@dataclass(frozen=True)
class _Mapped:
    frames: Frames
    function: Callable[[FloatArray], FloatArray]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int, /) -> npt.NDArray[Any]:
        return self.function(np.asarray(self.frames[i]).astype(np.float32, copy=False))
