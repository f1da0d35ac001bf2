"""F1 and position error of columns against dose, told nothing: python benchmarks/bench_dose.py [--images 6]

Fresh HAADF images of graphene and WS₂: Gaussian probe, flat background, Poisson counts, no jitter, so that the Cramér–Rao bound of
the positions follows from the image itself: F = Σ_p ∂m ∂mᵀ / m with all positions and heights near a column free
(Kay, Fundamentals of Statistical Signal Processing I, 1993). Writes measured/columns_dose.json and docs/columns_dose.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from atomreel import find_columns
from atomreel.core.material import load_material
from atomreel.simulate.stem import Probe, render_stem, z_contrast
from atomreel.simulate.structures import crystal

HERE = Path(__file__).parent
DOSES = (0.7, 2.0, 6.0, 20.0, 60.0, 200.0)  # counts at the top of the brightest column above the background
CASES = {"graphene": (0.12, 0.9), "ws2": (0.16, 1.0)}  # Å per pixel, FWHM of the probe [Å]
SIZE = 256  # px
GROUND = 0.1  # background, of the brightest column
NEAR = 3.5  # σ of the peak: neighbours within share pixels and are free in the bound
INNER = 5.0  # σ of the peak: what lies further from the border has all its neighbours in the field
Array = npt.NDArray[np.float64]


def sheet(material: str, rng: np.random.Generator) -> tuple[Array, Array, float, float]:
    """Positions [px], some outside the field, heights ≤ 1, peak's σ [px] and pixel [Å]."""
    pixel, fwhm = CASES[material]
    pattern, side = load_material(material).project(), SIZE * pixel
    box = (-8.0, -8.0, side + 8, side + 8)
    solid = crystal(pattern, box, angle=float(rng.uniform(-180, 180)), origin=rng.uniform(0, 5, 2))
    power = np.array([z_contrast(kind.atoms) for kind in solid.kinds])[solid.kind]
    return solid.positions / pixel, power / power.max(), fwhm / np.sqrt(8 * np.log(2)) / pixel, pixel


def bound(
    points: Array, heights: Array, sigma: float, *, expected: Array, counts: float, inside: Array
) -> Array:
    """(N,) rms over the axes of the least possible error [px] of the columns `inside`."""
    tree, reach, out = cKDTree(points), int(np.ceil(NEAR * sigma)), []
    for i in inside:
        middle = np.rint(points[i]).astype(int)
        (y0, x0), (y1, x1) = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, SIZE)
        y, x = np.mgrid[y0:y1, x0:x1]
        slopes = [np.ones(y.shape)]
        for j in [i, *(k for k in tree.query_ball_point(points[i], NEAR * sigma) if k != i)]:
            dy, dx = y - points[j, 0], x - points[j, 1]
            peak = counts * np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
            slopes[len(slopes) :] = [
                heights[j] * peak * dy / sigma**2,
                heights[j] * peak * dx / sigma**2,
                peak,
            ]
        rows = np.stack([s.ravel() for s in slopes])
        information = (rows / expected[y0:y1, x0:x1].ravel()) @ rows.T
        unit = np.sqrt(np.diag(information))
        variance = np.diag(np.linalg.pinv(information / np.outer(unit, unit))) / unit**2
        out.append(np.sqrt(variance[1:3].mean()))
    return np.array(out)


def one(material: str, counts: float, rng: np.random.Generator) -> dict[str, Any]:
    points, heights, sigma, pixel = sheet(material, rng)
    clean = render_stem(
        points, heights, (SIZE, SIZE), probe=Probe(sigma * np.sqrt(8 * np.log(2)) * pixel), pixel=pixel
    )
    # a height is the top of a column that stands alone, so the image is scaled by such a one
    lone = render_stem(np.full((1, 2), 32.0), np.ones(1), (65, 65), probe=Probe(sigma * np.sqrt(8 * np.log(2)) * pixel), pixel=pixel)  # fmt: skip
    expected = counts * (np.maximum(np.asarray(clean, float), 0) / float(lone.max()) + GROUND)
    found = find_columns(rng.poisson(expected).astype(np.float32))
    margin, limit = 2 * sigma, 0.5 * float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
    inside = np.flatnonzero(((points > margin) & (points < SIZE - 1 - margin)).all(1))
    where = found.table[["y", "x"]].to_numpy()
    kept = ((where > margin) & (where < SIZE - 1 - margin)).all(1)
    near = np.flatnonzero(((points > -1) & (points < SIZE)).all(1))
    gap = cdist(points[near], where)
    i, j = linear_sum_assignment(np.where(gap <= limit, gap, 1e3))
    hit = gap[i, j] <= limit
    mate = dict(zip(near[i[hit]].tolist(), j[hit].tolist(), strict=True))
    matched = [(k, mate[k]) for k in inside.tolist() if k in mate]
    false = int((kept & ~np.isin(np.arange(len(where)), j[hit])).sum())
    error = np.array([where[b] - points[a] for a, b in matched]).reshape(-1, 2)
    least = bound(
        points,
        heights,
        sigma,
        expected=expected,
        counts=counts,
        inside=np.array([a for a, _ in matched], int),
    )
    claimed = found.table[["y_err", "x_err"]].to_numpy()[[b for _, b in matched]].reshape(-1, 2)
    place = points[[a for a, _ in matched]].reshape(-1, 2)
    inner = ((place > INNER * sigma) & (place < SIZE - 1 - INNER * sigma)).all(1)
    return {"true": len(inside), "hit": len(matched), "false": false, "error": error * pixel * 100, "bound": least * pixel * 100, "claimed": claimed * pixel * 100, "inner": inner, "bright": found.survey.bright}  # fmt: skip


def pooled(parts: list[dict[str, Any]]) -> dict[str, float]:
    true, hit, false = (sum(part[key] for part in parts) for key in ("true", "hit", "false"))
    error, least, claimed, inner = (
        np.concatenate([part[key] for part in parts]) for key in ("error", "bound", "claimed", "inner")
    )
    return {
        "columns": true,
        "f1": 2 * hit / (2 * hit + false + true - hit),
        "precision": hit / max(hit + false, 1),
        "recall": hit / true,
        "rmse_pm": float(np.sqrt((error**2).mean())) if hit else float("nan"),
        "rmse_inner_pm": float(np.sqrt((error[inner] ** 2).mean())) if inner.any() else float("nan"),
        "median_bound_pm": float(np.median(least)) if hit else float("nan"),
        "rms_bound_pm": float(np.sqrt((least**2).mean())) if hit else float("nan"),
        "within_1_sigma": float((np.abs(error) < claimed).mean()) if hit else float("nan"),
        "contrast_right": float(np.mean([part["bright"] for part in parts])),
    }


def draw(curves: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, curve) in enumerate(curves.items()):
        left.plot(DOSES, [curve[f"{d:g}"]["f1"] for d in DOSES], f"oC{k}-", label=name)
        right.plot(DOSES, [curve[f"{d:g}"]["rmse_pm"] for d in DOSES], f"oC{k}-", label=name)
        right.plot(DOSES, [curve[f"{d:g}"]["rms_bound_pm"] for d in DOSES], f"C{k}--", label=f"{name}, bound")
    for panel, label in ((left, "F1"), (right, "rms error per axis [pm]")):
        panel.set(xscale="log", xlabel="counts at the brightest column", ylabel=label)
        panel.grid(alpha=0.3)
        panel.legend()
    right.set(yscale="log")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6, help="per material and dose")
    parser.add_argument("--out", type=Path, default=HERE / "measured" / "columns_dose.json")
    parser.add_argument("--figure", type=Path, default=HERE.parent / "docs" / "columns_dose.png")
    chosen = parser.parse_args()
    curves: dict[str, dict[str, dict[str, float]]] = {}
    for m, material in enumerate(CASES):
        curves[material] = {}
        for d, dose in enumerate(DOSES):
            rngs = [np.random.default_rng([61, m, d, k]) for k in range(chosen.images)]
            curves[material][f"{dose:g}"] = pooled([one(material, dose, rng) for rng in rngs])
            print(
                material, dose, {k: round(v, 3) for k, v in curves[material][f"{dose:g}"].items()}, flush=True
            )
    about = {"images_per_point": chosen.images, "counts": list(DOSES), "curves": curves}
    chosen.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    draw(curves, chosen.figure)


if __name__ == "__main__":
    main()
