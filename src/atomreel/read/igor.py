"""Igor binary waves (.ibw) of scanning probe microscopes, through igor2 (extra `spm`)."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.core.errors import InputError, MissingExtraError
from atomreel.read.source import Reader, Source, angstrom, from_array


def read(path: Path) -> list[Source]:
    """Wave layers as images. Igor stores (x, y, layer) with y upwards; the result is (y, x) with y down."""
    try:
        from igor2 import binarywave
    except ImportError as error:
        raise MissingExtraError("igor2", extra="spm", purpose=f"reading {path.name}") from error
    _whole(path)
    wave = binarywave.load(str(path))["wave"]
    data, head = np.asarray(wave["wData"]), wave["wave_header"]
    units = [_text(u) for u in head.get("dimUnits", np.empty((0, 4)))]
    title = _text(head.get("bname", b"")) or path.stem
    if (data.ndim == 3 and data.shape[2] > 8) or (len(units) > 2 and units[2]):
        return [Source(title, data.shape, str(data.dtype), "spectrum image")]
    if data.ndim == 1:
        return [Source(title, data.shape, str(data.dtype), "spectrum")]
    facts: dict[str, Any] = {"sources": {"modality": "Igor wave"}, "modality": "stm"}
    steps = [angstrom(abs(float(s)), u) for s, u in zip(head.get("sfA", ())[:2], units, strict=False)]
    if len(steps) == 2 and steps[0] and steps[1]:
        facts["pixel"] = (steps[1], steps[0])
        facts["sources"]["pixel"] = "Igor wave scaling"
    up = float(head.get("sfA", (0, 1))[1]) > 0
    layers = [data] if data.ndim == 2 else [data[:, :, k] for k in range(data.shape[2])]
    names = _labels(wave, len(layers)) or [f"layer {k + 1}" for k in range(len(layers))]
    if len(layers) == 1:
        names = [title]
    return [
        from_array(name, layer.T[:: -1 if up else 1], where=path.name, facts=facts)
        for name, layer in zip(names, layers, strict=True)
    ]


def _whole(path: Path) -> None:
    """A version 5 wave states its size twice; the library believes even absurd ones and never returns."""
    with path.open("rb") as stream:
        head = stream.read(64 + 320)
    order = "<" if head[0] else ">"
    if struct.unpack(f"{order}h", head[:2])[0] != 5:
        return
    if len(head) < 64 + 320:
        raise InputError(f"{path.name}: shorter than the header of an Igor wave; copy it again")
    size = struct.unpack(f"{order}i", head[4:8])[0]
    points = struct.unpack(f"{order}i", head[64 + 12 : 64 + 16])[0]
    shape = struct.unpack(f"{order}4i", head[64 + 68 : 64 + 84])
    sides = [n for n in shape if n]
    appended = struct.unpack(f"{order}12i", head[8:56])  # formula, note, units, labels, string indices
    end = 64 + size + sum(appended)
    if (
        math.prod(sides) != points
        or min(*shape, *appended) < 0
        or end > path.stat().st_size
        or size < 320 + points
    ):
        raise InputError(f"{path.name}: the Igor wave is cut off or damaged; copy it again")


def _labels(wave: dict[str, Any], count: int) -> list[str]:
    """Asylum Research files name their layers (HeightTrace …) in the third dimension's labels."""
    labels = wave.get("labels") or []
    names = [_text(label) for label in labels[2]] if len(labels) > 2 else []
    names = [name for name in names if name]
    return names if len(names) == count else []


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1").strip("\0 ")
    if isinstance(value, np.ndarray):
        return b"".join(value.tolist()).decode("latin-1").strip("\0 ")
    return str(value)


def _is_ibw(path: Path, head: bytes) -> bool:
    versions = (b"\2\0", b"\3\0", b"\5\0", b"\0\2", b"\0\3", b"\0\5")
    return path.suffix.lower() == ".ibw" and head[:2] in versions


READERS = (Reader("Igor", (".ibw",), _is_ibw, read, "igor2 (extra spm)"),)
