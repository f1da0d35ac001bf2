"""Scope: imaging conditions in which every number is a value or a range. What the simulator draws from, and what a
model states as the conditions that it was trained for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from atomreel.core.errors import InputError, RecipeError, UnknownNameError

Range = float | tuple[float, float]
LOGARITHMIC = frozenset(
    {"nn_px", "counts", "dose", "noise"}
)  # drawn with equal odds per factor, not per difference
WORDS = ("materials", "modality")
SCANNED, ELECTRONS = frozenset({"stem", "stm"}), frozenset({"stem", "hrtem"})
ONLY = {  # numbers that microscopes of some kinds do not have
    **dict.fromkeys(
        ("counts", "fwhm", "tail", "semiangle", "source", "background", "abf"), frozenset({"stem"})
    ),
    **dict.fromkeys(("dose", "defocus", "cs", "c5", "astigmatism", "focal_spread"), frozenset({"hrtem"})),
    **dict.fromkeys(("deflection", "mtf_c1", "mtf_c2", "mtf_c3"), frozenset({"hrtem"})),
    **dict.fromkeys(("noise", "lobe"), frozenset({"stm"})),
    "jitter": SCANNED,
    "voltage": ELECTRONS,
}


@dataclass(frozen=True)
class Scope:
    """Names are lists of what is allowed (empty = all). Numbers are a value or (low, high), both included.

    modality: "stem", "hrtem", "stm". nn_px: nearest distance of columns [px].
    STEM: counts at the brightest column; fwhm of the probe as a share of the nearest distance; tail: share of its
    intensity in a wide skirt; semiangle [mrad]; source [Å]; jitter: sd of scan-line shifts, as a share of nn_px;
    background: in units of the brightest column; abf: share of annular bright-field images.
    HRTEM: dose [e⁻/Å²]; defocus [Å], positive = underfocus; cs [µm]; c5 [mm]; astigmatism [Å]; focal_spread [Å];
    deflection [Å]; mtf_c1, mtf_c2, mtf_c3 of the camera. Voltage [kV] for both.
    STM: noise as a share of the corrugation; lobe: FWHM as a share of the nearest distance.
    All: drift: sd of shear and stretch by drift during the frame (share of the field); damage: share of images that
    went through blur, grey-value clipping or JPEG; faceted: share of images of metals (or of made-up crystals, which
    then are metals) that show particles known atom by atom, in HRTEM by multislice.
    """

    materials: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    nn_px: Range = (5.0, 30.0)
    counts: Range = (0.7, 1e4)
    fwhm: Range = (0.25, 0.92)
    tail: Range = (0.0, 0.5)
    semiangle: Range = (22.0, 36.0)
    source: Range = (0.4, 0.9)
    jitter: Range = (0.0, 0.025)
    background: Range = (0.0, 0.9)
    abf: Range = 0.12
    voltage: Range = (60.0, 300.0)
    dose: Range = (100.0, 3e4)
    defocus: Range = (-300.0, 300.0)
    cs: Range = (-20.0, 20.0)
    c5: Range = (0.0, 5.0)
    astigmatism: Range = (0.0, 60.0)
    focal_spread: Range = (12.0, 40.0)
    deflection: Range = (0.0, 0.25)
    mtf_c1: Range = (0.0, 0.1)
    mtf_c2: Range = (0.4, 0.6)
    mtf_c3: Range = (2.0, 3.0)
    noise: Range = (0.03, 1.2)
    lobe: Range = (0.45, 0.95)
    drift: Range = (0.0, 0.025)
    damage: Range = 0.15
    faceted: Range = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in WORDS:
                words = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, f.name, words)
                continue
            low, high = _ends(f.name, value)
            if f.name in LOGARITHMIC and low <= 0:
                raise RecipeError(f"{f.name}: {value}; it must be above 0")
            object.__setattr__(self, f.name, (low, high))

    def range(self, name: str) -> tuple[float, float]:
        """(low, high) of the number `name`."""
        if name not in NUMBERS:
            raise UnknownNameError("condition", name, NUMBERS)
        low, high = getattr(self, name)
        return low, high

    def draw(self, name: str, rng: np.random.Generator, *, lean: float = 1.0) -> float:
        """One number from its range, uniform or log-uniform. lean > 1 favours the low end (power of the uniform)."""
        low, high = self.range(name)
        share = rng.random() ** lean
        if name in LOGARITHMIC:
            return float(low * (high / low) ** share)
        return float(low + share * (high - low))

    def sample(self, rng: np.random.Generator | int | None = None) -> dict[str, float]:
        """A value for each number."""
        rng = np.random.default_rng(rng)
        return {name: self.draw(name, rng) for name in NUMBERS}

    def contains(self, values: Mapping[str, float]) -> bool:
        """Whether all of `values` (name → number) lie in their ranges."""
        return not self.outside(values)

    def outside(self, values: Mapping[str, float]) -> list[str]:
        """One sentence for each of `values` that lies outside its range."""
        said = []
        for name, value in values.items():
            low, high = self.range(name)
            if not low <= value <= high:
                said.append(f"{name} {value:.4g} is outside {low:.4g} to {high:.4g}")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as TOML and cards want them."""
        return {key: list(value) for key, value in asdict(self).items()}

    def stated(self) -> dict[str, Any]:
        """As `to_dict`, without the numbers that none of the microscopes in `modality` has."""
        kinds = set(self.modality) or {"stem", "hrtem", "stm"}
        return {key: value for key, value in self.to_dict().items() if kinds & ONLY.get(key, kinds)}


NUMBERS = tuple(f.name for f in fields(Scope) if f.name not in WORDS)


def make_scope(table: Mapping[str, Any]) -> Scope:
    """A Scope from names and values. Raises UnknownNameError for a name that does not exist, RecipeError for a value."""
    known = [f.name for f in fields(Scope)]
    for key in table:
        if key not in known:
            raise UnknownNameError("condition of a scope", key, known)
    return Scope(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})


def load_scope(path: Path | str) -> Scope:
    """A Scope from a TOML file: the table [scope], or the whole file."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a scope ({error}); a TOML file with ranges is needed") from error
    return make_scope(table.get("scope", table))


def _ends(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = (value, value) if isinstance(value, (int, float)) else value
        low, high = float(low), float(high)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{name}: {value!r}; a number or [low, high] is needed") from error
    if not low <= high:
        raise RecipeError(f"{name}: [{low:g}, {high:g}]; low must not be above high")
    return low, high
