"""Nanonis .sxm: text header, then big-endian float32 images, memory-mapped.

Written here because the readers on PyPI need scans that are complete and have both directions, read everything
at once, and leave the turning to the caller. Layout: SPECS Nanonis SXM, as Gwyddion's nanonis.c reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.core.errors import InputError
from atomreel.read.source import Reader, Source, from_array, positive

END = b":SCANIT_END:"
MAX_HEADER = 1 << 20


def read(path: Path) -> list[Source]:
    """Each channel and direction, turned so that x runs right and y down on the sample as scanned.

    Backward lines are stored in the order of acquisition, right to left, so they are mirrored. A scan that went
    up has its first line at the bottom, so it is turned over.
    """
    head, start = _header(path)
    nx, ny = (int(n) for n in head["SCAN_PIXELS"].split()[:2])
    dtype = ">f4" if "MSBFIRST" in head.get("SCANIT_TYPE", "MSBFIRST") else "<f4"
    up = head.get("SCAN_DIR", "down").strip().lower() == "up"
    facts = _facts(head, nx, ny)
    step = 4 * nx * ny
    held = path.stat().st_size - start
    if min(nx, ny) < 1 or held < step:
        raise InputError(f"{path.name}: cut off before the end of its first image; copy it again")
    found = []
    for number, (name, direction) in enumerate(_channels(head)):
        if (number + 1) * step > held:
            facts["notices"] = [*facts["notices"], f"cut off: channel {name} {direction} is missing"]
            break
        stored: npt.NDArray[Any] = np.memmap(path, dtype, "r", start + number * step, (ny, nx))
        turned = stored[:: -1 if up else 1, :: -1 if direction == "backward" else 1]
        flat = bool(turned.min() == turned.max())  # Z in constant-height mode
        found.append(from_array(f"{name} {direction}", turned, where=path.name, minor=flat, facts=facts))
    return found


def _header(path: Path) -> tuple[dict[str, str], int]:
    with path.open("rb") as stream:
        raw = stream.read(MAX_HEADER)
    end = raw.find(END)
    start = raw.find(b"\x1a\x04", end)
    if end < 0 or start < 0:
        raise InputError(f"{path.name}: the Nanonis header has no end ({END.decode()}); copy it again")
    head: dict[str, str] = {}
    key = ""
    for line in raw[:end].decode("latin-1").splitlines():
        if line.startswith(":") and line.rstrip().endswith(":"):
            key = line.strip().strip(":")
            head[key] = ""
        elif key:
            head[key] += line + "\n"
    for needed in ("SCAN_PIXELS", "DATA_INFO"):
        if needed not in head:
            raise InputError(f"{path.name}: the Nanonis header has no {needed}; copy it again")
    return head, start + 2


def _channels(head: dict[str, str]) -> list[tuple[str, str]]:
    """(name, direction) in the order of the file: forward then backward where a channel has both."""
    rows = [line.split("\t") for line in head["DATA_INFO"].splitlines() if line.strip()]
    titles = [title.strip() for title in rows[0]]
    name, way = titles.index("Name"), titles.index("Direction")
    out = []
    for row in rows[1:]:
        if len(row) <= max(name, way):
            continue
        both = row[way].strip().lower() == "both"
        ways = ("forward", "backward") if both else (row[way].strip().lower(),)
        out += [(row[name].strip().replace("_", " "), w) for w in ways]
    return out


def _facts(head: dict[str, str], nx: int, ny: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"sources": {"modality": "Nanonis scan"}, "modality": "stm", "notices": []}
    sizes = [positive(v) for v in head.get("SCAN_RANGE", "").split()[:2]]
    if len(sizes) == 2 and sizes[0] and sizes[1]:
        facts["pixel"] = (sizes[1] * 1e10 / ny, sizes[0] * 1e10 / nx)
        facts["sources"]["pixel"] = "Nanonis SCAN_RANGE / SCAN_PIXELS"
    if exposure := positive(head.get("ACQ_TIME", "").strip()):
        facts["exposure"], facts["sources"]["exposure"] = exposure, "Nanonis ACQ_TIME"
    angle = positive(head.get("SCAN_ANGLE", "").strip())
    if angle:
        facts["notices"].append(f"the scan frame was rotated by {angle:g}°; angles are in the frame's axes")
    return facts


READERS = (
    Reader(
        "Nanonis", (".sxm",), lambda path, head: head.startswith(b":NANONIS_VERSION:"), read, "own (numpy)"
    ),
)
