"""Work on many small windows in pieces that stay in the cache, on two threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

CHUNK = 128  # windows at a time
MOST_THREADS = 2  # more wait for the interpreter between the pieces


def in_chunks(work: Callable[[slice], None], count: int) -> None:
    """Call `work` once for each slice of CHUNK out of `count`, in any order: each must write to places of its own.

    On one thread where `OMP_NUM_THREADS` is 1, the machine has one core, or the work is short.
    """
    slices = [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]
    if len(slices) < 3 or threads() < 2:
        _all(work, slices)
        return
    half = (len(slices) + 1) // 2
    other = _other_thread(os.getpid()).submit(_all, work, slices[half:])
    try:
        _all(work, slices[:half])
    finally:
        other.result()


def threads() -> int:
    """How many threads share the work: what OMP_NUM_THREADS allows and the machine has, two at most."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(MOST_THREADS, int(allowed) if allowed.isdecimal() else MOST_THREADS, os.cpu_count() or 1)


def _all(work: Callable[[slice], None], slices: list[slice]) -> None:
    for at in slices:
        work(at)


@cache
def _other_thread(process: int) -> ThreadPoolExecutor:
    """One per process: threads do not survive a fork."""
    return ThreadPoolExecutor(1, thread_name_prefix=f"windows-{process}")
