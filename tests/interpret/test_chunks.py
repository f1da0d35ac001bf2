"""Pieces of work: each done once, on one thread and on two, and errors come through."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from atomreel.interpret.chunks import CHUNK, in_chunks, threads


@pytest.mark.parametrize("allowed", ["1", "2"])
@pytest.mark.parametrize("count", [0, 1, CHUNK, 5 * CHUNK + 3])
def test_every_place_is_visited_once(monkeypatch, allowed, count):
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    visits, names = np.zeros(count, int), set()

    def work(at):
        visits[at] += 1
        names.add(threading.get_ident())

    in_chunks(work, count)
    assert (visits == 1).all()
    assert len(names) <= threads()


@pytest.mark.parametrize("bad", [0, 4])
def test_an_error_in_either_half_is_raised(monkeypatch, bad):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def work(at):
        if at.start == bad * CHUNK:
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        in_chunks(work, 5 * CHUNK)


def test_the_environment_bounds_the_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert threads() <= 2
