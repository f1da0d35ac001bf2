from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError
from atomreel.core.image import Movie
from atomreel.core.recipe import load_recipe
from atomreel.pipeline.particles import describe_particles, follow_particles, particles_of_file

FRAMES, SIDE, PAD = 14, 180, 30
DRIFT = np.stack([0.9 * np.arange(FRAMES), -1.3 * np.arange(FRAMES)], axis=1)


def movie_of_discs(rng: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame, list[tuple[int, int]]]:
    """Dark discs that tremble and drift; three pairs coalesce in frame 7 (area^1.5 is kept). Frames, truth, pairs."""
    side = SIDE + 2 * PAD
    grid = np.stack(np.meshgrid(*[np.arange(10, side - 8, 15.0)] * 2, indexing="ij"), -1).reshape(-1, 2)
    where, radius = grid + rng.uniform(-1.5, 1.5, grid.shape), rng.uniform(3.2, 4.2, len(grid))
    alive = np.ones(len(grid), dtype=bool)
    middle = np.argsort(np.hypot(*(grid - side / 2).T))
    pairs = [(int(middle[0]), int(middle[0]) + 1), (int(middle[30]), int(middle[30]) + 1)]
    pairs.append((int(middle[12]), int(middle[12]) + 1))
    for a, b in pairs:
        where[b] = where[a] + (radius[a] + radius[b] + 0.6) * np.array([0.0, 1.0])
    y, x = np.mgrid[:side, :side]
    frames, rows = [], []
    for t in range(FRAMES):
        if t == 7:
            for a, b in pairs:
                sizes = radius[[a, b]] ** 3
                where[a] = (sizes[0] * where[a] + sizes[1] * where[b]) / sizes.sum()
                radius[a], alive[b] = sizes.sum() ** (1 / 3), False
        where = where + rng.normal(0, 0.15, where.shape)
        at = where + DRIFT[t]
        image = np.zeros((side, side))
        for (cy, cx), r in zip(at[alive], radius[alive], strict=True):
            image = np.maximum(image, np.clip(r + 0.5 - np.hypot(y - cy, x - cx), 0, 1))
        image = 100 - 30 * gaussian_filter(image, 0.8) + rng.normal(0, 3.0, image.shape)
        frames.append(image[PAD:-PAD, PAD:-PAD].astype(np.float32))
        table = {"frame": t, "y": at[:, 0] - PAD, "x": at[:, 1] - PAD, "name": np.arange(len(at))}
        inside = ((at > PAD + 5) & (at < PAD + SIDE - 6)).all(1)
        rows.append(pd.DataFrame(table)[alive & inside])
    return np.stack(frames), pd.concat(rows, ignore_index=True), pairs


def test_drift_coalescence_and_counts_of_a_simulated_movie(
    rng: np.random.Generator, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    frames, truth, pairs = movie_of_discs(rng)
    file, out = tmp_path / "movie.tif", tmp_path / "out"
    tifffile.imwrite(file, frames)
    code, said, _ = call("particles", file, "-o", out)
    assert code == 0 and "dark particles" in said and "3 merges" in said
    tracks, events, drift = (pd.read_parquet(out / f"{n}.parquet") for n in ("tracks", "events", "drift"))
    assert np.abs(drift[["dy", "dx"]].to_numpy() - DRIFT).max() < 0.3

    # Every true particle away from the border is found in every frame, and keeps its track.
    named = []
    for t, here in truth.groupby("frame"):
        found = tracks[tracks["frame"] == t]
        gap, near = cKDTree(found[["y", "x"]]).query(here[["y", "x"]])
        assert gap.max() < 1.5
        named.append(here.assign(track=found["track"].to_numpy()[near]))
    joined = pd.concat(named)
    assert (joined.groupby("name")["track"].nunique() == 1).mean() > 0.98
    alone = joined[~joined["name"].isin(np.ravel(pairs))]
    assert alone.groupby("track")["name"].nunique().max() == 1

    merges = events[events["event"] == "merge"]
    assert merges["frame"].eq(7).all() and len(merges) == len(pairs)
    assert not events["event"].isin(["split", "end", "birth"]).any()
    assert events["event"].isin(["enter", "leave"]).sum() > 5
    counts = pd.read_csv(out / "counts.csv")
    assert len(counts) == FRAMES and (counts["count_err"] < 2).all()
    summary = json.loads((out / "particles.json").read_text(encoding="utf-8"))
    assert summary["radius_px"] == pytest.approx(3.7, rel=0.2)
    assert (out / "particles.png").stat().st_size > 5000
    assert "3 merges" in describe_particles(summary)


def test_a_smeared_frame_is_left_out_of_tracks(rng: np.random.Generator) -> None:
    frames, _, _ = movie_of_discs(rng)
    for smeared in (4, 13):  # the last one too: then tracks end before it, which is no event
        frames[smeared] = gaussian_filter(frames[smeared], (0.5, 6.0)) + rng.normal(0, 2.5, frames[0].shape)
    followed = follow_particles(Movie(frames, frames.shape[1:]))
    assert followed.counts.loc[followed.counts["smeared"], "frame"].tolist() == [4, 13]
    assert not followed.tracks["frame"].isin([4, 13]).any()
    assert not followed.events["event"].isin(["birth", "end", "split"]).any()
    assert (followed.events["event"] == "merge").sum() == 3


def test_one_frame_and_bad_input(rng: np.random.Generator, tmp_path: Path) -> None:
    frames, truth, _ = movie_of_discs(rng)
    one = follow_particles(Movie(frames[:1], frames.shape[1:], times=np.array([2.0])))
    assert len(one.events) == 0 and one.counts["t_s"].tolist() == [2.0]
    assert one.counts["count"][0] >= (truth["frame"] == 0).sum()
    with pytest.raises(InputError, match="stands out"):
        follow_particles(Movie(np.zeros((2, 64, 64), np.float32), (64, 64)))
    tifffile.imwrite(tmp_path / "m.tif", frames[:2])
    with pytest.raises(InputError, match="folder"):
        particles_of_file(tmp_path / "m.tif", load_recipe(None), out=tmp_path / "a.csv")


@pytest.mark.data
def test_gold_particles_against_masks(real: Path) -> None:
    """Real movie: counts within 5 % of the masks of recorded frames 20 and 39."""
    from scipy import ndimage

    from atomreel.interpret.particles import find_particles, survey_particles

    folder = real / "au-nanoparticles-750C"
    movie = tifffile.imread(folder / "movie.tif")
    look = survey_particles([movie[0], movie[22], movie[45]])
    for number, counted in ((20, 860), (39, 851)):
        import imageio.v3 as iio

        labels, count = ndimage.label(iio.imread(folder / f"mask_{number}.png")[..., 0] > 127)
        assert count == counted
        found = find_particles(movie[number - 1], look)
        sure = found[found["score"] >= 0.5]
        assert abs(len(sure) / counted - 1) < 0.05
        centres = np.array(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)))
        gap, near = cKDTree(centres).query(sure[["y", "x"]])
        assert 2 * len(set(near[gap < 3])) / (len(sure) + count) > 0.97
