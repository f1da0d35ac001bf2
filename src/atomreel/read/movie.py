"""Any known file → Movie. The only module of this package that other stages call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import AtomreelError, InputError
from atomreel.core.image import Frames, Movie
from atomreel.core.registry import modules
from atomreel.read.source import REFUSED, Dataset, Reader, Source, collected, one_line
from atomreel.read.times import frame_times

HEAD = 4096
GIVEN = "given by the user"
CHECK_PIXELS = 4_000_000


def open_movie(
    path: str | Path,
    *,
    dataset: str | int | None = None,
    pixel: float | tuple[float, float] | None = None,
    times: str | Path | Sequence[float] | npt.NDArray[Any] | None = None,
    exposure: float | None = None,
    dose: float | None = None,
    voltage: float | None = None,
) -> Movie:
    """Open an image or movie; frames are read when they are asked for.

    dataset: name or number in `list_datasets`, needed when the file holds several images. pixel [Å], one number
    or (dy, dx). times [s]: a CSV with columns `frame, time_s`, or one number per frame. exposure [s per frame],
    dose [incident e⁻/Å² per frame], voltage [kV]. What is given wins over the file; `movie.sources` says where
    each number came from. Raises InputError, one line, for anything that is not a usable image or movie.
    """
    path = Path(path)
    found, notices = _sources(path)
    source, passed = _choose(found, dataset, path.name)
    if source.frames is None:
        raise InputError(f"{path.name}: {source.name!r} of shape {source.shape} is {REFUSED[source.kind]}")
    count = len(source.frames)
    sources = dict(source.sources)
    values: dict[str, Any] = {
        "pixel": source.pixel if pixel is None else _pair(pixel),
        "times": source.times if times is None else frame_times(times, count),
        "exposure": source.exposure if exposure is None else _above_zero("exposure", exposure),
        "dose": source.dose if dose is None else _above_zero("dose", dose),
        "voltage": source.voltage if voltage is None else _above_zero("voltage", voltage),
    }
    given = {"pixel": pixel, "times": times, "exposure": exposure, "dose": dose, "voltage": voltage}
    for name, value in given.items():
        if value is not None:
            sources[name] = f"{GIVEN} ({Path(value).name})" if isinstance(value, str | Path) else GIVEN
    _check_content(source.frames, path.name)
    return Movie(
        source.frames,
        source.size,
        **values,
        defocus=source.defocus,
        modality=source.modality,
        name=path.name,
        sources={k: v for k, v in sources.items() if k == "modality" or values.get(k) is not None},
        notices=tuple(dict.fromkeys([*notices, *passed, *source.notices])),
    )


def list_datasets(path: str | Path) -> list[Dataset]:
    """Every array in the file, usable or not, in the order of the numbers that `dataset=` takes."""
    return [source.dataset() for source in _sources(Path(path))[0]]


def describe(movie: Movie) -> dict[str, Any]:
    """What is known about a movie and from where; plain values, for `atomreel info` and JSON."""
    times = movie.times
    return {
        "name": movie.name,
        "frames": len(movie),
        "shape": list(movie.shape),
        "dtype": str(np.asanyarray(movie.frames[0]).dtype),
        "pixel_A": None if movie.pixel is None else [float(p) for p in movie.pixel],
        "field_A": None
        if movie.pixel is None
        else [round(float(n * p), 6) for n, p in zip(movie.shape, movie.pixel, strict=True)],
        "duration_s": None if times is None or len(times) < 2 else float(times[-1] - times[0]),
        "frame_time_s": None if times is None or len(times) < 2 else float(np.median(np.diff(times))),
        "exposure_s": movie.exposure,
        "dose": movie.dose,
        "voltage_kV": movie.voltage,
        "modality": movie.modality,
        "sources": dict(movie.sources),
        "notices": list(movie.notices),
    }


@cache
def readers() -> tuple[Reader, ...]:
    """Every reader: the `READERS` of each module in this folder. One more file there is one more reader."""
    return tuple(r for module in modules("atomreel.read").values() for r in vars(module).get("READERS", ()))


@cache
def suffix_table() -> dict[str, tuple[str, ...]]:
    """File ending → names of the readers that serve it."""
    table: dict[str, tuple[str, ...]] = {}
    for reader in readers():
        for suffix in reader.suffixes:
            table[suffix] = (*table.get(suffix, ()), reader.name)
    return dict(sorted(table.items()))


def _sources(path: Path) -> tuple[list[Source], list[str]]:
    reader, notices = _reader(path)
    said: list[str] = []
    try:
        with collected(said, "rsciio", "tifffile", "PIL", "igor2"):
            found = reader.read(path)
    except AtomreelError:
        raise
    except Exception as error:  # damaged files make libraries raise anything, MemoryError included
        raise InputError(
            f"{path.name}: cannot be read as {reader.name} ({one_line(error)}); "
            "it is truncated, damaged or of an unknown variant: copy it again or export it as TIFF"
        ) from error
    if not found:
        raise InputError(f"{path.name}: {reader.name} file without any array; an image or movie is needed")
    return _unique_names(found), [*notices, *(f"{reader.name}: {line}" for line in dict.fromkeys(said))]


def _reader(path: Path) -> tuple[Reader, list[str]]:
    """The reader that name and content agree on; an ending that says nothing is overruled by the content."""
    try:
        there = path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if not there:
        raise InputError(f"{path}: no such file")
    suffix = path.suffix.lower()
    head = b""
    if path.is_file():
        try:
            with path.open("rb") as stream:
                head = stream.read(HEAD)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
        if not head:
            raise InputError(f"{path.name}: the file is empty (zero bytes); copy it again")
    try:
        matching = [reader for reader in readers() if reader.sniff(path, head)]
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    for reader in matching:
        if suffix in reader.suffixes:
            return reader, []
    if matching:
        reader = matching[0]
        if suffix in suffix_table():
            raise InputError(
                f"{path.name}: named {suffix} but its content is {reader.name}; "
                f"rename it to end in {' or '.join(reader.suffixes)} if that is what it is"
            )
        return reader, [
            f"no known ending ({suffix or 'none'}), but the content is {reader.name}: read as that"
        ]
    if path.is_dir():
        raise InputError(f"{path}: a folder without a Zarr array; give a file or a Zarr folder")
    raise InputError(f"{path.name}: {_what_else(suffix, head)}")


def _what_else(suffix: str, head: bytes) -> str:
    expected = [reader.name for reader in readers() if suffix in reader.suffixes]
    texty = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    what = "text, not an image" if texty else "content of no known image format"
    if expected:
        return f"{what}; a {suffix} file should be {' or '.join(dict.fromkeys(expected))}: copy or export it again"
    known = ", ".join(ending.lstrip(".") for ending in suffix_table())
    return f"{what}; known formats: {known}"


def _choose(found: list[Source], dataset: str | int | None, where: str) -> tuple[Source, list[str]]:
    names = [source.name for source in found]
    listing = "; ".join(
        f"{i}: {s.name!r} {'×'.join(map(str, s.shape))} {s.kind}" for i, s in enumerate(found)
    )
    if dataset is not None:
        if isinstance(dataset, str) and dataset in names:
            return found[names.index(dataset)], []
        number = int(dataset) if str(dataset).isdecimal() else -1
        if 0 <= number < len(found):
            return found[number], []
        raise InputError(f"{where}: no dataset {dataset!r}; it holds {listing}")
    usable = [s for s in found if s.usable]
    if not usable:
        first = found[0]
        if len(found) == 1:
            raise InputError(
                f"{where}: array of shape {first.shape}, {first.dtype}, is {REFUSED[first.kind]}"
            )
        raise InputError(f"{where}: holds no image or movie, only {listing}")
    major = [s for s in usable if not s.minor] or usable
    if len(major) > 1:
        raise InputError(
            f"{where}: holds {len(major)} images; say which with dataset= (name or number): {listing}"
        )
    others = [s.name for s in found if s is not major[0]]
    note = [f"{major[0].name!r} was read; passed over: {', '.join(map(repr, others))}"] if others else []
    return major[0], note


def _check_content(frames: Frames, where: str) -> None:
    """Refuse a file without one finite pixel; a few frames are looked at, all only when those are empty."""
    count = len(frames)
    few = sorted({0, count // 2, count - 1})
    if any(_any_finite(frames[i]) for i in few):
        return
    if any(_any_finite(frames[i]) for i in range(count) if i not in few):
        return
    raise InputError(f"{where}: no finite pixel (all NaN or infinite); there is nothing to look at")


def _any_finite(frame: npt.NDArray[Any]) -> bool:
    if frame.dtype.kind != "f":
        return True
    rows = max(1, CHECK_PIXELS // frame.shape[1])
    return any(bool(np.isfinite(frame[y : y + rows]).any()) for y in range(0, frame.shape[0], rows))


def _unique_names(found: list[Source]) -> list[Source]:
    seen: dict[str, int] = {}
    out = []
    for source in found:
        seen[source.name] = n = seen.get(source.name, 0) + 1
        out.append(source if n == 1 else replace(source, name=f"{source.name} #{n}"))
    return out


def _pair(pixel: float | tuple[float, float]) -> tuple[float, float]:
    values = np.ravel(np.asarray(pixel, dtype=float))
    if values.size not in (1, 2) or not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise InputError(f"pixel={pixel!r}: one positive number [Å] or (dy, dx) is needed")
    return float(values[0]), float(values[-1])


def _above_zero(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name}={value!r}: a positive number is needed")
    return float(value)
