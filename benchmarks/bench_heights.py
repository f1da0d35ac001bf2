"""Miscounted atoms per column against dose, for aligned and tilted gold particles: JSON and a figure.

    python benchmarks/bench_heights.py [MODEL] [--particles 12]
    python benchmarks/bench_heights.py --particles 42 --tilts aligned --doses 3000 30000 --out benchmarks/measured/heights_aligned.json
    python benchmarks/bench_heights.py --network --particles 20 --doses 600 1000 30000 --out benchmarks/measured/heights_network.json
    python benchmarks/bench_heights.py --particles 5 --tilts aligned --doses 3000 30000 --contrast 0.4 --out benchmarks/measured/heights_contrast_0.4.json

Fresh particles along [110] under the conditions of Madsen et al. 2018 (section 4.3, figure 12): three images, one unknown
common offset of focus within ± 20 Å, Cs −20 … −10 µm, tilt 0 or 0.5–3°. Imaged on the detector's own pixels.
--network: without the fit. --least-dose: below it [e/Å² and image] the network is alone. --contrast: of what is simulated; the
rest of the electrons see no particle.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from atomreel.predict import heights
from atomreel.simulate.hrtem import Optics
from atomreel.simulate.particles import coarser, exit_wave, random_particle
from atomreel.simulate.series import FOCUS, Shot, record
from atomreel.tasks.heights import THERMAL

HERE = Path(__file__).parent
DOSES = (300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)  # e/Å², three images together
TILTS = {"aligned": (0.0, 0.0), "tilted": (0.5, 3.0)}
SIDE = 40.0  # Å
FINE = 500  # px across SIDE, on which exit waves are computed
MATCH = 0.62  # Å, a quarter of the distance of columns


@dataclass(frozen=True)
class Setting:
    model: str
    network: bool
    contrast: float


def random_shot(rng: np.random.Generator, dose: float) -> Shot:
    offset, angle = float(rng.uniform(-20, 20)), float(rng.uniform(-180, 180))
    cs, c5, spread = float(rng.uniform(-20, -10)), float(rng.uniform(0, 3)), float(rng.uniform(20, 40))
    astigmatism, deflection = float(rng.uniform(0, 10)), float(rng.uniform(0, 0.25))
    optics = tuple(Optics(300.0, f + offset, cs, c5, astigmatism, angle, spread, deflection) for f in FOCUS)
    mtf = {
        "c1": float(rng.uniform(0, 0.1)),
        "c2": float(rng.uniform(0.4, 0.6)),
        "c3": float(rng.uniform(2, 3)),
    }
    return Shot(
        optics, dose / len(FOCUS), float(rng.uniform(0.108, 0.132)), mtf, np.zeros((3, 2)), np.zeros(2)
    )


def photograph(
    wave: npt.NDArray[np.complex64], shot: Shot, rng: np.random.Generator, contrast: float
) -> npt.NDArray[np.float32]:
    """Sums of counts of independent electrons are counts of their sum."""
    series = record(wave, replace(shot, dose=contrast * shot.dose), rng)
    if contrast < 1:
        series = series + record(np.ones_like(wave), replace(shot, dose=(1 - contrast) * shot.dose), rng)
    return series


def one(
    rng: np.random.Generator, setting: Setting, *, tilt: tuple[float, float], dose: float
) -> dict[str, Any]:
    """Errors of the matched columns, claimed probabilities, and how many were found, missed and invented."""
    shot = random_shot(rng, dose)
    particle = random_particle(rng, tilt=tilt, radius=(8, 13), thickest=8, support=0.0)
    side = 2 * int(SIDE / 2 / shot.pixel)
    wave = exit_wave(
        particle, side=FINE, pixel=side * shot.pixel / FINE, thermal=float(rng.uniform(*THERMAL))
    )
    wave = coarser(wave, side)
    series = photograph(wave, shot, rng, setting.contrast)
    found = heights.find_heights(
        series, pixel=shot.pixel, dose=shot.dose, model=setting.model, refine=not setting.network
    )
    true = particle.columns / shot.pixel + side / 2
    gap = cdist(true, found.table[["y", "x"]]) * shot.pixel
    i, j = linear_sum_assignment(np.minimum(gap, MATCH + 1))
    hit = gap[i, j] < MATCH
    i, j = i[hit], j[hit]
    return {
        "off": found.table["height"].to_numpy()[j] - particle.heights[i],
        "p": found.table["height_p"].to_numpy()[j],
        "true": len(true),
        "found": len(found.table),
        "error": (found.table[["y", "x"]].to_numpy()[j] - true[i])
        / found.table[["y_err", "x_err"]].to_numpy()[j],
        "warned": any("contrast" in w for w in found.warnings),
        "alone": any("network's alone" in w for w in found.warnings),
    }


def pooled(parts: list[dict[str, Any]]) -> dict[str, float]:
    off, p, error = (np.concatenate([part[key] for part in parts]) for key in ("off", "p", "error"))
    true, found = (sum(part[key] for part in parts) for key in ("true", "found"))
    size = np.abs(off)
    bins = np.minimum((p * 10).astype(int), 9)
    gap = np.bincount(bins, (off == 0) - p, 10)
    return {
        "columns": true,
        "f1": 2 * len(off) / (true + found),
        "exact": float((size == 0).mean()),
        "off_1": float((size == 1).mean()),
        "off_2": float((size == 2).mean()),
        "off_3_or_more": float((size > 2).mean()),
        "exact_err": float(np.sqrt((size == 0).mean() * (size > 0).mean() / max(len(off), 1))),
        "claimed_p": float(p.mean()),
        "calibration_error": float(np.abs(gap).sum() / len(off)),
        "positions_within_1_sigma": float((np.abs(error) < 1).mean()),
        "contrast_warned": float(np.mean([part["warned"] for part in parts])),
        "fit_refused": float(np.mean([part["alone"] for part in parts])),
    }


def draw(curves: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for panel, (name, curve) in zip(axes, curves.items(), strict=True):
        for key, label in (("off_1", "by one"), ("off_2", "by two"), ("off_3_or_more", "by three or more")):
            panel.plot(DOSES, [100 * curve[f"{d:g}"][key] for d in DOSES], "o-", label=label)
        panel.set(xscale="log", title=name, xlabel="dose of the series [e⁻/Å²]")
        panel.grid(alpha=0.3)
    axes[0].set(ylabel="columns miscounted [%]")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="heights")
    parser.add_argument("--particles", type=int, default=12, help="per dose and group")
    parser.add_argument("--tilts", nargs="+", default=list(TILTS), choices=list(TILTS))
    parser.add_argument("--doses", nargs="+", type=float, default=list(DOSES))
    parser.add_argument("--out", type=Path, default=HERE / "measured" / "heights_dose.json")
    parser.add_argument("--figure", type=Path, default=HERE.parent / "docs" / "heights_dose.png")
    parser.add_argument("--network", action="store_true", help="the network alone, no fit")
    parser.add_argument("--least-dose", type=float, default=heights.LEAST_DOSE)
    parser.add_argument("--contrast", type=float, default=1.0, help="of the simulated one")
    chosen = parser.parse_args()
    heights.LEAST_DOSE = chosen.least_dose
    setting = Setting(chosen.model, chosen.network, chosen.contrast)
    curves: dict[str, dict[str, dict[str, float]]] = {}
    for name in chosen.tilts:
        g, tilt, curves[name] = list(TILTS).index(name), TILTS[name], {}
        for dose in chosen.doses:
            d = DOSES.index(dose) if dose in DOSES else int(dose)
            rngs = [np.random.default_rng([77, g, d, k]) for k in range(chosen.particles)]
            curves[name][f"{dose:g}"] = pooled([one(rng, setting, tilt=tilt, dose=dose) for rng in rngs])
            print(
                name, f"{dose:g}", {k: round(v, 4) for k, v in curves[name][f"{dose:g}"].items()}, flush=True
            )
    about = {
        "particles_per_point": chosen.particles,
        "doses": chosen.doses,
        "network_alone": chosen.network,
        "least_dose": chosen.least_dose,
        "contrast": chosen.contrast,
        "curves": curves,
    }
    chosen.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    if (
        setting == Setting("heights", False, 1.0)
        and list(curves) == list(TILTS)
        and chosen.doses == list(DOSES)
    ):
        draw(curves, chosen.figure)


if __name__ == "__main__":
    main()
