"""HDF5 files: Velox and Berkeley EMD and HyperSpy through RosettaSciIO, anything else dataset by dataset."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.read import rosetta, velox
from atomreel.read.source import Reader, Source, angstrom, from_array, modality_of, positive

MAGIC = b"\x89HDF\r\n\x1a\n"
FIELD_KEYS = ("scan size", "field of view", "fov")  # in pm, as the Oak Ridge STEM files have it
PIXEL_KEYS = {"pixel_size_nm": "nm", "pixel_nm": "nm", "pixel_A": "A", "pixel_size_A": "A"}


def read(path: Path) -> list[Source]:
    import h5py

    file = h5py.File(path, "r")
    layout = _layout(file)
    if layout:
        file.close()
        plugin, name = layout
        found = rosetta.read(path, plugin=plugin, name=name)
        return velox.with_frame_facts(found, path) if name == "Velox EMD" else found
    return _generic(file, path)


def _layout(file: Any) -> tuple[str, str] | None:
    if "Experiments" in file and "file_format" in file.attrs:
        return "hspy", "HyperSpy"
    if ("Data" in file and "Info" in file) or "Data/Image" in file:
        return "emd", "Velox EMD"
    groups = [file, *(g for g in file.values() if hasattr(g, "keys"))]
    groups += [g for top in groups[1:] for g in top.values() if hasattr(g, "keys")]
    if any("emd_group_type" in g.attrs for g in groups):
        return "emd", "Berkeley EMD"
    return None


def _generic(file: Any, path: Path) -> list[Source]:
    import h5py

    arrays: list[Any] = []
    texts: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.shape == () and item.dtype.kind in "OS":
            texts.update(_json(item[()]))
        elif item.shape:
            arrays.append(item)

    file.visititems(visit)
    found = []
    for item in arrays:
        about = {**texts, **dict(file.attrs), **dict(item.attrs)}
        about |= _json(about.get("metadata"))
        source = from_array(item.name.strip("/"), item, where=path.name, facts=_facts(about, item.shape))
        found.append(source)
    if not any(s.frames for s in found):
        file.close()
    return found


def _facts(about: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    facts: dict[str, Any] = {"sources": {}}
    sides = sorted((n for n in shape if n > 4), reverse=True)[:2]
    for key in FIELD_KEYS:
        if (field := positive(_plain(about.get(key)))) and sides:
            step = field / 100 / max(sides)
            facts["pixel"] = (step, step)
            facts["sources"]["pixel"] = f"HDF5 attribute {key!r} (field of view in pm)"
    for key, unit in PIXEL_KEYS.items():
        if size := angstrom(_plain(about.get(key)) or 0, unit):
            facts["pixel"], facts["sources"]["pixel"] = (size, size), f"HDF5 attribute {key!r}"
    for key in ("acc voltage", "voltage_kV", "beam_energy"):
        if voltage := positive(_plain(about.get(key))):
            facts["voltage"], facts["sources"]["voltage"] = voltage, f"HDF5 attribute {key!r} (kV)"
            break
    text = f"{about.get('type of data', '')} {about.get('modality', '')}"
    if modality := modality_of(text):
        facts["modality"], facts["sources"]["modality"] = modality, "HDF5 attribute 'type of data'"
    return facts


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        match = re.match(r"\s*([-+.\deE]+)", value)
        return match.group(1) if match else None
    return np.ravel(value)[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def _json(text: Any) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


READERS = (
    Reader(
        "HDF5",
        (".hdf5", ".h5", ".hspy", ".emd", ".he5", ".nxs", ".de5"),
        lambda path, head: head[:8] == MAGIC,
        read,
        "rosettasciio, h5py",
    ),
)
