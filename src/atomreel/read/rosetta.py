"""Formats that RosettaSciIO reads: dm3, dm4, emd, ser, mrc, tvips, hspy, zspy and more; always lazily."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.core.errors import InputError
from atomreel.read.source import (
    MIN_SIDE,
    REFUSED,
    LazyFrames,
    Reader,
    Source,
    angstrom,
    modality_of,
    positive,
    seconds,
    sort_out,
)

ELECTRON = 1.602176634e-19
RECIPROCAL = ("1/nm", "nm^-1", "1/å", "1/å", "1/a", "å^-1", "mrad", "rad", "1/px", "1 / nm", "nm$^{-1}$")


def read(path: Path, *, plugin: str, name: str) -> list[Source]:
    """Every signal of the file. Frames come one at a time from RosettaSciIO's lazy arrays."""
    if plugin == "mrc" and (cut := _cut_mrc(path)):
        return [cut]
    reader = importlib.import_module(f"rsciio.{plugin}").file_reader
    signals = reader(str(path), lazy=True)
    if plugin in ("digitalmicrograph", "mrc"):
        signals = _by_frame(reader, path, signals)
    return [source(signal, path, name) for signal in signals]


def _by_frame(reader: Callable[..., Any], path: Path, signals: Any) -> Any:
    """Open a stack again with one frame per chunk, so that asking for one frame reads one."""
    for signal in signals:
        data = signal["data"]
        if data.ndim == 3 and hasattr(data, "chunksize") and data.chunksize[0] > 1:
            try:
                return reader(str(path), lazy=True, chunks=(1, *data.shape[1:]))
            except Exception:  # several signals of other shapes: keep the library's own chunks
                return signals
    return signals


def source(signal: Mapping[str, Any], path: Path, name: str) -> Source:
    """One signal dictionary of RosettaSciIO as a Source."""
    signal = {**signal, "metadata": _mapped(signal)}
    data, axes, about = signal["data"], list(signal["axes"]), signal["metadata"]
    title = str(_dig(about, "General.title") or path.stem)
    shape = tuple(int(n) for n in data.shape)
    dtype = np.dtype(data.dtype)
    kind, lead = _kind(shape, dtype, axes)
    if kind in REFUSED:
        return Source(title, shape, str(dtype), kind)
    facts = _facts(signal, name)
    notices = facts.pop("notices")
    if dtype.names:
        notices.append("colour turned into grey (ITU-R BT.601 luma)")
    count = shape[0] if lead else 1

    def frame(i: int) -> Any:
        part = data[i] if lead else data
        part = part.compute(scheduler="synchronous") if hasattr(part, "compute") else part
        return np.asarray(part).reshape(size)

    size = (shape[-2], shape[-1])
    times = facts.pop("frame_times", None)
    if times is not None and count > 1:
        facts["times"] = times
    minor = "thumbnail" in title.lower() or "survey" in title.lower() or "preview" in title.lower()
    frames = LazyFrames(count, frame, path.name)
    return Source(title, shape, str(dtype), kind, frames, size, notices=tuple(notices), minor=minor, **facts)


def _kind(shape: tuple[int, ...], dtype: np.dtype[Any], axes: list[Mapping[str, Any]]) -> tuple[str, bool]:
    """By the axes that the file declares, which say more than the shape; (kind, whether frames lead)."""
    by_shape = sort_out(shape, dtype)[0]
    if by_shape in ("complex", "object", "empty"):
        return by_shape, False
    signal = [a for a in axes if not a.get("navigate", False)]
    if len(signal) == 1 and len(axes) == len(shape):
        return ("spectrum" if len(shape) == 1 else "spectrum image"), False
    if len(shape) < 2 or min(shape[-2:]) == 1:
        return "table", False
    units = [str(a.get("units") or "").lower() for a in axes[-2:]]
    if len(shape) >= 4:
        return "4D-STEM", False
    if any(u in RECIPROCAL for u in units):
        return "diffraction", False
    if min(shape[-2:]) < MIN_SIDE:
        return "tiny", False
    return ("movie", True) if len(shape) == 3 and shape[0] > 1 else ("image", len(shape) == 3)


def calibration(path: Path, plugin: str, name: str) -> dict[str, Any]:
    """Only the facts about the first image of a file, for a reader that gets its pixels elsewhere."""
    signal = importlib.import_module(f"rsciio.{plugin}").file_reader(str(path), lazy=True)[0]
    facts = _facts({**signal, "metadata": _mapped(signal)}, name)
    facts.pop("frame_times", None)
    return facts


def _mapped(signal: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with what RosettaSciIO's `mapping` takes from the maker's own tags (HyperSpy would apply it)."""
    about: dict[str, Any] = {"General": dict(signal.get("metadata", {}).get("General", {}))}
    about["Acquisition_instrument"] = {
        k: dict(v) if isinstance(v, Mapping) else v
        for k, v in signal.get("metadata", {}).get("Acquisition_instrument", {}).items()
    }
    for here, (there, convert) in (signal.get("mapping") or {}).items():
        value = _dig(signal.get("original_metadata", {}), here)
        if value is None or not there.startswith("Acquisition_instrument."):
            continue
        try:
            value = convert(value) if convert else value
        except Exception:  # a tag of an unexpected form is no reason to refuse the image
            continue
        *groups, last = there.split(".")
        place = about
        for group in groups:
            place = place.setdefault(group, {})
        place.setdefault(last, value)
    return about


def _facts(signal: Mapping[str, Any], name: str) -> dict[str, Any]:
    about, axes = signal.get("metadata", {}), list(signal["axes"])
    sources: dict[str, str] = {}
    facts: dict[str, Any] = {"sources": sources, "notices": []}
    pixel = _pixel(axes[-2:], name, facts["notices"])
    if pixel:
        facts["pixel"], sources["pixel"] = pixel, f"{name} axis scale"
    if len(axes) == 3:
        step = seconds(axes[0].get("scale", 0), axes[0].get("units"))
        if step:
            start = float(axes[0].get("offset", 0) or 0) * step / float(axes[0]["scale"])
            facts["frame_times"] = start + step * np.arange(int(signal["data"].shape[0]), dtype=np.float64)
            sources["times"] = f"{name} time axis"
    voltage = positive(_dig(about, "Acquisition_instrument.TEM.beam_energy"))
    if voltage:
        facts["voltage"], sources["voltage"] = voltage, f"{name} metadata (beam_energy)"
    mode = str(_dig(about, "Acquisition_instrument.TEM.acquisition_mode") or "")
    title = str(_dig(about, "General.title") or "")
    modality = modality_of(title) or modality_of(mode)
    if modality:
        facts["modality"] = modality
        sources["modality"] = f"{name} " + (f"title {title!r}" if modality_of(title) else "acquisition mode")
    _exposure_and_dose(signal, name, facts)
    return facts


def _exposure_and_dose(signal: Mapping[str, Any], name: str, facts: dict[str, Any]) -> None:
    about, sources = signal.get("metadata", {}), facts["sources"]
    exposure = positive(_dig(about, "Acquisition_instrument.TEM.Camera.exposure"))
    dwell = positive(_dig(about, "Acquisition_instrument.TEM.dwell_time"))
    if exposure:
        facts["exposure"], sources["exposure"] = exposure, f"{name} metadata (camera exposure)"
    elif dwell and len(signal["data"].shape) >= 2:
        facts["exposure"] = dwell * float(np.prod(signal["data"].shape[-2:]))
        sources["exposure"] = f"{name} metadata (dwell time × pixels)"
    current = positive(_dig(about, "Acquisition_instrument.TEM.beam_current"))  # [nA] in HyperSpy's metadata
    pixel = facts.get("pixel")
    if current and dwell and pixel and facts.get("modality") == "stem":
        facts["dose"] = current * 1e-9 * dwell / ELECTRON / (pixel[0] * pixel[1])
        sources["dose"] = f"{name} metadata (beam current × dwell time / pixel area)"


def _pixel(axes: Sequence[Mapping[str, Any]], name: str, notices: list[str]) -> tuple[float, float] | None:
    scales = [float(a.get("scale", 1) or 0) for a in axes]
    units = ["" if str(a.get("units")) in ("None", "<undefined>") else str(a.get("units")) for a in axes]
    sizes = [angstrom(abs(s), u) for s, u in zip(scales, units, strict=True)]
    if name == "MRC" and (min(scales) <= 0 or all(abs((p or 0) - 1.0) < 1e-6 for p in sizes)):
        notices.append(
            "the MRC header gives no real pixel size (exactly 1 Å or negative); give pixel= if known"
        )
        return None
    if sizes[0] and sizes[1]:
        return sizes[0], sizes[1]
    if not any(units) and any(abs(s - 1) > 1e-9 for s in scales):
        notices.append(
            f"the file gives a pixel size of {scales[-1]:.6g} without a unit; it was not used: give pixel="
        )
    return None


def _dig(tree: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _cut_mrc(path: Path) -> Source | None:
    """The whole frames of an MRC file that ends too early (EMDB MRC2014: modes 0, 1, 2, 6, 12); None if it does not."""
    with path.open("rb") as stream:
        head = stream.read(1024)
    if len(head) < 1024:
        raise InputError(f"{path.name}: shorter than an MRC header (1024 bytes); copy it again")
    nx, ny, nz, mode = struct.unpack("<4i", head[:16])
    extended = struct.unpack("<i", head[92:96])[0]
    dtype = {0: "<i1", 1: "<i2", 2: "<f4", 6: "<u2", 12: "<f2"}.get(mode)
    if dtype is None or extended < 0:
        return None
    step = nx * ny * np.dtype(dtype).itemsize
    if path.stat().st_size >= 1024 + extended + nz * step:
        return None
    whole = min(nz, max(0, (path.stat().st_size - 1024 - extended) // step))
    if not whole:
        raise InputError(f"{path.name}: cut off before the end of its first image; copy it again")
    lengths = struct.unpack("<3f", head[40:52])
    axes = [{"scale": lengths[1] / ny / 10, "units": "nm"}, {"scale": lengths[0] / nx / 10, "units": "nm"}]
    notices = [f"the file is cut off: {whole} of {nz} frames are whole, the rest was dropped"]
    pixel = _pixel(axes, "MRC", notices)
    kind = sort_out((whole, ny, nx), np.dtype(dtype))[0]

    def frame(i: int) -> Any:
        return np.memmap(path, dtype, "r", 1024 + extended + i * step, (ny, nx))

    frames = LazyFrames(whole, frame, path.name) if kind not in REFUSED else None
    sources = {"pixel": "MRC header"} if pixel else {}
    return Source(
        path.stem,
        (whole, ny, nx),
        dtype,
        kind,
        frames,
        (ny, nx),
        pixel,
        sources=sources,
        notices=tuple(notices),
    )


def _is_dm(version: int, path: Path, head: bytes) -> bool:
    if len(head) < 16 or head[:4] != struct.pack(">I", version):
        return False
    at = 8 if version == 3 else 12
    return head[at : at + 4] in (b"\0\0\0\0", b"\0\0\0\1")


def _is_mrc(path: Path, head: bytes) -> bool:
    if len(head) < 1024:
        return False
    nx, ny, nz, mode = struct.unpack("<4i", head[:16])
    plausible = all(0 < n < 1_000_000 for n in (nx, ny, nz)) and mode in (0, 1, 2, 4, 6, 12, 101)
    return plausible and (head[208:211] == b"MAP" or path.suffix.lower() in (".mrc", ".mrcs", ".ali", ".st"))


def _is_tvips(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".tvips" and len(head) >= 256 and head[4:8] in (b"\1\0\0\0", b"\2\0\0\0")


def _is_blo(path: Path, head: bytes) -> bool:
    return head[:6] in (b"IMGBLO", b"\x02\x01\x00\x00\x00\x00") and path.suffix.lower() == ".blo"


_FORMATS: tuple[tuple[str, tuple[str, ...], str, Callable[[Path, bytes], bool]], ...] = (
    ("DM3", (".dm3",), "digitalmicrograph", partial(_is_dm, 3)),
    ("DM4", (".dm4",), "digitalmicrograph", partial(_is_dm, 4)),
    ("TIA", (".ser",), "tia", lambda path, head: head[:4] in (b"II\x97\x01", b"MM\x01\x97")),
    ("TIA", (".emi",), "tia", lambda path, head: head[:2] == b"JK" and path.suffix.lower() == ".emi"),
    ("MRC", (".mrc", ".mrcs", ".ali", ".st"), "mrc", _is_mrc),
    ("TVIPS", (".tvips",), "tvips", _is_tvips),
    ("Blockfile", (".blo",), "blockfile", _is_blo),
)
READERS = tuple(
    Reader(name, suffixes, sniff, partial(read, plugin=plugin, name=name), "rosettasciio")
    for name, suffixes, plugin, sniff in _FORMATS
)
