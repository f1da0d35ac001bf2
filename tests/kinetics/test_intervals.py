import json

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.kinetics.intervals import Estimate, rate, share, to_rates


@pytest.mark.parametrize("mean", [2.0, 8.0, 40.0])
def test_poisson_rates_cover(rng, mean):
    exposure = 50.0
    found = [rate(n, exposure) for n in rng.poisson(mean, 2000)]
    covered = np.mean([e.low <= mean / exposure <= e.high for e in found])
    assert 0.91 < covered < 0.99  # counts are whole, so it steps around 0.95
    assert np.mean([e.high - e.low for e in found]) * exposure == pytest.approx(
        3.92 * np.sqrt(mean), rel=0.15
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_shares_cover(rng, p):
    found = [share(k, 40) for k in rng.binomial(40, p, 2000)]
    assert 0.92 < np.mean([e.low <= p <= e.high for e in found]) < 0.99


def test_nothing_seen_has_a_finite_upper_end():
    none = rate(0, 10.0)
    assert none.value == 0 and none.low == 0 and 0.2 < none.high < 0.4
    assert share(0, 20).low == 0 and share(20, 20).high == 1


def test_rates_are_json():
    plain = to_rates({"a": rate(3, 2.0), "b": Estimate(0.0, 0.0, float("inf"), "1/s", 0, "unseen")})
    assert json.loads(json.dumps(plain, allow_nan=False))["b"]["high"] is None
    with pytest.raises(InputError):
        rate(1, 0)
