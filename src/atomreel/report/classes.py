"""Figures of defects by class: how many classes, what they look like, how many of each over time, where they went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from atomreel.report.curves import band, legend
from atomreel.report.drawing import (
    BRIGHT,
    COLOURS,
    Drawing,
    draw_scale,
    figure,
    finish,
    picture_axes,
    plain,
    style,
)

Floats = npt.NDArray[np.float64]
EXAMPLES = 6  # crops of a class beside its mean
MOST_KINDS = 8
PAUSE = 1.5  # usual steps: beyond it no line is drawn
DASHES = {"tied": "--", "full": "-"}


def draw_criteria(criteria: pd.DataFrame, *, folder: Path) -> Drawing:
    """class_number.png and .svg in `folder`: BIC and ICL against the number of classes. criteria: classes, shape, bic, icl, chosen."""
    with style():
        made, ((ax,),) = figure()
        best = float(min(criteria["bic"].min(), criteria["icl"].min()))
        for k, (name, colour) in enumerate(zip(("bic", "icl"), COLOURS, strict=False)):
            for shape, own in criteria.groupby("shape"):
                label = f"{name.upper()}, {'one spread for all' if shape == 'tied' else 'each its own'}"
                ax.plot(
                    own["classes"],
                    own[name] - best,
                    DASHES[str(shape)],
                    marker="os"[k],
                    ms=4,
                    color=colour,
                    label=label,
                )
        chosen = criteria[criteria["chosen"]]
        if len(chosen):
            ax.axvline(float(chosen["classes"].iloc[0]), color=COLOURS[4], lw=1.0)
        ax.set(xlabel="number of classes", ylabel="above the best")
        ax.set_yscale("symlog", linthresh=10)
        ax.set_ylim(-3, None)
        ax.set_xticks(sorted(criteria["classes"].unique()))
        ax.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        caption = "Two criteria for the number of classes, the lower the better; the line marks the number taken. ICL also asks that classes can be told apart."
        return finish(made, folder, "class_number", title="How many classes", caption=caption)


def draw_classes(
    images: npt.ArrayLike,
    probability: npt.ArrayLike,
    names: tuple[str, ...],
    *,
    unit: float,
    calibrated: bool,
    folder: Path,
    name: str = "classes",
) -> Drawing:
    """NAME.png and .svg in `folder`: a row per class, its mean crop and the crops that are surest in it.

    images: (N, size, size). probability: (N, k). names: of the classes. unit: Å, or px where that is not known, of one pixel.
    """
    crops, chance = np.asarray(images, dtype=float), np.asarray(probability, dtype=float)
    label, k = chance.argmax(axis=1), chance.shape[1]
    low, high = np.quantile(crops, [0.002, 0.998])
    with style():
        made, grid = figure(1.5 * (EXAMPLES + 1), 1.72 * k, rows=k, columns=EXAMPLES + 1)
        for row, members in enumerate(grid):
            own = np.flatnonzero(label == row)
            share = chance[:, row] / max(float(chance[:, row].sum()), 1e-300)
            for ax in members:
                picture_axes(ax)
            members[0].imshow(np.einsum("n,nyx->yx", share, crops), cmap="gray", vmin=low, vmax=high)
            members[0].set_title(f"{plain(names[row])}\nmean of {len(own)}", fontsize=8)
            draw_scale(members[0], crops.shape[1:], unit, calibrated=calibrated)
            sure = own[np.argsort(-chance[own, row], kind="stable")]
            spread = (
                sure[
                    np.unique(
                        np.linspace(0, max(len(sure) // 2, min(len(sure), EXAMPLES)) - 1, EXAMPLES).astype(
                            int
                        )
                    )
                ]
                if len(sure)
                else sure
            )
            for ax, n in zip(members[1:], spread, strict=False):
                ax.imshow(crops[n], cmap="gray", vmin=low, vmax=high)
                ax.set_title(f"p {chance[n, row]:.2f}", fontsize=8)
        caption = "Mean crop of each class, every crop weighted by its probability, and single ones from the surer half of it."
        return finish(made, folder, name, title="Defects by class", caption=caption, wide=True)


def draw_class_counts(
    table: pd.DataFrame, *, frames: npt.ArrayLike, times: npt.ArrayLike | None, folder: Path
) -> Drawing:
    """counts.png and .svg in `folder`: defects of each kind against time, Σ of their probabilities with its 1σ.

    table: frame, kind, score (probability). frames: those that were judged; the others are gaps.
    """
    shown = np.asarray(frames, dtype=np.int64)
    at = shown.astype(float) if times is None else np.asarray(times, dtype=float)[shown]
    step = np.diff(at)
    breaks = np.flatnonzero(step > PAUSE * np.median(step)) + 1 if len(step) else np.zeros(0, dtype=np.int64)
    with style():
        made, ((ax,),) = figure(7.0, 3.0)
        kinds = table["kind"].value_counts().index[:MOST_KINDS]
        for kind, colour in zip(kinds, COLOURS, strict=False):
            own = table[table["kind"] == kind]
            p = own["score"].clip(0, 1)
            per = pd.DataFrame({"frame": own["frame"], "p": p, "v": p * (1 - p)}).groupby("frame").sum()
            per = per.reindex(shown, fill_value=0.0)
            mean, error = (np.insert(v, breaks, np.nan) for v in (per["p"], np.sqrt(per["v"])))
            band(ax, np.insert(at, breaks, np.nan), mean, error=error, colour=colour, label=plain(kind))
        ax.set(xlabel="frame" if times is None else "time (s)", ylabel="in the frame", ylim=(0, None))
        legend(ax)
        caption = (
            "Defects of each kind: the sum of their probabilities, and the 1σ that doubt about them makes."
        )
        return finish(made, folder, "counts", title="Counts against time", caption=caption, wide=True)


def draw_paths(
    mean: npt.ArrayLike,
    paths: pd.DataFrame,
    kinds: Mapping[int, str],
    *,
    unit: float,
    calibrated: bool,
    folder: Path,
) -> Drawing:
    """paths.png and .svg in `folder`: tracks over the mean image, coloured by what kind of trajectory they are.

    mean: (Y, X). paths: track, frame, y, x in its pixels. kinds: of each track, in words. unit: Å, or px where that is not known, of one pixel.
    """
    image = np.asarray(mean, dtype=float)
    height, width = image.shape
    words = sorted(set(kinds.values()))
    with style():
        made, ((ax,),) = figure(5.8, min(5.8 * height / width, 9.0) + 0.3)
        picture_axes(ax)
        ax.imshow(image, cmap="gray")
        told: set[str] = set()
        for track, own in paths.sort_values("frame").groupby("track"):
            word = kinds.get(int(track), "")
            colour = BRIGHT[words.index(word) % len(BRIGHT)] if word in words else BRIGHT[-1]
            label = plain(word) if word not in told else None
            told.add(word)
            where = own[["y", "x"]].to_numpy()
            ax.plot(where[:, 1], where[:, 0], color=colour, lw=1.3, label=label)
            ax.plot(where[-1:, 1], where[-1:, 0], "o", color=colour, ms=4, mec="black", mew=0.5)
        draw_scale(ax, image.shape, unit, calibrated=calibrated)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8)
        caption = f"{paths['track'].nunique()} tracks over the mean image, drift removed; dots mark their last positions, colours their kind."
        return finish(made, folder, "paths", title="Tracks by kind", caption=caption)
