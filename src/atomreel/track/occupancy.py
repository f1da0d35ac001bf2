"""How much of the time each site, or track, is occupied."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from atomreel.core.errors import InputError


def presence(
    table: pd.DataFrame, *, by: str = "site", frames: int | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Sites in rising order (S,), and (S, T) whether each was found in each frame.

    table: frame and the column `by` ("site" or "track"; numbers below 0 are left out). frames: length of the movie,
    by default the last frame in the table + 1. Raises InputError for missing columns and frames beyond the movie.
    """
    missing = [name for name in ("frame", by) if name not in table]
    if missing:
        raise InputError(f"occupancy needs columns frame and {by}; {', '.join(missing)} missing")
    held = table[table[by] >= 0]
    last = int(table["frame"].max()) if len(table) else -1
    count = last + 1 if frames is None else frames
    if last >= count or (len(table) and table["frame"].min() < 0):
        raise InputError(f"the table reaches frame {last}, the movie is said to have {count}")
    sites, index = np.unique(held[by].to_numpy(np.int64), return_inverse=True)
    there = np.zeros((len(sites), count), dtype=bool)
    there[index, held["frame"].to_numpy(int)] = True
    return sites, there


def find_occupancy(
    table: pd.DataFrame, *, by: str = "site", frames: int | None = None, level: float = 0.95
) -> pd.DataFrame:
    """One row per site: `by`, y, x (mean, px), present, frames, occupancy, low, high, appearances, disappearances.

    table: frame, y, x and the column `by` ("site" or "track"; numbers below 0 are left out). frames: length of
    the movie, by default the last frame in the table + 1. Occupancy is the share of frames (Madsen et al. 2018);
    its interval is Wilson's for the number of independent frames, n (1 − λ)/(1 + λ) with λ the memory from one frame
    to the next of all sites together, since a site that was occupied in one frame usually is in the next.
    What the finder overlooked counts as vacant here; `kinetics.blinking` takes that into account.
    """
    missing = [name for name in ("frame", "y", "x", by) if name not in table]
    if missing:
        raise InputError(f"occupancy needs columns frame, y, x, {by}; {', '.join(missing)} missing")
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}: expected a number between 0 and 1")
    sites, there = presence(table, by=by, frames=frames)
    count = there.shape[1]
    present = there.sum(axis=1)
    memory = _memory(there)
    independent = max(count * (1 - memory) / (1 + memory), 1.0) if count else 1.0
    low, high = _wilson(present / max(count, 1), independent, level)
    change = np.diff(there.astype(np.int8), axis=1)
    middle = table[table[by] >= 0].groupby(by)[["y", "x"]].mean()
    return pd.DataFrame(
        {
            by: sites,
            "y": middle["y"].to_numpy(),
            "x": middle["x"].to_numpy(),
            "present": present,
            "frames": count,
            "occupancy": present / max(count, 1),
            "low": low,
            "high": high,
            "appearances": (change > 0).sum(axis=1),
            "disappearances": (change < 0).sum(axis=1),
        }
    )


def _memory(there: npt.NDArray[np.bool_]) -> float:
    """1 − P(appear) − P(disappear) per frame, pooled over sites: the correlation of neighbouring frames."""
    if there.shape[1] < 2 or not there.size:
        return 0.0
    before, after = there[:, :-1], there[:, 1:]
    appear = ((~before & after).sum() + 0.5) / ((~before).sum() + 1)
    vanish = ((before & ~after).sum() + 0.5) / (before.sum() + 1)
    return float(np.clip(1 - appear - vanish, 0.0, 0.999))


def _wilson(
    p: npt.NDArray[np.float64], n: float, level: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    z = float(stats.norm.ppf((1 + level) / 2))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
