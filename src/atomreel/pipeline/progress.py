"""One kind of progress bar, and one line about a long wait, on the error stream, only where somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


@cache
def tell_translation() -> None:
    """From now on, one line when the fit's loops are first translated to machine code; none where it is kept from before."""
    from numba.core import event
    from rich.console import Console

    class Teller(event.Listener):
        told = False

        def on_start(self, event: Any) -> None:
            own = event.data["dispatcher"].py_func.__module__.startswith("atomreel.")
            console = Console(stderr=True)
            if own and not self.told and console.is_terminal:
                console.print("first fit after an installation: translating its loops, once, 10 to 30 s")
            self.told |= own

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Teller())
