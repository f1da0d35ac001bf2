"""What moves and changes over a movie: tracks, events, rates."""

from __future__ import annotations

import pandas as pd

from atomreel.core.errors import AtomreelError
from atomreel.core.files import write_json, write_table
from atomreel.core.run import RunFolder
from atomreel.core.tables import empty_table
from atomreel.kinetics.diffusion import fit_diffusion
from atomreel.kinetics.intervals import Estimate, to_rates
from atomreel.kinetics.markov import count_transitions, fit_rates
from atomreel.pipeline.holes import hole_kinetics
from atomreel.pipeline.survey import Plan
from atomreel.track.events import find_events
from atomreel.track.link import link

FEWEST = 5  # observations of a kind below which it has no rates
LEAST_FRAMES = 8  # of one track, below which a kind has no diffusion coefficient


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
        # Each frame numbers the sites of its own lattice: a new number is no hop.
        still = tracks.drop(columns="site", errors="ignore")
        events = find_events(still, times=times, frames=len(plan.movie), min_hop=hop, drift=drift)
    write_table(folder.path / "tracks.parquet", tracks, kind="tracks")
    write_table(folder.path / "events.parquet", events, kind="events")
    rates: dict[str, Estimate] = {}
    notes: list[str] = []
    for name, part in (("transitions", _transitions), ("diffusion", _diffusion), ("growth", _growth)):
        try:
            rates |= part(plan, folder, tracks)
        except AtomreelError as error:
            notes.append(f"{name}: not fitted ({error})")
    write_json(folder.path / "rates.json", to_rates(rates))
    return notes


def _often(tracks: pd.DataFrame) -> tuple[str, ...]:
    """Kinds that were seen often enough to have rates."""
    seen = tracks.kind.value_counts()
    return tuple(sorted(seen.index[seen >= FEWEST]))


def _transitions(plan: Plan, folder: RunFolder, tracks: pd.DataFrame) -> dict[str, Estimate]:
    kinds = _often(tracks)
    if len(kinds) < 2:
        return {}
    return fit_rates(count_transitions(tracks, states=kinds, times=plan.movie.times)).estimates()


def _diffusion(plan: Plan, folder: RunFolder, tracks: pd.DataFrame) -> dict[str, Estimate]:
    """Of every kind with enough successive steps."""
    file = folder.path / "drift.parquet"
    drift = pd.read_parquet(file) if file.exists() else None
    found: dict[str, Estimate] = {}
    for kind in _often(tracks):
        own = tracks[tracks.kind == kind]
        if own.track.value_counts().max() >= LEAST_FRAMES:
            fit = fit_diffusion(own, times=plan.movie.times, pixel=plan.pixel, drift=drift)
            found[f"D of {kind}"] = fit.estimate()
    return found


def _growth(plan: Plan, folder: RunFolder, tracks: pd.DataFrame) -> dict[str, Estimate]:
    return hole_kinetics(plan, folder)
