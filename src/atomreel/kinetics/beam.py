"""What a fast electron can do to an atom: the largest energy that it hands over, and the voltage from which on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.kinetics.intervals import Estimate, scaled

if TYPE_CHECKING:
    import pandas as pd

_REST_keV = 510.99895  # rest energy of the electron
VOLTAGES = (60.0, 80.0, 100.0, 200.0, 300.0)  # kV, usual ones
_UNIT_keV = 931494.10  # rest energy of one atomic mass unit
_BARN = 1e8  # per Å²


def cross_section(rate: Estimate, dose_rate: float) -> Estimate:
    """σ = rate / dose rate [barn] of what happens to one atom (or site) at `rate` [1/s] under `dose_rate` [e⁻/Å² per s].

    Both may be per frame instead. 1 barn = 10⁻⁸ Å². It is the beam's cross-section as far as the beam alone makes it happen: heat adds to it.
    Raises InputError for a rate that is not per time, or a dose rate not above 0.
    """
    if rate.unit not in ("1/s", "1/frame"):
        raise InputError(f"a cross-section needs a rate per atom in 1/s or 1/frame, got {rate.unit}")
    if not (np.isfinite(dose_rate) and dose_rate > 0):
        raise InputError(f"dose rate {dose_rate} e/Å² per s: expected more than 0")
    return scaled(rate, _BARN / dose_rate, "barn")


def knock_on(energy_kV: float, element: str) -> float:
    """Largest energy [eV] that an electron of `energy_kV` hands to a resting nucleus of `element`.

    ΔE = 2 (E + 2 E₀) E / (M c²), E₀ = 511 keV. At 100 kV: 7.5 eV for S and 1.31 eV for W. (Vasudevan et al. 2018
    print 1.6 eV for W, which this formula, theirs too, does not give.) Heat and the sample's own vibration add
    to it. Raises UnknownNameError for a symbol that is no element.
    """
    if not (np.isfinite(energy_kV) and energy_kV > 0):
        raise InputError(f"beam energy {energy_kV} kV: expected more than 0")
    return 1e3 * 2 * (energy_kV + 2 * _REST_keV) * energy_kV / (_mass(element) * _UNIT_keV)


def knock_on_threshold(energy_eV: float, element: str) -> float:
    """Voltage [kV] at which `knock_on` reaches `energy_eV`, for example a displacement energy."""
    if not (np.isfinite(energy_eV) and energy_eV > 0):
        raise InputError(f"displacement energy {energy_eV} eV: expected more than 0")
    target = energy_eV / 1e3 * _mass(element) * _UNIT_keV / 2
    return float(np.sqrt(_REST_keV**2 + target) - _REST_keV)


def knock_on_table(
    elements: Sequence[str], voltages: Sequence[float], *, displacement_eV: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """One row per element and voltage: element, voltage_kV, energy_eV (`knock_on`).

    displacement_eV: energy that it takes to throw an atom of the element out, for some of them or all; then also
    displacement_eV, threshold_kV (NaN for the others) and displaced: whether a resting atom can be thrown out.
    Raises InputError without elements or voltages, UnknownNameError for a symbol that is no element.
    """
    import pandas as pd

    if not elements or not voltages:
        raise InputError(f"a table needs elements and voltages, got {list(elements)} and {list(voltages)}")
    needed = displacement_eV or {}
    for element in needed:
        _mass(element)
    rows = []
    for element in elements:
        limit = needed.get(element)
        for voltage in voltages:
            energy = knock_on(voltage, element)
            row = {"element": element, "voltage_kV": float(voltage), "energy_eV": energy}
            if needed:
                row |= {
                    "displacement_eV": float("nan") if limit is None else float(limit),
                    "threshold_kV": float("nan") if limit is None else knock_on_threshold(limit, element),
                    "displaced": limit is not None and energy >= limit,
                }
            rows.append(row)
    return pd.DataFrame(rows)


def describe_knock_on(
    elements: Sequence[str], voltages: Sequence[float], *, displacement_eV: Mapping[str, float] | None = None
) -> list[str]:
    """`knock_on_table` as lines of text, one per element, energies in eV; * where an atom can be thrown out."""
    table = knock_on_table(elements, voltages, displacement_eV=displacement_eV)
    lines = ["     kV" + "".join(f"{voltage:>9g}" for voltage in voltages)]
    for element, rows in table.groupby("element", sort=False):
        thrown = rows.displaced if "displaced" in rows else [False] * len(rows)
        cells = (f"{e:>8.3g}{'*' if out else ' '}" for e, out in zip(rows.energy_eV, thrown, strict=True))
        limit = (displacement_eV or {}).get(str(element))
        known = "" if limit is None else f"   {limit:g} eV from {rows.threshold_kV.iloc[0]:.1f} kV on"
        lines.append(f"{element:>7}" + "".join(cells) + known)
    return [line.rstrip() for line in lines]


def parse_displacement(texts: Sequence[str]) -> dict[str, float]:
    """["S=6.5"] → {"S": 6.5}. Raises InputError for anything else."""
    found = {}
    for text in texts:
        element, equals, number = text.partition("=")
        try:
            found[element.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"displacement {text!r}: expected ELEMENT=eV, such as S=6.5")
    return found


def _mass(element: str) -> float:
    from ase.data import atomic_masses, atomic_numbers

    if element not in atomic_numbers or element == "X":
        raise UnknownNameError("element", element, [name for name in atomic_numbers if name != "X"])
    return float(atomic_masses[atomic_numbers[element]])
