"""Finding what can be named: analyses, tasks, networks. Folders are scanned on first question, then entry points."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from atomreel.core.errors import AtomreelError, UnknownNameError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
ANALYSIS_FOLDERS = ("interpret", "track", "kinetics")


@dataclass(frozen=True)
class Analysis:
    """A function from tables of a Run to one more table. Its keyword arguments are its recipe section.

    needs: names of the tables and values that it takes, in order: "atoms", "lattice", "defects",
    "tracks", "events", "times", "pixel", "shape". gives: the name of the table that it returns.
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    gives: str

    def defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def analysis(*, needs: tuple[str, ...], gives: str) -> Callable[[F], F]:
    """Mark a function as an analysis that `atomreel run` performs and reports without further edits."""

    def mark(function: F) -> F:
        function.__dict__["analysis"] = Analysis(function.__name__, function, needs, gives)
        return function

    return mark


@cache
def analyses() -> dict[str, Analysis]:
    """Every analysis of the package and of entry points `atomreel.analysis`, by name."""
    found: dict[str, Analysis] = {}
    functions = [
        value
        for folder in ANALYSIS_FOLDERS
        for module in modules(f"atomreel.{folder}").values()
        for value in vars(module).values()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    functions += [point.load() for point in entry_points(group="atomreel.analysis")]
    for function in functions:
        entry = function.__dict__.get("analysis")
        if entry is None:
            continue
        if entry.name in found:
            raise AtomreelError(f"two analyses are named {entry.name!r}: rename one of them")
        found[entry.name] = entry
    return found


@cache
def modules(package: str) -> dict[str, Any]:
    """The modules of a package, by name, imported; private ones left out."""
    home = importlib.import_module(package)
    names = [m.name for m in pkgutil.iter_modules(home.__path__) if not m.name.startswith("_")]
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def lookup(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]
