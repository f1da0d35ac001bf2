"""What Velox notes for each frame and RosettaSciIO leaves aside: time stamps, exposure, frame time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.read.source import Source, positive

STAMP = re.compile(rb'TimeStamp"\s*:\s*\{[^}]*"value"\s*:\s*"(\d+)"')


def with_frame_facts(found: list[Source], path: Path) -> list[Source]:
    """Times [s] from each frame's own stamp (a recording may pause) and exposure [s], where they are noted.

    Only for a file with one image or stack, where there is no doubt which one they belong to.
    """
    import h5py

    with h5py.File(path, "r") as file:
        groups = list(file["Data/Image"].values()) if "Data/Image" in file else []
        images = [i for i, source in enumerate(found) if source.usable]
        if len(groups) != 1 or len(images) != 1 or "Metadata" not in groups[0]:
            return found
        table = groups[0]["Metadata"]
        frames = found[images[0]].frames
        count = 0 if frames is None else len(frames)
        facts = _exposure(table[:, 0].tobytes())
        stamps = [_stamp(table[:, i].tobytes()) for i in range(count)] if table.shape[1] == count > 1 else []
    source = found[images[0]]
    sources = dict(source.sources)
    if facts:
        sources["exposure"] = "Velox metadata (exposure or frame time)"
    times = source.times
    if stamps and all(s is not None for s in stamps):
        exact = (np.array(stamps, dtype=np.int64) - np.int64(stamps[0] or 0)).astype(np.float64) * 1e-6
        if np.all(np.diff(exact) > 0):
            times, sources["times"] = exact, "Velox time stamp of each frame"
    new = replace(source, times=times, sources=sources, exposure=facts or source.exposure)
    return [new if i == images[0] else s for i, s in enumerate(found)]


def _stamp(raw: bytes) -> int | None:
    """Microseconds."""
    match = STAMP.search(raw)
    return int(match.group(1)) if match else None


def _exposure(raw: bytes) -> float | None:
    try:
        about: dict[str, Any] = json.loads(raw.split(b"\0", 1)[0])
    except ValueError:
        return None
    scan = about.get("Scan") or {}
    if frame := positive(scan.get("FrameTime")):
        return frame
    index = (about.get("BinaryResult") or {}).get("DetectorIndex")
    detector = (about.get("Detectors") or {}).get(f"Detector-{index}") or {}
    return positive(detector.get("ExposureTime"))
