"""A movie whose crystal loses a symmetry: the shear from frame to frame, and the frame in which it passes a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.files import write_json, write_table
from atomreel.core.lattice import Lattice
from atomreel.core.recipe import Recipe
from atomreel.interpret.distortion import POINTS, strain_of
from atomreel.kinetics.transition import Crossing, find_crossing
from atomreel.pipeline.source import Source
from atomreel.pipeline.whole import read_frame
from atomreel.predict.cells import lattice_row
from atomreel.report.transition import draw_transition

FEWEST = 5  # frames with a lattice below which no transition is looked for
SHARED = 0.5  # of the variance of a shear: the same atoms stand off their sites in all frames


def follow_shear(
    lattices: list[Lattice | None], frames: npt.ArrayLike, *, origin: str = "hexagonal"
) -> pd.DataFrame:
    """How a lattice is sheared away from the class `origin` (hexagonal or square), frame by frame.

    Columns: frame; s, e with _err: the distortion (see `interpret.distortion`), in the axes of the image; shear, shear_err:
    along the direction in which it changes over the movie, and with its sign; aside: across that direction. NaN without a lattice.
    """
    if origin not in POINTS:
        raise InputError(f"a transition starts from a square or hexagonal lattice, got {origin!r}")
    values = np.full((len(lattices), 2), np.nan)
    errors = np.full((len(lattices), 2, 2), np.nan)
    for i, lattice in enumerate(lattices):
        if lattice is not None:
            values[i], errors[i], _ = strain_of(lattice, target=origin)
    good = np.isfinite(values).all(1)
    if good.sum() < FEWEST:
        raise InputError(
            f"only {int(good.sum())} frames have a lattice; a transition needs at least {FEWEST}"
        )
    weight = 1 / np.trace(errors[good], axis1=1, axis2=2)
    moment = np.einsum("n,ni,nj->ij", weight, values[good], values[good])
    along = np.linalg.eigh(moment)[1][:, -1]
    far = values[good] @ along
    along = along * (1.0 if far[np.abs(far).argmax()] >= 0 else -1.0)
    across = np.array([-along[1], along[0]])
    return pd.DataFrame(
        {
            "frame": np.asarray(frames),
            "s": values[:, 0],
            "s_err": np.sqrt(errors[:, 0, 0]),
            "e": values[:, 1],
            "e_err": np.sqrt(errors[:, 1, 1]),
            "shear": values @ along,
            "shear_err": np.sqrt(np.einsum("i,nij,j->n", along, errors, along)),
            "aside": values @ across,
        }
    )


def transition_of_movie(source: Source, recipe: Recipe, *, out: Path, origin: str = "hexagonal") -> Crossing:
    """When a movie's lattice is sheared by symmetry.shear from the class `origin`.

    Writes into the folder `out`: shear.csv (one row per frame: number in the file, class, lattice, shear, smoothed curve),
    transition.json (frame with its 95 % interval, and s if the movie has times) and transition.png, .svg.
    """
    seen = [read_frame(source, recipe, i) for i in range(len(source.frames))]
    lattices = [one.lattice if one.name != "noise" else None for one in seen]
    frames = np.asarray(source.frames)
    table = follow_shear(lattices, frames, origin=origin)
    crossing = find_crossing(
        table["shear"],
        table["shear_err"],
        level=recipe.symmetry.shear,
        times=frames.astype(float),
        shared=SHARED,
        rng=recipe.run.seed,
    )
    rows = [{"class": one.name, **lattice_row(lattice)} for one, lattice in zip(seen, lattices, strict=True)]
    table = pd.concat([table, pd.DataFrame(rows)], axis=1)
    table = table.assign(curve=crossing.curve, curve_err=crossing.curve_err)
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "shear.csv", table, kind="transition")
    write_json(
        out / "transition.json", {"origin": origin, **_summary(crossing, source, frames, origin=origin)}
    )
    passed = (crossing.low, crossing.t, crossing.high)
    draw_transition(table, level=crossing.level, passed=passed, folder=out)
    return crossing


def _summary(crossing: Crossing, source: Source, frames: npt.NDArray[Any], *, origin: str) -> dict[str, Any]:
    """What transition.json holds; numbers that are not known are null. Frames count as in the file."""
    own = {"frame": crossing.t, "low": crossing.low, "high": crossing.high}
    found: dict[str, Any] = dict(own)
    if source.movie.times is not None:
        clock = np.asarray(source.movie.times, dtype=float)
        found |= {f"{key}_s": float(np.interp(value, frames, clock)) for key, value in own.items()}
    return found | {
        "level_shear": crossing.level,
        "rising": crossing.rising,
        "probability": crossing.probability,
        "sentence": describe_crossing(crossing, origin=origin),
    }


def describe_crossing(crossing: Crossing, *, origin: str) -> str:
    """One sentence for the screen."""
    level = f"{100 * crossing.level:.3g} % shear (s: x′ = x + s·y)"
    if not np.isfinite(crossing.t) or crossing.probability < 0.5:
        return f"the lattice does not pass {level} away from {origin} in this movie"
    way = "leaves" if crossing.rising else "comes back to"
    return (
        f"{way} {origin}: {level} is passed in frame {crossing.t:.1f} "
        f"(95 %: {crossing.low:.1f} to {crossing.high:.1f})"
    )
