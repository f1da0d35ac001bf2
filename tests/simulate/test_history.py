import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.material import load_material
from atomreel.simulate.history import Rates, State, find_sites, run_history, vacant_sites
from atomreel.simulate.structures import crystal

BOND = 1.8204


@pytest.fixture(scope="module")
def sites():
    layer = crystal(load_material("ws2").project(), (0, 0, 60, 60), angle=13)
    return find_sites(layer, metal="W", bond=BOND, hole=(30, 30), rng=np.random.default_rng(0))


def start(sites, *, lost=0, count=12):
    inner = np.all((sites.positions > 8) & (sites.positions < 52), axis=1) & ~np.isin(
        np.arange(len(sites.positions)), sites.hole_order[:60]
    )
    metals = np.flatnonzero(inner & sites.metal)[::7][:count]
    sulphurs = np.flatnonzero(inner & ~sites.metal)[::9][:count]
    return State(metals, np.zeros(len(metals), dtype=np.int64), sulphurs, lost)


def test_neighbours_are_what_they_are(sites):
    inner = np.flatnonzero(np.all((sites.positions > 8) & (sites.positions < 52), axis=1))
    same = np.linalg.norm(sites.positions[sites.same[inner]] - sites.positions[inner][:, None], axis=2)
    other = np.linalg.norm(sites.positions[sites.other[inner]] - sites.positions[inner][:, None], axis=2)
    assert same == pytest.approx(3.153, abs=1e-3) and other == pytest.approx(BOND, abs=1e-3)
    assert np.all(sites.metal[sites.other[inner]] != sites.metal[inner][:, None])
    d = sites.positions[sites.other[inner]] - sites.positions[inner][:, None]
    angle = np.arctan2(-d[..., 0], d[..., 1])  # counter-clockwise on screen
    assert np.all(np.diff(angle, axis=1) > 0)


def test_rates_come_out_of_the_history(sites):
    """Events per time at risk over many runs: Poisson counts, so 4 σ each. Blocked attempts make them only smaller."""
    rates = Rates(mo_hop=0.02, catch=0.03, release=0.1, vacancy_hop=0.02, growth=0.0)
    counts, dwell = (
        dict.fromkeys(("catch", "release", "mo_hop"), 0),
        dict.fromkeys(("catch", "release", "mo_hop"), 0.0),
    )
    for seed in range(8):
        history = run_history(
            sites, start(sites), np.arange(100.0), rates=rates, rng=np.random.default_rng(seed)
        )
        for name in counts:
            counts[name] += history.counts[name]
            dwell[name] += history.dwell[name]
    for name, blocked in (("catch", 0.05), ("release", 0.0), ("mo_hop", 0.25)):
        expected = getattr(rates, name) * dwell[name]
        assert (
            expected * (1 - blocked) - 4 * np.sqrt(expected) < counts[name] < expected + 4 * np.sqrt(expected)
        )


def test_turns_come_at_their_rate_and_change_the_neighbour(sites):
    rates = Rates(mo_hop=0, catch=0.1, release=0.02, vacancy_hop=0, growth=0, turn=0.1)
    mo = start(sites).mo[[0, 4, 8]]  # far apart, so that no neighbour is taken
    alone = State(mo, np.zeros(3, dtype=np.int64), np.empty(0, dtype=np.int64), 0)
    turns, time = 0, 0.0
    for seed in range(12):
        history = run_history(sites, alone, np.arange(150.0), rates=rates, rng=np.random.default_rng(seed))
        turns, time = turns + history.counts["turn"], time + history.dwell["turn"]
        named = [e for e in history.events if e.before == e.after == "Mo_W+V_S"]
        assert len(named) == history.counts["turn"]
    assert abs(turns - 0.1 * time) < 4 * np.sqrt(0.1 * time)
    both = [
        np.stack([s.caught for s in pair]) for pair in zip(history.states, history.states[1:], strict=False)
    ]
    moved = [pair[:, (pair > 0).all(0) & (pair[0] != pair[1])] for pair in both]
    assert {tuple(p) for pairs in moved for p in pairs.T.tolist()} >= {(1, 2), (2, 3), (3, 1), (2, 1)}


def test_vacancies_of_both_kinds_keep_to_their_sites(sites):
    first = start(sites)
    metal = np.setdiff1d(np.flatnonzero(sites.metal & (sites.hole_order.argsort() > 200)), first.mo)[5:25:5]
    vacant = np.concatenate([first.vacancies, metal])
    history = run_history(
        sites, State(first.mo, first.caught, vacant, 0), np.arange(80.0), rates=Rates(growth=0), rng=np.random.default_rng(2)
    )  # fmt: skip
    for state in history.states:
        alive = state.vacancies >= 0
        assert np.array_equal(sites.metal[state.vacancies][alive], sites.metal[vacant][alive])
        assert not np.isin(state.vacancies, state.mo[state.mo >= 0]).any()
    assert {e.before for e in history.events if e.track >= len(first.mo) + len(first.vacancies)} == {"V_W"}


def test_dwell_is_the_time_that_there_was(sites):
    history = run_history(
        sites, start(sites), np.array([0.0, 3.0, 20.0]), rates=Rates(growth=0), rng=np.random.default_rng(1)
    )
    assert history.dwell["catch"] + history.dwell["release"] == pytest.approx(12 * 20.0)
    assert len(history.states) == 3


def test_a_hole_grows_exponentially(sites):
    final = [
        run_history(sites, State(*[np.empty(0, dtype=np.int64)] * 3, 20), np.array([0.0, 30.0]), rates=Rates(growth=0.03), rng=np.random.default_rng(s)).states[-1].lost
        for s in range(60)
    ]  # fmt: skip
    assert np.mean(final) == pytest.approx(20 * np.exp(0.9), rel=0.08)  # 4.5 standard errors


def test_states_and_events_tell_one_story(sites):
    """Replaying the events on the first state gives the last state; no two defects share a site."""
    times = np.arange(60.0)
    history = run_history(
        sites, start(sites, lost=30), times, rates=Rates(growth=0.02), rng=np.random.default_rng(5)
    )
    first, last = history.states[0], history.states[-1]
    where = {
        **dict(enumerate(first.mo)),
        **{len(first.mo) + i: s for i, s in enumerate(first.vacancies)},
    }
    for event in history.events:
        if event.track >= 0:
            where[event.track] = -1 if event.after == "none" else event.site
    assert [where[i] for i in range(len(first.mo))] == last.mo.tolist()
    assert [where[len(first.mo) + i] for i in range(len(first.vacancies))] == last.vacancies.tolist()
    assert last.lost > first.lost
    for state in history.states:
        vacant = vacant_sites(state, sites)
        assert len(set(vacant.tolist())) == len(vacant)
        alive = state.mo[state.mo >= 0]
        assert len(set(alive.tolist())) == len(alive)
        free = state.vacancies[state.vacancies >= 0]
        if state is not first:
            assert not np.isin(vacant, sites.hole_order[: state.lost]).any()
            assert not np.isin(free, sites.hole_order[: state.lost]).any()


def test_times_must_increase(sites):
    with pytest.raises(InputError, match="increase"):
        run_history(sites, start(sites), np.array([0.0, 0.0]), rates=Rates(), rng=np.random.default_rng(0))
