"""The chain from a movie to defects by a detector that learned from one of its frames, against simulated truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment

from atomreel.core.card import Card, write_card
from atomreel.core.errors import AtomreelWarning, InputError
from atomreel.core.files import read_table
from atomreel.core.recipe import load_recipe
from atomreel.interpret.reflections import find_reflections
from atomreel.interpret.sampling import residual_at, to_image, work_factor
from atomreel.interpret.scenes import scene_of
from atomreel.pipeline.detect import count_defects, describe_detected, detect_movie
from atomreel.pipeline.source import Source, open_source
from atomreel.predict.detector import Calibration
from atomreel.simulate.movie import SimulatedMovie, simulate_ws2_movie
from atomreel.tasks.task import build_network
from atomreel.tasks.windows import TASK

NO_FFMPEG = "ignore:no MP4:atomreel.core.errors.AtomreelWarning"


def opened(folder: Path, frames: np.ndarray) -> Source:
    path = folder / "movie.tif"
    tifffile.imwrite(path, frames, photometric="minisblack")
    return open_source(path, load_recipe(overrides=["input.frame_time_s=2"]).input)


@pytest.mark.filterwarnings(NO_FFMPEG)
def test_a_movie_becomes_tables_figures_and_a_film(tmp_path: Path) -> None:
    movie = simulate_ws2_movie(7, frames=4, size=150, pixel=0.3, dopants=5, vacancies=2)
    frames = np.concatenate([movie.frames, np.random.default_rng(0).poisson(3, (1, 150, 150))]).astype(
        np.uint16
    )
    source = opened(tmp_path, frames)
    found = detect_movie(source, load_recipe(overrides=["detect.steps=30"]), out=tmp_path / "out", frame=1)
    about = json.loads((tmp_path / "out" / "detect.json").read_text())
    assert about["frame"] == 1
    assert list(about["refused"]) == ["4"]
    assert "no lattice" in about["refused"]["4"]
    table = read_table(tmp_path / "out" / "defects.parquet")
    assert {"frame", "y", "x", "y_err", "x_err", "kind", "score", "source"} <= set(table)
    assert set(table["kind"]) <= {"brighter", "dimmer"}
    assert (table["score"] >= 0.5).all()
    assert (table[["y_err", "x_err"]].to_numpy() > 0).all()
    assert set(table["frame"]) <= {0, 1, 2, 3}
    counts = pd.read_csv(tmp_path / "out" / "counts.csv")
    assert set(counts["frame"]) == {0, 1, 2, 3}
    assert np.allclose(counts["t_s"], 2.0 * counts["frame"])
    assert counts["hard"].sum() == len(table)
    for name in (
        "figures/labels.png",
        "figures/found.png",
        "figures/counts.png",
        "movie.gif",
        "model/card.toml",
    ):
        assert (tmp_path / "out" / name).stat().st_size > 200
    assert "learned from frame 1 (by the user)" in describe_detected(found)[0]
    assert "1 frames left out" in describe_detected(found)[2]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of windows: enough to see what goes in and out."""
    folder = tmp_path_factory.mktemp("model") / "windows"
    folder.mkdir()
    network = dict(TASK.network) | {"width": 4, "depth": 1}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(1)
        net = build_network(network)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
    write_card(
        folder / "card.toml",
        Card("windows", "windows", "a test", network, TASK.classes, TASK.input, TASK.scope),
    )
    return folder


@pytest.mark.filterwarnings(NO_FFMPEG)
def test_a_classifier_names_what_it_knows_and_its_answers_stay(tmp_path: Path, classifier: Path) -> None:
    movie = simulate_ws2_movie(7, frames=2, size=150, pixel=0.3, dopants=5, vacancies=2)
    recipe = load_recipe(overrides=["detect.steps=20", "defects.score=0.02"])
    source = opened(tmp_path, movie.frames)
    plain = detect_movie(source, recipe, out=tmp_path / "out", frame=0).table
    mask = np.zeros((150, 150), bool)
    mask[:75] = True
    half = detect_movie(replace(source, mask=mask), recipe, out=tmp_path / "out", frame=0).table
    assert 0 < len(half) < len(plain)
    assert (half["y"] < 75).all()
    named = detect_movie(source, recipe, out=tmp_path / "out", frame=0, classifier=str(classifier)).table
    assert len(named) > 0
    answers = named.filter(like="p_").to_numpy(float)
    assert np.allclose(answers.sum(1), 1)
    best = np.array(TASK.classes)[answers.argmax(1)]
    known = ~np.isin(best, ["none", "pristine"])
    assert list(named["source"]) == ["classifier" if one else "detector" for one in known]
    assert (named["kind"].to_numpy()[known] == best[known]).all()
    assert (named["kind"].to_numpy()[~known] == named["detected"].to_numpy()[~known]).all()
    pairs = named.merge(plain, on=["frame", "y", "x"], suffixes=("", "_plain"))
    assert len(pairs) == len(named)
    share = np.where(known, answers.max(1), 1.0)
    assert np.allclose(pairs["score"], pairs["score_plain"] * share)


def test_counts_are_sums_of_scores_with_their_errors(tmp_path: Path) -> None:
    source = opened(tmp_path, np.random.default_rng(0).integers(0, 9, (3, 40, 40)).astype(np.uint16))
    made = Calibration(
        {"brighter": 0.0, "dimmer": 0.0}, 1.0, 0.0, 3, {}, {}, tuple(map(tuple, np.zeros((4, 4))))
    )
    every = pd.DataFrame({"frame": [0, 0, 2], "kind": "dimmer", "logit": [2.0, -0.5, 9.0], "z": 4.0})
    every["score"] = made.scores(every)
    p = every["score"].to_numpy()
    counts = count_defects(every, source, calibration=made, frames=[0, 2], least=0.5)
    assert list(counts["frame"]) == [0, 2]
    assert np.allclose(counts["expected"], [p[0] + p[1], p[2]])
    exact = np.sqrt(p[0] * (1 - p[0]) + p[1] * (1 - p[1]))
    assert counts["expected_err"][0] == pytest.approx(exact)
    assert list(counts["hard"]) == [1, 1]
    vague = replace(made, covariance=tuple(map(tuple, np.diag([0.0, 0.25, 0.0, 0.0]))))
    more = count_defects(every, source, calibration=vague, frames=[0, 2], least=0.5)["expected_err"][0]
    moved = replace(made, level={"brighter": 0.0, "dimmer": 0.01}).scores(every)[:2].sum() - p[:2].sum()
    assert more == pytest.approx(np.hypot(exact, 0.5 * moved / 0.01), rel=0.01)


def test_counts_know_that_a_classifier_errs(tmp_path: Path) -> None:
    """Most defects are V_S, of which every seventh is taken for V_W: counts by frame are right within their errors."""
    source = opened(tmp_path, np.random.default_rng(0).integers(0, 9, (40, 40, 40)).astype(np.uint16))
    made = Calibration(
        {"brighter": 0.0, "dimmer": 0.0}, 1.0, 0.0, 3, {}, {}, tuple(map(tuple, np.zeros((4, 4))))
    )
    rng = np.random.default_rng(5)
    frame, truth = np.repeat(np.arange(40), 30), rng.choice(2, 1200, p=[0.93, 0.07])
    level = truth + rng.normal(0, 0.5, 1200)
    likelihood = np.exp(-2 * (level[:, None] - np.arange(2)) ** 2)
    p = np.column_stack([0.98 * likelihood / likelihood.sum(1, keepdims=True), np.full((1200, 2), 0.01)])
    every = pd.DataFrame(p, columns=["p_V_S", "p_V_W", "p_pristine", "p_none"])
    every = every.assign(frame=frame, detected="dimmer", logit=20.0, z=4.0, score=p.max(1))
    every["kind"] = np.where(p[:, 0] > p[:, 1], "V_S", "V_W")
    counts = count_defects(every, source, calibration=made, frames=list(range(40)), least=0.5)
    found = counts[counts["kind"] == "V_W"]
    true = np.bincount(frame[truth == 1], minlength=40)
    assert (every["kind"] == "V_W").sum() > 1.8 * true.sum()
    assert found["expected"].sum() == pytest.approx(true.sum(), rel=0.2)
    off = (found["expected"] - true) / found["expected_err"]
    assert 0.8 < np.sqrt((off**2).mean()) < 1.25
    assert counts.groupby("frame")["expected"].sum().to_numpy() == pytest.approx(30, rel=1e-4)


def test_a_movie_without_a_lattice_is_refused(tmp_path: Path) -> None:
    source = opened(tmp_path, np.random.default_rng(0).poisson(5, (2, 96, 96)).astype(np.uint16))
    with pytest.raises(InputError, match=r"no frame to learn from.*no lattice"):
        detect_movie(source, load_recipe(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="frame 9 is not among"):
        detect_movie(source, load_recipe(), out=tmp_path / "out", frame=9)


def matched(found: pd.DataFrame, true: np.ndarray, reach: float) -> np.ndarray:
    """(N,) whether each found one has a true one of its own within reach."""
    if not len(found) or not len(true):
        return np.zeros(len(found), bool)
    gap = np.hypot(*(found[["y", "x"]].to_numpy(float)[:, None] - true).transpose(2, 0, 1))
    rows, columns = linear_sum_assignment(np.minimum(gap, 10 * reach))
    hit = np.zeros(len(found), bool)
    hit[rows] = gap[rows, columns] < reach
    return hit


def truth(movie: SimulatedMovie, frame: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all true defects of a frame, and which lie where the frame shows its lattice."""
    true = movie.defects[movie.defects["frame"] == frame][["y", "x"]].to_numpy(float)
    valid = residual_at(movie.frames[frame].astype(float), factor).valid
    at = np.rint((true + 0.5) / factor - 0.5).astype(int)
    inside = np.all((at >= 0) & (at < valid.shape), axis=1)
    inside[inside] &= valid[tuple(at[inside].T)]
    return true, inside


@pytest.mark.slow
@pytest.mark.filterwarnings(NO_FFMPEG)
def test_frames_never_learned_from_are_at_least_as_good_as_by_the_fourier_method(tmp_path: Path) -> None:
    movie = simulate_ws2_movie(11, frames=6, size=200, pixel=0.25, peak=120, dopants=7, vacancies=6)
    source = opened(tmp_path, movie.frames)
    found = detect_movie(source, load_recipe(overrides=["detect.steps=140"]), out=tmp_path / "out", frame=0)
    factor = work_factor(find_reflections(movie.frames[0].astype(float)))
    score = {}
    scores, hits = [], []
    for name in ("network", "fourier"):
        right = wrong = missed = 0
        for frame in range(1, 6):
            true, inside = truth(movie, frame, factor)
            if name == "network":
                own = found.table[found.table["frame"] == frame]
                dim = own["kind"] == "dimmer"
            else:
                own = scene_of(residual_at(movie.frames[frame].astype(float), factor)).spots
                own = own[own["p"] >= 0.5].assign(
                    y=lambda t: to_image(t["y"], factor), x=lambda t: to_image(t["x"], factor)
                )
                dim = own["sign"] < 0
            hit = matched(own[dim], true, 4.0)
            wrong += int((~dim).sum() + (~hit).sum())
            right += int(hit.sum())
            missed += max(0, int(inside.sum()) - int(hit.sum()))
            if name == "network":
                scores += list(own["score"])
                hits += list(hit) + [False] * int((~dim).sum())
        score[name] = 2 * right / (2 * right + wrong + missed)
    assert score["network"] >= 0.8
    assert score["network"] >= score["fourier"] - 0.02
    assert abs(np.mean(scores) - np.mean(hits)) < 0.12


@pytest.mark.slow
@pytest.mark.filterwarnings(NO_FFMPEG)
def test_a_movie_of_a_perfect_crystal_has_next_to_no_defects(tmp_path: Path) -> None:
    y, x = np.mgrid[:140, :140].astype(float)
    waves = sum(
        np.cos(0.72 * (y * np.cos(a) + x * np.sin(a))) for a in (0.2, 0.2 + np.pi / 3, 0.2 + 2 * np.pi / 3)
    )
    frames = np.random.default_rng(3).poisson(20 + 10 * np.asarray(waves), (5, 140, 140)).astype(np.uint16)
    source = opened(tmp_path, frames)
    with pytest.warns(AtomreelWarning, match="no sure defect"):
        found = detect_movie(source, load_recipe(overrides=["detect.steps=60"]), out=tmp_path / "out")
    assert len(found.table) <= 5  # one per frame
    total, doubt = found.counts["expected"].sum(), found.counts["expected_err"].sum()
    assert total < 3 * doubt  # next to nothing, and known to be
