"""Work on many small windows on two threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")
FEW = 500  # windows or lines that one thread does faster than two share them
MOST_THREADS = 2  # more wait for the interpreter between the pieces


def in_halves(work: Callable[[slice], None], count: int) -> None:
    """Call compiled `work` on all of `count`, or, where there are many, on its first and its second half at once.

    Handing work to another thread takes as long as a few hundred windows do.
    """
    half = count // 2
    if half < FEW:
        work(slice(0, count))
    else:
        side_by_side(lambda: work(slice(0, half)), lambda: work(slice(half, count)))


def side_by_side(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """What both give, called on two threads where there are two."""
    pool, free = _other_thread(os.getpid())
    if threads(os.environ.get("OMP_NUM_THREADS", "")) < 2 or not free.acquire(blocking=False):
        return first(), second()
    try:
        other = pool.submit(second)
        try:
            mine = first()
        finally:
            other.exception()  # wait, whatever becomes of the first
        return mine, other.result()
    finally:
        free.release()


@cache
def threads(allowed: str) -> int:
    """How many threads share the work: what OMP_NUM_THREADS allows and the machine has, two at most."""
    return min(MOST_THREADS, int(allowed) if allowed.isdecimal() else MOST_THREADS, os.cpu_count() or 1)


_entered = 0  # how many are inside `one_blas_thread` now
_door = Lock()
_outer: list[AbstractContextManager[Any]] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread, in the whole process, until the last one leaves: its products here are small, and its own
    threads spend many times longer waiting for each other than multiplying."""
    global _entered
    with _door:
        _entered += 1
        if _entered == 1:
            _outer.append(_libraries().limit(limits=1, user_api="blas"))
            _outer[0].__enter__()
    try:
        yield
    finally:
        with _door:
            _entered -= 1
            if _entered == 0:
                _outer.pop().__exit__(None, None, None)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def _other_thread(process: int) -> tuple[ThreadPoolExecutor, Lock]:
    """One per process, for threads do not survive a fork, and whether it is free."""
    return ThreadPoolExecutor(1, thread_name_prefix=f"windows-{process}"), Lock()
