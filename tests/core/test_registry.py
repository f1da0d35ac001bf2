"""Registries: found by scanning, unknown names answered with the known ones."""

from __future__ import annotations

import pytest

from atomreel.core.errors import UnknownNameError
from atomreel.core.registry import analyses, lookup, modules

NEEDS = {"atoms", "lattice", "defects", "tracks", "events", "times", "pixel", "shape"}


def test_analyses_are_found_and_declared() -> None:
    found = analyses()
    assert "bond_lengths" in found
    for name, entry in found.items():
        assert entry.name == name and set(entry.needs) <= NEEDS and entry.gives and entry.function.__doc__
        assert all(isinstance(key, str) for key in entry.defaults())


def test_modules_and_lookup() -> None:
    assert "errors" in modules("atomreel.core")
    with pytest.raises(UnknownNameError, match="did you mean 'graphene'"):
        lookup("material", "grapheen", {"graphene": 1, "ws2": 2})
