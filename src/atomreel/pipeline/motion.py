"""What moves and changes over a movie: tracks, events, rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from atomreel.core.errors import AtomreelError
from atomreel.core.files import write_json, write_table
from atomreel.core.run import RunFolder
from atomreel.core.tables import empty_table
from atomreel.kinetics.growth import fit_growth
from atomreel.kinetics.intervals import to_rates
from atomreel.kinetics.markov import count_transitions, fit_rates
from atomreel.pipeline.survey import Plan
from atomreel.track.events import find_events
from atomreel.track.link import link

FEWEST = 5  # observations of a kind below which it has no rates
LEAST_FRAMES = 8  # below which growth is not fitted


def motion(plan: Plan, folder: RunFolder) -> list[str]:
    """tracks.parquet, events.parquet and rates.json. Returns notes for the reader."""
    defects = pd.read_parquet(folder.path / "defects.parquet")
    drift_file = folder.path / "drift.parquet"
    drift = pd.read_parquet(drift_file) if drift_file.exists() else None
    tracks, events = empty_table("tracks"), empty_table("events")
    if len(defects):
        reach = plan.recipe.tracks.max_step_px or 1.1 * plan.spacing
        memory, times = plan.recipe.tracks.memory, plan.movie.times
        tracks = link(defects, max_step=reach, memory=memory, drift=drift, times=times)
        hop = 0.5 * plan.columns.survey.spacing_px
        events = find_events(tracks, times=times, frames=len(plan.movie), min_hop=hop, drift=drift)
    write_table(folder.path / "tracks.parquet", tracks, kind="tracks")
    write_table(folder.path / "events.parquet", events, kind="events")
    rates: dict[str, Any] = {}
    notes: list[str] = []
    for name, part in (("transitions", _transitions), ("growth", _growth)):
        try:
            rates |= part(plan, folder, tracks)
        except AtomreelError as error:
            notes.append(f"{name}: not fitted ({error})")
    write_json(folder.path / "rates.json", rates)
    return notes


def _transitions(plan: Plan, folder: RunFolder, tracks: pd.DataFrame) -> dict[str, Any]:
    """Rates between the kinds that were seen often enough."""
    seen = tracks.kind.value_counts()
    kinds = tuple(sorted(seen.index[seen >= FEWEST]))
    if len(kinds) < 2:
        return {}
    counted = count_transitions(tracks, states=kinds, times=plan.movie.times)
    return to_rates(fit_rates(counted).estimates())


def _growth(plan: Plan, folder: RunFolder, tracks: pd.DataFrame) -> dict[str, Any]:
    """Exponential growth of the share of the field without columns."""
    phases = pd.read_parquet(folder.path / "phases.parquet")
    share = phases.hole_fraction.to_numpy()
    if len(share) < LEAST_FRAMES or not np.isfinite(share).all() or np.ptp(share) == 0:
        return {}
    clock = np.arange(len(share), dtype=float) if plan.movie.times is None else plan.movie.times
    return to_rates(fit_growth(clock, share).estimates())
