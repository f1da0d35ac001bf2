import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.phases import class_fractions, effective_number


def test_separate_windows_count_fully_and_equal_ones_once():
    all_used = np.ones((6, 7), dtype=bool)
    assert effective_number(all_used, window=32, step=32) == pytest.approx(42)
    assert effective_number(all_used, window=1e9, step=1) == pytest.approx(1, rel=1e-6)


def test_errors_cover_with_overlapping_windows(rng):
    """Windows average a white field over 8 × 8 px at step 2: neighbours share most of it."""
    pulls, naive = [], []
    for _ in range(300):
        field = np.cumsum(np.cumsum(np.pad(rng.normal(0.5, 1.0, (64, 64)), ((1, 0), (1, 0))), 0), 1)
        mean = (field[8:, 8:] - field[:-8, 8:] - field[8:, :-8] + field[:-8, :-8])[::2, ::2] / 64
        found = class_fractions({"a": mean, "b": 1 - mean}, window=8, step=2)
        pulls.append((found["mean_a"] - 0.5) / found["mean_a_err"])
        naive.append(mean.std() / np.sqrt(mean.size))
    assert 0.85 < np.std(pulls) < 1.15
    assert found["mean_a_err"] > 2 * np.mean(naive)


def test_hard_counts_cover_with_overlapping_windows(rng):
    """A mosaic of square domains of two classes, a share of 0.3 of them A; windows at an eighth of their size."""
    covered, naive, widths = [], [], []
    for _ in range(300):
        mosaic = np.kron(rng.random((12, 12)) < 0.3, np.ones((8, 8)))
        sums = np.cumsum(np.cumsum(np.pad(mosaic, ((1, 0), (1, 0))), 0), 1)
        share = (sums[8:, 8:] - sums[:-8, 8:] - sums[8:, :-8] + sums[:-8, :-8]) / 64
        offset = rng.integers(0, 8, 2)
        share = np.where(share == 0.5, 0.5 + 1e-6 * rng.choice([-1, 1], share.shape), share)
        part = share[offset[0] : offset[0] + 80, offset[1] : offset[1] + 80]
        found = class_fractions({"a": part, "b": 1 - part}, window=8, step=1)
        # of windows of the whole mosaic, not of this part of it, as an average over such mosaics
        covered.append(found)
        naive.append(np.sqrt(found["hard_a"] * (1 - found["hard_a"]) / part.size))
        widths.append(found["hard_a_err"])
    truth = np.mean([f["hard_a"] for f in covered])
    pulls = [(f["hard_a"] - truth) / f["hard_a_err"] for f in covered]
    assert 0.7 < np.std(pulls) < 1.2
    assert np.median(widths) > 3 * np.median(naive)


def test_fractions_and_mask():
    a = np.full((4, 4), 0.9)
    a[:, 2:] = 0.2
    maps = {"a": a, "b": 1 - a}
    whole = class_fractions(maps, window=16, step=16)
    assert whole["mean_a"] == pytest.approx(0.55) and whole["hard_a"] == 0.5
    left = class_fractions(maps, window=16, step=16, mask=np.arange(4) < 2 * np.ones((4, 1)))
    assert left["hard_a"] == 1 and left["hard_a_err"] > 0
    more = class_fractions(maps, window=16, step=16, deviations={"a": a * 0 + 0.3, "b": a * 0 + 0.3})
    assert more["mean_a_err"] > whole["mean_a_err"]
    assert np.isnan(class_fractions({"a": a * np.nan}, window=16, step=16)["mean_a"])
    with pytest.raises(InputError, match="above 0"):
        class_fractions(maps, window=0, step=16)
