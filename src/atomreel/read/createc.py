"""Createc .dat: a text header of 16,384 bytes, then images, zlib-compressed in the newer versions.

Written here: the readers on PyPI bring a plotting stack for what is forty lines. Layout as in Gwyddion's createc.c.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.core.errors import InputError
from atomreel.read.source import Reader, Source, from_array, positive

HEADER = 16384
VERSIONS = {b"[Parameter]": "<i2", b"[Paramet32]": "<f4", b"[Paramco32]": "<f4"}
MAX_BYTES = 1 << 31


def read(path: Path) -> list[Source]:
    """Each stored channel in raw DAC units; channels without any contrast only when asked for."""
    with path.open("rb") as stream:
        raw = stream.read(HEADER)
        rest = stream.read()
    version = raw[:11]
    head = _header(raw)
    nx, ny = (int(positive(head.get(key)) or 0) for key in ("Num.X", "Num.Y"))
    count = int(positive(head.get("Channels")) or 1)
    if nx < 1 or ny < 1:
        raise InputError(f"{path.name}: the Createc header gives no image size (Num.X, Num.Y); copy it again")
    dtype = np.dtype(VERSIONS[version])
    need = (1 + count * nx * ny) * dtype.itemsize  # the first sample is a leftover of the scan, not a pixel
    notices: list[str] = []
    if version == b"[Paramco32]":
        unpack = zlib.decompressobj()
        rest = unpack.decompress(rest, min(need, MAX_BYTES))
    values = np.frombuffer(rest[: len(rest) // dtype.itemsize * dtype.itemsize], dtype)[1:]
    whole = min(count, values.size // (nx * ny))
    if not whole:
        raise InputError(f"{path.name}: cut off before the end of its first image; copy it again")
    if whole < count:
        notices.append(f"the file is cut off: {whole} of {count} channels are whole")
    images = values[: whole * nx * ny].reshape(whole, ny, nx)
    facts = _facts(head, nx, ny, notices)
    return [
        from_array(name, image, where=path.name, minor=bool(image.min() == image.max()), facts=facts)
        for name, image in zip(_names(head, count), images, strict=False)
    ]


def _names(head: dict[str, str], count: int) -> list[str]:
    """Bits of Channelselectval: 1 topography, 2 current, others unknown; all forward, then all backward."""
    chosen = int(positive(head.get("Channelselectval")) or 0)
    bits = [b for b in range(chosen.bit_length()) if chosen >> b & 1]
    if not bits or count % len(bits):
        return [f"channel {i + 1}" for i in range(count)]
    known = {0: "topography", 1: "current"}
    names = [known.get(b, f"channel {i + 1}") for i, b in enumerate(bits)]
    passes = ("",) if count == len(bits) else ("", " backward", *(f" pass {k}" for k in range(3, 99)))
    return [name + passes[k] for k in range(count // len(bits)) for name in names]


def _header(raw: bytes) -> dict[str, str]:
    """`Internal / Displayed=value` under the displayed name, or `name=value`."""
    head: dict[str, str] = {}
    for line in raw.decode("latin-1").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            head[key.rpartition(" / ")[2].strip().rstrip(":")] = value.strip().lstrip("=")
    return head


def _facts(head: dict[str, str], nx: int, ny: int, notices: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"sources": {"modality": "Createc scan"}, "modality": "stm", "notices": notices}
    x, y = (positive(head.get(f"Length {axis}[A]")) for axis in "xy")
    if x and y:
        facts["pixel"] = (y / ny, x / nx)
        facts["sources"]["pixel"] = "Createc Length / Num"
    if exposure := positive(head.get("Sec/Image")):
        facts["exposure"], facts["sources"]["exposure"] = exposure, "Createc Sec/Image"
    return facts


READERS = (Reader("Createc", (".dat",), lambda path, head: head[:11] in VERSIONS, read, "own (numpy, zlib)"),)
