"""Surface sites of a particle that blink, in two conditions, seen by a finder that overlooks a tenth of the columns.

With your own movies: `atomreel run` each, then `atomreel surface RUN RUN -o FOLDER`.
"""

import numpy as np
import pandas as pd

from atomreel.kinetics.blinking import fit_blinking
from atomreel.kinetics.conditions import compare_conditions
from atomreel.pipeline.surface import describe_comparison
from atomreel.track.sites import find_sites

rng = np.random.default_rng(2)
n = np.arange(-4, 5)
u, v = (grid.ravel() for grid in np.meshgrid(n, n, indexing="ij"))
hexagon = np.abs(u + v) <= 4
places = 12.0 * np.stack([u * np.sqrt(3) / 2, v + u / 2], axis=1)[hexagon]
rim = np.maximum(np.abs(u + v), np.maximum(np.abs(u), np.abs(v)))[hexagon] == 4
times = np.where(np.arange(200) < 100, 0.2, 20.0) + 0.2 * np.arange(200)  # five frames a second and a pause


def watch(emptied: float, filled: float) -> pd.DataFrame:
    """Columns found in every frame; the rim's sites empty and fill at these rates [1/s]."""
    speed = rng.lognormal(-0.1, 0.45, len(places)) * rim
    here = np.ones(len(places), dtype=bool)
    where = np.array([80.0, 90.0])
    rows = []
    for frame, pause in enumerate(np.diff(times, prepend=times[0] - 0.2)):
        change = 1 - np.exp(-(emptied + filled) * speed * pause)
        here ^= rng.random(len(here)) < change * np.where(here, emptied, filled) / (emptied + filled)
        where = where + rng.normal(0, 0.5, 2)
        seen = places[here & (rng.random(len(here)) < 0.9)] + where
        rows.append(
            pd.DataFrame(seen + rng.normal(0, 0.3, seen.shape), columns=["y", "x"]).assign(frame=frame)
        )
    return pd.concat(rows, ignore_index=True)


fits = []
for condition, emptied in (("vacuum", 0.1), ("oxygen", 0.4)):
    sites = find_sites(watch(emptied, 0.8), shape=(160, 180))
    surface = sites.table.surface.to_numpy()
    blink = fit_blinking(sites.found[surface], times=times)
    fits.append(blink)
    counted = sites.table.present[surface].sum() / sites.table.frames[surface].sum()
    print(
        f"{condition}: {surface.sum()} of {len(surface)} sites at the surface; {blink.detected[0]:.3f} ± "
        f"{blink.detected_err:.3f} of the columns are found; occupancy {blink.occupied.mean():.3f} "
        f"(counted {counted:.3f}; of the rim, in truth, {0.8 / (0.8 + emptied):.3f})"
    )
for _, row in compare_conditions(*fits).iterrows():
    print(describe_comparison(row))
