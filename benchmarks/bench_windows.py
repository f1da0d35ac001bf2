"""How right, how honest and how well placed the classifier of windows is: benchmarks/measured/windows.json and a figure.

    python benchmarks/bench_windows.py [MODEL] [--windows 300]

Fresh windows that training never saw (other seeds). Beside the accuracy at every level of every noise stands that of an oracle
which knows the noise-free picture of every possible answer (oracle_windows.py).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from oracle_windows import tell

from atomreel.core.material import Material, load_material
from atomreel.core.scope import Scope
from atomreel.predict.model import load_model
from atomreel.predict.windows import activation_maps, classify_windows, crops_at
from atomreel.simulate.sample import random_image
from atomreel.simulate.strangers import KINDS, random_strangers
from atomreel.simulate.windows import (
    CELL_PX,
    JITTER,
    NOISES,
    PRISTINE,
    RIM,
    SIDE,
    Windows,
    add_noise,
    changed_heights,
    changes,
    draw,
    random_noise,
    random_views,
    random_windows,
)
from atomreel.tasks.windows import NONE, calibration_error, spoilt

HERE = Path(__file__).parent
SEED = 424_242
LEVELS = (0.33, 0.67, 1.0, 1.5, 2.0)  # of the highest level that the model was trained with
NEAR = 2.0  # Å
Float32 = npt.NDArray[np.float32]


def noisy(clean: Float32, rng: np.random.Generator, how: list[tuple[str, float]] | None = None) -> Float32:
    given = how or [random_noise(rng) for _ in clean]
    return np.stack([add_noise(one, *each, rng=rng) for one, each in zip(clean, given, strict=True)])


def shares(named: Any) -> dict[str, float]:
    names, count = np.unique(np.asarray(named, dtype=str), return_counts=True)
    order = np.argsort(-count)
    return {str(names[k]): round(float(count[k] / count.sum()), 4) for k in order}


def by_level(material: Material, classes: tuple[str, ...], *, model: str, count: int) -> dict[str, Any]:
    """Accuracy of the model and of the oracle for each noise and level."""
    table: dict[str, Any] = {}
    for n, (noise, (_, most)) in enumerate(NOISES.items()):
        for level in LEVELS:
            rng = np.random.default_rng([SEED, 1, n, int(100 * level)])
            made = random_windows(
                material, rng, labels=np.arange(count) % len(classes[:-1]), kinds=classes[:-2]
            )
            how = [(noise, level * most)] * count
            images = noisy(made.images, rng, how)
            found = classify_windows(images, model=model)["kind"].to_numpy()
            best = tell(made, images, material, noise=how).argmax(1)
            right = found == np.array(classes)[made.label]
            table.setdefault(noise, {})[f"{level * most:.3g}"] = {
                "accuracy": float(right.mean()),
                "oracle": float((best == made.label).mean()),
                "called_none": float((found == NONE).mean()),
                "in_the_set": level <= 1,
            }
        print(noise, table[noise], flush=True)
    return table


def the_set(
    material: Material, classes: tuple[str, ...], *, model: str, count: int, rough: float = 0.0
) -> dict[str, Any]:
    """Windows as in training: accuracy, confusion, calibration; what strangers are called. rough: share on bad backdrops."""
    rng = np.random.default_rng([SEED, 2, int(rough)])
    labels = np.arange(count) % len(classes[:-1])
    made = random_windows(material, rng, labels=labels, kinds=classes[:-2], rough=rough)
    other, kinds = random_strangers(material, count // 3, rng)
    clean, label = (
        np.concatenate([made.images, other]),
        np.concatenate([made.label, np.full(count // 3, len(classes) - 1)]),
    )
    told = [spoilt(image, rng) for image in clean]
    table = classify_windows(np.stack([image for image, _ in told]), model=model)
    named = np.array([classes.index(kind) for kind in table["kind"]])
    right, own = named == label, label < len(classes) - 1
    noise = np.array([name for _, name in told])
    pristine = label == classes.index(PRISTINE)
    invented = pristine & (named < classes.index(PRISTINE))
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (label, named), 1)
    accuracy = float(right[own].mean())
    score = table["score"].to_numpy()
    return {
        "windows": int(own.sum()),
        "accuracy": accuracy,
        "accuracy_err": float(np.sqrt(accuracy * (1 - accuracy) / own.sum())),
        "accuracy_by_noise": {name: float(right[own & (noise == name)].mean()) for name in NOISES},
        "pristine_called_a_defect": float(invented.sum() / pristine.sum()),
        "pristine_called_a_defect_p_0.9": float((invented & (score > 0.9)).sum() / pristine.sum()),
        "ece": calibration_error(score, right),
        "ece_own": calibration_error(score[own], right[own]),
        "own_called_none": float((named[own] == len(classes) - 1).mean()),
        "strangers": int((~own).sum()),
        "strangers_called_none": float(right[~own].mean()),
        "strangers_called_none_by_kind": {
            kind: float(right[~own][np.array(kinds) == kind].mean()) for kind in sorted(KINDS)
        },
        "classes": list(classes),
        "confusion": confusion.tolist(),
    }


def placed(material: Material, classes: tuple[str, ...], *, model: str, count: int) -> dict[str, Any]:
    """How often the maximum of a map of the true class lies within 2 Å of the defect, beside what chance gives."""
    rng = np.random.default_rng([SEED, 3])
    made = random_windows(material, rng, labels=np.arange(count) % len(classes[:-2]), kinds=classes[:-2])
    images = noisy(made.images, rng)
    pixel = float(np.linalg.norm(material.project().vectors, axis=1).min()) / CELL_PX
    grid = np.moveaxis(np.indices((SIDE, SIDE)), 0, -1).reshape(-1, 2)
    gap = np.linalg.norm(grid[None] - made.position[:, None], axis=2) * pixel
    table: dict[str, Any] = {
        "windows": count,
        "within_A": NEAR,
        "chance_any_place": float((gap < NEAR).mean()),
        "chance_the_middle": float(
            (np.linalg.norm(made.position - (SIDE - 1) / 2, axis=1) * pixel < NEAR).mean()
        ),
    }
    names = np.array(classes, dtype=object)[made.label]
    for method in ("cam", "grad-cam"):
        maps = activation_maps(images, names, method=method, model=model)
        top = maps.reshape(count, -1).argmax(1)
        off = gap[np.arange(count), top]
        table[method] = {
            "within": float((off < NEAR).mean()),
            "median_A": float(np.median(off)),
            "by_kind": {name: float((off < NEAR)[names == name].mean()) for name in classes[:-2]},
        }
    return table


def off_scale(material: Material, classes: tuple[str, ...], *, model: str, count: int) -> dict[str, Any]:
    """Accuracy and share called none when the lattice is larger than it should be by a factor."""
    table = {}
    for factor in (0.5, 0.7, 0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25, 1.4, 2.0):
        rng = np.random.default_rng([SEED, 4, int(100 * factor)])
        target = rng.uniform(-JITTER, JITTER, (count, 2)) + (SIDE - 1) / 2
        label = np.arange(count) % (len(classes) - 1)
        column = np.array([changes(material, classes[k])[0][0] if k < len(classes) - 2 else 0 for k in label])
        views = random_views(material, rng, target=target, column=column, scale=np.full(count, factor))
        heights = views.heights.copy()
        for k, name in enumerate(classes[:-2]):
            heights[label == k, 0] = changed_heights(views, material, name)[label == k, 0]
        found = classify_windows(noisy(draw(replace(views, heights=heights)), rng), model=model)["kind"]
        right = found.to_numpy() == np.array(classes)[label]
        table[f"{factor:g}"] = {
            "accuracy": float(right.mean()),
            "called_none": float((found == NONE).mean()),
        }
    return table


def never_seen(material: Material, classes: tuple[str, ...], *, model: str, count: int) -> dict[str, Any]:
    """What windows are called that training lacked: other defects of the material, a complex, and other materials."""
    rng = np.random.default_rng([SEED, 5])
    table = {}
    for name in [d.name for d in material.defects if d.name not in classes]:
        made = random_windows(material, rng, labels=[0] * count, kinds=[name])
        table[name] = shares(classify_windows(noisy(made.images, rng), model=model)["kind"])
    if {"Mo_W", "V_S"} <= set(classes):
        made = random_windows(material, rng, labels=[0] * count, kinds=["Mo_W", "V_S"])
        table["Mo_W with V_S beside it"] = shares(
            classify_windows(noisy(_complex(made, material, rng), rng), model=model)["kind"]
        )
    for name in ("mos2", "mose2", "wse2", "graphene", "hbn"):
        other = load_material(name)
        target = rng.uniform(-JITTER, JITTER, (count, 2)) + (SIDE - 1) / 2
        views = random_views(other, rng, target=target, column=np.zeros(count, np.int64))
        table[f"{name}, pristine"] = shares(classify_windows(noisy(draw(views), rng), model=model)["kind"])
    return table


def another_simulator(classes: tuple[str, ...], *, model: str, count: int) -> dict[str, Any]:
    """Crops of WS2 images of `simulate.sample` (other backgrounds, strain, probes, noise; counts from 100), centred on usual
    columns that have only usual ones around them: how many are called a defect, and how many with p > 0.9."""
    scope = Scope(
        materials=("ws2",),
        modality=("stem",),
        nn_px=(7.0, 14.0),
        counts=(100.0, 3000.0),
        fwhm=(0.4, 0.75),
        abf=(0.0, 0.0),
        damage=0.0,
    )
    told, images = [], 0
    for k in range(count):
        shot = random_image(np.random.default_rng([SEED, 7, k]), size=(256, 256), scope=scope)
        if shot.meta["form"] != "bulk":
            continue
        cell, at = shot.nn_px * np.sqrt(3), shot.columns
        inner = np.flatnonzero(((at > 2.1 * cell) & (at < 255 - 2.1 * cell)).all(1))
        usual = np.isin(shot.species, ["W", "S2"])
        clean = []
        for i in inner:
            near = np.linalg.norm(at - at[i], axis=1) < 1.9 * cell
            heavy = at[near & (shot.species == "W")]  # two of them side by side: one is on a S site
            gaps = np.linalg.norm(heavy[:, None] - heavy[None], axis=2) + 9 * cell * np.eye(len(heavy))
            apart = gaps.min(initial=9 * cell) > 0.8 * cell
            clean.append(usual[near].all() and near.sum() == 25 and apart)
        chosen = np.random.default_rng(k).permutation(inner[np.array(clean, bool)])[:40]
        if len(chosen):
            images += 1
            crops = crops_at(shot.image, at[chosen], lattice_px=float(cell), model=model)
            told.append(classify_windows(crops, model=model)[["kind", "score"]])
    table = pd.concat(told)
    defect = ~table["kind"].isin([PRISTINE, NONE])
    return {
        "images": images,
        "windows": len(table),
        "called": shares(table["kind"]),
        "called_a_defect": float(defect.mean()),
        "called_a_defect_p_0.9": float((defect & (table["score"] > 0.9)).mean()),
    }


def _complex(made: Windows, material: Material, rng: np.random.Generator) -> Float32:
    """Windows of a Mo dopant, with one S missing from a column beside it."""
    views, heights = made.views, made.views.heights.copy()
    new = changed_heights(views, material, "V_S")
    for row in range(len(heights)):
        off = np.linalg.norm(views.sites[row] - views.sites[row, 0], axis=1)
        beside = np.flatnonzero(
            np.isin(views.column[row], changes(material, "V_S")[0]) & (off < 0.8 * CELL_PX)
        )
        place = int(rng.choice(beside))
        heights[row, place] = new[row, place]
    return draw(replace(views, heights=heights))


def figure(material: Material, classes: tuple[str, ...], *, model: str, path: Path) -> None:
    """Windows at the highest levels of the set, their CAM and Grad-CAM, a ring at the defect."""
    from matplotlib.figure import Figure

    rng = np.random.default_rng([SEED, 6])
    labels = [*range(len(classes) - 2), *range(len(classes) - 2)]
    made = random_windows(material, rng, labels=labels, kinds=classes[:-2])
    how = [(name, most) for name, (_, most) in NOISES.items()] * 2
    images = noisy(made.images, rng, [how[k % len(how)] for k in range(len(labels))])
    table = classify_windows(images, model=model)
    names = np.array(classes, dtype=object)[made.label]
    drawn = [images, *(activation_maps(images, names, method=m, model=model) for m in ("cam", "grad-cam"))]
    page = Figure(figsize=(1.3 * len(labels), 4.4), layout="constrained")
    axes = page.subplots(3, len(labels))
    for row, (stack, name) in enumerate(zip(drawn, ("window", "CAM", "Grad-CAM"), strict=True)):
        for k, panel in enumerate(axes[row]):
            panel.imshow(stack[k], cmap="gray" if row == 0 else "magma")
            y, x = made.position[k]
            panel.plot(x, y, "o", mfc="none", mec="cyan", ms=16)
            panel.set(xticks=[], yticks=[])
            if row == 0:
                panel.set_title(f"{names[k]}\n→ {table['kind'][k]} {table['score'][k]:.2f}", fontsize=8)
        axes[row][0].set_ylabel(name)
    page.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="windows")
    parser.add_argument(
        "--windows", type=int, default=300, help="per noise and level; ten times as many in all"
    )
    parser.add_argument("--out", type=Path, default=HERE / "measured" / "windows.json")
    parser.add_argument("--figure", type=Path, default=HERE.parent / "docs" / "windows_cam.png")
    chosen = parser.parse_args()
    _, card = load_model(chosen.model)
    material = load_material(card.scope["material"][0])
    given = {"model": chosen.model, "count": 10 * chosen.windows}
    few = {**given, "count": chosen.windows}
    measured = {
        "seed": SEED,
        "rim_px": RIM,
        "last_training": {k: card.training[k] for k in ("steps", "batch", "minutes")},
        "set": the_set(material, card.classes, **given),
        "rough": the_set(material, card.classes, **given, rough=1.0),
        "another_simulator": another_simulator(card.classes, model=chosen.model, count=120),
        "levels": by_level(material, card.classes, **few),
        "maps": placed(material, card.classes, **{**given, "count": 4 * chosen.windows}),
        "scale": off_scale(material, card.classes, **few),
        "never_seen": never_seen(material, card.classes, **few),
    }
    chosen.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    figure(material, card.classes, model=chosen.model, path=chosen.figure)
    print(json.dumps({k: v for k, v in measured.items() if k not in ("levels",)}, indent=1))


if __name__ == "__main__":
    main()
