"""Pieces of work: each done once, on one thread and on two, and errors come through."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from atomreel.interpret.chunks import FEW, in_halves, one_blas_thread, side_by_side, threads


@pytest.mark.parametrize("allowed", ["1", "2"])
@pytest.mark.parametrize("count", [0, 1, FEW, 2 * FEW, 5 * FEW + 3])
def test_every_place_is_visited_once(monkeypatch, allowed, count):
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    visits, names = np.zeros(count, int), set()

    def work(at):
        visits[at] += 1
        names.add(threading.get_ident())

    in_halves(work, count)
    assert (visits == 1).all()
    assert len(names) <= threads(allowed)


@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_in_either_half_is_raised(monkeypatch, bad):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def work(at):
        if at.start == bad * FEW:
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        in_halves(work, 4 * FEW)


def test_the_environment_bounds_the_threads():
    assert threads("1") == 1
    assert threads("16") == threads("") <= 2


@pytest.mark.parametrize("allowed", ["1", "2"])
def test_two_things_at_once_may_each_have_pieces(monkeypatch, allowed):
    """The other thread being busy, pieces are done on the one there is: nobody waits for himself."""
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)

    def total(factor):
        out = np.zeros(6 * FEW)

        def work(at):
            out[at] = factor * np.arange(6 * FEW)[at]

        in_halves(work, len(out))
        return out.sum()

    one, two = side_by_side(lambda: total(1), lambda: total(2))
    assert two == 2 * one == 6 * FEW * (6 * FEW - 1)


def test_both_are_waited_for(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done = []

    def fails():
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        side_by_side(fails, lambda: done.append(1))
    side_by_side(lambda: done.append(2), lambda: done.append(3))
    assert set(done) >= {2, 3}


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_gets_its_threads_back_when_the_last_one_leaves():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert blas_threads() == {1}
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before
