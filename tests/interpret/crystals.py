"""Columns of crystals with known truth, made from numpy alone (nothing of the package)."""

import numpy as np
import pandas as pd

HONEYCOMB = (10.0, 10.0, 60.0, [((0, 0), 1.0), ((1 / 3, 1 / 3), 1.0)])
DICHALCOGENIDE = (16.0, 16.0, 60.0, [((0, 0), 1.0), ((1 / 3, 1 / 3), 0.4)])
PEROVSKITE = (18.0, 18.0, 90.0, [((0, 0), 1.0), ((0.5, 0.5), 0.5)])
DUMBBELL = (27.0, 27.0, 70.53, [((0, 0), 1.0), ((0.25, 0.25), 1.1)])
OBLIQUE = (11.0, 14.0, 76.0, [((0, 0), 1.0)])
SQUARE = (12.0, 12.0, 90.0, [((0, 0), 1.0)])
KAGOME = (20.0, 20.0, 60.0, [((0.5, 0), 1.0), ((0, 0.5), 1.0), ((0.5, 0.5), 1.0)])


def vectors_of(a, b, gamma, angle):
    """Rows (dy, dx): a points `angle` degrees counter-clockwise on screen, b gamma further."""
    t = np.deg2rad([angle, angle + gamma])
    return np.array([[-a * np.sin(t[0]), a * np.cos(t[0])], [-b * np.sin(t[1]), b * np.cos(t[1])]])


def crystal(kind, shape, rng, *, angle=13.0, noise=0.0, bright=0.05, origin=None, inside=None):
    """Atoms table with columns `truth_site`, `truth_y`, `truth_x`; inside(y, x) → mask of what exists."""
    a, b, gamma, motif = kind
    vectors = vectors_of(a, b, gamma, angle)
    origin = rng.random(2) * a + np.array(shape) / 2 if origin is None else np.asarray(origin, float)
    reach = int(2 * max(shape) / (a * np.sin(np.deg2rad(gamma)))) + 2
    grid = np.stack(np.meshgrid(np.arange(-reach, reach), np.arange(-reach, reach)), -1).reshape(-1, 2)
    parts = []
    for number, (position, light) in enumerate(motif):
        where = origin + (grid + position) @ vectors
        keep = np.all((where >= 0) & (where <= np.array(shape) - 1), axis=1)
        if inside is not None:
            keep &= inside(where[:, 0], where[:, 1])
        where = where[keep]
        parts.append(
            pd.DataFrame({"y": where[:, 0], "x": where[:, 1], "intensity": light, "truth_site": number})
        )
    table = pd.concat(parts, ignore_index=True).sample(
        frac=1, random_state=np.random.RandomState(1), ignore_index=True
    )
    table["truth_y"], table["truth_x"] = table["y"], table["x"]
    table[["y", "x"]] += rng.normal(0, noise, (len(table), 2)) if noise else 0.0
    table["intensity"] *= 1 + bright * rng.standard_normal(len(table))
    return table.assign(frame=0, y_err=max(noise, 0.01), x_err=max(noise, 0.01), score=0.999)


def spoil(table, shape, rng, *, missing=0.15, false=0.15):
    """Some columns lost, some invented."""
    kept = table[rng.random(len(table)) >= missing]
    extra = kept.sample(int(false * len(table)), random_state=np.random.RandomState(2)).copy()
    extra[["y", "x"]] = rng.random((len(extra), 2)) * (np.array(shape) - 1)
    return pd.concat([kept, extra.assign(truth_site=-1)], ignore_index=True)
