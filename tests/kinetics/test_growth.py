import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.growth import fit_growth
from atomreel.kinetics.intervals import to_rates

RHO, C, UNIT = 0.02, 0.012, 4e-4
T = np.delete(np.arange(0.0, 160.0, 4.0), [10, 11, 12])


def yule(rng, start=14):
    """Every piece splits at RHO, one exponential waiting time after the other."""
    areas, pieces, clock = [], start, 0.0
    wait = rng.exponential(1 / (RHO * pieces))
    for now in T:
        while clock + wait < now:
            clock += wait
            pieces += 1
            wait = rng.exponential(1 / (RHO * pieces))
        areas.append(pieces * UNIT)
    return np.array(areas)


def coverage(fits, a0):
    truth = {"rho": RHO, "a0": a0, "c": C}
    return {
        k: np.mean([getattr(f, k).low <= v <= getattr(f, k).high for f in fits]) for k, v in truth.items()
    }


@pytest.mark.slow
def test_branching_growth_covers(rng):
    fits = [
        fit_growth(T, C + yule(rng) + rng.normal(0, 1e-3, len(T)), unit_area=UNIT, area_err=1e-3)
        for _ in range(200)
    ]
    assert all(0.9 < share < 0.99 for share in coverage(fits, 14 * UNIT).values())
    width = np.median([f.rho.high - f.rho.low for f in fits])
    assert width == pytest.approx(3.92 * np.std([f.rho.value for f in fits]), rel=0.3)


@pytest.mark.slow
def test_independent_errors_cover(rng):
    clean = C + 0.006 * np.exp(RHO * T)
    fits = [fit_growth(T, clean + rng.normal(0, 2e-3, len(T)), area_err=2e-3) for _ in range(200)]
    assert all(0.9 < share < 0.99 for share in coverage(fits, 0.006).values())
    width = np.median([f.rho.high - f.rho.low for f in fits])
    assert width == pytest.approx(3.92 * np.std([f.rho.value for f in fits]), rel=0.3)


def test_ignoring_chance_would_claim_too_much(rng):
    area = C + yule(rng) + rng.normal(0, 5e-4, len(T))
    honest, naive = fit_growth(T, area, unit_area=UNIT, area_err=5e-4), fit_growth(T, area, area_err=5e-4)
    assert (honest.rho.high - honest.rho.low) > 2 * (naive.rho.high - naive.rho.low)
    assert (honest.noise, naive.noise) == ("branching", "independent")


def test_error_is_estimated_when_not_given(rng):
    fit = fit_growth(T, C + 0.006 * np.exp(RHO * T) + rng.normal(0, 2e-3, len(T)))
    assert fit.sigma == pytest.approx(2e-3, rel=0.5)
    assert fit.rho.low < RHO < fit.rho.high and fit.delta_aic > 10
    assert set(to_rates(fit.estimates())) == {"rho", "A0", "C"}
    assert fit.curve([0.0])[0] == pytest.approx(fit.a0.value + fit.c.value)


def test_straight_line_is_told(rng):
    assert fit_growth(T, 0.1 + 0.001 * T + rng.normal(0, 2e-3, len(T)), area_err=2e-3).delta_aic < 10


def test_bad_input():
    with pytest.raises(InputError, match="5 usable"):
        fit_growth([0, 1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="increase"):
        fit_growth([0, 1, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6])


def test_a_long_record_with_rare_specks_shows_no_growth(rng):
    """Thousands of frames in most of which nothing is open."""
    time, share = np.arange(2000.0), 0.01 * (rng.random(2000) < 5e-3)
    found = fit_growth(time, share, unit_area=1 / 113)
    assert np.isfinite([found.rho.value, found.a0.value, found.c.value]).all()
    assert abs(found.curve(time) - share).mean() < 2e-3


@pytest.mark.parametrize("area", [0.0, 0.02])
def test_an_area_that_never_changes_is_said_to(area):
    with pytest.raises(InputError, match="nothing grows"):
        fit_growth(np.arange(50.0), np.full(50, area), unit_area=1 / 113)
