"""Zarr folders and zips, versions 2 and 3, and HyperSpy's zspy, frame by frame."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.core.errors import InputError
from atomreel.read import rosetta
from atomreel.read.source import Reader, Source, angstrom, from_array, positive

MARKS = ("zarr.json", ".zgroup", ".zarray")
MAX_ARRAYS = 200


def read(path: Path) -> list[Source]:
    import zarr

    root: Any = zarr.open(str(path) if path.is_dir() else zarr.storage.ZipStore(path, mode="r"), mode="r")
    if isinstance(root, zarr.Group) and "file_format" in root.attrs and "Experiments" in root:
        return rosetta.read(path, plugin="zspy", name="HyperSpy")
    if isinstance(root, zarr.Array):
        return [_source(path.stem, root, {}, path)]
    found: list[Source] = []
    _walk(root, "", path, found)
    return found


def _walk(group: Any, prefix: str, path: Path, found: list[Source]) -> None:
    """Every array below; of an OME multiscale only the finest level."""
    import zarr

    about = dict(group.attrs)
    scales = about.get("multiscales") or about.get("ome", {}).get("multiscales")
    if scales:
        level = scales[0]["datasets"][0]
        facts = _ome(scales[0], level)
        found.append(
            from_array(f"{prefix}{level['path']}", group[level["path"]], where=path.name, facts=facts)
        )
        return
    for name, item in sorted(group.members()):
        if len(found) >= MAX_ARRAYS:
            raise InputError(f"{path.name}: more than {MAX_ARRAYS} arrays; give the folder of one of them")
        if isinstance(item, zarr.Group):
            _walk(item, f"{prefix}{name}/", path, found)
        else:
            found.append(_source(f"{prefix}{name}", item, about, path))


def _source(name: str, array: Any, above: dict[str, Any], path: Path) -> Source:
    about = {**above, **dict(array.attrs)}
    facts: dict[str, Any] = {"sources": {}}
    pixel = np.ravel(about.get("pixel_A") or 0).astype(float)
    if pixel.size <= 2 and np.all(pixel > 0):
        facts["pixel"] = (float(pixel[0]), float(pixel[-1]))
        facts["sources"]["pixel"] = "Zarr attribute pixel_A"
    for field, key in (("exposure", "exposure_s"), ("dose", "dose"), ("voltage", "voltage_kV")):
        if value := positive(about.get(key)):
            facts[field], facts["sources"][field] = value, f"Zarr attribute {key}"
    times = np.asarray(about.get("times_s") or [], dtype=np.float64)
    if array.ndim == 3 and times.shape == (array.shape[0],) and np.all(np.diff(times) > 0):
        facts["times"], facts["sources"]["times"] = times, "Zarr attribute times_s"
    if about.get("modality") in ("stem", "hrtem", "stm"):
        facts["modality"], facts["sources"]["modality"] = about["modality"], "Zarr attribute modality"
    return from_array(name, array, where=path.name, facts=facts)


def _ome(scales: dict[str, Any], level: dict[str, Any]) -> dict[str, Any]:
    """OME-NGFF 0.4 / 0.5: axes with units and a scale per axis."""
    facts: dict[str, Any] = {"sources": {}}
    units = [a.get("unit") if isinstance(a, dict) else None for a in scales.get("axes", [])]
    scale: list[float] = next(
        (t["scale"] for t in level.get("coordinateTransformations", []) if "scale" in t), []
    )
    if len(scale) == len(units) >= 2:
        names: dict[Any, Any] = {"micrometer": "µm", "nanometer": "nm", "picometer": "pm", "meter": "m"}
        pixel = [angstrom(s, names.get(u, u)) for s, u in zip(scale[-2:], units[-2:], strict=True)]
        if pixel[0] and pixel[1]:
            facts["pixel"] = (pixel[0], pixel[1])
            facts["sources"]["pixel"] = "OME-Zarr scale"
    return facts


def _is_zarr(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return any((path / mark).is_file() for mark in MARKS)
    if head[:4] != b"PK\x03\x04" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name in MARKS for name in archive.namelist())


READERS = (Reader("Zarr", (".zarr", ".zspy", ".zip"), _is_zarr, read, "zarr, rosettasciio"),)
