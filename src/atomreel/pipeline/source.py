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
from atomreel.prepare.clean import clean_frame, find_data_bar, parse_frames, parse_roi
from atomreel.read.movie import open_movie


@dataclass(frozen=True)
class Source:
    """movie: raw frames, cropped, not yet cleaned. mask: (Y, X) bool where columns count, or None."""

    movie: Movie
    mask: npt.NDArray[np.bool_] | None
    origin: tuple[int, int]
    frames: tuple[int, ...]

    def clean(self, i: int) -> tuple[FloatArray, tuple[str, ...]]:
        """Frame i as finite float32, and what had to be mended."""
        return clean_frame(self.movie[i].data)


def open_source(path: Path | str, options: Input) -> Source:
    """Raises InputError for a file, range, region or mask that cannot be used."""
    movie = open_movie(
        path,
        dataset=options.dataset,
        pixel=options.pixel_A,
        times=options.times_csv,
        exposure=options.exposure_s,
        dose=options.dose,
        voltage=options.voltage_kV,
    )
    if options.frame_time_s is not None and options.times_csv is None:
        movie = replace(
            movie,
            times=np.arange(len(movie)) * options.frame_time_s,
            sources={**movie.sources, "times": "given by the user (input.frame_time_s)"},
        )
    frames = np.arange(len(movie))[parse_frames(options.frames)]
    if not len(frames):
        raise InputError(f"input.frames = {options.frames!r} leaves none of the {len(movie)} frames")
    movie = movie.take(frames)
    rows, cols = _region(movie, options)
    origin = (rows.start or 0, cols.start or 0)
    shape = (len(range(*rows.indices(movie.shape[0]))), len(range(*cols.indices(movie.shape[1]))))
    if min(shape) < 16:
        raise InputError(f"input.roi = {options.roi!r} leaves {shape[0]} × {shape[1]} px; at least 16 × 16 are needed")
    if shape != movie.shape:
        movie = movie.map(lambda data: data[rows, cols], shape=shape)
    mask = None if options.mask is None else _mask(options.mask, (rows, cols), shape)
    return Source(movie, mask, origin, tuple(int(i) for i in frames))


def _region(movie: Movie, options: Input) -> tuple[slice, slice]:
    if options.roi:
        return parse_roi(options.roi)
    if options.data_bar == "auto" and max(movie.shape) <= 8192:
        end = find_data_bar(movie[0].data)
        if end is not None:
            return slice(0, end), slice(None)
    return slice(None), slice(None)


def _mask(path: Path, region: tuple[slice, slice], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    data = np.asarray(open_movie(path)[0].data)
    for candidate in (data[region], data):
        if candidate.shape == shape:
            return candidate > 0
    raise InputError(f"mask {path}: shape {data.shape}, the image has {shape}")


def describe_source(source: Source) -> dict[str, Any]:
    """What run.toml says about the input."""
    movie = source.movie
    optional = {
        "pixel_A": None if movie.pixel is None else list(movie.pixel),
        "exposure_s": movie.exposure,
        "dose": movie.dose,
        "voltage_kV": movie.voltage,
        "modality": movie.modality,
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
