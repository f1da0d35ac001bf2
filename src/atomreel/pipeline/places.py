"""Places that any method called a defect, followed over the movie: tracks, hop rates and diffusion coefficients of the combined table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.files import read_table
from atomreel.kinetics.diffusion import fit_diffusion
from atomreel.kinetics.hopping import Hops, fit_hops
from atomreel.kinetics.intervals import Estimate
from atomreel.track.link import link

LEAST = 0.5  # combined score from which on a place is followed
SHORTEST = 3  # points of a track below which no rate is made of it, and steps of a kind
STEP = 1.1  # of the shortest lattice vector: the longest move between two frames
AROUND = 24  # directions in which it is asked whether a hop would be seen
EVEN = 0.1  # a cell whose sides and angle are within this of those of a triangular lattice is one


def follow_places(
    places: pd.DataFrame,
    *,
    hop: float,
    shape: tuple[int, int],
    times: npt.ArrayLike | None = None,
    drift: pd.DataFrame | None = None,
    pixel: tuple[float, float] | None = None,
    neighbours: int = 6,
) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """`places` with `track` (−1 where it is not followed) and `link`, and rates of every kind.

    places: table of `interpret.agreement.combine_sources`, sorted by frame. hop: the shortest lattice vector [px]. shape: (Y, X) of the frames. times: (T,) [s].
    drift: drift table. pixel: (dy, dx) [Å]. neighbours: sites at that distance. Places with a combined score of 0.5 and more are followed. Rates, of tracks
    of three points and more, by their usual kind: "hops of KIND" by `kinetics.hopping.fit_hops` at least one hop inside the field, where hops out of that region count by the share of
    directions that stay in it; "D of KIND" by `kinetics.diffusion.fit_diffusion`. A move of less than a quarter of a hop is none, and a stay that no
    method saw is lost with its hops.
    Raises what `link` raises.
    """
    kept = (places["score"] >= LEAST).to_numpy()
    columns = ["frame", "y", "x", "y_err", "x_err", "kind", "score"]
    tracks = link(places.loc[kept, columns], max_step=STEP * hop, drift=drift, times=times)
    number, chance = np.full(len(places), -1, dtype=np.int64), np.full(len(places), np.nan)
    number[kept], chance[kept] = tracks["track"], tracks["link"]
    rates: dict[str, Estimate] = {}
    long = tracks["track"].map(tracks["track"].value_counts()) >= SHORTEST
    usual = tracks["track"].map(tracks.groupby("track")["kind"].agg(lambda kinds: kinds.mode().iloc[0]))
    for kind in sorted(set(usual[long])):
        own = tracks[long & (usual == kind)]
        if len(own) - own["track"].nunique() <= SHORTEST:
            continue
        hops = _hops(own, hop, shape, drift=drift, times=times, neighbours=neighbours)
        rates |= {f"hops of {kind}": hops.rate} if hops else {}
        rates[f"D of {kind}"] = fit_diffusion(own, times=times, pixel=pixel, drift=drift).estimate()
    return places.assign(track=number, link=chance), rates


def places_of_run(
    run: Path, about: dict[str, Any], merged: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Estimate]] | None:
    """`follow_places` with the lattice, drift, times and pixel size of a Run; None where it has no lattice or a single frame."""
    given = about["input"]
    lattice = _table(run / "lattice.parquet")
    if lattice is None or not len(lattice) or int(given["frames"]) < 2 or not len(merged):
        return None
    cell = lattice[lattice["grain"] == 0].median(numeric_only=True)
    hop, other = sorted((float(cell["a_px"]), float(cell["b_px"])))
    triangular = (
        other < (1 + EVEN) * hop and abs(np.sin(np.radians(cell["gamma_deg"])) - np.sqrt(0.75)) < EVEN
    )
    phases, pixel = _table(run / "phases.parquet"), given.get("pixel_A")
    return follow_places(
        merged,
        hop=hop,
        shape=(int(given["shape"][0]), int(given["shape"][1])),
        times=phases["t_s"].to_numpy(float) if phases is not None and "t_s" in phases else None,
        drift=_table(run / "drift.parquet"),
        pixel=(float(pixel[0]), float(pixel[1])) if pixel else None,
        neighbours=6 if triangular else 4,
    )


def _hops(
    own: pd.DataFrame,
    hop: float,
    shape: tuple[int, int],
    *,
    drift: pd.DataFrame | None,
    times: npt.ArrayLike | None,
    neighbours: int,
) -> Hops | None:
    """Hop rate well inside the field; None where no track has two points there."""
    table = own.sort_values(["track", "frame"], kind="stable")
    at, limit = table[["y", "x"]].to_numpy(float), np.array(shape) - 1 - hop
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    ring = at[:, None] + hop * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    inside = ((at >= hop) & (at <= limit)).all(axis=1)
    watched = ((ring >= hop) & (ring <= limit)).all(axis=2).mean(axis=1)
    if drift is not None:
        at = at - drift.set_index("frame")[["dy", "dx"]].reindex(table["frame"]).to_numpy(float)
    piece = table.groupby(["track", np.cumsum(~inside)]).ngroup()
    rows = pd.DataFrame(
        {"track": piece, "frame": table["frame"], "y": at[:, 0], "x": at[:, 1], "watched": watched}
    )
    rows = rows[inside]
    steps = rows["track"].duplicated(keep="last")  # points that another follows
    if not (rows["watched"][steps] > 0).any():
        return None
    return fit_hops(rows, hop=hop, times=times, neighbours=neighbours)


def _table(file: Path) -> pd.DataFrame | None:
    return read_table(file) if file.is_file() else None
