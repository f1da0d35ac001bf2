"""Defects of a movie by a detector that learns from one of its frames: no simulated counterpart, no material needed."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from atomreel.core.errors import AtomreelWarning, InputError, MissingExtraError
from atomreel.core.files import write_json, write_table
from atomreel.core.recipe import Recipe
from atomreel.core.tables import check_table
from atomreel.interpret.reflections import Reflections, find_reflections
from atomreel.interpret.sampling import resampled, residual_at, work_factor
from atomreel.interpret.scenes import LIKELY, SURE, Scene, scene_of
from atomreel.kinetics.emission import class_shares, likelihood_of_scores
from atomreel.pipeline.source import Source, spread
from atomreel.predict.detector import (
    KINDS,
    Calibration,
    calibrate,
    defect_maps,
    detections,
    expected_error,
    recovered,
    twin_detections,
)
from atomreel.predict.windows import activation_maps, classify_windows, crops_at, paste_maps
from atomreel.report.detect import draw_counts, draw_found, draw_labels
from atomreel.report.movie import paint, write_gif, write_mp4
from atomreel.train.oneframe import Plan, train_on_frames

Maps = npt.NDArray[np.float32]
TRIED = 12  # frames among which the sharpest is looked for
WITNESSES = 12  # frames, with their pristine twins, that the scores are calibrated on
UNNAMED = ("none", "pristine")  # answers of a classifier that leave a detection what it was
LEAST = 0.02  # score below which a detection is not even counted
SHOWN = 0.5  # expected in all frames: kinds of fewer, which no detection is called, have no row


@dataclass(frozen=True, eq=False)
class Detected:
    """table: kept defects. counts: per frame and kind. about: what detect.json holds."""

    folder: Path
    table: pd.DataFrame
    counts: pd.DataFrame
    about: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Pass:
    """What one pass over the frames gives. lattice: px of the shortest vector by frame. maps: of previewed frames."""

    tables: dict[int, pd.DataFrame]
    maps: dict[int, Maps]
    lattice: dict[int, float]
    refused: dict[int, str]
    calibration: Calibration
    injected: pd.DataFrame


def detect_movie(
    source: Source, recipe: Recipe, *, out: Path, frame: int | None = None, classifier: str | None = None
) -> Detected:
    """Learn from one frame, find in all.

    frame: number in the file of the one to learn from; by default the sharpest of twelve. classifier: name or folder of a model of
    `predict.windows` that names what is found. Writes into `out`: model/, defects.parquet, counts.csv, detect.json, figures/,
    movie.gif and, where ffmpeg is installed, movie.mp4. Frames without a lattice are told and left out. A killed training goes on.
    Raises InputError where no frame shows a lattice, or not the one named.
    """
    learned, lattice = _choose(source, frame)
    factor = work_factor(lattice)
    own = scene_of(residual_at(source.clean(learned)[0], factor))
    labels = own.spots[own.spots["p"] >= LIKELY]
    if not (own.spots["p"] >= SURE).any():
        warnings.warn(
            f"frame {source.frames[learned]} has no sure defect; the detector learns from artificial ones alone",
            AtomreelWarning,
            stacklevel=2,
        )
    plan = Plan(seed=recipe.run.seed, steps=recipe.detect.steps)
    about: dict[str, Any] = {"frame": source.frames[learned], "factor": factor, "spacing_px": lattice.spacing}
    net, record = train_on_frames([own], out / "model", plan=plan, about=about)
    seen = _pass_over(source, net, own, learned=learned, lattice=lattice, recipe=recipe)
    tables = _named(source, seen, classifier)
    every = _assemble(source, tables)
    kept = every[every["score"] >= recipe.defects.score].reset_index(drop=True)
    counts = count_defects(
        every, source, calibration=seen.calibration, frames=sorted(tables), least=recipe.defects.score
    )
    about |= {
        "chosen": "by the user" if frame is not None else f"the sharpest of {min(TRIED, len(source.frames))}",
        "labels": {kind: int((labels["sign"] == s).sum()) for kind, s in zip(KINDS, (1, -1), strict=True)},
        "labels_expected_right": float(labels["p"].mean()) if len(labels) else None,
        "training": {"steps": record["steps"], "seconds": record["seconds"]},
        "calibration": asdict(seen.calibration),
        "found_again": _found_again(seen.injected),
        "classifier": classifier,
        "frames": len(source.frames),
        "refused": {str(source.frames[i]): why for i, why in seen.refused.items()},
        "defects": len(kept),
    }
    write_table(out / "defects.parquet", check_table(kept, "defects"), kind="defects")
    write_table(out / "counts.csv", counts, kind="counts")
    write_json(out / "detect.json", about)
    _draw(source, seen, kept, counts, own=own, net=net, out=out, about=about, classifier=classifier)
    return Detected(out, kept, counts, about)


def _choose(source: Source, frame: int | None) -> tuple[int, Reflections]:
    """Index of the frame to learn from, and its lattice."""
    if frame is not None:
        if frame not in source.frames:
            raise InputError(
                f"frame {frame} is not among the frames {source.frames[0]} … {source.frames[-1]}"
            )
        index = source.frames.index(frame)
        return index, find_reflections(source.clean(index)[0])
    best: tuple[float, int, Reflections] | None = None
    reasons = []
    for index in spread(len(source.frames), most=TRIED):
        try:
            lattice = find_reflections(source.clean(index)[0])
        except InputError as error:
            reasons.append(f"frame {source.frames[index]}: {error}")
            continue
        sharpness = float(np.log(lattice.power).sum() * lattice.explained)
        if best is None or sharpness > best[0]:
            best = (sharpness, index, lattice)
    if best is None:
        raise InputError(f"no frame to learn from: {reasons[0]}")
    return best[1], best[2]


def _pass_over(
    source: Source, net: torch.nn.Module, own: Scene, *, learned: int, lattice: Reflections, recipe: Recipe
) -> _Pass:
    """All frames through the network, one at a time; some of them once more without and with put-in defects."""
    total = len(source.frames)
    shown = set(spread(total, most=recipe.run.preview))
    witnesses = set(spread(total, most=WITNESSES + 1))
    if len(witnesses) > 1:
        witnesses -= {learned}
    rng = np.random.default_rng([recipe.run.seed, 5])
    tables: dict[int, pd.DataFrame] = {}
    maps, pitch, refused, kept = {}, {}, {}, {}
    factor = work_factor(lattice)
    false = {}
    for index in range(total):
        try:
            residual = residual_at(source.clean(index)[0], factor, known=lattice)
        except InputError as error:
            refused[index] = str(error)
            continue
        scene = scene_of(residual)
        out = defect_maps(net, scene)
        tables[index] = detections(out, scene, factor=factor)
        pitch[index] = float(np.linalg.norm(residual.reflections.vectors, axis=1).min() * factor)
        if index in shown:
            maps[index] = out
        if index in witnesses:
            alone = index == learned
            false[index], kept[index] = twin_detections(net, scene, rng, learned=alone), scene
    if not tables:
        raise InputError(f"no frame shows a lattice; the first: {next(iter(refused.values()))}")
    if not false:  # only the frame that was learned from has a lattice
        false[learned], kept[learned] = twin_detections(net, own, rng, learned=True), own
    calibration = calibrate([tables[i] for i in false], list(false.values()))
    injected = [recovered(net, one, own, rng=rng, calibration=calibration) for one in kept.values()]
    if source.mask is not None:
        tables = {i: one[_within(one, source.mask)].reset_index(drop=True) for i, one in tables.items()}
    tables = {i: one.assign(score=calibration.scores(one), source="detector") for i, one in tables.items()}
    return _Pass(tables, maps, pitch, refused, calibration, pd.concat(injected, ignore_index=True))


def _within(table: pd.DataFrame, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(N,) which rows lie where the mask (Y, X) lets them count."""
    at = np.rint(table[["y", "x"]].to_numpy(float)).astype(int)
    y, x = np.clip(at, 0, np.array(mask.shape) - 1).T
    return np.asarray(mask[y, x] != 0)


def _found_again(injected: pd.DataFrame) -> dict[str, dict[str, float | int]]:
    """Share of the put-in defects that were found, by the height of their z."""
    out = {}
    for low, high in ((3, 4), (4, 6), (6, 10), (10, np.inf)):
        part = injected[(injected["z"] >= low) & (injected["z"] < high)]
        if len(part):
            out[f"{low} to {high:g} sigma"] = {"put_in": len(part), "found": float(part["found"].mean())}
    return out


def _named(source: Source, seen: _Pass, classifier: str | None) -> dict[int, pd.DataFrame]:
    """The tables with kinds of the classifier, where there is one: score is then detector times classifier."""
    tables = {i: one[one["score"] >= LEAST].reset_index(drop=True) for i, one in seen.tables.items()}
    if classifier is None:
        return tables
    out = {}
    for index, table in tables.items():
        image = source.clean(index)[0]
        crops = crops_at(
            image, table[["y", "x"]].to_numpy(), lattice_px=seen.lattice[index], model=classifier
        )
        said = classify_windows(crops, model=classifier)
        named = ~said["kind"].isin(UNNAMED).to_numpy()
        made = table.assign(**{name: said[name].to_numpy() for name in said if name.startswith("p_")})
        made["detected"] = table["kind"]
        made["kind"] = np.where(named, said["kind"], table["kind"])
        made["score"] = np.where(named, table["score"] * said["score"], table["score"])
        out[index] = made.assign(source=np.where(named, "classifier", "detector"))
    return out


def _assemble(source: Source, tables: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """One table; frames count as in the file."""
    parts = [table.assign(frame=source.frames[index]) for index, table in sorted(tables.items())]
    every = pd.concat(parts, ignore_index=True)
    first = ["frame", "y", "x", "y_err", "x_err", "kind", "score", "source"]
    every = every.astype({"frame": "int64", "kind": "str", "source": "str"})
    return every[[*first, *[name for name in every if name not in first]]].reset_index(drop=True)


def count_defects(
    every: pd.DataFrame, source: Source, *, calibration: Calibration, frames: list[int], least: float
) -> pd.DataFrame:
    """frame, t_s (where known), kind, expected, expected_err, hard: number with score ≥ least; of every kind in each of `frames`
    (indices of `source`).

    expected = Σ s q, with s the detector's score and q the probability of the kind (`_of_kinds`), so that what a classifier
    takes for another kind now and then is counted right on average. expected_err² = Σ s q (1 − s q), and what the calibration of the
    detector is uncertain by, which all frames share. What is missed is in neither.
    """
    plain = every.assign(kind=every["detected"]) if "detected" in every else every
    score, shares = calibration.scores(plain), _of_kinds(every, calibration.scores(plain))
    rows = []
    for index in frames:
        here = (every["frame"] == source.frames[index]).to_numpy()
        for kind, share in shares.items():
            p = score[here] * share[here]
            doubt = np.hypot(
                np.sqrt((p * (1 - p)).sum()), expected_error(calibration, plain[here], share[here])
            )
            hard = here & (every["kind"] == kind).to_numpy() & (every["score"] >= least).to_numpy()
            row: dict[str, Any] = {"frame": source.frames[index]}
            if source.movie.times is not None:
                row["t_s"] = float(source.movie.times[index])
            rows.append(
                row | {"kind": kind, "expected": p.sum(), "expected_err": doubt, "hard": int(hard.sum())}
            )
    return pd.DataFrame(rows)


def _of_kinds(every: pd.DataFrame, score: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """kind → (N,) probability that each detection, if real, is of it; 1 in sum. Without a classifier it is what the detector says.

    A classifier's probabilities hold for classes as frequent as in its training; here they are as frequent as all detections together
    make likely. What is none of its kinds stays what the detector said.
    """
    own = every["detected"] if "detected" in every else every["kind"]
    found = {kind: (own == kind).to_numpy(float) for kind in sorted(set(own)) or list(KINDS)}
    answers = every.filter(like="p_")
    if not answers.shape[1] or not len(every):
        return found
    names = [str(name).removeprefix("p_") for name in answers]
    each = class_shares(likelihood_of_scores(answers), weight=score)[1]
    unnamed = each[:, [name in UNNAMED for name in names]].sum(axis=1)
    found = {kind: part * unnamed for kind, part in found.items()}
    named = {name: each[:, k] for k, name in enumerate(names) if name not in UNNAMED}
    shown = set(every["kind"])
    return {k: v for k, v in (named | found).items() if k in shown or float((score * v).sum()) >= SHOWN}


def _draw(
    source: Source,
    seen: _Pass,
    kept: pd.DataFrame,
    counts: pd.DataFrame,
    *,
    own: Scene,
    net: torch.nn.Module,
    out: Path,
    about: dict[str, Any],
    classifier: str | None,
) -> None:
    """Figures and the film."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    image = own.model + own.residual
    draw_labels(image, own.z, own.spots, maps=defect_maps(net, own), frame=int(about["frame"]), folder=folder)
    draw_counts(counts, folder=folder)
    shown = sorted(seen.maps)
    few = [shown[k] for k in spread(len(shown), most=6)]
    rows = {i: kept[kept["frame"] == source.frames[i]] for i in shown}
    pictures = [source.clean(i)[0] for i in few]
    draw_found(pictures, [rows[i] for i in few], [source.frames[i] for i in few], folder=folder)
    painted = []
    for i in shown:
        data = source.clean(i)[0]
        glow = _glow(data, seen, rows[i], index=i, factor=float(about["factor"]), classifier=classifier)
        painted.append(paint(data, rows[i], activation=glow, label=f"frame {source.frames[i]}"))
    write_gif(out / "movie.gif", painted)
    try:
        write_mp4(out / "movie.mp4", painted)
    except MissingExtraError as error:
        warnings.warn(f"no MP4 beside the GIF: {error}", AtomreelWarning, stacklevel=2)


def _glow(
    data: npt.NDArray[Any],
    seen: _Pass,
    rows: pd.DataFrame,
    *,
    index: int,
    factor: float,
    classifier: str | None,
) -> npt.NDArray[np.float64]:
    """(Y, X) what shines over a frame: the classifier's class activation maps, or the detector's own output."""
    if classifier is None:
        own = seen.maps[index][1:].max(0)
        return np.clip(resampled(own, 1 / factor, shape=data.shape), 0, 1)
    named = rows[rows["source"] == "classifier"]
    if not len(named):
        return np.zeros(data.shape)
    where, pitch = named[["y", "x"]].to_numpy(), seen.lattice[index]
    crops = crops_at(data, where, lattice_px=pitch, model=classifier)
    cams = activation_maps(crops, named["kind"].to_numpy(object), model=classifier)
    cams = cams / np.maximum(cams.max((1, 2), keepdims=True), 1e-9)
    return np.clip(paste_maps(data.shape, where, cams, lattice_px=pitch, model=classifier), 0, 1)


def describe_detected(found: Detected) -> list[str]:
    """What the screen says."""
    about = found.about
    labels = ", ".join(f"{number} {kind}" for kind, number in about["labels"].items())
    lines = [
        f"learned from frame {about['frame']} ({about['chosen']}): {labels}; {about['training']['seconds']:.0f} s",
        f"{about['defects']} defects in {about['frames'] - len(about['refused'])} frames",
    ]
    if about["refused"]:
        first = next(iter(about["refused"].values()))
        lines.append(f"{len(about['refused'])} frames left out: {first}")
    return lines
