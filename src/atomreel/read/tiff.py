"""TIFF through tifffile: one page at a time, calibration of ImageJ, OME and microscope makers."""

from __future__ import annotations

import itertools
import json
import threading
import weakref
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
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
    planar: bool
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, i: int) -> npt.NDArray[Any]:
        with self.lock:
            frame = np.asarray(self.pages[i].asarray())
        return np.moveaxis(frame, 0, -1) if self.planar else frame


def read(path: Path) -> list[Source]:
    import tifffile

    tiff = tifffile.TiffFile(path)
    try:
        facts = _facts(tiff, path)
        stacks = _stacks(tiff, path)
        found = [s for stack in stacks for s in _split(tiff, stack, path, facts, alone=len(stacks) == 1)]
    except Exception:
        tiff.close()
        raise
    if any(isinstance(getattr(s.frames, "read", None), _Page) for s in found):
        weakref.finalize(tiff, tiff.filehandle.close)  # with the last Movie that reads from it
    else:
        tiff.close()
    return found


@dataclass(frozen=True)
class _Stack:
    """Pages of one shape, as tifffile groups them or as regrouped here. offset: of unbroken raw data, or None."""

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    pages: Any
    offset: int | None = None
    name: str = ""


def _stacks(tiff: Any, path: Path) -> list[_Stack]:
    """As the file describes itself, except where that hides frames: pages written one by one, cut-off ImageJ."""
    try:
        series = [] if _written_singly(tiff) else list(tiff.series)
    except Exception:  # cut-off ImageJ or OME files make tifffile raise anything
        series = []
    found = [
        _Stack(
            tuple(int(n) for n in s.shape),
            s.axes,
            np.dtype(s.dtype),
            s.pages,
            None if s.is_truncated else s.dataoffset,
            s.name or "",
        )
        for s in series
        if s.pages and s.dtype is not None
    ]
    if len(found) == 1:
        return [_uncut(tiff, found[0])]
    if found:
        return found
    groups: dict[Any, list[Any]] = {}
    for page in tiff.pages:
        groups.setdefault((page.shape, page.axes, page.dtype), []).append(page)
    return [
        _Stack((len(same), *shape), f"I{axes}", np.dtype(dtype), same)
        for (shape, axes, dtype), same in groups.items()
        if dtype is not None
    ]


def _written_singly(tiff: Any) -> bool:
    """Whether tifffile wrote frame after frame: it would call each a series, and take 2 ms to say so."""
    if not tiff.is_shaped or tiff.is_imagej or len(tiff.pages) < 2 or not tiff.pages[1].is_shaped:
        return False
    return all(json.loads(page.shaped_description)["shape"] == list(page.shape) for page in tiff.pages[:2])


def _uncut(tiff: Any, stack: _Stack) -> _Stack:
    """ImageJ keeps the page table after the data: cut off, only the first page and the number are left."""
    said = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    if said > 1 and stack.axes == "YX" and stack.offset is not None and len(tiff.pages) == 1:
        return replace(stack, shape=(said, *stack.shape), axes="TYX")
    return stack


def _split(tiff: Any, stack: _Stack, path: Path, facts: dict[str, Any], *, alone: bool) -> list[Source]:
    """One Source per channel (and per slice, when there are both times and slices)."""
    keep = [i for i, (n, a) in enumerate(zip(stack.shape, stack.axes, strict=True)) if n > 1 or a in "YXS"]
    shape, axes = tuple(stack.shape[i] for i in keep), "".join(stack.axes[i] for i in keep)
    name = stack.name if stack.name and not alone else path.stem
    body = next((b for b in ("SYX", "YXS", "YX") if axes.endswith(b)), "")
    lead, lead_axes = shape[: len(shape) - len(body)], axes[: len(axes) - len(body)]
    walk = next((lead_axes.index(a) for a in "TZQIRL" if a in lead_axes), None)
    size = tuple(n for n, a in zip(shape[len(lead) :], body, strict=True) if a != "S")
    kind = sort_out(((2,) if walk is not None else ()) + size, stack.dtype)[0]
    if kind not in ("image", "movie"):
        return [Source(name, shape, str(stack.dtype), kind)]
    stack = replace(stack, shape=shape, axes=axes)
    held, notice = _held(tiff, stack, path, lead)
    others = [range(n) if i != walk else range(1) for i, n in enumerate(lead)]
    out = []
    for corner in itertools.product(*others):
        index = _page_numbers(corner, lead, walk)
        index = index[index < held]
        if not index.size:
            continue
        parts = [(a, corner[i]) for i, a in enumerate(lead_axes) if i != walk]
        label = ", ".join(f"{_AXIS.get(a, a)} {number + 1}" for a, number in parts)
        notices = [*facts["notices"], *notice]
        if walk is not None and lead_axes[walk] == "Z":
            notices.append("slices (Z) were taken as frames")
        if "S" in body:
            notices.append("colour turned into grey (ITU-R BT.601 luma)")
        known = {k: v for k, v in facts.items() if k not in ("notices", "interval")}
        if facts["interval"] and len(index) > 1:
            known["times"] = facts["interval"] * np.arange(len(index), dtype=np.float64)
        out.append(
            Source(
                label if label and alone else ": ".join(filter(None, (name, label))),
                ((len(index),) if walk is not None else ()) + shape[len(lead) :],
                str(stack.dtype),
                "movie" if len(index) > 1 else "image",
                _frames(tiff, stack, path, index, shape[len(lead) :]),
                (size[0], size[1]),
                notices=tuple(notices),
                **known,
            )
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


def _held(tiff: Any, stack: _Stack, path: Path, lead: tuple[int, ...]) -> tuple[int, list[str]]:
    """How many leading pages lie whole inside the file, and a notice when that is not all."""
    total = int(np.prod(lead)) if lead else 1
    end = path.stat().st_size
    if stack.offset is not None:
        frame = int(np.prod(stack.shape[len(lead) :])) * stack.dtype.itemsize
        held = min(total, max(0, (end - stack.offset) // frame))
    else:
        held = 0
        for page in itertools.islice(stack.pages, total):
            if page is None or any(
                start + length > end
                for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)
            ):
                break
            held += 1
    said = int((tiff.imagej_metadata or {}).get("images", total)) if tiff.is_imagej else total
    lost = max(total, said) - held
    if held and lost > 0:
        return held, [f"the file is cut off: {held} of {held + lost} frames are whole, the rest was dropped"]
    return held, []


def _frames(
    tiff: Any, stack: _Stack, path: Path, index: npt.NDArray[np.int_], one: tuple[int, ...]
) -> LazyFrames:
    """Raw data memory-mapped, anything else decoded page by page."""
    planar = stack.axes.endswith("SYX")
    if stack.offset is not None:
        stored = stack.dtype.newbyteorder(tiff.byteorder)
        start, step = stack.offset, int(np.prod(one)) * stored.itemsize

        def mapped(i: int) -> npt.NDArray[Any]:
            frame = np.memmap(path, stored, "r", start + int(index[i]) * step, one)
            return np.moveaxis(frame, 0, -1) if planar else frame

        return LazyFrames(len(index), mapped, path.name)
    pages = list(stack.pages)
    chosen = _Page(tiff, [pages[i] for i in index], planar)
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
