"""What a fast electron can do to an atom: the largest energy that it hands over, and the voltage from which on."""

from __future__ import annotations

import numpy as np

from atomreel.core.errors import InputError, UnknownNameError

_REST_keV = 510.99895  # rest energy of the electron
_UNIT_keV = 931494.10  # rest energy of one atomic mass unit


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


def _mass(element: str) -> float:
    from ase.data import atomic_masses, atomic_numbers

    if element not in atomic_numbers or element == "X":
        raise UnknownNameError("element", element, [name for name in atomic_numbers if name != "X"])
    return float(atomic_masses[atomic_numbers[element]])
