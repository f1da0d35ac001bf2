"""The task of counting: truth lies on the columns, reading keeps coordinates, the loss falls, scores mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from atomreel.simulate.series import expose, random_shot
from atomreel.tasks.heights import (
    LEVEL_ERR,
    SIDE,
    TASK,
    TOLD,
    HeightsTask,
    _read_turned,
    _turn,
    draw_heights,
    position_errors,
    read_series,
    summarise,
    told,
)
from atomreel.tasks.task import build_network, load_task


@pytest.fixture(scope="module")
def example():
    return TASK.sample(np.random.default_rng(4))


def test_it_is_found_by_name():
    assert load_task("heights") is TASK


def test_truth_lies_on_the_columns_however_it_is_turned(example, rng):
    """The phase of the exit wave at the columns follows their heights, and 0.9 Å beside them it does not reach it."""
    wave = example["wave"].astype(np.float32)
    for _ in range(10):
        turned, columns = _turn(wave[0] + 1j * wave[1], example["columns"], rng)
        phase = np.angle(turned)
        here = ndimage.map_coordinates(phase, columns[:, :2].T, order=1)
        beside = ndimage.map_coordinates(phase, (columns[:, :2] + (3.6, 0.0)).T, order=1)
        thin = columns[:, 2] < 6  # before the phase turns over
        assert (here > beside)[thin].mean() > 0.95
        assert np.corrcoef(here[thin], columns[thin, 2])[0, 1] > 0.6


def test_heights_stand_at_their_columns(rng):
    at = np.array([[20.2, 30.7], [50.0, 11.5]])
    labels = draw_heights(at, np.array([4.0, 9.0], np.float32), 64)
    grid = np.stack(np.mgrid[:32, :32], -1) * 2 + 0.5  # centres of the coarse pixels on the fine grid
    for height, position in zip((4, 9), at, strict=True):
        near = np.linalg.norm(grid - position, axis=-1) < 2.5
        assert (labels[near] == height - 1).all() and near.sum() >= 3
    assert (labels >= 0).sum() <= 14
    assert (draw_heights(np.zeros((0, 2)), np.zeros(0, np.float32), 64) == -1).all()


def test_encoded_examples_have_fixed_shapes(example, rng):
    made = TASK.encode(example, rng)
    assert made["series"].shape == (3, 112, 112) and made["series"].dtype == np.float32
    assert made["heat"].shape == (1, 112, 112) and made["heights"].shape == (56, 56)
    assert made["log_dose"].shape == made["level"].shape == ()
    assert made["heights"].max() < TASK.most and made["heat"].max() > 0.9
    assert example["wave"].shape == (2, SIDE, SIDE)


def test_the_level_of_the_vacuum_is_told_in_the_units_of_the_images(rng):
    """The mean of a series is that of its vacuum, since what is scattered is not lost (tilted light aside)."""
    shot = random_shot(rng)
    levels = np.array([told(shot, rng, pixel=0.25) for _ in range(500)])
    known = np.isfinite(levels)
    assert known[:, 0].mean() == pytest.approx(TOLD, abs=0.06)
    assert known[known[:, 0], 1].mean() == pytest.approx(TOLD, abs=0.06)
    wave = np.ones((64, 64), dtype=np.complex64)
    series = expose(wave, shot, rng, pixel=0.25)
    error = levels[known[:, 1], 1] / series.mean()
    assert np.median(error) == pytest.approx(1, abs=0.02) and error.std() == pytest.approx(LEVEL_ERR, rel=0.2)


def test_the_loss_falls(example):
    rng = np.random.default_rng(0)
    made = [TASK.encode(example, rng) for _ in range(2)]
    batch = {key: torch.from_numpy(np.stack([m[key] for m in made])) for key in made[0]}
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = build_network({"kind": "heights", "width": 8})
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for _ in range(14):
        loss, parts = TASK.loss(net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0] and set(parts) == {"heat", "height"}
    assert TASK.picture(net.eval(), batch).ndim == 2


class Mirror(torch.nn.Module):
    """Says that a column is where the first image is bright, and gives the other images as logits of heights."""

    def forward(self, images, log_dose, level):
        return images[:, :1], torch.nn.functional.avg_pool2d(images[:, 1:], 2)


@pytest.mark.parametrize("pixel", [0.11, 0.19, 0.25])
def test_reading_keeps_coordinates(pixel):
    """Positions and heights belong together whatever the pixel size and however the series was turned inside."""
    true = np.array([[30.3, 41.8], [70.0, 100.4]])
    y, x = np.mgrid[:141, :150].astype(float)
    image = sum(5 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2 / (0.5 / pixel) ** 2) for a, b in true) - 7
    found = read_series(Mirror(), np.stack([image, y, x]), pixel=pixel)
    bright = found.logit > -5
    assert found.position[bright] == pytest.approx(true, abs=0.06)
    assert found.heights[bright] == pytest.approx(true, abs=0.3)


class Lopsided(torch.nn.Module):
    """Answers by the place in what it is given, so that only averaging over all turns makes the answer even."""

    def forward(self, images, log_dose, level):
        ramp = torch.arange(images.shape[3], dtype=torch.float32).expand(1, 1, *images.shape[2:])
        return ramp, torch.nn.functional.avg_pool2d(ramp, 2)


def test_all_eight_turns_are_averaged():
    heat, heights = _read_turned(Lopsided(), torch.zeros((3, 32, 32)), torch.zeros((2, 1)))
    np.testing.assert_allclose(heat, np.full((32, 32), 15.5))
    np.testing.assert_allclose(heights, np.full((1, 16, 16), 15.5))


def test_scores_of_a_reader_that_is_right_nine_times_in_ten(rng):
    n = 4000
    height = rng.integers(0, 12, n)
    said = np.where(rng.random(n) < 0.9, height, (height + 1) % 12)
    logits = np.log(np.where(np.arange(12) == said[:, None], 0.9, 0.1 / 11)).astype(np.float32)
    one = {
        "logit": np.full(n, 3.0),
        "right": np.ones(n, bool),
        "missed": 0,
        "heights": logits,
        "height": height,
    }
    one |= {"dose": 3000.0, "tilt": 0.0}
    scores = summarise([one], {"logit": [0.0, 4.0], "score": [0.0, 1.0], "threshold": 0.5}, 1.0)
    assert scores["f1"] == 1.0 and scores["exact"] == pytest.approx(0.9, abs=0.02)
    assert scores["calibration_error"] < 0.02
    assert list(scores["by_dose"]) == ["aligned 1000 to 6000"]


def test_position_errors_are_the_rms_of_what_was_off(rng):
    logit = np.repeat([0.0, 4.0], 2000)
    error = rng.standard_normal((4000, 2)) * np.where(logit > 2, 0.05, 0.2)[:, None]
    told = position_errors([{"hit_logit": logit, "error": error}], [0.0, 4.0])
    assert told == pytest.approx([0.2, 0.05], rel=0.05)


@pytest.mark.slow
def test_a_score_of_an_untrained_network_is_poor_but_complete():
    net = build_network({"kind": "heights", "width": 8}).eval()
    report = HeightsTask().score(net, seed=1, examples=4)
    assert {"f1", "exact", "within_one", "by_dose"} <= set(report.scores)
    assert {"logit", "score", "temperature", "position_A"} <= set(report.calibration)
    assert report.scores["f1"] < 0.9
