"""Several methods' defects in one table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from atomreel.core.errors import InputError
from atomreel.interpret.agreement import SILENT, combine_sources


def listed(rows: list[tuple[int, float, float, str, float]], err: float = 0.2) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["frame", "y", "x", "kind", "score"]).assign(y_err=err, x_err=err)


def test_two_methods_meet_one_to_one() -> None:
    one = listed([(0, 10.0, 10.0, "V_S", 0.9), (0, 10.0, 14.0, "V_S", 0.8), (2, 5.0, 5.0, "Mo_W", 0.7)])
    two = listed([(0, 10.0, 12.5, "Mo_W", 0.6), (2, 40.0, 40.0, "V_S", 0.99)], err=0.4)
    found = combine_sources({"lattice": one, "detector": two}, reach=3.0)
    assert list(found.frame) == [0, 0, 2, 2]
    # (10, 12.5) is within reach of both and belongs to the nearer, to one alone
    assert list(found.source) == ["lattice", "lattice+detector", "lattice", "detector"]
    both = found.iloc[1]
    assert both.x == pytest.approx((14 * 4 + 12.5) / 5) and both.x_err == 0.2
    assert both.kind == "V_S" and not both.agree
    assert both.score_lattice == 0.8 and both.score_detector == 0.6 and both.kind_detector == "Mo_W"
    assert logit(both.score) == pytest.approx((logit(0.8) + logit(0.6)) / 2)
    alone = found.iloc[3]
    assert logit(alone.score) == pytest.approx((logit(0.99) + logit(SILENT)) / 2)
    assert np.isnan(alone.score_lattice) and alone.kind_lattice == "" and not alone.agree


def test_the_combined_score_of_methods_that_saw_the_same_is_honest() -> None:
    """Three readings of one noisy brightness: the pool is as sure as one of them, the product of odds far too sure."""
    rng = np.random.default_rng(3)
    n = 20_000
    true = rng.random(n) < 0.5
    seen = rng.normal(true * 2.0 - 1.0, 1.0)  # log odds 2·seen
    p = 1 / (1 + np.exp(-2 * seen))
    y = np.arange(n) * 10.0
    tables = {
        name: listed([(0, *row) for row in zip(y, y, ["V_S"] * n, p, strict=True)])
        for name in ("a", "b", "c")
    }
    small = {name: table.iloc[:1500] for name, table in tables.items()}
    found = combine_sources(small, reach=2.0)
    product = 1 / (1 + np.exp(-6 * seen[:1500]))
    truth = true[:1500]

    def gap(score: np.ndarray) -> float:
        high = score > 0.9
        return float(score[high].mean() - truth[high].mean())

    assert abs(gap(found.score.to_numpy())) < 0.02 < gap(product)


def test_brighter_names_no_defect() -> None:
    one, two = listed([(0, 5.0, 5.0, "V_S", 0.7)]), listed([(0, 5.5, 5.0, "dimmer", 0.95)])
    row = combine_sources({"movie": one, "detector": two}, reach=2.0).iloc[0]
    assert row.kind == "V_S" and row.agree and row.kind_detector == "dimmer"
    assert combine_sources({"detector": two, "movie": listed([])}, reach=2.0).iloc[0].kind == "dimmer"


def test_order_and_number_of_methods() -> None:
    rng = np.random.default_rng(1)
    where = rng.uniform(0, 200, (30, 2))
    tables = {
        name: listed([(0, *(p + rng.normal(0, 0.2, 2)), "V_S", 0.9) for p in where])
        for name in ("a", "b", "c")
    }
    first = combine_sources(tables, reach=2.0)
    other = combine_sources({k: tables[k] for k in ("c", "a", "b")}, reach=2.0)
    assert len(first) == len(other)
    assert np.allclose(first[["y", "x", "score"]], other[["y", "x", "score"]])
    assert len(combine_sources({"a": tables["a"]}, reach=2.0)) == 30


def test_empty_tables_and_bad_input() -> None:
    none = listed([])
    assert combine_sources({"a": none, "b": none}, reach=2.0).empty
    some = listed([(1, 2.0, 3.0, "V_S", 0.9)])
    assert list(combine_sources({"a": none, "b": some}, reach=2.0).source) == ["b"]
    with pytest.raises(InputError, match="no table"):
        combine_sources({}, reach=2.0)
    with pytest.raises(InputError, match="reach"):
        combine_sources({"a": some}, reach=0.0)
    with pytest.raises(InputError, match="kind"):
        combine_sources({"a": some.drop(columns="kind")}, reach=1.0)
