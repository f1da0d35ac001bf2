"""NumPy files: .npy memory-mapped, .npz one array at a time. Never unpickled."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel.read.source import Reader, Source, from_array


def read_npy(path: Path) -> list[Source]:
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        shape, order, dtype = _header(stream, version)
        offset = stream.tell()
    if dtype.hasobject:
        return [Source(path.stem, shape, str(dtype), "object")]
    frame = int(np.prod(shape[1:])) * dtype.itemsize
    held = path.stat().st_size - offset
    notices = []
    if shape and frame and held < shape[0] * frame and len(shape) == 3 and not order and held >= frame:
        whole = held // frame
        notices.append(f"the file is cut off: {whole} of {shape[0]} frames are whole, the rest was dropped")
        shape = (whole, *shape[1:])
    if 0 in shape or not shape:
        return [from_array(path.stem, np.empty(shape, dtype), where=path.name)]
    array = np.memmap(path, dtype, "r", offset, shape, "F" if order else "C")
    return [from_array(path.stem, array, where=path.name, facts={"notices": notices})]


def _header(stream: Any, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


@dataclass(frozen=True)
class _Member:
    """One array of an .npz, unpacked on first use (a zip member cannot be read frame by frame)."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        with np.load(self.path, allow_pickle=False) as archive:
            return np.asarray(archive[self.name])

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        return np.asarray(self.array[index])


def read_npz(path: Path) -> list[Source]:
    found = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                shape, _, dtype = _header(stream, np.lib.format.read_magic(stream))
            name = member.removesuffix(".npy")
            if dtype.hasobject:
                found.append(Source(name, shape, str(dtype), "object"))
            else:
                found.append(from_array(name, _Member(path, name, shape, dtype), where=path.name))
    return found


def _is_npz(path: Path, head: bytes) -> bool:
    return head[:4] == b"PK\x03\x04" and (path.suffix.lower() == ".npz" or b".npy" in head[:200])


READERS = (
    Reader("NumPy", (".npy",), lambda path, head: head[:6] == b"\x93NUMPY", read_npy, "numpy"),
    Reader("NumPy archive", (".npz",), _is_npz, read_npz, "numpy"),
)
