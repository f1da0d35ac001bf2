"""atomreel: atoms, lattices, defects, tracks and rates from atomic-resolution images and movies."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    "Image": "atomreel.core.image",
    "Movie": "atomreel.core.image",
    "Field": "atomreel.core.field",
    "Lattice": "atomreel.core.lattice",
    "Material": "atomreel.core.material",
    "Scope": "atomreel.core.scope",
    "Recipe": "atomreel.core.recipe",
    "AtomreelError": "atomreel.core.errors",
    "open_movie": "atomreel.read.movie",
    "find_columns": "atomreel.predict.columns",
    "map_symmetry": "atomreel.predict.symmetry",
    "fit_lattices": "atomreel.interpret.lattice",
    "map_strain": "atomreel.interpret.strain",
    "find_defects": "atomreel.interpret.defects",
    "find_bonds": "atomreel.interpret.graph",
    "find_rings": "atomreel.interpret.rings",
    "find_dumbbells": "atomreel.interpret.dumbbells",
    "measure_drift": "atomreel.prepare.drift",
    "link": "atomreel.track.link",
    "find_events": "atomreel.track.events",
    "fit_rates": "atomreel.kinetics.markov",
    "fit_growth": "atomreel.kinetics.growth",
    "run": "atomreel.pipeline.driver",
    "write_report": "atomreel.report.page",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'atomreel' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
