"""What happens to a WS2 layer under the beam: a continuous-time Markov process on the sites of the lattice.

S vacancies hop, Mo atoms on W sites change place with a neighbouring W and catch or lose an S vacancy, and a hole
grows by loss of atoms at its edge (A(t) = A0·exp(ρt) on average; R. K. Vasudevan et al., npj Comput. Mater. 4 (2018) 30).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.simulate.structures import Structure, blob_order

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rates:
    """Per defect and second. mo_hop: exchange with one of six neighbours, without a vacancy. catch, release: Mo_W to
    and from Mo_W+V_S (each of three neighbours equally). vacancy_hop: to one of six, of V_S and V_W. growth: of the hole's
    area. turn: of Mo_W+V_S to one of its two other neighbours."""

    mo_hop: float = 0.02
    catch: float = 0.03
    release: float = 0.06
    vacancy_hop: float = 0.02
    growth: float = 0.02
    turn: float = 0.0


@dataclass(frozen=True)
class Sites:
    """The lattice's sites: positions (N, 2) [Å]; metal, chalcogen: indices; neighbours by index, −1 for none.

    metal_metal (N, 6), chalcogen_chalcogen (N, 6); metal_chalcogen (N, 3) by angle from −180° up, counter-clockwise.
    hole_order: all sites from the middle of the hole outwards.
    """

    positions: Array
    metal: npt.NDArray[np.bool_]
    same: Index
    other: Index
    hole_order: Index


@dataclass(frozen=True)
class State:
    """mo: site of each Mo; caught: 0, or which of its three neighbours lacks an S (1…3). vacancies: S and W sites.
    lost: number of sites in the hole. Entries of −1 are gone (swallowed by the hole)."""

    mo: Index
    caught: Index
    vacancies: Index
    lost: int


@dataclass(frozen=True)
class Event:
    time: float
    track: int
    before: str
    after: str
    site: int


@dataclass(frozen=True)
class History:
    """states: one per asked time. events in order. counts, dwell: number of events, and the time [s] in which each
    could have happened, by name of the rate; hence `counts/dwell` is what perfect observation would give."""

    states: tuple[State, ...]
    events: tuple[Event, ...]
    counts: dict[str, int] = field(default_factory=dict)
    dwell: dict[str, float] = field(default_factory=dict)


def find_sites(
    structure: Structure, *, metal: str, bond: float, hole: tuple[float, float], rng: np.random.Generator
) -> Sites:
    """Sites and neighbours of a 1H layer. bond: metal–chalcogen distance in projection [Å]. hole: (y, x) [Å]."""
    is_metal = structure.labels == metal
    positions = structure.positions
    n = len(positions)
    tree = cKDTree(positions)
    same = np.full((n, 6), -1, dtype=np.int64)
    other = np.full((n, 3), -1, dtype=np.int64)
    for i, near in enumerate(tree.query_ball_point(positions, 1.2 * np.sqrt(3) * bond)):
        d = positions[near] - positions[i]
        order = np.argsort(np.arctan2(-d[:, 0], d[:, 1]))
        alike = [near[j] for j in order if near[j] != i and is_metal[near[j]] == is_metal[i]]
        unlike = [near[j] for j in order if is_metal[near[j]] != is_metal[i] and np.hypot(*d[j]) < 1.3 * bond]
        same[i, : len(alike[:6])] = alike[:6]
        other[i, : len(unlike[:3])] = unlike[:3]
    return Sites(positions, is_metal, same, other, blob_order(positions, rng, centre=hole))


def run_history(
    sites: Sites, start: State, times: Array, *, rates: Rates, rng: np.random.Generator
) -> History:
    """The process from `start` at times[0] (Gillespie's direct method), seen at `times` [s], which must increase."""
    if np.any(np.diff(times) <= 0):
        raise InputError("times of a history must increase")
    state, now = start, float(times[0])
    states: list[State] = []
    events: list[Event] = []
    counts = dict.fromkeys(_RATES, 0)
    dwell = dict.fromkeys(_RATES, 0.0)
    while len(states) < len(times):
        exposed = _exposed(state)
        speed = np.array([getattr(rates, name) * exposed[name] for name in _RATES])
        wait = rng.exponential(1 / speed.sum()) if speed.sum() > 0 else np.inf
        until = min(now + wait, float(times[-1]))
        for name in _RATES:
            dwell[name] += exposed[name] * (until - now)
        while len(states) < len(times) and times[len(states)] <= now + wait:
            states.append(state)
        now += wait
        if len(states) == len(times):
            break
        name = _RATES[int(rng.choice(len(_RATES), p=speed / speed.sum()))]
        state, happened = _STEP[name](state, sites, rng, now)
        counts[name] += bool(happened)
        state, swallowed = _swallow(state, sites, now)
        events += happened + swallowed
    return History(tuple(states), tuple(events), counts, dwell)


_RATES = ("mo_hop", "catch", "release", "vacancy_hop", "growth", "turn")


def _exposed(state: State) -> dict[str, int]:
    alive = state.mo >= 0
    free = int((alive & (state.caught == 0)).sum())
    return {
        "mo_hop": free,
        "catch": free,
        "release": int((alive & (state.caught > 0)).sum()),
        "vacancy_hop": int((state.vacancies >= 0).sum()),
        "growth": state.lost,
        "turn": int((alive & (state.caught > 0)).sum()),
    }


Step = tuple[State, list[Event]]


def _mo_hop(state: State, sites: Sites, rng: np.random.Generator, now: float) -> Step:
    i = int(rng.choice(np.flatnonzero((state.mo >= 0) & (state.caught == 0))))
    target = int(rng.choice(sites.same[state.mo[i]]))
    if target < 0 or target in (*state.mo, *state.vacancies) or target in _hole(state, sites):
        return state, []
    if np.isin(sites.other[target], vacant_sites(state, sites)).any():  # there it would be a Mo_W+V_S
        return state, []
    mo = state.mo.copy()
    mo[i] = target
    return replace(state, mo=mo), [Event(now, i, "Mo_W", "Mo_W", target)]


def _catch(state: State, sites: Sites, rng: np.random.Generator, now: float) -> Step:
    i = int(rng.choice(np.flatnonzero((state.mo >= 0) & (state.caught == 0))))
    which = int(rng.integers(3))
    target = int(sites.other[state.mo[i], which])
    if target < 0 or target in _vacant(state, sites) or target in _hole(state, sites):
        return state, []
    caught = state.caught.copy()
    caught[i] = which + 1
    return replace(state, caught=caught), [Event(now, i, "Mo_W", "Mo_W+V_S", int(state.mo[i]))]


def _release(state: State, sites: Sites, rng: np.random.Generator, now: float) -> Step:
    i = int(rng.choice(np.flatnonzero((state.mo >= 0) & (state.caught > 0))))
    caught = state.caught.copy()
    caught[i] = 0
    return replace(state, caught=caught), [Event(now, i, "Mo_W+V_S", "Mo_W", int(state.mo[i]))]


def _turn(state: State, sites: Sites, rng: np.random.Generator, now: float) -> Step:
    i = int(rng.choice(np.flatnonzero((state.mo >= 0) & (state.caught > 0))))
    caught = state.caught.copy()
    caught[i] = (caught[i] + rng.integers(2)) % 3 + 1
    target = int(sites.other[state.mo[i], caught[i] - 1])
    if target < 0 or target in _vacant(state, sites) or target in _hole(state, sites):
        return state, []
    return replace(state, caught=caught), [Event(now, i, "Mo_W+V_S", "Mo_W+V_S", int(state.mo[i]))]


def _vacancy_hop(state: State, sites: Sites, rng: np.random.Generator, now: float) -> Step:
    i = int(rng.choice(np.flatnonzero(state.vacancies >= 0)))
    target = int(rng.choice(sites.same[state.vacancies[i]]))
    beside_mo = target >= 0 and bool(np.isin(sites.other[target], state.mo[state.mo >= 0]).any())
    if target < 0 or beside_mo or target in _vacant(state, sites) or target in _hole(state, sites):
        return state, []
    vacancies = state.vacancies.copy()
    vacancies[i] = target
    kind = vacancy_kind(target, sites)
    return replace(state, vacancies=vacancies), [Event(now, len(state.mo) + i, kind, kind, target)]


def vacancy_kind(site: int, sites: Sites) -> str:
    return "V_W" if sites.metal[site] else "V_S"


def _growth(state: State, sites: Sites, rng: np.random.Generator, now: float) -> Step:
    lost = min(state.lost + 1, len(sites.positions) // 2)
    return replace(state, lost=lost), [Event(now, -1, "hole", "hole", int(sites.hole_order[lost - 1]))]


_STEP = {
    "mo_hop": _mo_hop,
    "catch": _catch,
    "release": _release,
    "vacancy_hop": _vacancy_hop,
    "growth": _growth,
    "turn": _turn,
}


def _hole(state: State, sites: Sites) -> Index:
    return sites.hole_order[: state.lost]


def _vacant(state: State, sites: Sites) -> Index:
    held = (state.mo >= 0) & (state.caught > 0)
    return np.concatenate([state.vacancies, sites.other[state.mo[held], state.caught[held] - 1]])


def vacant_sites(state: State, sites: Sites) -> Index:
    """All sites that lack an atom: free vacancies, of W or one S, then those held by a Mo."""
    vacant = _vacant(state, sites)
    return vacant[vacant >= 0]


def _swallow(state: State, sites: Sites, now: float) -> Step:
    """Defects whose site is now in the hole end."""
    hole = _hole(state, sites)
    events: list[Event] = []
    mo, caught, vacancies = state.mo.copy(), state.caught.copy(), state.vacancies.copy()
    for i in np.flatnonzero(np.isin(mo, hole)):
        events.append(Event(now, int(i), "Mo_W+V_S" if caught[i] else "Mo_W", "none", int(mo[i])))
        mo[i], caught[i] = -1, 0
    for i in np.flatnonzero(np.isin(vacancies, hole)):
        kind = vacancy_kind(int(vacancies[i]), sites)
        events.append(Event(now, len(mo) + int(i), kind, "none", int(vacancies[i])))
        vacancies[i] = -1
    held = np.flatnonzero((mo >= 0) & (caught > 0))
    for i in held[np.isin(sites.other[mo[held], caught[held] - 1], hole)]:
        events.append(Event(now, int(i), "Mo_W+V_S", "Mo_W", int(mo[i])))
        caught[i] = 0
    return State(mo, caught, vacancies, state.lost), events
