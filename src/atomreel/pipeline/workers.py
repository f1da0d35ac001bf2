"""Frames of a long movie on several processes, in order; each process makes the same plan for itself."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atomreel.core.errors import AtomreelWarning, RunError
from atomreel.core.image import FloatArray
from atomreel.core.recipe import Recipe
from atomreel.pipeline.frames import FrameResult, analyse_frame
from atomreel.pipeline.source import open_source
from atomreel.pipeline.survey import Plan, plan_run

WORTH = 30  # frames per process below which starting it takes longer than it saves
MOST = 8  # processes, each of which holds the networks: about 0.6 GiB
AHEAD = 2  # frames per process that are asked for before the first is taken

Analyse = Callable[[Plan, Iterable[int]], Iterator["Analysed"]]


@dataclass(frozen=True)
class Analysed:
    """One frame: its number, its cleaned pixels, what had to be mended, and what was found in it."""

    number: int
    data: FloatArray
    mended: tuple[str, ...]
    result: FrameResult


def count_workers(asked: int, frames: int) -> int:
    """How many processes share the frames: as many as asked, or (0) as the movie is worth and the machine has cores.

    OMP_NUM_THREADS, where it is set, bounds what is not asked for.
    """
    from joblib import cpu_count

    if asked:
        return min(asked, max(frames, 1))
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    cores = min(cpu_count(), int(allowed) if allowed.isdecimal() else MOST)
    return max(1, min(cores, MOST, frames // WORTH))


@contextmanager
def frame_workers(path: Path, recipe: Recipe, *, frames: int) -> Iterator[Analyse]:
    """Gives what analyses frames of a plan: here, or on processes that end with the block.

    The results are the same. RunError where a process ended by itself.
    """
    count = count_workers(recipe.compute.workers, frames)
    if count == 1:
        yield _here
        return
    from joblib.externals.loky import ProcessPoolExecutor

    # one thread each: more would wait for the cores that the other processes use
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pool = ProcessPoolExecutor(count, initializer=_start, initargs=(path, recipe), env=limits)
    try:
        yield lambda plan, numbers: _there(pool, plan, (numbers, AHEAD * count))
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _here(plan: Plan, numbers: Iterable[int]) -> Iterator[Analysed]:
    for i in numbers:
        data, mended = plan.columns.source.clean(i)
        yield Analysed(i, data, mended, analyse_frame(plan, i, data))


def _there(pool: Any, plan: Plan, asked: tuple[Iterable[int], int]) -> Iterator[Analysed]:
    """Results in the order of the numbers, so many being under way; the pixels are read here once more."""
    numbers, ahead = asked
    waiting: deque[tuple[int, Any]] = deque()

    def taken() -> Analysed:
        i, future = waiting.popleft()
        data, mended = plan.columns.source.clean(i)
        return Analysed(i, data, mended, future.result())

    try:
        for i in numbers:
            waiting.append((i, pool.submit(_analyse, i)))
            if len(waiting) >= ahead:
                yield taken()
        while waiting:
            yield taken()
    except BrokenExecutor as error:
        raise RunError(
            "a process that analysed frames ended by itself, perhaps for want of memory. Finished frames are kept: the same command goes "
            "on from there; --set compute.workers=1 needs least memory"
        ) from error


_plan: Plan | Exception | None = (
    None  # of the one movie that this process was started for, or why there is none
)


def _start(path: Path, recipe: Recipe) -> None:
    global _plan
    warnings.simplefilter("ignore", AtomreelWarning)  # the run itself says it
    try:
        _plan = plan_run(open_source(path, recipe.input), recipe)
    except Exception as error:  # told with the first frame: an error here would only break the pool
        _plan = error


def _analyse(i: int) -> FrameResult:
    if isinstance(_plan, Exception):
        raise _plan
    assert _plan is not None
    result = analyse_frame(_plan, i, _plan.columns.source.clean(i)[0])
    return result if i == _plan.preview[0] else replace(result, residual=None)
