"""A stock of simulated examples that other processes refill while the network trains.

Which examples are there at which step depends on the step alone, never on the speed of the machine: a run
that is killed and resumed sees the same examples as one that was not.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from atomreel.tasks.task import Arrays, Task

BLOCK = 8  # examples that a worker makes per order
AHEAD = 4  # orders under way per worker


@dataclass(frozen=True)
class Plan:
    """first: examples before the first step. fresh: new ones per step. window: how many the stock keeps."""

    first: int
    fresh: float
    window: int

    def span(self, step: int) -> tuple[int, int]:
        """[oldest, newest) numbers of the examples in stock at `step`."""
        newest = self.first + int(self.fresh * step)
        return max(0, newest - self.window), newest


@dataclass
class Stock:
    """`at(step)` gives the examples of that step, making or awaiting those that are missing."""

    task: Task
    seed: int
    plan: Plan
    start: int
    pool: ProcessPoolExecutor | None = None
    workers: int = 0
    _items: deque[Arrays] = field(default_factory=deque)
    _orders: deque[Future[list[Arrays]]] = field(default_factory=deque)
    _oldest: int = -1
    _ordered: int = 0

    def at(self, step: int) -> deque[Arrays]:
        oldest, newest = self.plan.span(step)
        if self._oldest < 0:
            self._oldest = self._ordered = self.plan.span(self.start)[0] // BLOCK * BLOCK
        while self._oldest + len(self._items) < newest:
            self._items.extend(self._next())
        while self._oldest < oldest:
            self._items.popleft()
            self._oldest += 1
        return self._items

    def pick(self, step: int, rng: np.random.Generator) -> Arrays:
        """One example of those in stock at `step`."""
        items, (oldest, newest) = self.at(step), self.plan.span(step)
        return items[int(rng.integers(oldest, newest)) - self._oldest]

    def _next(self) -> list[Arrays]:
        if self.pool is None:
            self._ordered += BLOCK
            return make_block(self.task, self.seed, self._ordered - BLOCK)
        while len(self._orders) < AHEAD * self.workers:
            self._orders.append(self.pool.submit(make_block, self.task, self.seed, self._ordered))
            self._ordered += BLOCK
        return self._orders.popleft().result()


def make_block(task: Task, seed: int, first: int) -> list[Arrays]:
    """Examples `first` … `first + BLOCK − 1`; each depends on the seed and its own number only."""
    return [task.sample(np.random.default_rng([seed, 0, first + i])) for i in range(BLOCK)]


@contextmanager
def open_stock(task: Task, *, seed: int, plan: Plan, start: int, workers: int) -> Iterator[Stock]:
    """With `workers` = 0 the examples are made in this process."""
    if workers == 0:
        yield Stock(task, seed, plan, start)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        stock = Stock(task, seed, plan, start, pool, workers)
        try:
            yield stock
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
