"""Lattice, defects and strain of a table of atoms: here columns of graphene made on the spot.

With your own: any table with y, x [px] and, where known, intensity.
"""

import numpy as np
import pandas as pd

from atomreel.core.material import load_material
from atomreel.interpret.calibrate import calibrate
from atomreel.interpret.defects import find_defects
from atomreel.interpret.lattice import fit_lattices
from atomreel.interpret.strain import map_strain

rng = np.random.default_rng(1)
shape = (256, 256)
a, b = np.array([0.0, 20.0]), np.array([-17.32, 10.0])
n = np.arange(-20, 40)
cells = (n[:, None, None] * a + n[None, :, None] * b).reshape(-1, 2)
columns = np.concatenate([cells, cells + (a + b) / 3])
columns = columns[np.all((columns >= 0) & (columns <= 255), axis=1)]
middle = np.argsort(np.hypot(*(columns - 128).T))
columns = np.delete(columns, middle[9], axis=0) + rng.normal(0, 0.3, (len(columns) - 1, 2))
atoms = pd.DataFrame(
    {"frame": 0, "y": columns[:, 0], "x": columns[:, 1], "y_err": 0.3, "x_err": 0.3, "score": 0.99}
)
atoms["intensity"] = rng.normal(1.0, 0.1, len(atoms))
atoms.loc[middle[3], "intensity"] = 4.0

graphene = load_material("graphene")
fit = fit_lattices(atoms, shape=shape)
print(
    fit.rows[["a_px", "a_px_err", "b_px", "gamma_deg", "gamma_deg_err", "symmetry", "columns"]]
    .round(3)
    .to_string()
)
print(
    find_defects(atoms, fit, shape=shape, material=graphene)[["y", "x", "kind", "score", "ratio"]]
    .round(2)
    .to_string()
)
known = calibrate(fit.lattices[0], graphene)
print(
    f"pixel {known.pixel[0]:.4f} × {known.pixel[1]:.4f} ± {known.pixel_err[1]:.4f} Å, shear {known.shear:+.4f}"
)
strain = map_strain(atoms, fit.lattices[0], shape=shape, step=32)
print(
    f"strain exx: rms {np.sqrt(np.nanmean(strain.maps['exx'] ** 2)):.4f}, claimed {np.nanmedian(strain.maps['exx_err']):.4f}"
)
