from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.transition import find_crossing

FloatArray = npt.NDArray[np.float64]
T = np.arange(40.0)


def ramp(t: FloatArray, at: float) -> FloatArray:
    """Zero, then rising by 0.008 a frame: passes 0.02 at `at`."""
    return np.asarray(np.maximum(0, 0.008 * (t - at) + 0.02))


def jump(t: FloatArray, at: float) -> FloatArray:
    return np.where(t > at, 0.05, 0.0)


def smooth(t: FloatArray, at: float) -> FloatArray:
    """A logistic curve that never ends its rise."""
    return np.asarray(0.04 / (1 + np.exp(-(t - at) / 5)))


def arch(t: FloatArray, at: float) -> FloatArray:
    """A square root: fast at first, slower later, passing 0.02 at `at`."""
    return np.asarray(0.02 * np.sqrt(np.maximum(t + 3, 0) / (at + 3)))


@pytest.mark.parametrize(("curve", "widest"), [(ramp, 1.2), (jump, 1.3), (smooth, 3.5), (arch, 5.0)])
def test_the_interval_holds_the_true_passage(curve, widest: float) -> None:  # type: ignore[no-untyped-def]
    """80 records of each kind with known noise: 95 % intervals hold the truth in at least 88 %, and are narrow."""
    rng = np.random.default_rng(len(curve.__name__))
    inside, widths, errors = [], [], []
    for _ in range(80):
        at = rng.uniform(8, 30)
        found = find_crossing(curve(T, at) + 0.002 * rng.standard_normal(40), np.full(40, 0.002), level=0.02)
        inside.append(found.low <= at <= found.high)
        widths.append(found.high - found.low)
        errors.append(abs(found.t - at))
        assert found.rising and found.probability > 0.9
    assert np.mean(inside) >= 0.86, "95 % less three standard errors of a share of 80"
    assert np.median(widths) < widest and np.max(errors) < 4 * np.median(widths)


def test_claimed_errors_may_be_too_small_by_two() -> None:
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(60):
        at = rng.uniform(8, 30)
        found = find_crossing(ramp(T, at) + 0.004 * rng.standard_normal(40), np.full(40, 0.002), level=0.02)
        inside.append(found.low <= at <= found.high)
    assert np.mean(inside) >= 0.85


def test_what_all_frames_share_moves_the_passage() -> None:
    """The same offset in every frame, of 1σ as claimed: told as shared it is covered, else it is not."""
    rng = np.random.default_rng(6)

    def covered(shared: float) -> float:
        inside = []
        for _ in range(50):
            at = rng.uniform(8, 30)
            y = ramp(T, at) + 0.002 * (
                np.sqrt(0.9) * rng.standard_normal() + np.sqrt(0.1) * rng.standard_normal(40)
            )
            found = find_crossing(y, np.full(40, 0.002), level=0.02, shared=shared)
            inside.append(found.low <= at <= found.high)
        return float(np.mean(inside))

    assert covered(0.9) >= 0.84 and covered(0.0) < 0.8


def test_missing_frames_uneven_times_and_a_fall() -> None:
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.uniform(0.5, 2.0, 60))
    y = 0.05 - ramp(times, times[30]) + 0.001 * rng.standard_normal(60)
    errors = np.full(60, 0.001)
    y[[3, 28, 29]], errors[50] = np.nan, np.nan
    found = find_crossing(y, errors, level=0.03, times=times)
    assert not found.rising and found.low <= times[30] <= found.high
    assert found.curve.shape == (60,) and np.isfinite(found.curve).all()
    assert np.abs(found.curve - (0.05 - ramp(times, times[30]))).max() < 0.004


def test_a_level_that_is_not_passed() -> None:
    rng = np.random.default_rng(8)
    found = find_crossing(0.001 * rng.standard_normal(30), np.full(30, 0.001), level=0.02)
    assert found.probability < 0.02
    beyond = find_crossing(ramp(T, 10.0), np.full(40, 0.002), level=1.0)
    assert beyond.probability == 0 and np.isnan(beyond.t) and beyond.rising


def test_a_long_record_is_as_sharp_as_a_short_one() -> None:
    rng = np.random.default_rng(9)
    t = np.arange(1500.0)
    found = find_crossing(
        jump(t, 700.4) + 0.005 * rng.standard_normal(1500), np.full(1500, 0.005), level=0.02
    )
    assert found.ramp > 0.99 and (found.low, found.high) == (700.0, 701.0)
    slow = 0.04 / (1 + np.exp(-(t - 700) / 150))
    gradual = find_crossing(slow + 0.005 * rng.standard_normal(1500), np.full(1500, 0.005), level=0.02)
    assert gradual.low <= 700 <= gradual.high and gradual.high - gradual.low < 60


def test_draws_repeat_and_what_cannot_be_used_is_refused() -> None:
    y = ramp(T, 10.0)
    once, again = (find_crossing(y, np.full(40, 0.002), level=0.02) for _ in range(2))
    assert (once.t, once.low, once.high) == (again.t, again.low, again.high)
    with pytest.raises(InputError, match="at least 5"):
        find_crossing(y[:4], np.full(4, 0.1), level=0.02)
    with pytest.raises(InputError, match="one length"):
        find_crossing(y, np.full(4, 0.1), level=0.02)
    with pytest.raises(InputError, match="rising times"):
        find_crossing(y, np.full(40, 0.1), level=0.02, times=-T)
    with pytest.raises(InputError, match="shared"):
        find_crossing(y, np.full(40, 0.1), level=0.02, shared=1.0)
