"""Pictures: what moves with the sample stands still in the mean, crops are centred."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from atomreel.core.files import write_table
from atomreel.report.pictures import draw_frame, gallery_half, mean_image, tiled, unit_of, without_drift
from atomreel.report.results import Preview, Results, open_results


def moving(path: Path, shifts: list[tuple[int, int]], scale: float) -> Results:
    """A spot that starts at (10, 12) preview px and drifts."""
    frames = np.zeros((len(shifts), 24, 32), np.uint8)
    for frame, (dy, dx) in zip(frames, shifts, strict=True):
        frame[10 + dy, 12 + dx] = 200
    drift = pd.DataFrame(np.array(shifts, float) * scale, columns=["dy", "dx"]).assign(dy_err=0.1, dx_err=0.1)
    write_table(path / "drift.parquet", drift.assign(frame=range(len(shifts))), kind="drift")
    results = Results(path, {"input": {"shape": [int(24 * scale), int(32 * scale)]}})
    results.__dict__["preview"] = Preview(frames, list(range(len(shifts))), scale, None)
    return results


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_mean_follows_the_drift(tmp_path: Path, scale: float) -> None:
    mean = mean_image(moving(tmp_path, [(0, 0), (3, -2), (-4, 5)], scale))
    assert np.unravel_index(np.nanargmax(mean), mean.shape) == (10, 12)
    assert mean[10, 12] == 200


def test_a_drift_beyond_the_frame_leaves_gaps_not_errors(tmp_path: Path) -> None:
    results = moving(tmp_path, [(0, 0), (0, 0)], 1.0)
    drift = pd.DataFrame({"frame": [0, 1], "dy": [500.0, 500.0], "dx": 0.0, "dy_err": 0.1, "dx_err": 0.1})
    write_table(tmp_path / "drift.parquet", drift, kind="drift")
    assert np.isnan(mean_image(results)).all()


def test_positions_without_drift() -> None:
    table = pd.DataFrame({"frame": [0, 2], "y": [5.0, 7.0], "x": [1.0, 1.0]})
    drift = pd.DataFrame({"frame": [0, 1, 2], "dy": [0.0, 1.0, 2.0], "dx": [0.0, 0.0, -1.0]})
    still = without_drift(table, drift)
    assert still["y"].tolist() == [5.0, 5.0] and still["x"].tolist() == [1.0, 2.0]
    assert table["y"].tolist() == [5.0, 7.0]
    assert without_drift(table, None) is table


def test_the_frame_is_hatched_where_the_model_does_not_know_it(whole_run: Path, tmp_path: Path) -> None:
    """More of the mark's colour than without the map, and only in the corner where the map is low."""
    shown = []
    for known in (True, False):
        results = open_results(whole_run)
        if not known:
            results.__dict__["field"] = lambda name: None
        folder = tmp_path / str(known)
        folder.mkdir()
        drawn = draw_frame(results, folder)
        assert ("Hatched" in drawn.caption) == known
        picture = np.asarray(Image.open(folder / "frame.png").convert("RGB")).astype(int)
        shown.append(np.abs(picture - (224, 64, 251)).sum(-1) < 120)
    marked = np.argwhere(shown[0] & ~shown[1])
    assert len(marked) > 200
    assert (marked[:, 0] > 0.5 * shown[0].shape[0]).mean() > 0.99
    assert (marked[:, 1] < 0.5 * shown[0].shape[1]).mean() > 0.99


def test_cells_lie_as_in_the_image() -> None:
    vectors = np.array([[1.0, 8.0], [-7.0, 3.0]])  # a, b as [y, x]
    i, j = (np.mgrid[:32, :32] + 0.5) / 32
    cell = np.exp(-((i - 0.5) ** 2 + (j - 0.5) ** 2) / 0.01)  # one column in the middle of the cell
    picture, finer = tiled(cell, vectors)
    at = (0.5 * vectors[0] + 0.5 * vectors[1]) * finer + picture.shape[0] / 2 - 0.5
    for move in (0 * vectors[0], -vectors[0], -vectors[1]):
        y, x = np.rint(at + move * finer).astype(int)
        assert picture[y, x] > 0.9


def test_preview_pixels_are_blocks_of_movie_pixels() -> None:
    preview = Preview(np.zeros((1, 2, 2), np.uint8), [0], 4.0, None)
    # the centre of a block of 4 × 4 pixels lies between the second and the third
    np.testing.assert_allclose(preview.place([1.5, 5.5]), [0.0, 1.0])


def test_units_and_crops(tmp_path: Path) -> None:
    results = moving(tmp_path, [(0, 0)], 2.0)
    assert unit_of(results, 3) == 3
    calibrated = replace(results, about={"input": {"pixel_A": [0.2, 0.1]}})
    assert unit_of(calibrated, 3) == pytest.approx(0.3)
    assert gallery_half(results) == 6  # a quarter of the height at most
