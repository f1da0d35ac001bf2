"""The movie that a run sees: file, overrides, frame range, region of interest, data bar, mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.core.image import FloatArray, Movie
from atomreel.core.recipe import Input
from atomreel.prepare.clean import clean_frame, find_data_bar, parse_frames, parse_roi, read_mask
from atomreel.read.movie import open_movie

SAMPLES = 5  # frames that are looked at before a run
SMALLEST = 16  # px; below this there is no neighbourhood to speak of
LARGEST_WITH_BAR = 8192  # px; data bars are burnt into exported pictures, which are smaller


@dataclass(frozen=True)
class Source:
    """movie: raw frames, cropped, not yet cleaned. mask: (Y, X) bool where columns count, or None.

    frames: of each frame of `movie`, its number in the file.
    """

    movie: Movie
    mask: npt.NDArray[np.bool_] | None
    origin: tuple[int, int]
    frames: tuple[int, ...]

    def clean(self, i: int) -> tuple[FloatArray, tuple[str, ...]]:
        """Frame i as finite float32, and what had to be mended."""
        return clean_or_blank(self.movie[i].data)


def clean_or_blank(data: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """`clean_frame`; but a frame that holds nothing becomes zeros and is noted: one of many must not end a run."""
    if not has_content(data):
        return np.zeros_like(data), ("not one finite pixel, so nothing is found in it",)
    return clean_frame(data)


def has_content(data: FloatArray) -> bool:
    """Whether any pixel is finite; looks no further than it must."""
    return any(bool(np.isfinite(row).any()) for row in data)


def spread(count: int, *, most: int) -> list[int]:
    """Up to `most` frame numbers of `count`, evenly spread, with both ends."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(most, count)).round())]


def open_input(path: Path | str, options: Input) -> Movie:
    """The file with what the recipe says of it, whole. Raises InputError."""
    movie = open_movie(
        path,
        dataset=options.dataset,
        pixel=options.pixel_A,
        times=options.times_csv,
        exposure=options.exposure_s,
        dose=options.dose,
        voltage=options.voltage_kV,
    )
    if options.frame_time_s is None or options.times_csv is not None:
        return movie
    return replace(
        movie,
        times=np.arange(len(movie), dtype=float) * options.frame_time_s,
        sources={**movie.sources, "times": "given by the user (input.frame_time_s)"},
    )


def open_source(path: Path | str, options: Input) -> Source:
    """Raises InputError for a file, range, region or mask that cannot be used."""
    movie = open_input(path, options)
    frames = np.arange(len(movie))[parse_frames(options.frames or ":", count=len(movie))]
    movie = movie.take(frames)
    if not any(has_content(movie[i].data) for i in spread(len(movie), most=SAMPLES)):
        raise InputError(f"{movie.name}: not one finite pixel (all NaN or Inf); nothing can be found in it")
    rows, cols = _region(movie, options)
    height, width = (range(*cut.indices(size)) for cut, size in zip((rows, cols), movie.shape, strict=True))
    shape, whole = (len(height), len(width)), movie.shape
    if min(shape) < SMALLEST:
        raise InputError(
            f"{movie.name}: {shape[0]} × {shape[1]} px are left to analyse; at least {SMALLEST} × {SMALLEST} are needed"
        )
    if shape != whole:
        movie = movie.map(lambda data: data[rows, cols], shape=shape)
    mask = None if options.mask is None else read_mask(options.mask, shape=whole)[rows, cols]
    return Source(movie, mask, (height.start, width.start), tuple(int(i) for i in frames))


def _region(movie: Movie, options: Input) -> tuple[slice, slice]:
    if options.roi:
        return parse_roi(options.roi, shape=movie.shape)
    if options.data_bar == "auto" and max(movie.shape) <= LARGEST_WITH_BAR:
        return find_data_bar(movie[0].data) or slice(None), slice(None)
    return slice(None), slice(None)


def describe_source(source: Source) -> dict[str, Any]:
    """What run.toml says about the input."""
    movie = source.movie
    optional = {
        "pixel_A": None if movie.pixel is None else list(movie.pixel),
        "exposure_s": movie.exposure,
        "dose": movie.dose,
        "voltage_kV": movie.voltage,
        "modality": movie.modality,
        "source_frames": None if source.frames == tuple(range(len(movie))) else list(source.frames),
    }
    return {
        "name": movie.name,
        "frames": len(movie),
        "shape": list(movie.shape),
        "origin": list(source.origin),
        "sources": dict(movie.sources),
        "notices": list(movie.notices),
        **{key: value for key, value in optional.items() if value is not None},
    }
