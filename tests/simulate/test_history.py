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
