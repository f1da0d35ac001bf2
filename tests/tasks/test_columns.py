"""Targets lie on the columns after every turn and zoom; peaks, matching and calibration do what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from atomreel.tasks.columns import (
    ColumnTask,
    draw_heat,
    find_peaks,
    match,
)
from atomreel.tasks.task import build_network

TASK = ColumnTask(sizes=(160, 200))


def spots(rng: np.random.Generator, side: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """A jittered square grid of bright spots."""
    line = np.arange(spacing, side - spacing, spacing)
    at = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    at = at + rng.normal(0, 0.08 * spacing, at.shape)
    y, x = np.mgrid[:side, :side]
    image = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * (0.2 * spacing) ** 2)) for a, b in at)
    return np.asarray(image, dtype=np.float32), at.astype(np.float32)


@pytest.mark.parametrize("spacing", [6.0, 14.0, 25.0])
def test_the_heat_map_lies_on_the_columns(spacing: float, rng: np.random.Generator) -> None:
    image, columns = spots(rng, 224, spacing)
    facts = np.array([spacing, 1, 0], dtype=np.float32)
    example = {"image": image.astype(np.float16), "columns": columns, "facts": facts}
    made = next(m for m in (TASK.encode(example, rng) for _ in range(20)) if m["heat"].any())
    assert made["patch"].shape == made["heat"].shape == (1, TASK.patch, TASK.patch)
    inner = made["heat"][0, 16:-16, 16:-16] > 0.9
    assert inner.any()
    patch = ndimage.gaussian_filter(made["patch"][0], 1)
    low = ndimage.gaussian_filter(made["patch"][0], 8)
    assert np.mean((patch - low)[16:-16, 16:-16][inner] > 0) > 0.9


def test_peaks_are_found_between_pixels(rng: np.random.Generator) -> None:
    at = np.array([[10.3, 12.8], [20.0, 30.4], [31.7, 8.2]])
    heat = draw_heat(at, (40, 40))
    found, height, pixel = find_peaks(np.log(heat + 1e-3))
    assert len(found) == 3
    assert np.abs(found - at[np.lexsort((at[:, 1], at[:, 0]))]).max() < 0.05
    assert np.abs(found - pixel).max() <= 0.5
    assert (height > -0.2).all()


def test_heat_of_columns_beyond_the_border() -> None:
    heat = draw_heat(np.array([[-2.0, 5.0], [-50.0, 5.0], [500.0, 500.0]]), (16, 16))
    assert heat.shape == (16, 16)
    assert heat[0, 5] == pytest.approx(np.exp(-0.5 * (2 / 1.5) ** 2), rel=1e-4)


def test_matching_gives_each_column_once() -> None:
    true = np.array([[20.0, 20.0], [20.0, 30.0], [40.0, 40.0]])
    found = np.array([[20.4, 20.0], [20.9, 20.1], [20.0, 31.0], [1.0, 1.0], [60.0, 60.0]])
    right, missed = match(true, found, spacing=8.0, shape=(64, 64))
    assert right.tolist() == [1, 0, 1, -1, -1]
    assert missed == 1


@pytest.mark.slow
def test_a_report_on_an_untrained_network_says_that_it_is_bad() -> None:
    net = build_network({"kind": "columns", "width": 8}).eval()
    report = TASK.score(net, seed=3, examples=6)
    assert report.scores["f1"] < 0.5
    assert 0 < report.threshold < 1


def test_the_loss_has_its_parts(rng: np.random.Generator) -> None:
    image, columns = spots(rng, 192, 10.0)
    example = {"image": image.astype(np.float16), "columns": columns, "facts": np.float32([10, 1, 0])}
    made = [TASK.encode(example, rng) for _ in range(4)]
    batch = {k: torch.from_numpy(np.stack([m[k] for m in made])) for k in made[0]}
    loss, parts = TASK.loss(build_network({"kind": "columns", "width": 8}), batch)
    assert torch.isfinite(loss)
    assert parts == {}
    assert TASK.picture(build_network({"kind": "columns", "width": 8}), batch).dtype == np.uint8
