"""Count the atoms of every column of a simulated gold particle: from a focal series, and from cross-sections.

Run: python examples/heights.py
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from atomreel.interpret.sections import count_atoms
from atomreel.predict.heights import find_heights
from atomreel.simulate.hrtem import Optics
from atomreel.simulate.particles import exit_wave, random_particle
from atomreel.simulate.series import FOCUS, Shot, record

PIXEL, SIDE, DOSE = 0.12, 320, 30_000.0  # Å, px, e⁻/Å² in three images


def main() -> None:
    rng = np.random.default_rng(12)
    particle = random_particle(rng, tilt=(0.0, 1.0), radius=(9, 11), thickest=8, support=0.0)
    optics = tuple(Optics(300.0, f + 8.0, cs=-15.0, c5=2.0, focal_spread=27.0, deflection=0.1) for f in FOCUS)
    shot = Shot(optics, DOSE / 3, PIXEL, {"c1": 0.05, "c2": 0.5, "c3": 2.5}, np.zeros((3, 2)), np.zeros(2))
    series = record(exit_wave(particle, side=SIDE, pixel=PIXEL), shot, rng)

    found = find_heights(series, pixel=PIXEL, dose=DOSE / 3, defocus=FOCUS)
    true = particle.columns / PIXEL + SIDE / 2
    distance, index = cKDTree(true).query(found.table[["y", "x"]])
    off = found.table["height"].to_numpy() - particle.heights[index]
    print(f"{len(true)} columns of 1 to {particle.heights.max()} atoms, {len(found.table)} found")
    print(f"right {np.mean(off[distance < 5] == 0):.3f}, claimed {found.table['height_p'].mean():.3f}")

    sections = 1.9 * particle.heights + rng.normal(0, 0.2, len(particle.heights))  # Å², as HAADF gives them
    counted = count_atoms(sections)
    print(
        f"from cross-sections: {len(counted.mixture.means)} classes from {counted.first} atoms on, "
        f"{counted.unit:.2f} Å² each, right {np.mean(counted.counts == particle.heights):.3f}"
    )


if __name__ == "__main__":
    main()
