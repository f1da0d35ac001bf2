"""The one family of errors and warnings. A message says what it got, what it expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AtomreelError(Exception):
    """Base of every error that a user can cause and mend."""


class InputError(AtomreelError):
    """A file or array that cannot be used: unreadable, empty, not an image, wrong shape."""


class RecipeError(AtomreelError):
    """A parameter that does not exist, has the wrong type or contradicts another."""


class ModelError(AtomreelError):
    """A model that is missing, damaged, or does not fit what it is asked to do."""


class RunError(AtomreelError):
    """A Run folder that cannot be created, resumed or read."""


class MissingExtraError(AtomreelError):
    """An optional library is not installed."""

    def __init__(self, library: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed: pip install 'atomreel[{extra}]'"
        )


class UnknownNameError(AtomreelError):
    """A name that is not in a registry; the message lists the names and the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}")


class AtomreelWarning(UserWarning):
    """A result that exists but should be read with care."""
