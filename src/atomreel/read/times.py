"""Frame times from a CSV or an array: recordings pause, so every frame has its own time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError


def frame_times(
    times: str | Path | Sequence[float] | npt.NDArray[Any], count: int
) -> npt.NDArray[np.float64]:
    """(count,) times [s]. A CSV has columns `frame` (from 0) and `time_s`, in any order, others ignored.

    Raises InputError when a frame has no time, has two, or when time does not increase.
    """
    if isinstance(times, str | Path):
        return _from_csv(Path(times), count)
    try:
        values = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("times: numbers are needed, one per frame") from error
    if values.shape != (count,):
        raise InputError(f"times: shape {values.shape} for {count} frames; one number per frame is needed")
    return _increasing(values, "times")


def _from_csv(path: Path, count: int) -> npt.NDArray[np.float64]:
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: not a CSV table with columns frame, time_s") from error
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in ("frame", "time_s") if c not in table.columns]
    if missing:
        raise InputError(
            f"{path.name}: no column {' or '.join(missing)} (columns: {', '.join(table.columns)}); "
            "frame, time_s are needed"
        )
    numbers = table[["frame", "time_s"]].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().to_numpy().any():
        row = int(numbers.isna().any(axis=1).to_numpy().argmax())
        raise InputError(f"{path.name}: row {row + 2} is not two numbers; frame, time_s are needed")
    if numbers["frame"].duplicated().any():
        twice = numbers.loc[numbers["frame"].duplicated(), "frame"].iloc[0]
        raise InputError(f"{path.name}: frame {twice:g} has two times")
    known = dict(zip(numbers["frame"], numbers["time_s"], strict=True))
    lost = [i for i in range(count) if i not in known]
    if lost:
        shown = ", ".join(map(str, lost[:8])) + (" …" if len(lost) > 8 else "")
        raise InputError(
            f"{path.name}: no time for {len(lost)} of {count} frames ({shown}); "
            "frames are counted from 0 and each needs one row"
        )
    return _increasing(np.array([known[i] for i in range(count)], dtype=np.float64), path.name)


def _increasing(values: npt.NDArray[np.float64], where: str) -> npt.NDArray[np.float64]:
    if not np.all(np.isfinite(values)):
        raise InputError(f"{where}: some times are not finite")
    back = np.flatnonzero(np.diff(values) <= 0)
    if back.size:
        i = int(back[0])
        raise InputError(
            f"{where}: time does not increase from frame {i} ({values[i]:g} s) to {i + 1} ({values[i + 1]:g} s)"
        )
    return values
