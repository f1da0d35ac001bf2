"""Every figure of Vasudevan et al., npj Comput. Mater. 4, 30 (2018), drawn again with a trained `bravais-2018`.

    python benchmarks/figures_2018.py [MODEL]

MODEL: a folder of `atomreel train bravais-2018`, by default out/bravais-2018. Pictures go to docs/bravais-2018/, the numbers
in them to measured/bravais_2018.json. Figures of a real image are left out where ATOMREEL_DATA has none.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter
from sklearn.manifold import TSNE

from atomreel.core.card import read_card
from atomreel.kinetics.growth import fit_growth
from atomreel.nets.bravais_2018 import PaperNet, amplitude
from atomreel.predict.model import load_model
from atomreel.predict.symmetry import classify_windows, map_symmetry
from atomreel.simulate.bravais import CLASSES, Look, lattice_image, random_tau
from atomreel.simulate.bravais_2018 import paper_window
from atomreel.simulate.stm import render_stm, scan_artefacts
from atomreel.tasks.bravais_2018 import TASK, mistakes
from atomreel.train.models import SCORE_SEED

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "bravais-2018"
DATA = Path(os.environ.get("ATOMREEL_DATA", ROOT.parent / "shared" / "data"))
PASSES = 5000
TASK_SEED = 0  # of the training recipe
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC3311", "#AA4499", "#777777")
SHORT = ("square", "rect.", "centred", "hex.", "oblique", "noise")
Floats = npt.NDArray[np.float64]
GENTLE = Look(width=0.18, disorder=0.03, counts=60, background=0.2)


def save(figure: Figure, name: str, *, dpi: int = 80) -> None:
    """A PNG of 255 colours."""
    path = OUT / f"{name}.png"
    figure.savefig(path, dpi=dpi)
    Picture.open(path).convert("RGB").quantize(255, dither=Picture.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size // 1024, "kB", flush=True)


def spectrum(image: npt.NDArray[Any], reach: int = 32) -> Floats:
    """Root of the Fourier amplitude, to look at."""
    shown = np.abs(np.fft.fftshift(np.fft.fft2(image - image.mean())))
    cy, cx = shown.shape[0] // 2, shown.shape[1] // 2
    return np.sqrt(shown[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1])


def show(axes: Axes, image: npt.NDArray[Any], title: str = "", *, wrong: bool = False) -> None:
    axes.imshow(image, cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8, color="#CC3311" if wrong else "black")
    for side in axes.spines.values():
        side.set(color="#CC3311" if wrong else "black", linewidth=2.5 if wrong else 0.5)


def bars(axes: Axes, answers: dict[str, tuple[Floats, Floats]]) -> None:
    """Probabilities with one standard deviation; one group of bars per network."""
    width = 0.8 / len(answers)
    for k, (name, (mean, std)) in enumerate(answers.items()):
        x = np.arange(6) + (k - (len(answers) - 1) / 2) * width
        axes.bar(x, mean, width, yerr=std, capsize=2, color=("#4477AA", "#BBBBBB", "#EE8866")[k], label=name)
    axes.set_xticks(range(6), SHORT, fontsize=8)
    axes.set(ylim=(0, 1.15), ylabel="probability")
    if len(answers) > 1:
        axes.legend(fontsize=7, frameon=False)


def training_set() -> None:
    rng = np.random.default_rng(1)
    figure = Figure(figsize=(9, 9.2), layout="constrained")
    grid = figure.subplots(6, 6)
    for row, name in enumerate(CLASSES):
        for column in range(3):
            image = paper_window(name, rng=rng).image
            show(grid[row, 2 * column], image, name if column == 0 else "")
            show(grid[row, 2 * column + 1], spectrum(image))
    save(figure, "training-set", dpi=60)


def epochs(curve: Path) -> None:
    table = pd.read_csv(curve)
    steps = TASK.recipe["first"] // TASK.recipe["batch"]
    seen = table.dropna(subset=["accuracy"])
    trained = seen.groupby(((seen.step - 1) // steps + 1).astype(int)).accuracy.mean()
    held = table.dropna(subset=["held_out_accuracy"])
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(trained.index, trained, "o-", ms=3, color="#4477AA", label="training, with dropout")
    axes.plot(held.step / steps, held.held_out_accuracy, "s-", ms=3, color="#CC3311", label="held out")
    axes.axhline(0.85, color="black", ls="--", lw=0.8, label="0.85, the paper's plateau")
    axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0.5, 1), xlim=(0, 31))
    axes.legend(fontsize=8, frameon=False)
    save(figure, "epochs")


def held_out(count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Windows that training never saw, the first of those that the card's scores were measured on."""
    images = []
    for i in range(-(-count // 6)):
        rng = np.random.default_rng([SCORE_SEED + TASK_SEED, 2, i])
        images += [paper_window(name, rng=rng).image for name in CLASSES]
    return np.stack(images[:count]), np.tile(np.arange(6), -(-count // 6))[:count]


def examples(model: Path) -> None:
    images, labels = held_out(18)
    mean, _ = classify_windows(images, model=model, passes=PASSES, rng=0)
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    for axes, image, label, p in zip(
        figure.subplots(3, 6).T.ravel(), images.reshape(3, 6, 128, 128).swapaxes(0, 1).reshape(-1, 128, 128),
        labels.reshape(3, 6).T.ravel(), mean.reshape(3, 6, 6).swapaxes(0, 1).reshape(-1, 6), strict=True,
    ):  # fmt: skip
        top = int(p.argmax())
        title = f"pred: {CLASSES[top]} ({p[top]:.2f})\nactual: {CLASSES[label]}"
        show(axes, spectrum(image), title, wrong=top != label)
    save(figure, "examples")


def confusion(scores: dict[str, Any]) -> None:
    table = np.array(scores["confusion"])
    share = table / table.sum(1, keepdims=True)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(6), SHORT, fontsize=8)
    axes.set_yticks(range(6), SHORT, fontsize=8)
    axes.set(xlabel="answer", ylabel="truth", title=f"{table.sum():,} held-out windows")
    save(figure, "confusion")


def wrong_answers(model: Path) -> dict[str, Any]:
    """Fig. 3 a–c: how sure wrong answers are, and one of them with its posterior."""
    images, labels = held_out(1200)
    p, _ = classify_windows(images, model=model, passes=PASSES, rng=0)
    found = mistakes(p, labels)
    wrong = np.flatnonzero(p.argmax(1) != labels)
    second = [i for i in wrong if np.argsort(-p[i])[1] == labels[i]]
    chosen = min(second, key=lambda i: abs(p[i].max() - np.median(p[wrong].max(1))))
    answer = tuple(v[0] for v in classify_windows(images[chosen][None], model=model, passes=PASSES, rng=0))
    figure = Figure(figsize=(9.5, 3), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1.2))
    bins = np.linspace(0, 1, 21)
    left.hist(p[wrong].max(1), bins, color="#CC3311")
    title = f"{len(wrong)} of 1,200 wrong, {len(second)} of them right at second"
    left.set(xlabel="confidence of wrong answers", ylabel="windows")
    left.set_title(title, fontsize=9)
    show(middle, spectrum(images[chosen]), f"truth: {CLASSES[labels[chosen]]}")
    bars(right, {"": answer})
    save(figure, "wrong-answers")
    return {
        "windows": 1200,
        "wrong": found["wrong"],
        "wrong_with_true_second": found["wrong_with_true_second"],
        "confidence_of_wrong": found["confidence_of_wrong"],
        "confidence_of_right": float(p.max(1)[p.argmax(1) == labels].mean()),
        "wrong_below_0.65": float((p[wrong].max(1) < 0.65).mean()),
    }


def histograms(model: Path) -> None:
    """What 5,000 passes say of a sure and of an unsure window: the draws themselves."""
    net = paper_net(model)
    images, labels = held_out(120)
    p, _ = classify_windows(images, model=model)
    lattice = labels < 5
    unsure = int(np.argmin(np.where(lattice, np.abs(p.max(1) - 0.55), 9)))
    sure = int(np.argmin(np.where(lattice, np.abs(p.max(1) - 0.97), 9)))
    figure = Figure(figsize=(9.5, 2.8), layout="constrained")
    for axes, k in zip(figure.subplots(1, 2), (sure, unsure), strict=True):
        with torch.inference_mode():
            shown = amplitude(torch.from_numpy(images[k])[None], reach=net.reach)
            drawn = net.sample(shown, passes=PASSES, generator=torch.Generator().manual_seed(0))
        drawn = drawn.softmax(-1)[:, 0].numpy()
        for c in np.argsort(-drawn.mean(0))[:3]:
            label = f"{CLASSES[c]}: {drawn[:, c].mean():.2f} ± {drawn[:, c].std():.2f}"
            axes.hist(drawn[:, c], np.linspace(0, 1, 51), alpha=0.6, color=COLOURS[c], label=label)
        axes.set(xlabel="probability of a pass", ylabel="passes", title=f"truth: {CLASSES[labels[k]]}")
        axes.legend(fontsize=8, frameon=False)
    save(figure, "dropout")


def paper_net(model: Path) -> PaperNet:
    net = load_model(model)[0]
    if not isinstance(net, PaperNet):
        raise SystemExit(f"{model}: not a model of the task bravais-2018")
    return net


def embedding(model: Path) -> None:
    """Fig. 4: t-SNE, perplexity 10, of the 128 numbers before the last layer, 1,000 training images."""
    net = paper_net(model)
    made = [TASK.sample(np.random.default_rng([TASK_SEED, 0, i])) for i in range(167)]
    shown = torch.from_numpy(np.concatenate([e["amplitude"] for e in made])[:1000]).float()[:, None]
    labels = np.concatenate([e["label"] for e in made])[:1000]
    with torch.inference_mode():
        vectors = torch.cat([net.hidden(net.flat(part)) for part in shown.split(64)]).numpy()
    where = TSNE(perplexity=10, random_state=0, init="pca").fit_transform(vectors)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(CLASSES):
        axes.scatter(*where[labels == k].T, s=7, color=COLOURS[k], label=name)
    axes.set(xticks=[], yticks=[], title="1,000 training images, perplexity 10")
    axes.legend(fontsize=8, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(figure, "tsne")


def real_stm() -> npt.NDArray[np.float32] | None:
    """The paper's own STM image of graphene with drift (its supplement), grey."""
    files = sorted((DATA / "real" / "stm-hexagonal-drift").glob("*.tif"))
    if not files:
        return None
    image = np.asarray(Picture.open(files[0]).convert("RGB"), np.float32)
    return image.mean(-1)


def middle(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    top, left = ((n - side) // 2 for n in image.shape)
    return image[top : top + side, left : left + side]


def window_study(model: Path) -> dict[str, Any]:
    """Fig. 3 d–f: whole, half and quarter of an image; and the same over many simulated images."""
    rng, shares = np.random.default_rng(3), (1, 2, 4)
    confidence: dict[int, list[float]] = {s: [] for s in shares}
    for name in (*CLASSES[:5],) * 12:
        tau = random_tau(name, rng=rng, margin=(0.1, np.inf))
        image = lattice_image(tau, a=22 / abs(tau) ** 0.5, look=GENTLE, size=256, rng=rng)
        for s in shares:
            p, _ = classify_windows(middle(image, 256 // s)[None], model=model, passes=PASSES, rng=0)
            confidence[s].append(float(p.max()))
    found: dict[str, Any] = {"simulated": {f"1/{s}": float(np.mean(confidence[s])) for s in shares}}
    image = real_stm()
    figure = Figure(figsize=(9.5, 3), layout="constrained")
    axes = figure.subplots(1, 3 if image is not None else 1, squeeze=False)[0]
    means = [np.mean(confidence[s]) for s in shares]
    errors = [np.std(confidence[s]) / np.sqrt(len(confidence[s])) for s in shares]
    axes[-1].errorbar(range(3), means, errors, fmt="o-", color="#4477AA", capsize=3)
    axes[-1].set_xticks(range(3), ("whole", "½", "¼"))
    axes[-1].set(ylim=(0.3, 1), ylabel="mean confidence", title="60 simulated images")
    if image is not None:
        side = min(image.shape)
        show(axes[0], middle(image, side), "STM of graphene (paper)")
        for s in shares[1:]:
            low = (side - side // s) / 2
            axes[0].add_patch(_box(low, side // s))
        both = [
            classify_windows(middle(image, side // s)[None], model=model, passes=PASSES, rng=0)
            for s in shares
        ]
        for k in (3, 4, 5):
            p, std = ([v[i][0, k] for v in both] for i in (0, 1))
            axes[1].errorbar(range(3), p, std, fmt="o-", color=COLOURS[k], capsize=3, label=CLASSES[k])
        axes[1].set_xticks(range(3), ("whole", "½", "¼"))
        axes[1].set(ylim=(0, 1.05), ylabel="probability")
        axes[1].legend(fontsize=8, frameon=False)
        found["stm-hexagonal-drift"] = {
            f"1/{s}": dict(zip(CLASSES, np.round(v[0][0], 3).tolist(), strict=True))
            for s, v in zip(shares, both, strict=True)
        }
    save(figure, "window-size")
    return found


def _box(low: float, side: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((low, low), side, side, fill=False, color="#CC3311", lw=1.5)


def graphene(*, drift: float, moire: float = 0.0, defects: int = 0, seed: int = 0) -> npt.NDArray[np.float32]:
    """(256, 256) STM-like image of one sublattice of graphene, 16 px apart, under a shear x′ = x + drift·y."""
    rng, a, size = np.random.default_rng(seed), 16.0, 256
    i, j = (n.ravel() for n in np.meshgrid(np.arange(-40, 41), np.arange(-40, 41)))
    turn = np.exp(1j * np.deg2rad(11))
    z = a * turn * (i + j * np.exp(1j * np.pi / 3))
    y, x = z.imag + size / 2, z.real + size / 2 + drift * z.imag
    heights = np.ones(len(y))
    if moire:  # a superlattice 6.1 spacings wide, turned against the atoms
        waves = [np.exp(1j * np.deg2rad(23 + 60 * k)) / (6.1 * a) for k in range(3)]
        phases = [2 * np.pi * (w.real * x + w.imag * y) for w in waves]
        heights = heights + moire * np.mean([np.cos(p) for p in phases], axis=0)
    inside = (y > -20) & (y < size + 20) & (x > -20) & (x < size + 20)
    y, x, heights = y[inside], x[inside], heights[inside]
    for n, k in enumerate(rng.choice(len(y), defects, replace=False)):
        near = np.hypot(y - y[k], x - x[k]) < 1.1 * a * (n % 2)
        heights = np.where(
            near, 1.6 * heights, heights
        )  # lobes around a defect are raised, in every second case
        heights[k] = 0
    clean = render_stm(np.column_stack([y, x]), heights, (size, size), fwhm=8.5)
    return scan_artefacts(clean, rng, noise=0.08, lines=0.05)


def edge_cases(model: Path) -> dict[str, Any]:
    """Fig. 5: drift makes the hexagonal lattice oblique; moiré and defects must not."""
    cases = {
        "5 % of shear": graphene(drift=0.05),
        "20 % of shear": graphene(drift=0.2),
        "moiré and defects": graphene(drift=0, moire=1.0, defects=12),
    }
    image = real_stm()
    if image is not None:
        cases["STM of graphene (paper)"] = middle(image, min(image.shape))
    figure = Figure(figsize=(9.5, 2.9 * len(cases)), layout="constrained")
    found: dict[str, Any] = {}
    for (title, shown), (left, centre, right) in zip(
        cases.items(), figure.subplots(len(cases), 3, width_ratios=(1, 1, 1.6)), strict=True
    ):
        answers = {
            name: tuple(v[0] for v in classify_windows(shown[None], model=which, passes=PASSES, rng=0))
            for name, which in (("bravais-2018", model), ("bravais (default)", None))
        }
        show(left, shown, title)
        show(centre, spectrum(shown))
        bars(right, answers)
        found[title] = {
            name: dict(zip(CLASSES, np.round(mean, 3).tolist(), strict=True))
            for name, (mean, _) in answers.items()
        }
    save(figure, "edge-cases", dpi=66)
    return found


def drift_curve(model: Path) -> dict[str, Any]:
    """The likeliest classes of the hexagonal lattice as the shear grows (its supplement, Fig. 4 and 5)."""
    drifts = np.linspace(0, 0.3, 16)
    rows = []
    for drift in drifts:
        shown = np.stack([graphene(drift=drift, seed=seed) for seed in range(4)])
        rows.append([v.mean(0) for v in classify_windows(shown, model=model, passes=PASSES, rng=0)])
    mean, std = (np.array([row[k] for row in rows]) for k in (0, 1))
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for k in (2, 3, 4):
        axes.errorbar(100 * drifts, mean[:, k], std[:, k], fmt="o-", ms=3, capsize=2, color=COLOURS[k], label=CLASSES[k])  # fmt: skip
    axes.set(xlabel="shear by drift [%]", ylabel="probability", ylim=(0, 1.05))
    axes.legend(fontsize=8, frameon=False)
    save(figure, "drift")
    return {
        "shear": drifts.round(3).tolist(),
        **{CLASSES[k]: mean[:, k].round(3).tolist() for k in (2, 3, 4)},
    }


def movie(model: Path) -> dict[str, Any]:
    """Fig. 6: a hole that grows in a hexagonal layer; maps of one frame, fractions against time, threshold, fit."""
    rng, size, a = np.random.default_rng(12), 384, 12.0
    times = np.linspace(0, 225, 26)
    true = {"rho": 0.03, "a0": 3e-4, "c": 0.02}
    i, j = (n.ravel() for n in np.meshgrid(np.arange(-80, 81), np.arange(-80, 81)))
    z = a * (i + j * np.exp(1j * np.pi / 3)) * np.exp(0.2j)
    sites = np.column_stack([z.imag, z.real]) + size / 2
    sites = sites[((sites > -20) & (sites < size + 20)).all(1)]
    fractions, thresholded, areas, frames = [], [], [], []
    for t in times:
        area = true["a0"] * np.exp(true["rho"] * t) + true["c"]
        radius = np.sqrt(area / np.pi) * size
        gone = np.hypot(*(sites - (0.62 * size, 0.66 * size)).T) < radius
        moved = sites[~gone] + rng.normal(0, 0.04 * a, (int((~gone).sum()), 2))
        clean = render_stm(moved, np.ones(len(moved)), (size, size), fwhm=6.5)
        frame = rng.poisson(12 * np.clip(clean, 0, None) + 2).astype(np.float32)
        field = map_symmetry(frame, window=128, step=16, model=model)
        fractions.append([float(field.maps[f"p_{name}"].mean()) for name in CLASSES])
        smooth = gaussian_filter(frame, a / 2)
        thresholded.append(float((smooth < 0.5 * np.median(smooth)).mean()))
        areas.append(float(area))
        frames.append((frame, field))
    return _draw_movie(times, frames, np.array(fractions), np.array(thresholded), areas)


def _draw_movie(
    times: Floats, frames: list[Any], fractions: Floats, thresholded: Floats, areas: list[float]
) -> dict[str, Any]:
    noise = fractions[:, 5]
    fit = fit_growth(times, noise)
    figure = Figure(figsize=(9.5, 5.4), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, n in zip(grid[0], (0, len(times) - 6, len(times) - 1), strict=True):
        show(axes, frames[n][0], f"{times[n]:.0f} s")
    for axes, name in zip(grid[1], ("noise", "oblique"), strict=False):
        axes.imshow(frames[-1][1].maps[f"p_{name}"], vmin=0, vmax=1, cmap="magma", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"p({name}), last frame", fontsize=8)
    axes = grid[1, 2]
    for k in (3, 4, 5):
        axes.plot(times, fractions[:, k], "-", color=COLOURS[k], label=CLASSES[k])
    axes.plot(times, thresholded, "o", color="black", ms=3, label="dark by threshold")
    grown = fit.a0.value * np.exp(fit.rho.value * (times - times[0])) + fit.c.value
    axes.plot(times, grown, "k--", lw=1, label="A₀·exp(ρt) + C")
    axes.set(xlabel="t [s]", ylabel="mean fraction", ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False)
    save(figure, "movie")
    return {
        "rho_per_s": [fit.rho.value, fit.rho.low, fit.rho.high],
        "rho_true": 0.03,
        "noise_fraction_last": float(noise[-1]),
        "threshold_fraction_last": float(thresholded[-1]),
        "true_fraction_last": areas[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "out" / "bravais-2018")
    model = parser.parse_args().model
    OUT.mkdir(exist_ok=True)
    card = read_card(model / "card.toml")
    training_set()
    epochs(model / "curve.csv")
    examples(model)
    confusion(dict(card.scores))
    found: dict[str, Any] = {"scores": dict(card.scores), "training": dict(card.training)}
    found["wrong_answers"] = wrong_answers(model)
    histograms(model)
    embedding(model)
    found["window_size"] = window_study(model)
    found["edge_cases"] = edge_cases(model)
    found["drift"] = drift_curve(model)
    found["movie"] = movie(model)
    measured = Path(__file__).parent / "measured" / "bravais_2018.json"
    measured.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
