"""Hop rates of what was followed over a movie, freed of what the rim of the field does to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from atomreel.kinetics.hopping import Hops, fit_hops
from atomreel.track.sites import Sites

NEAR = 1.25  # of the distance of neighbouring sites
USUAL = 0.85  # quantile of the number of neighbours that counts as that of the inside


def hops_within(
    tracks: pd.DataFrame,
    sites: Sites,
    rows: npt.NDArray[np.int64],
    *,
    hop: float,
    shape: tuple[int, int],
    times: npt.NDArray[np.float64] | None = None,
    pixel: tuple[float, float] | None = None,
) -> Hops | None:
    """Hop rate and D among the sites `rows`, at least one hop inside the field; None where no track has two points there.

    tracks: track, frame, site, site_y, site_x of one kind. hop: distance of neighbouring sites [px]. shape: (Y, X) of the frames.
    What hops out of the inside is lost, though it stood there until then: each point tells `fit_hops` which share of the sites
    around it is inside. A track that comes back is another track.
    """
    where = sites.table[["y", "x"]].to_numpy()
    near = cKDTree(where[rows]).query_ball_point(where, NEAR * hop)
    count = np.array([len(n) for n in near]) - np.isin(np.arange(len(where)), rows)
    usual = float(np.quantile(count[rows], USUAL))
    neighbours = min((3, 4, 6), key=lambda z: abs(z - usual))
    inside = {frame: _inside(sites.at(frame), hop, shape) for frame in tracks["frame"].unique().tolist()}
    table = tracks.sort_values(["track", "frame"], kind="stable")
    site, frame = table["site"].to_numpy(np.int64), table["frame"].to_numpy(np.int64)
    kept = np.array([inside[f][s] for f, s in zip(frame, site, strict=True)], dtype=bool)
    outside = [
        sum(not inside[f][rows[n]] for n in near[s]) / neighbours for f, s in zip(frame, site, strict=True)
    ]
    piece = table.groupby(["track", np.cumsum(~kept)]).ngroup()
    own = pd.DataFrame(
        {
            "track": piece,
            "frame": frame,
            "y": table["site_y"],
            "x": table["site_x"],
            "watched": np.clip(1 - np.array(outside), 0, 1),
        }
    )[kept]
    if not own["track"].duplicated().any():
        return None
    return fit_hops(own, hop=hop, times=times, pixel=pixel, neighbours=neighbours)


def _inside(where: npt.NDArray[np.float64], hop: float, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(S,) which places lie at least one hop from the border."""
    return np.asarray(((where >= hop) & (where <= np.array(shape) - 1 - hop)).all(axis=1))
