"""Strain atom by atom by templates of two shells: graphene stretched along x, with a vacancy, in two grains.

With your own: any table with y, x and, for errors, y_err, x_err [px].
"""

import numpy as np
import pandas as pd

from atomreel.interpret.template import honeycomb, match_template

rng = np.random.default_rng(4)
BOND = 11.8  # px


def grain(turn: float, stretch: float) -> np.ndarray:
    """Columns of graphene around (128, 128), turned counter-clockwise on screen and then made longer along x."""
    t = np.deg2rad(turn + np.array([-30.0, 30.0]))
    a, b = np.sqrt(3) * BOND * np.stack([-np.sin(t), np.cos(t)], axis=1)
    n = np.arange(-20, 21)
    cells = (n[:, None, None] * a + n[None, :, None] * b).reshape(-1, 2)
    where = np.concatenate([cells, cells + (a + b) / 3]) * [1.0, 1 + stretch] + 128
    return where[np.all((where >= 0) & (where <= 255), axis=1)]


left, right = grain(0.0, 0.03), grain(20.0, 0.0)
left = np.delete(left, np.argmin(np.hypot(left[:, 0] - 128, left[:, 1] - 55)), axis=0)
columns = np.concatenate([left[left[:, 1] < 124], right[right[:, 1] > 130]])
seen = columns + rng.normal(0, 0.2, columns.shape)
atoms = pd.DataFrame({"y": seen[:, 0], "x": seen[:, 1], "y_err": 0.2, "x_err": 0.2})

found = match_template(atoms, honeycomb(BOND, angle=0.0))
for name, part in (("left", found[found.x < 110]), ("right", found[found.x > 145])):
    fits = part[part.site >= 0]
    print(
        f"{name}: exx {fits.exx.mean():+.4f}, eyy {fits.eyy.mean():+.4f}, rotation {fits.rotation_deg.mean():+.1f}°; "
        f"scatter of exx {fits.exx.std():.4f}, claimed {fits.exx_err.mean():.4f}; χ² {fits.chi2.mean():.2f}"
    )
print(f"refused (border, vacancy, boundary): {(found.site < 0).sum()} of {len(found)} atoms")
