import numpy as np
import pandas as pd
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.diffusion import fit_diffusion

TIMES = np.cumsum(np.where(np.arange(60) == 30, 8.0, 2.0))


def table(where, rng, missing=0.1):
    """(tracks, frames, 2) → tracks table with some points unseen."""
    track, frame = np.nonzero(rng.random(where.shape[:2]) > missing)
    return pd.DataFrame(
        {"track": track, "frame": frame, "y": where[track, frame, 0], "x": where[track, frame, 1]}
    )


def brownian(rng, d, error):
    steps = rng.normal(size=(10, 60, 2)) * np.sqrt(2 * d * np.diff(TIMES, prepend=0))[:, None]
    return table(np.cumsum(steps, axis=1) + rng.normal(0, error, steps.shape), rng)


@pytest.mark.parametrize(("d", "error"), [(0.5, 0.1), (0.05, 0.5)])
def test_brownian_intervals_cover(rng, d, error):
    fits = [fit_diffusion(brownian(rng, d, error), times=TIMES) for _ in range(200)]
    covered = np.mean([f.low <= d <= f.high for f in fits])
    assert 0.9 < covered <= 0.995
    assert np.mean([f.d for f in fits]) == pytest.approx(d, rel=0.06)
    width = np.mean([f.high - f.low for f in fits])
    assert width < 1.6 * 3.92 * np.std([f.d for f in fits])
    assert np.median([f.localisation for f in fits]) == pytest.approx(error, abs=0.12)


def test_rare_hops_cover(rng):
    """Four hops per track of 1 px in any of four directions: their number is what is uncertain."""
    hits, d = [], 0.02 / 4
    for _ in range(200):
        hops = rng.poisson(0.02 * np.diff(TIMES, prepend=0), (10, 60))
        ways = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])
        steps = np.array([[ways[rng.integers(4, size=n)].sum(axis=0) for n in row] for row in hops])
        fit = fit_diffusion(
            table(np.cumsum(steps, axis=1) + rng.normal(0, 0.05, steps.shape), rng), times=TIMES
        )
        hits.append(fit.low <= d <= fit.high)
    assert 0.9 < np.mean(hits) <= 1


def test_units_and_bad_input(rng):
    tracks = brownian(rng, 0.5, 0.1)
    plain, scaled = fit_diffusion(tracks, times=TIMES), fit_diffusion(tracks, times=TIMES, pixel=(0.2, 0.2))
    assert scaled.d == pytest.approx(0.04 * plain.d) and scaled.unit == "Å²/s"
    with pytest.raises(InputError, match="three points"):
        fit_diffusion(tracks.groupby("track").head(2))


def smeared(rng, d, error, *, exposure, fine=16):
    """Frames 1 s apart, each exposed for a share of it: the mean of a path drawn in fine steps, and an error."""
    step = rng.normal(0, np.sqrt(2 * d / fine), (12, 60 * fine, 2))
    path = np.cumsum(step, axis=1).reshape(12, 60, fine, 2)
    return table(path[:, :, : round(exposure * fine)].mean(axis=2) + rng.normal(0, error, (12, 60, 2)), rng)


@pytest.mark.parametrize(("exposure", "error"), [(1.0, 0.3), (0.5, 0.6)])
def test_motion_blur_is_no_bias_of_d_and_is_told_from_the_localisation_error(rng, exposure, error):
    d = 0.5
    tables = [smeared(rng, d, error, exposure=exposure) for _ in range(140)]
    fits = [fit_diffusion(one, exposure=exposure) for one in tables]
    assert 0.9 < np.mean([f.low <= d <= f.high for f in fits]) <= 0.995
    assert np.mean([f.d for f in fits]) == pytest.approx(d, rel=0.05)
    assert np.sqrt(np.mean([f.localisation**2 for f in fits])) == pytest.approx(error, rel=0.12)
    # Without the exposure the error comes out too small.
    blind = [fit_diffusion(one).localisation for one in tables]
    assert np.sqrt(np.mean(np.square(blind))) < 0.92 * error
    with pytest.raises(InputError, match="exposure"):
        fit_diffusion(tables[0], exposure=-1.0)
