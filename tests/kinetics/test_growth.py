import numpy as np
import pytest
from scipy import stats

from atomreel.core.errors import InputError
from atomreel.kinetics.growth import averaged, fit_growth
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
    truth = {"rho": RHO, "a0": a0, "c": C, "speed_start": RHO * a0}
    return {
        k: np.mean([getattr(f, k).low <= v <= getattr(f, k).high for f in fits]) for k, v in truth.items()
    }


def steady(rng, start=14, speed=0.7):
    """Pieces lost at a constant rate, Poisson."""
    return (start + np.cumsum(rng.poisson(speed * np.diff(T, prepend=T[0])))) * UNIT


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
def test_without_an_offset_the_growth_is_known_better(rng):
    grown = [yule(rng) for _ in range(120)]
    fits = [fit_growth(T, a, unit_area=UNIT, area_err=0.3 * UNIT, offset=False) for a in grown]
    covered = sum(f.rho.low <= RHO <= f.rho.high for f in fits)
    assert stats.binom.cdf(covered, 120, 0.95) > 1e-3
    assert abs(np.mean([f.rho.value for f in fits]) / RHO - 1) < 0.04
    assert all(abs(f.c.value) < 1e-9 and f.c.high < 1e-9 for f in fits)
    free = [fit_growth(T, a, unit_area=UNIT, area_err=0.3 * UNIT) for a in grown[:40]]
    ratio = [(f.rho.high - f.rho.low) / (g.rho.high - g.rho.low) for f, g in zip(fits, free, strict=False)]
    assert np.median(ratio) < 0.9
    gain = [2 * (g.log_likelihood - f.log_likelihood) for f, g in zip(fits, free, strict=False)]
    assert min(gain) > -0.5 and np.median(gain) < 3


@pytest.mark.slow
def test_independent_errors_cover(rng):
    clean = C + 0.006 * np.exp(RHO * T)
    fits = [fit_growth(T, clean + rng.normal(0, 2e-3, len(T)), area_err=2e-3) for _ in range(200)]
    assert all(0.9 < share < 0.99 for share in coverage(fits, 0.006).values())
    width = np.median([f.rho.high - f.rho.low for f in fits])
    assert width == pytest.approx(3.92 * np.std([f.rho.value for f in fits]), rel=0.3)


@pytest.mark.slow
def test_errors_that_last_are_known_to(rng):
    """Errors that stay for some frames look like an area: A₀ is only known as well as they allow."""
    lasting, width = 15.0, 1.5 * UNIT
    keep = np.exp(-np.diff(T, prepend=-np.inf) / lasting)
    told, untold = [], []
    for _ in range(150):
        error = np.zeros(len(T))
        for k, one in enumerate(rng.standard_normal(len(T))):
            error[k] = keep[k] * error[k - 1] + np.sqrt(1 - keep[k] ** 2) * one
        area = yule(rng) + width * error
        for fits, time in ((told, lasting), (untold, 0.0)):
            fit = fit_growth(T, area, unit_area=UNIT, area_err=width, offset=False, error_time=time)
            fits.append([e.low <= v <= e.high for e, v in ((fit.a0, 14 * UNIT), (fit.rho, RHO))])
    for covered in np.sum(told, axis=0):
        assert stats.binom.cdf(covered, 150, 0.95) > 1e-3
    assert np.mean(untold, axis=0)[0] < 0.85


@pytest.mark.slow
def test_the_speed_at_the_end_knows_the_course_that_chance_took(rng):
    fits = []
    for _ in range(100):
        grown = yule(rng)
        fits.append((fit_growth(T, C + grown, unit_area=UNIT, area_err=0.3 * UNIT), RHO * grown[-1]))
    covered = np.mean([f.speed_end.low <= v <= f.speed_end.high for f, v in fits])
    assert stats.binom.cdf(round(100 * covered), 100, 0.95) > 1e-3
    # as a product of separate intervals it would be far wider, since A₀ and ρ pull against each other
    apart = np.median([np.hypot(*((e.high - e.low) / e.value for e in (f.rho, f.a0))) for f, _ in fits])
    joint = np.median([(f.speed_end.high - f.speed_end.low) / f.speed_end.value for f, _ in fits])
    assert joint < 0.6 * apart


@pytest.mark.slow
def test_steady_growth_is_called_exponential_as_seldom_as_said(rng):
    """p is uniform where growth is steady, and tiny where it is exponential."""
    flat = [fit_growth(T, C + steady(rng), unit_area=UNIT, area_err=0.3 * UNIT) for _ in range(120)]
    for limit in (0.05, 0.3):
        wrong = sum(f.p_line < limit for f in flat)
        assert stats.binom.cdf(wrong, 120, limit) > 1e-3 and stats.binom.sf(wrong - 1, 120, limit) > 1e-3
    grown = [fit_growth(T, C + yule(rng), unit_area=UNIT, area_err=0.3 * UNIT) for _ in range(20)]
    assert np.mean([f.shape == "exponential" for f in grown]) > 0.9
    assert np.median([f.delta_aic for f in grown]) > 20 > np.median([f.delta_aic for f in flat])


def test_errors_known_but_for_a_factor(rng):
    noisy = C + yule(rng) + rng.normal(0, 2e-3, len(T))
    told = fit_growth(T, noisy, unit_area=UNIT, area_err=1e-3, scale_err=True)
    assert told.sigma == pytest.approx(2e-3, rel=0.4)
    assert fit_growth(T, noisy, unit_area=UNIT, area_err=1e-3).sigma == pytest.approx(1e-3)


@pytest.mark.slow
def test_a_start_without_errors_does_not_say_that_there_are_none(rng):
    """Vacancies touch a small hole now and then: the error is 0 or 1 site, and A₀ is only known as well as that."""
    inside, floor = [], []
    for _ in range(120):
        touched = rng.random(len(T)) < 0.2
        area = yule(rng) + (touched - 0.2) * UNIT
        fit = fit_growth(T, area, area_err=0.4 * UNIT, scale_err=True, unit_area=UNIT, offset=False)
        inside.append(fit.a0.low <= 14 * UNIT <= fit.a0.high)
        floor.append(fit.sigma)
    assert stats.binom.cdf(sum(inside), 120, 0.95) > 1e-3
    assert min(floor) > 0.39 * UNIT


def test_the_start_is_the_first_time_also_where_nothing_was_measured(rng):
    grown = 20 * np.exp(RHO * T)
    hidden = np.where(T < 12, np.nan, grown)
    told, untold = (fit_growth(T, a, area_err=0.1, offset=False) for a in (grown, hidden))
    assert told.a0.value == pytest.approx(20, rel=0.01) and untold.a0.value == pytest.approx(20, rel=0.01)
    assert untold.rho.count == told.rho.count - 3
    assert untold.a0.high - untold.a0.low > told.a0.high - told.a0.low


def test_what_is_said_with_and_without_an_offset_together(rng):
    area = yule(rng)
    plain, free = (
        fit_growth(T, area, area_err=0.3 * UNIT, unit_area=UNIT, offset=offset) for offset in (False, True)
    )
    for share, one in ((0.0, plain), (1.0, free)):
        both = averaged(plain, free, share=share)
        for name, estimate in both.estimates().items():
            alone = one.estimates()[name]
            assert [estimate.value, estimate.low, estimate.high] == pytest.approx(
                [alone.value, alone.low, alone.high], rel=1e-3, abs=1e-6
            )
    half = averaged(plain, free, share=0.4)
    assert half.a0.value == plain.a0.value and half.c.low < 0.0 < half.c.high
    assert half.a0.low < plain.a0.low and half.a0.high < free.a0.high
    low, high = half.band(T)
    assert (low < half.curve(T)).all() and (half.curve(T) < high).all()
    with pytest.raises(InputError, match="share"):
        averaged(plain, free, share=1.2)


def test_the_band_is_the_curve_with_the_interval_of_its_parameters(rng):
    fit = fit_growth(T, C + yule(rng), unit_area=UNIT, area_err=1e-3)
    low, high = fit.band(T)
    assert (low < fit.curve(T)).all() and (fit.curve(T) < high).all()
    assert (high - low)[-1] > (high - low)[0]
    narrow = fit.band(T, level=0.5)
    assert (narrow[1] - narrow[0] < high - low).all()


def test_units_of_a_clock_that_counts_frames(rng):
    fit = fit_growth(T, C + yule(rng), unit_area=UNIT, area_err=1e-3, area_unit="nm²", time_unit="frame")
    assert (fit.rho.unit, fit.a0.unit, fit.speed_end.unit) == ("1/frame", "nm²", "nm²/frame")


def test_ignoring_chance_would_claim_too_much(rng):
    area = C + yule(rng) + rng.normal(0, 5e-4, len(T))
    honest, naive = fit_growth(T, area, unit_area=UNIT, area_err=5e-4), fit_growth(T, area, area_err=5e-4)
    assert (honest.rho.high - honest.rho.low) > 2 * (naive.rho.high - naive.rho.low)
    assert (honest.noise, naive.noise) == ("branching", "independent")


def test_error_is_estimated_when_not_given(rng):
    fit = fit_growth(T, C + 0.006 * np.exp(RHO * T) + rng.normal(0, 2e-3, len(T)))
    assert fit.sigma == pytest.approx(2e-3, rel=0.5)
    assert fit.rho.low < RHO < fit.rho.high and fit.delta_aic > 10
    assert set(to_rates(fit.estimates())) == {"rho", "A0", "C", "speed_start", "speed_end"}
    assert fit.curve([0.0])[0] == pytest.approx(fit.a0.value + fit.c.value)


def test_straight_line_is_told(rng):
    fit = fit_growth(T, 0.1 + 0.001 * T + rng.normal(0, 2e-3, len(T)), area_err=2e-3)
    assert fit.delta_aic < 10 and fit.shape == "undecided"
    slower = fit_growth(T, 0.1 - 0.05 * np.exp(-RHO * T) + rng.normal(0, 2e-3, len(T)), area_err=2e-3)
    assert slower.shape == "slowing" and slower.rho.high < 0 < slower.speed_end.value


def test_bad_input():
    with pytest.raises(InputError, match="error_time"):
        fit_growth(T, 1 + T, error_time=-1.0)
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
