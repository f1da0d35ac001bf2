"""TIFF through tifffile: one page at a time, calibration of ImageJ, OME and microscope makers."""

from __future__ import annotations

import itertools
import threading
import weakref
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.read.rosetta import calibration
from atomreel.read.source import LazyFrames, Reader, Source, angstrom, one_line, positive, seconds, sort_out

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
PLAUSIBLE_A = (0.001, 50.0)  # a resolution tag outside this is the printer's, not the microscope's


@dataclass(frozen=True)
class _Page:
    """Reads whole pages of one open file; the lock because a file has one position."""

    tiff: Any
    pages: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, i: int) -> npt.NDArray[Any]:
        with self.lock:
            return self.pages[i].asarray()


def read(path: Path) -> list[Source]:
    import tifffile

    tiff = tifffile.TiffFile(path)
    try:
        facts = _facts(tiff, path)
        found = [s for series in _series(tiff) for s in _split(tiff, series, path, facts)]
    except Exception:
        tiff.close()
        raise
    if not any(isinstance(getattr(s.frames, "read", None), _Page) for s in found):
        tiff.close()
    return found


def _series(tiff: Any) -> list[Any]:
    """Series that hold pixels; of a pyramid only the full size. Falls back to equal pages when a maker's
    description does not fit the pages (cut-off files)."""
    try:
        series = list(tiff.series)
        if series and all(s.pages for s in series):
            return series
    except Exception:  # cut-off ImageJ or OME files make tifffile raise anything
        series = []
    return series or list(tiff._series_generic() or [])


def _split(tiff: Any, series: Any, path: Path, facts: dict[str, Any]) -> list[Source]:
    """One Source per channel (and per slice, when there are both times and slices)."""
    shape, axes = tuple(int(n) for n in series.shape), series.axes
    keep = [i for i, (n, a) in enumerate(zip(shape, axes, strict=True)) if n > 1 or a in "YXS"]
    shape, axes = tuple(shape[i] for i in keep), "".join(axes[i] for i in keep)
    dtype = np.dtype(series.dtype)
    name = series.name if series.name and len(tiff.series) > 1 else path.stem
    colour = axes.endswith("S")
    planar = "S" in axes and not colour
    if planar or axes.rstrip("S")[-2:] != "YX":
        kind = "complex" if dtype.kind == "c" else ("table" if len(shape) < 2 else "volume")
        return [Source(name, shape, str(dtype), kind)]
    plain = axes.rstrip("S")
    size = (shape[len(plain) - 2], shape[len(plain) - 1])
    lead, lead_axes = shape[: len(plain) - 2], plain[:-2]
    walk = next((lead_axes.index(a) for a in "TZQIRL" if a in lead_axes), None)
    if walk is None and lead and "C" not in lead_axes:
        walk = 0
    kind = sort_out(((2,) if walk is not None else ()) + size, dtype)[0]
    if kind not in ("image", "movie"):
        return [Source(name, shape, str(dtype), kind)]
    others = [range(n) if i != walk else range(1) for i, n in enumerate(lead)]
    held, notice = _held(tiff, series, path, lead, size, shape, dtype)
    out = []
    for corner in itertools.product(*others):
        index = _page_numbers(corner, lead, walk)
        index = index[index < held]
        if not index.size:
            continue
        label = ", ".join(
            f"{_AXIS.get(a, a)} {corner[i] + 1}"
            for i, a in enumerate(lead_axes)
            if i != walk and lead[i] > 1
        )
        notices = [*facts["notices"], *notice]
        if walk is not None and lead_axes[walk] == "Z":
            notices.append("slices (Z) were taken as frames")
        if colour:
            notices.append("colour turned into grey (ITU-R BT.601 luma)")
        frames = _frames(tiff, series, path, index, size, shape, dtype)
        known = {k: v for k, v in facts.items() if k not in ("notices", "interval")}
        if facts["interval"] and len(index) > 1 and walk is not None:
            known["times"] = facts["interval"] * np.arange(len(index), dtype=np.float64)
        kind = "movie" if walk is not None and len(index) > 1 else "image"
        part = shape if not label else tuple(n for i, n in enumerate(shape) if i == walk or i >= len(lead))
        full = f"{name}: {label}" if label and name != path.stem else (label or name)
        out.append(
            Source(full, part, str(dtype), kind, frames, size, notices=tuple(notices), **known)
        )
    if not out:
        raise InputError(f"{path.name}: cut off before the end of its first image; copy it again")
    return out


_AXIS = {"C": "channel", "Z": "slice", "T": "time"}


def _page_numbers(corner: tuple[int, ...], lead: tuple[int, ...], walk: int | None) -> npt.NDArray[np.int_]:
    if not lead:
        return np.zeros(1, dtype=int)
    count = lead[walk] if walk is not None else 1
    place = [np.full(count, c) for c in corner]
    if walk is not None:
        place[walk] = np.arange(count)
    return np.ravel_multi_index(tuple(place), lead)


def _contiguous(series: Any) -> bool:
    return series.dataoffset is not None and not series.is_truncated


def _held(
    tiff: Any,
    series: Any,
    path: Path,
    lead: tuple[int, ...],
    size: tuple[int, int],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> tuple[int, list[str]]:
    """How many leading pages lie whole inside the file, and a notice when that is not all."""
    total = int(np.prod(lead)) if lead else 1
    end = path.stat().st_size
    if _contiguous(series):
        frame = int(np.prod(shape[len(lead) :])) * dtype.itemsize
        held = min(total, max(0, (end - series.dataoffset) // frame))
    else:
        held = 0
        for page in itertools.islice(series.pages, total):
            spans = zip(page.dataoffsets, page.databytecounts, strict=False) if page is not None else [(end, 1)]
            if any(start + length > end for start, length in spans):
                break
            held += 1
    said = int((tiff.imagej_metadata or {}).get("images", total)) if tiff.is_imagej else total
    lost = max(total, said) - held
    if held and lost > 0:
        return held, [f"the file is cut off: {held} of {held + lost} frames are whole, the rest was dropped"]
    return held, []


def _frames(
    tiff: Any,
    series: Any,
    path: Path,
    index: npt.NDArray[np.int_],
    size: tuple[int, int],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> LazyFrames:
    if _contiguous(series):
        one = shape[-3:] if series.axes.endswith("S") else size
        stored = dtype.newbyteorder(tiff.byteorder)
        step = int(np.prod(one)) * stored.itemsize

        def mapped(i: int) -> npt.NDArray[Any]:
            return np.memmap(path, stored, "r", series.dataoffset + int(index[i]) * step, one)

        return LazyFrames(len(index), mapped, path.name)
    pages = list(series.pages)
    chosen = _Page(tiff, [pages[i] for i in index])
    weakref.finalize(chosen, tiff.close)
    return LazyFrames(len(index), chosen, path.name)


def _facts(tiff: Any, path: Path) -> dict[str, Any]:
    """Pixel, frame interval, voltage … with their sources, from whichever maker described the file."""
    facts: dict[str, Any] = {"sources": {}, "notices": [], "interval": None}
    try:
        if tiff.is_ome:
            _ome(tiff, facts)
        elif tiff.is_imagej:
            _imagej(tiff, facts)
        elif any(getattr(tiff, f"is_{maker}", False) for maker in ("fei", "sem", "sis", "tvips")) or (
            65009 in tiff.pages[0].tags
        ):
            facts.update(calibration(path, "tiff", "TIFF tags of the microscope's maker"))
            facts.setdefault("interval", None)
        else:
            _resolution(tiff, facts)
    except Exception as error:  # a broken description must not hide the pixels
        facts["notices"].append(f"the calibration could not be read ({one_line(error)})")
    return facts


def _imagej(tiff: Any, facts: dict[str, Any]) -> None:
    about = tiff.imagej_metadata or {}
    y, x = (_per_unit(tiff, tag) for tag in ("YResolution", "XResolution"))
    unit = about.get("unit")
    if x and y and unit:
        pixel = angstrom(1 / y, unit), angstrom(1 / x, unit)
        if pixel[0] and pixel[1]:
            facts["pixel"] = pixel
            facts["sources"]["pixel"] = f"ImageJ scale ({unit})"
        elif str(unit).lower() not in ("pixel", "pixels"):
            facts["notices"].append(f"the ImageJ scale has the unknown unit {unit!r}; it was not used")
    interval = positive(about.get("finterval")) or (positive(about.get("fps")) and 1 / float(about["fps"]))
    if interval and (step := seconds(interval, about.get("tunit", "s"))):
        facts["interval"] = step
        facts["sources"]["times"] = "ImageJ frame interval"


def _ome(tiff: Any, facts: dict[str, Any]) -> None:
    root = ET.fromstring(tiff.ome_metadata)
    pixels = next((e for e in root.iter() if e.tag.endswith("}Pixels") or e.tag == "Pixels"), None)
    if pixels is None:
        return
    sizes = [
        angstrom(pixels.get(f"PhysicalSize{a}", 0), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "YX"
    ]
    if sizes[0] and sizes[1]:
        facts["pixel"] = (sizes[0], sizes[1])
        facts["sources"]["pixel"] = "OME PhysicalSize"
    if step := seconds(pixels.get("TimeIncrement", 0), pixels.get("TimeIncrementUnit", "s")):
        facts["interval"] = step
        facts["sources"]["times"] = "OME TimeIncrement"
    plane = next((e for e in pixels if e.tag.endswith("Plane")), None)
    if plane is not None and (
        exposure := seconds(plane.get("ExposureTime", 0), plane.get("ExposureTimeUnit", "s"))
    ):
        facts["exposure"] = exposure
        facts["sources"]["exposure"] = "OME ExposureTime"


def _resolution(tiff: Any, facts: dict[str, Any]) -> None:
    unit = {2: "inch", 3: "cm"}.get(int(getattr(tiff.pages[0].tags.get("ResolutionUnit"), "value", 0) or 0))
    y, x = (_per_unit(tiff, tag) for tag in ("YResolution", "XResolution"))
    if not (unit and x and y):
        return
    pixel = angstrom(1 / y, unit) or 0.0, angstrom(1 / x, unit) or 0.0
    if all(PLAUSIBLE_A[0] <= p <= PLAUSIBLE_A[1] for p in pixel):
        facts["pixel"] = pixel
        facts["sources"]["pixel"] = f"TIFF resolution tags (per {unit})"


def _per_unit(tiff: Any, tag: str) -> float | None:
    found = tiff.pages[0].tags.get(tag)
    if found is None:
        return None
    above, below = found.value
    return above / below if above and below else None


READERS = (
    Reader("TIFF", (".tif", ".tiff", ".btf", ".tf8"), lambda path, head: head[:4] in MAGIC, read, "tifffile"),
)
