"""A movie of a WS2 layer under the beam, with everything that happened in it as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.core.errors import InputError
from atomreel.core.material import load_material
from atomreel.simulate import detector
from atomreel.simulate.history import (
    History,
    Rates,
    Sites,
    State,
    find_sites,
    run_history,
    vacancy_kind,
    vacant_sites,
)
from atomreel.simulate.stem import Probe, render_stem, z_contrast
from atomreel.simulate.structures import crystal

Array = npt.NDArray[np.float64]
BOND = 1.8204  # Å, W–S in projection


@dataclass(frozen=True)
class SimulatedMovie:
    """frames: (T, Y, X) uint16 counts. times: (T,) [s], with pauses. pixel: [Å].

    atoms: frame, y, x, species. defects: frame, y, x, kind, state, track (state of Mo_W+V_S: 1…3, which of its
    neighbours lacks an S, by angle). table: frame, t_s, dy, dx (drift of the content [px]), hole_sites,
    hole_area_A2, hole_fraction (of the field). events: track, frame, t_s, before, after, y, x (track −1: the hole).
    rates: name → value, unit, count, dwell_s (what perfect observation would have to go by).
    """

    frames: npt.NDArray[np.uint16]
    times: Array
    pixel: float
    atoms: pd.DataFrame
    defects: pd.DataFrame
    table: pd.DataFrame
    events: pd.DataFrame
    rates: Mapping[str, Mapping[str, float | int | str]]


def simulate_ws2_movie(
    rng: np.random.Generator | int | None,
    *,
    frames: int = 60,
    size: int = 256,
    pixel: float = 0.2,
    interval: float = 1.0,
    peak: float = 60.0,
    dopants: int = 9,
    vacancies: int = 7,
    metal_vacancies: int = 0,
    drift: float = 8.0,
    jitter: float = 0.25,
    rates: Rates | None = None,
    draw: bool = True,
) -> SimulatedMovie:
    """HAADF movie with S vacancies that hop, Mo dopants that hop and catch vacancies, a growing hole, drift, noise.

    frames: number; size: px; pixel: [Å]; interval: [s] between frames (two pauses are added). peak: expected counts
    at a W column. dopants, vacancies, metal_vacancies (of W): number at the start. drift: [px] over the movie; jitter: sd of line shifts [px].
    draw: False leaves the frames blank, and everything else as it would be.
    Raises InputError when the field is too small for the defects.
    """
    rng = np.random.default_rng(rng)
    rates = rates or Rates()
    times = _times(frames, interval, rng)
    path = _drift(frames, drift, rng)
    margin = np.abs(path).max() * pixel + 6.0
    span = size * pixel
    layer = crystal(
        load_material("ws2").project(),
        (-margin, -margin, span + margin, span + margin),
        angle=rng.uniform(-180, 180),
        origin=rng.uniform(0, 3, 2),
    )
    hole = span * rng.uniform(0.3, 0.7, 2)
    sites = find_sites(layer, metal="W", bond=BOND, hole=(hole[0], hole[1]), rng=rng)
    count = (dopants, vacancies, metal_vacancies)
    start = _start(sites, rng, span=span, count=count, lost=24)
    history = run_history(sites, start, times, rates=rates, rng=rng)
    probe = Probe(fwhm=0.95, tail=0.25, tail_ratio=2.5)
    stack = np.zeros((frames, size, size), dtype=np.uint16)
    for k, (state, shift) in enumerate(zip(history.states, path, strict=True)):
        if draw:
            stack[k] = _frame(
                sites, state, shift, rng, size=size, pixel=pixel, peak=peak, jitter=jitter, probe=probe
            )
    return SimulatedMovie(stack, times, pixel, *_tables(sites, history, times, path, size, pixel, rates))


def _times(frames: int, interval: float, rng: np.random.Generator) -> Array:
    """(T,) [s]: regular, with two pauses of 5 to 15 intervals (none in short movies)."""
    steps = np.full(frames, interval)
    steps[0] = 0
    if frames >= 10:
        steps[rng.choice(np.arange(2, frames), 2, replace=False)] += interval * rng.integers(5, 16, 2)
    return np.cumsum(steps)


def _drift(frames: int, drift: float, rng: np.random.Generator) -> Array:
    """(T, 2) [px], (0, 0) first: a straight part and a slow random walk."""
    direction = rng.uniform(0, 2 * np.pi)
    straight = np.linspace(0, drift, frames)[:, None] * [np.sin(direction), np.cos(direction)]
    walk = np.cumsum(rng.normal(0, 0.03 * drift, (frames, 2)), axis=0)
    return np.asarray(straight + walk - walk[0])


def _start(
    sites: Sites, rng: np.random.Generator, *, span: float, count: tuple[int, int, int], lost: int
) -> State:
    """Defects at random, well apart, away from the border and from the hole, which has `lost` sites at first.

    count: of dopants, of vacancies of S and of W."""
    dopants, vacancies, metal_vacancies = count
    hole = sites.positions[sites.hole_order[:lost]]
    taken = hole
    picks: dict[bool, list[int]] = {True: [], False: []}
    for site in rng.permutation(len(sites.positions)):
        metal = bool(sites.metal[site])
        position = sites.positions[site]
        room = len(picks[metal]) < (dopants + metal_vacancies if metal else vacancies)
        apart = np.min(np.hypot(*(taken - position).T)) > 2.2 * BOND
        if room and apart and np.all((position > 0.08 * span) & (position < 0.92 * span)):
            picks[metal].append(int(site))
            taken = np.vstack([taken, position])
    if len(picks[True]) < dopants + metal_vacancies or len(picks[False]) < vacancies:
        raise InputError(
            f"a field of {span:.0f} Å has no room for {dopants} dopants and {vacancies + metal_vacancies} vacancies: "
            "fewer of them, or larger"
        )
    mo, vacant = (
        np.array(picked, dtype=np.int64)
        for picked in (picks[True][:dopants], picks[False] + picks[True][dopants:])
    )
    return State(mo, np.zeros(len(mo), dtype=np.int64), vacant, lost)


def _contents(sites: Sites, state: State) -> npt.NDArray[np.str_]:
    """(N,) label of each site: W, Mo, S2, S1 or "" (in the hole, or V_W)."""
    labels = np.where(sites.metal, "W", "S2").astype("<U3")
    labels[state.mo[state.mo >= 0]] = "Mo"
    vacant = vacant_sites(state, sites)
    labels[vacant] = np.where(sites.metal[vacant], "", "S1")
    labels[sites.hole_order[: state.lost]] = ""
    return labels


_ATOMS = {"W": ("W",), "Mo": ("Mo",), "S2": ("S", "S"), "S1": ("S",), "": ()}


def _frame(
    sites: Sites,
    state: State,
    shift: Array,
    rng: np.random.Generator,
    *,
    size: int,
    pixel: float,
    peak: float,
    jitter: float,
    probe: Probe,
) -> npt.NDArray[np.uint16]:
    labels = _contents(sites, state)
    weight = {label: z_contrast(atoms) / z_contrast(("W",)) for label, atoms in _ATOMS.items()}
    weights = np.array([weight[label] for label in labels])
    clean = render_stem(sites.positions / pixel + shift, weights, (size, size), probe=probe, pixel=pixel)
    clean = detector.jitter_lines(clean, *detector.line_jitter(size, rng, y=0.5 * jitter, x=jitter))
    return detector.add_counts(peak * (np.maximum(clean, 0) + 0.03), rng).astype(np.uint16)


def _tables(
    sites: Sites, history: History, times: Array, path: Array, size: int, pixel: float, rates: Rates
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, dict[str, float | int | str]]]:
    atoms, defects = [], []
    for frame, (state, shift) in enumerate(zip(history.states, path, strict=True)):
        seen = sites.positions / pixel + shift
        inside = np.all((seen > -0.5) & (seen < size - 0.5), axis=1)
        labels = _contents(sites, state)
        there = inside & (labels != "")
        atoms.append(
            pd.DataFrame({"frame": frame, "y": seen[there, 0], "x": seen[there, 1], "species": labels[there]})
        )
        kinds = [vacancy_kind(int(site), sites) for site in state.vacancies]
        defects.append(_defects(state, seen, inside, frame, kinds=kinds))
    cell = 1.5 * np.sqrt(3) * BOND**2  # Å² per formula unit, of which each lost site is a half
    lost = np.array([state.lost for state in history.states])
    table = pd.DataFrame(
        {"frame": np.arange(len(times)), "t_s": times, "dy": path[:, 0], "dx": path[:, 1], "hole_sites": lost}
    )
    table["hole_area_A2"] = table.hole_sites * cell / 2
    table["hole_fraction"] = table.hole_area_A2 / (size * pixel) ** 2
    events = _events(sites, history, times, path, pixel)
    summary = {
        name: {
            "value": getattr(rates, name),
            "unit": "1/s",
            "count": history.counts[name],
            "dwell_s": history.dwell[name],
        }
        for name in history.counts
        if name != "turn" or rates.turn > 0
    }
    return pd.concat(atoms, ignore_index=True), pd.concat(defects, ignore_index=True), table, events, summary


def _defects(
    state: State, seen: Array, inside: npt.NDArray[np.bool_], frame: int, *, kinds: list[str]
) -> pd.DataFrame:
    site = np.concatenate([state.mo, state.vacancies])
    kind = np.concatenate([np.where(state.caught > 0, "Mo_W+V_S", "Mo_W"), np.array(kinds, dtype=str)])
    level = np.concatenate([state.caught, np.zeros(len(state.vacancies), dtype=np.int64)])
    keep = (site >= 0) & inside[site]
    y, x = seen[site[keep]].T
    track = np.flatnonzero(keep)
    return pd.DataFrame(
        {"frame": frame, "y": y, "x": x, "kind": kind[keep], "state": level[keep], "track": track}
    )


def _events(sites: Sites, history: History, times: Array, path: Array, pixel: float) -> pd.DataFrame:
    rows = []
    for event in history.events:
        frame = int(np.searchsorted(times, event.time))  # first frame that shows it
        y, x = sites.positions[event.site] / pixel + path[min(frame, len(path) - 1)]
        rows.append((event.track, frame, event.time, event.before, event.after, y, x))
    return pd.DataFrame(rows, columns=["track", "frame", "t_s", "before", "after", "y", "x"])
