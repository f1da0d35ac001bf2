"""The examples in stock depend on the step alone."""

from __future__ import annotations

import numpy as np
import pytest

from atomreel.tasks.columns import ColumnTask
from atomreel.tasks.task import Arrays
from atomreel.train.stock import BLOCK, Plan, Stock, make_block, open_stock


class Numbers(ColumnTask):
    """Its examples are single random numbers."""

    def sample(self, rng: np.random.Generator) -> Arrays:
        return {"x": rng.random(1)}


PLAN = Plan(first=20, fresh=1.5, window=24)


def pick(stock: Stock, step: int) -> float:
    return float(stock.pick(step, np.random.default_rng([5, step]))["x"][0])


def test_the_window_moves_with_the_step() -> None:
    assert PLAN.span(0) == (0, 20)
    assert PLAN.span(10) == (11, 35)


@pytest.mark.parametrize("start", [7, 13, 29])
def test_a_late_start_gives_the_same_examples(start: int) -> None:
    with (
        open_stock(Numbers(), seed=3, plan=PLAN, start=0, workers=0) as whole,
        open_stock(Numbers(), seed=3, plan=PLAN, start=start, workers=0) as late,
    ):
        before = [pick(whole, step) for step in range(40)]
        assert [pick(late, step) for step in range(start, 40)] == before[start:]


def test_old_examples_are_dropped() -> None:
    with open_stock(Numbers(), seed=3, plan=PLAN, start=0, workers=0) as stock:
        assert len(stock.at(200)) < PLAN.window + 2 * BLOCK


def test_blocks_depend_on_the_seed() -> None:
    one, same, other = (make_block(Numbers(), seed, 8) for seed in (1, 1, 2))
    assert [e["x"] for e in one] == [e["x"] for e in same]
    assert not {float(e["x"][0]) for e in one} & {float(e["x"][0]) for e in other}


@pytest.mark.slow
def test_workers_give_what_this_process_gives() -> None:
    with (
        open_stock(Numbers(), seed=3, plan=PLAN, start=0, workers=1) as far,
        open_stock(Numbers(), seed=3, plan=PLAN, start=0, workers=0) as near,
    ):
        assert [pick(far, step) for step in range(30)] == [pick(near, step) for step in range(30)]
