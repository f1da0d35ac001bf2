"""Writing so that nothing is lost: temporary name, fsync, rename. Every file says its format and version."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atomreel.core.errors import InputError, RunError

FORMAT_VERSION = 1


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; renamed to `path` on success, removed on failure."""
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise RunError(
            f"{path.parent}: cannot write here ({error.strerror}); choose another folder"
        ) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        _sync(part)
        part.chmod(0o644)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """The same for a folder (Zarr stores, models). An older folder of that name is replaced."""
    path = Path(path)
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise RunError(
            f"{path.parent}: cannot write here ({error.strerror}); choose another folder"
        ) from error
    try:
        yield part
        for file in sorted(part.rglob("*")):
            if file.is_file():
                _sync(file)
        part.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, data: Mapping[str, Any]) -> None:
    """NaN and infinity become null, so that any JSON reader can read it."""
    write_text(path, json.dumps(_plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path | str, table: pd.DataFrame, *, kind: str) -> None:
    """Parquet or, by its ending, CSV. The Parquet file's metadata carries format and version."""
    path = Path(path)
    with atomic(path) as part:
        if path.suffix == ".csv":
            table.to_csv(part, index=False)
        elif path.suffix in (".parquet", ".pq"):
            import pyarrow as pa
            import pyarrow.parquet as pq

            arrow = pa.Table.from_pandas(table, preserve_index=False)
            about = {"format": f"atomreel-{kind}", "version": str(FORMAT_VERSION)}
            pq.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **about}), part)
        else:
            raise InputError(f"{path.name}: a table is written as .parquet or .csv")


def read_table(path: Path | str) -> pd.DataFrame:
    path = Path(path)
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def sha256(path: Path | str) -> str:
    """Digest of a file, or of the sorted files of a folder, read in blocks."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Down to the disk. Windows can flush only what is open for writing, and no folders."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
