"""A finder for one material against the general one, on fresh images: `python benchmarks/bench_custom.py MODEL… [--count N]`.

    atomreel train examples/gaas110/recipe.toml -o out/gaas110
    python benchmarks/bench_custom.py columns out/gaas110

Each model sees the images alone, told nothing: its own survey, its own threshold. Three sets, with seeds that no training
has: the material and microscope of examples/gaas110; the same with indium and vacancies; and another material, for which
the finder was not made. A column counts as found within a quarter of the dumbbell's distance.
Writes measured/custom.json, in which the figures of other models stay, and out/custom.png, some images with what each
model found.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomreel import find_columns
from atomreel.core.card import read_card
from atomreel.core.material import Material, load_material
from atomreel.core.scope import load_scope
from atomreel.predict.model import model_folder
from atomreel.simulate.sample import Simulated, random_image
from atomreel.tasks.columns import match

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "gaas110"
SEED = 110_110_110
ACROSS = 26.0  # dumbbell distances in an image
SIZES = (256, 512)  # px
MEASURABLE = 3.0  # signal to noise above which a column can be seen
DRAWS = 400  # of images, for the error bars
SHOWN = 4


def materials() -> dict[str, Material]:
    return {
        "GaAs [110]": load_material(EXAMPLE / "gaas.cif", zone=(1, 1, 0)),
        "GaAs [110], In and vacancies": load_material("gaas110"),
        "WS2": load_material("ws2"),
    }


def images(material: Material, count: int, number: int) -> Iterator[Simulated]:
    """Fresh images of one material under the microscope of the example."""
    scope = load_scope(EXAMPLE / "microscope.toml")
    for i in range(count):
        rng = np.random.default_rng([SEED, number, i])
        nn = scope.draw("nn_px", rng)
        side = int(np.clip(ACROSS * nn, *SIZES))
        yield random_image(rng, size=(side, side), materials=[material], nn_px=(nn, nn), scope=scope)


def tally(made: Simulated, found: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Found and right, found, true; and how many of the measurable columns were found."""
    shape = (made.image.shape[0], made.image.shape[1])
    right, missed = match(made.columns, found, spacing=made.nn_px, shape=shape)
    clear = made.columns[made.snr >= MEASURABLE]
    seen, unseen = match(clear, found, spacing=made.nn_px, shape=shape)
    hits, seen_hits = int((right == 1).sum()), int((seen == 1).sum())
    return {
        "hits": hits,
        "found": int((right >= 0).sum()),
        "true": hits + missed,
        "clear_hits": seen_hits,
        "clear": seen_hits + unseen,
        "dose": made.dose,
    }


def rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Pooled over images; f1_err: standard deviation over draws of images."""
    table = np.array([[r["hits"], r["found"], r["true"], r["clear_hits"], r["clear"]] for r in rows], float)
    hits, found, true, clear_hits, clear = table.sum(0)
    draws = np.random.default_rng(0).integers(len(rows), size=(DRAWS, len(rows)))
    many = table[draws].sum(1)
    f1 = 2 * many[:, 0] / np.maximum(many[:, 1] + many[:, 2], 1)
    return {
        "images": len(rows),
        "columns": int(true),
        "f1": round(2 * hits / max(found + true, 1), 4),
        "f1_err": round(float(f1.std()), 4),
        "precision": round(hits / max(found, 1), 4),
        "recall": round(hits / max(true, 1), 4),
        "recall_measurable": round(clear_hits / max(clear, 1), 4),
    }


def by_counts(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Rates by decades of counts at the brightest column."""
    groups = {(low, 10 * low): [r for r in rows if low <= r["dose"] < 10 * low] for low in (1, 10, 100)}
    return {f"{low} to {high} counts": rates(part) for (low, high), part in groups.items() if part}


def measure(model: str, count: int) -> tuple[dict[str, Any], list[tuple[Simulated, npt.NDArray[np.float64]]]]:
    """The rates of a model on each set, and its first images."""
    result: dict[str, Any] = {}
    shown: list[tuple[Simulated, npt.NDArray[np.float64]]] = []
    for number, (name, material) in enumerate(materials().items()):
        start, rows = time.perf_counter(), []
        for made in images(material, count, number):
            found = find_columns(made.image, model=model, refine=False).table[["y", "x"]].to_numpy()
            rows.append(tally(made, found))
            if number == 0 and len(shown) < SHOWN:
                shown.append((made, found))
        result[name] = rates(rows) | {"seconds": round(time.perf_counter() - start, 1)}
        result[name]["by_counts"] = by_counts(rows)
        print(f"{model:40} {name:30} {json.dumps(rates(rows))}", flush=True)
    return result, shown


def draw(shown: dict[str, list[tuple[Simulated, npt.NDArray[np.float64]]]], path: Path) -> None:
    """A row per model: truth as circles, what was found as dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(shown), SHOWN, figsize=(5 * SHOWN, 5 * len(shown)), squeeze=False)
    for row, (model, pictures) in zip(axes, shown.items(), strict=True):
        for axis, (made, found) in zip(row, pictures, strict=True):
            side = min(int(14 * made.nn_px), made.image.shape[0])
            axis.imshow(made.image[:side, :side], cmap="gray")
            axis.plot(made.columns[:, 1], made.columns[:, 0], "o", mfc="none", color="cyan", ms=9)
            axis.plot(found[:, 1], found[:, 0], "r.", ms=5)
            axis.set(xlim=(0, side), ylim=(side, 0), xticks=[], yticks=[])
            axis.set_title(f"{model}: {made.meta['form']}, {made.dose:.0f} counts", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, default=30, help="images of each set")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    out, shown = ROOT / "benchmarks" / "measured" / "custom.json", {}
    measured = json.loads(out.read_text()) if out.exists() else {}
    for model in chosen.models:
        card = read_card(model_folder(model) / "card.toml")
        name = Path(model).name
        found, shown[name] = measure(model, chosen.count)
        keys = ("steps", "batch", "seed", "minutes", "threads", "machine")
        measured[name] = {
            "training": {key: card.training[key] for key in keys},
            "card": {k: v for k, v in card.scores.items() if k != "by_dose"},
            "sets": found,
        }
    out.write_text(json.dumps(measured, indent=1) + "\n")
    draw(shown, ROOT / "out" / "custom.png")


if __name__ == "__main__":
    main()
