"""Are the probabilities of the classes honest? python benchmarks/bench_bravais.py [--windows 2000] [--model bravais]

Fresh windows in sets: clear ones (margin ≥ 0.08, hyperbolic distance, twice the shear strain) under the conditions of the
training's first half; with a second atom in the basis; other noise classes than the training has; borderline ones
(margin 0.01 to 0.08); below two counts per atom, clear and half of them borderline. The set "other drawing" is made here without the package's simulator.
ECE: 15 bins of the top probability; its excess: less the mean of 500 draws of right and wrong by the probabilities
themselves, which is what perfect calibration would show at this size. Writes measured/bravais_fresh.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from atomreel.predict.symmetry import CLASSES, classify_windows
from atomreel.simulate.bravais import Look, Window, class_distances, random_look, random_tau, random_window

HERE = Path(__file__).parent
BINS = 15
BLOCK = 100
Array = npt.NDArray[np.float64]


def plain_look(rng: np.random.Generator) -> Look:
    """The conditions of METHODS S1: nothing of what the training has beyond them."""
    look = random_look(rng)
    counts = float(np.exp(rng.uniform(np.log(0.6), np.log(80))))
    return replace(
        look, disorder=float(rng.uniform(0, 0.08)), spread=float(rng.uniform(0, 0.15)), counts=counts, readout=0.0,
        lines=0.0, covered=1.0, haze=0.0, blur=0.0, basis=(),
    )  # fmt: skip


def clear(rng: np.random.Generator) -> Window:
    return random_window(rng, look=plain_look(rng), margin=(0.08, np.inf))


def two_atoms(rng: np.random.Generator) -> Window:
    second = (float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.8)))
    return random_window(rng, look=replace(plain_look(rng), basis=(second,)), margin=(0.08, np.inf))


def borderline(rng: np.random.Generator) -> Window:
    name = ("rectangular", "centred", "oblique", "square", "hexagonal")[int(rng.integers(5))]
    return random_window(rng, look=plain_look(rng), name=name, margin=(0.01, 0.08))


def few_counts(rng: np.random.Generator) -> Window:
    look = replace(plain_look(rng), counts=float(np.exp(rng.uniform(np.log(0.6), np.log(2)))))
    return random_window(rng, look=look, margin=(0.08, np.inf))


def few_counts_mixed(rng: np.random.Generator) -> Window:
    """Below two counts, clear and borderline lattices half and half: what the probabilities take to be usual."""
    look = replace(plain_look(rng), counts=float(np.exp(rng.uniform(np.log(0.6), np.log(2)))))
    if rng.random() < 0.5:
        return random_window(rng, look=look, margin=(0.08, np.inf))
    name = ("rectangular", "centred", "oblique", "square", "hexagonal")[int(rng.integers(5))]
    return random_window(rng, look=look, name=name, margin=(0.01, 0.08))


def other_noise(rng: np.random.Generator) -> Window:
    """Half lattices, half noise of kinds that the training lacks: worms (band-pass noise cut at a level), a frozen walk,
    a glass of two sizes, lattice rows slid at random (order in one direction), speckle."""
    if rng.random() < 0.5:
        return clear(rng)
    kind = ("worms", "walk", "glass", "slid rows", "speckle")[int(rng.integers(5))]
    signal = _NOISE[kind](rng)
    counts = float(np.exp(rng.uniform(np.log(0.6), np.log(80))))
    image = rng.poisson(counts * (signal + rng.uniform(0, 0.5))).astype(np.float32)
    return Window(image, 5, complex(np.nan, np.nan), np.nan, np.nan, 0.0, counts, kind)


def _spots(points: Array, width: float) -> Array:
    grid = np.arange(128)
    down, over = (np.exp(-((grid - c[:, None]) ** 2) / (2 * width**2)) for c in points.T)
    return np.asarray(down.T @ over)


def _worms(rng: np.random.Generator) -> Array:
    fine = float(rng.uniform(1.2, 4))
    field = rng.standard_normal((128, 128))
    field = gaussian_filter(field, fine) - gaussian_filter(field, 1.5 * fine)
    return (field > np.quantile(field, rng.uniform(0.4, 0.8))).astype(float)


def _walk(rng: np.random.Generator) -> Array:
    steps = rng.standard_normal((int(rng.uniform(80, 400)), 2)) * rng.uniform(4, 12)
    return np.clip(_spots((64 + np.cumsum(steps, 0)) % 128, float(rng.uniform(1.5, 3))), 0, 1.5)


def _glass(rng: np.random.Generator) -> Array:
    """Two kinds of discs that keep a distance, with their own sizes and heights."""
    a, kept = float(rng.uniform(7, 18)), []
    for point in rng.uniform(-a, 128 + a, (1500, 2)):
        size = a * (0.75 if rng.random() < 0.5 else 1.0)
        if all(np.hypot(*(point - other)) > 0.45 * (size + s) for other, s in kept):
            kept.append((point, size))
    near, far = (np.array([p for p, s in kept if (s < a) == small]).reshape(-1, 2) for small in (True, False))
    return _spots(near, 0.16 * a) + 0.6 * _spots(far, 0.2 * a)


def _slid_rows(rng: np.random.Generator) -> Array:
    """Rows of equal distance whose atoms keep no phase and no spacing: periodic in one direction only."""
    a, turn = float(rng.uniform(8, 20)), float(rng.uniform(0, np.pi))
    points = []
    for row in np.arange(-130, 260, a):
        along = np.cumsum(rng.uniform(0.6, 1.6, 60)) * a - 130 + rng.uniform(0, a)
        points.append(np.stack([np.full(60, row) + 0.05 * a * rng.standard_normal(60), along], 1))
    c, s = np.cos(turn), np.sin(turn)
    return _spots((np.concatenate(points) - 64) @ np.array([[c, -s], [s, c]]) + 64, 0.18 * a)


def _speckle(rng: np.random.Generator) -> Array:
    field = rng.standard_normal((2, 128, 128))
    field = np.stack([gaussian_filter(part, float(rng.uniform(1.5, 5))) for part in field])
    power = (field**2).sum(0)
    return np.asarray(power / power.max())


_NOISE = {"worms": _worms, "walk": _walk, "glass": _glass, "slid rows": _slid_rows, "speckle": _speckle}


def other_drawing(rng: np.random.Generator) -> Window:
    """Lorentzian or disc-like atoms with Gaussian noise that grows with the signal, drawn without the simulator."""
    name = CLASSES[int(rng.integers(5))]
    tau = random_tau(name, rng=rng, margin=(0.08, np.inf))
    a = float(np.exp(rng.uniform(np.log(7), np.log(128 / 4.2 / abs(tau)))))
    first = a * np.exp(1j * rng.uniform(0, 2 * np.pi))
    second = first * (tau if rng.random() < 0.5 else tau.conjugate())
    i, j = np.meshgrid(np.arange(-60, 61), np.arange(-60, 61))
    z = (i * first + j * second).ravel() + rng.uniform(0, a) * (1 + 1j)
    z = z[(np.abs(z.real) < 64 + a) & (np.abs(z.imag) < 64 + a)] + 64 * (1 + 1j)
    z = z + 0.04 * a * (rng.standard_normal(z.size) + 1j * rng.standard_normal(z.size))
    y, x = np.mgrid[:128, :128]
    width, signal = float(rng.uniform(0.15, 0.25)) * a, np.zeros((128, 128))
    disc = rng.random() < 0.5
    for atom in z:
        far = ((y - atom.imag) ** 2 + (x - atom.real) ** 2) / width**2
        signal += 1 / (1 + np.exp(np.minimum(8 * (far - 1.5), 50))) if disc else 1 / (1 + far) ** 2
    level = float(np.exp(rng.uniform(np.log(0.15), np.log(1.5))))
    noise = level * np.sqrt(0.3 + signal) * rng.standard_normal(signal.shape)
    margin = min(v for k, v in class_distances(tau).items() if k != name) if name == "oblique" else np.nan
    image = (signal + noise).astype(np.float32)
    return Window(image, CLASSES.index(name), tau, a, margin, 0.04, 1 / level**2)


SETS = {
    "clear": clear,
    "two atoms": two_atoms,
    "other noise": other_noise,
    "other drawing": other_drawing,
    "borderline": borderline,
    "below two counts": few_counts,
    "below two counts, half borderline": few_counts_mixed,
}


def score(p: Array, label: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, top-2, Brier (sum over the classes), ECE and its excess of probabilities (N, 6)."""
    n, top, confidence = len(label), p.argmax(1), p.max(1)
    right = top == label
    where = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    ece = np.abs(np.bincount(where, right - confidence, BINS)).sum() / n
    draws = np.random.default_rng(0).random((500, n)) < confidence
    chance = np.mean([np.abs(np.bincount(where, draw - confidence, BINS)).sum() / n for draw in draws])
    own = p[np.arange(n), label]
    return {
        "windows": n,
        "accuracy": float(right.mean()),
        "top2": float(((p > own[:, None]).sum(1) < 2).mean()),
        "brier": float(((p - np.eye(6)[label]) ** 2).sum(1).mean()),
        "ece": float(ece),
        "ece_excess": float(ece - chance),
        "confidence_less_accuracy": float(confidence.mean() - right.mean()),
    }


def run(name: str, number: int, *, model: str, seed: int) -> dict[str, Any]:
    parts, labels = [], []
    for start in range(0, number, BLOCK):
        some = [
            SETS[name](np.random.default_rng([seed, list(SETS).index(name), k]))
            for k in range(start, min(start + BLOCK, number))
        ]
        parts.append(classify_windows(np.stack([w.image for w in some]), model=model)[0])
        labels += [w.label for w in some]
    return score(np.concatenate(parts), np.array(labels))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--model", default="bravais")
    parser.add_argument("--seed", type=int, default=2026_11_21)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--out", type=Path, default=HERE / "measured" / "bravais_fresh.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in chosen.sets:
        found[name] = run(name, chosen.windows, model=chosen.model, seed=chosen.seed)
        print(name, {key: round(value, 4) for key, value in found[name].items()}, flush=True)
    about = {"model": chosen.model, "seed": chosen.seed, "sets": found}
    chosen.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
