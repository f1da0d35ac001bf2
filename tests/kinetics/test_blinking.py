"""Hidden blinking against telegraph signals drawn event by event."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.blinking import detection_by_frame, fit_blinking


def telegraph(rng, appear, vanish, times):
    """(S, T) states at `times` and the number of changes of each site between the first and the last of them."""
    states, changes = np.zeros((len(appear), len(times))), np.zeros(len(appear))
    for s, (a, v) in enumerate(zip(appear, vanish, strict=True)):
        now, filled = times[0], rng.random() < a / (a + v)
        flips = []
        while now < times[-1]:
            now += rng.exponential(1 / (v if filled ^ (len(flips) % 2 == 1) else a))
            flips.append(now)
        inside = np.array(flips)
        states[s] = filled ^ (np.searchsorted(inside, times, side="right") % 2 == 1)
        changes[s] = (inside < times[-1]).sum()
    return states, changes


def watched(rng, states, *, detected=1.0, false=0.0):
    return (rng.random(states.shape) < np.where(states == 1, detected, false)).astype(float)


@pytest.fixture(scope="module")
def surface():
    """40 blinking and 30 still sites, 250 frames of 0.5 s with a pause of 30 s, 12 % overlooked, 1 % invented."""
    rng = np.random.default_rng(5)
    dt = np.full(249, 0.5)
    dt[120] = 30.0
    times = np.concatenate([[0.0], np.cumsum(dt)])
    appear = np.concatenate([rng.uniform(0.05, 0.3, 40), np.full(30, 1.0)])
    vanish = np.concatenate([rng.uniform(0.05, 0.3, 40), np.full(30, 1e-5)])
    states, changes = telegraph(rng, appear, vanish, times)
    seen = watched(rng, states, detected=0.88, false=0.01)
    return times, appear, vanish, states, changes, seen, fit_blinking(seen, times=times)


def test_overlooked_columns_are_no_vacancies(surface):
    *_, states, _, seen, blink = surface
    assert abs(blink.detected[0] - 0.88) < 3 * blink.detected_err < 0.03
    assert blink.false[0] == pytest.approx(0.01, abs=0.01)
    assert blink.occupied[:40].mean() == pytest.approx(states[:40].mean(), abs=0.01)
    assert seen[:40].mean() < states[:40].mean() - 0.04
    assert ((blink.occupied > 0.5) == (states == 1)).mean() > 0.97
    # The still sites: a count of what was found would give 26 changes per 125 s and site.
    naive = np.abs(np.diff(seen[40:], axis=1)).sum(1).mean()
    assert naive > 40 and blink.table.seen_events[40:].mean() < 0.6


def test_intervals_of_single_sites_cover_and_are_narrow(surface):
    _, appear, vanish, _, _, _, blink = surface
    truth = {
        "appear": appear,
        "vanish": vanish,
        "occupancy": appear / (appear + vanish),
        "events": 2 * appear * vanish / (appear + vanish),
    }
    inside = []
    for name, value in truth.items():
        low, high = (blink.table[f"{name}_{end}"].to_numpy() for end in ("low", "high"))
        inside.append((low <= value) & (value <= high))
        assert ((low <= blink.table[name]) & (blink.table[name] <= high)).all()
    assert 0.9 <= np.mean(inside) <= 1.0
    # about nine changes each way per site: counts alone allow no better than a factor e^(±2/√9)
    width = np.log(blink.table.events_high / blink.table.events_low.clip(lower=1e-9))[:40].median()
    assert 0.7 < width < 1.5
    assert (blink.table.vanish_low[40:] == 0).mean() > 0.9 and blink.table.vanish_high[40:].median() < 0.1


def test_the_pause_is_in_no_count_of_events(surface):
    times, *_, changes, _, blink = surface
    assert np.isnan(blink.events[:, 120]).all() and np.isfinite(np.delete(blink.events, 120, 1)).all()
    share = 1 - 30 / times[-1]  # of the true changes, which go on in the pause
    assert blink.table.seen_events[:40].sum() == pytest.approx(share * changes[:40].sum(), rel=0.1)


def test_coverage_over_many_movies_with_a_known_finder():
    times = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, 150))
    inside = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        states, _ = telegraph(rng, np.full(40, 0.1), np.full(40, 0.2), times)
        table = fit_blinking(watched(rng, states, detected=0.9), times=times, detected=0.9, false=1e-4).table
        for name, truth in (("appear", 0.1), ("vanish", 0.2), ("occupancy", 1 / 3), ("events", 2 / 15)):
            inside.append((table[f"{name}_low"] <= truth) & (truth <= table[f"{name}_high"]))
    assert 0.92 < np.mean(inside) < 0.985


def test_a_blurred_frame_is_told_by_what_it_overlooks(rng):
    states, _ = telegraph(rng, np.full(30, 0.02), np.full(30, 0.02), np.arange(120.0))
    quality = np.where(np.arange(120) % 10 < 3, 0.35, 0.98)
    share = detection_by_frame(watched(rng, np.ones((60, 120)), detected=quality))
    assert np.corrcoef(share, quality)[0, 1] > 0.97
    seen = watched(rng, states, detected=quality)
    blink = fit_blinking(seen, detected=share, false=0.0)
    assert ((blink.occupied > 0.5) == (states == 1)).mean() > 0.97
    assert (seen == states).mean() < 0.92
    assert blink.unit == "1/frame" and blink.detected_err == 0


def test_scores_tell_columns_from_what_was_invented(rng):
    """Calibrated scores: a column found has a score s with which it is real, and many are doubtful."""
    states, changes = telegraph(rng, np.full(40, 0.05), np.full(40, 0.05), np.arange(150.0))
    invented = (rng.random(states.shape) < 0.3) & (states == 0)
    # scores of real columns ~ Beta(4, 1), of invented ones such that s = P(real | s) at these shares
    score = np.where(states == 1, rng.beta(4, 1, states.shape), rng.beta(1.2, 4, states.shape))
    bins = np.linspace(0, 1, 21)
    both = (states == 1) | invented
    share = [
        (states[both & (score >= a) & (score < b)]).mean()
        if (both & (score >= a) & (score < b)).any()
        else 0.5
        for a, b in itertools.pairwise(bins)
    ]
    calibrated = np.array(share)[np.digitize(score, bins) - 1]
    hard = fit_blinking(both.astype(float), detected=0.99, false=0.01)
    soft = fit_blinking(np.where(both, calibrated, 0.0), detected=0.99, false=0.01)
    wrong = [np.abs((b.occupied > 0.5) - states).mean() for b in (hard, soft)]
    assert wrong[1] < 0.03 and wrong[1] < 0.25 * wrong[0]
    assert soft.table.seen_events.sum() == pytest.approx(changes.sum(), rel=0.12)


def test_frames_nobody_looked_at_say_nothing(rng):
    seen = watched(rng, telegraph(rng, np.full(4, 0.1), np.full(4, 0.1), np.arange(90.0))[0])
    gaps = np.repeat(seen, 2, axis=1)
    gaps[:, 1::2] = np.nan
    fine = fit_blinking(gaps, times=np.arange(180) / 2, detected=0.999, false=0.001, pause=9).table
    plain = fit_blinking(seen, times=np.arange(90.0), detected=0.999, false=0.001).table
    np.testing.assert_allclose(fine.occupancy, plain.occupancy, rtol=0.05)
    np.testing.assert_allclose(fine.events, plain.events, rtol=0.15)  # grids differ
    assert (fine.frames == 90).all()


def test_bad_input_is_refused():
    good = np.ones((3, 10))
    for bad, given, words in (
        (np.ones(5), {}, "shape"),
        (np.full((3, 10), 1.5), {}, "0 to 1"),
        (good, {"times": np.zeros(10)}, "rising"),
        (good, {"detected": 1.4}, "probability"),
        (good, {"detected": np.ones(4)}, "per frame"),
        (good, {"pause": 1.0}, "pause"),
        (good, {"level": 2.0}, "level"),
    ):
        with pytest.raises(InputError, match=words):
            fit_blinking(bad, **given)


@pytest.mark.parametrize("seed", range(5))
def test_a_still_crystal_stays_filled_however_many_columns_are_overlooked(seed):
    rng = np.random.default_rng(seed)
    blink = fit_blinking(watched(rng, np.ones((25, 120)), detected=0.95))
    assert abs(blink.detected[0] - 0.95) < 3.5 * blink.detected_err
    assert blink.table.occupancy.min() > 0.95 and blink.table.seen_events.sum() < 12
