"""Columns of crystals that a generator of its own makes: found, placed, scored as a probability, whatever the tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.core.tables import SCHEMAS
from atomreel.nets.columns import ColumnFinder
from atomreel.predict import columns
from atomreel.predict.columns import DECODERS, Survey, detect, find_columns, survey_columns
from atomreel.predict.model import load_model

# cell vectors (y, x) and basis with brightness, nearest distance about 1
CELLS = {
    "honeycomb": ([[0, 1.732], [1.5, 0.866]], [(0, 0, 1.0), (1 / 3, 1 / 3, 1.0)]),
    "square": ([[0, 1], [1, 0]], [(0, 0, 1.0)]),
    "two species": ([[0, 1.732], [1.5, 0.866]], [(0, 0, 1.0), (1 / 3, 1 / 3, 0.4)]),
    "dumbbells": ([[0, 4.0], [2.83, 0]], [(0, 0, 1.0), (0, 0.25, 0.9), (0.5, 0.5, 1.0), (0.5, 0.75, 0.9)]),
    "oblique": ([[0, 1], [1.2, 0.35]], [(0, 0, 1.0)]),
}


@dataclass(frozen=True)
class Scene:
    image: np.ndarray
    columns: np.ndarray
    spacing: float
    brightness: np.ndarray


def scene(
    seed: int, cell: str, *, spacing: float, counts: float, dark: bool = False, side: int = 256
) -> Scene:
    """Gaussian columns on a rotated lattice with 2 % vacancies and Poisson noise; `counts` per bright column.

    dark: columns are dips of a fifth in an even field, as in HRTEM, with the same signal-to-noise ratio.
    """
    rng = np.random.default_rng([seed, 99])
    vectors, basis = np.array(CELLS[cell][0], dtype=float), CELLS[cell][1]
    turn = rng.uniform(0, np.pi)
    vectors = spacing * vectors @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    n = int(1.6 * side / spacing) + 3
    index = np.stack(np.meshgrid(np.arange(-n, n), np.arange(-n, n)), -1).reshape(-1, 2)
    at = np.concatenate([(index + b[:2]) @ vectors for b in basis]) + side / 2 + rng.uniform(0, spacing, 2)
    weight = np.repeat([b[2] for b in basis], len(index))
    keep = np.all((at > -spacing) & (at < side + spacing), axis=1) & (rng.random(len(at)) > 0.02)
    at, weight = at[keep] + rng.normal(0, 0.02 * spacing, (keep.sum(), 2)), weight[keep]
    width = 0.24 * spacing
    # delta functions shared out bilinearly over an oversampled grid, then blurred
    fine, pad = 4, int(2 * spacing)
    grid = np.zeros((fine * (side + 2 * pad),) * 2)
    cell_at = np.rint((at + pad + 0.5) * fine - 0.5).astype(int)
    np.add.at(grid, (cell_at[:, 0], cell_at[:, 1]), weight)
    clean = ndimage.gaussian_filter(grid, width * fine, truncate=5)
    clean = clean.reshape(side + 2 * pad, fine, side + 2 * pad, fine).sum((1, 3))[pad:-pad, pad:-pad]
    at = (cell_at + 0.5) / fine - 0.5 - pad  # where they were put, to the fine grid
    if dark:
        peak = 1 / (2 * np.pi * width**2)
        level = 25 * counts * peak
        expected = level * (1 - 0.2 * clean / peak)
    else:
        expected = counts * (clean + 0.05 / (2 * np.pi * width**2))
    inside = np.all((at > -0.5) & (at < side - 0.5), axis=1)
    return Scene(rng.poisson(np.maximum(expected, 0)).astype(np.float32), at[inside], spacing, weight[inside])


def rates(true: Scene, table: object) -> tuple[int, int, int, np.ndarray]:
    """Hits, false ones and misses away from the border, and distances of the hits."""
    found = table[["y", "x"]].to_numpy()  # type: ignore[index]
    side, edge = true.image.shape[0], 0.6 * true.spacing
    inner = [np.all((p > edge) & (p < side - 1 - edge), axis=1) for p in (true.columns, found)]
    near, _ = cKDTree(found).query(true.columns)
    back, _ = cKDTree(true.columns).query(found)
    hit, right = near < 0.25 * true.spacing, back < 0.25 * true.spacing
    return (
        int((hit & inner[0]).sum()),
        int((~right & inner[1]).sum()),
        int((~hit & inner[0]).sum()),
        near[hit & inner[0]],
    )


@pytest.mark.parametrize(
    ("cell", "spacing", "counts", "dark"),
    [
        ("honeycomb", 8.0, 60, False),
        ("honeycomb", 12.0, 400, True),
        ("square", 24.0, 60, False),
        ("two species", 14.0, 300, False),
        ("dumbbells", 10.0, 600, False),
        ("oblique", 6.0, 400, False),
    ],
)
def test_columns_are_found_at_unknown_scale_and_contrast(
    cell: str, spacing: float, counts: float, dark: bool
) -> None:
    made = scene(1, cell, spacing=spacing, counts=counts, dark=dark)
    found = find_columns(made.image)
    hits, false, missed, distance = rates(made, found.table)
    assert found.survey.bright != dark
    assert 2 * hits / (2 * hits + false + missed) > 0.97
    assert np.median(distance) < 0.1 * spacing
    required = {name for name, column in SCHEMAS["atoms"].items() if column.required} - {"frame"}
    assert required <= set(found.table)
    assert found.table.score.between(0, 1).all()
    assert found.table.domain.between(0, 1).all()
    assert (found.table[["y_err", "x_err"]] > 0).all(axis=None)


@pytest.mark.parametrize("seed", range(3))
def test_dumbbells_a_tenth_apart_are_two_species(seed: int) -> None:
    """A column scatters by half of what the two ends of a dumbbell differ. Faint false columns may be a third class."""
    made = scene(seed, "dumbbells", spacing=11.0, counts=600)
    survey = survey_columns(made.image, contrast="bright", spacing=made.spacing)
    table = find_columns(made.image, survey=survey).table
    far, nearest = cKDTree(made.columns).query(table[["y", "x"]].to_numpy())
    known = far < 0.25 * made.spacing
    dim, found = made.brightness[nearest][known] < 0.95, table[known]
    name = found.species[dim].mode()[0]
    assert ((found.species == name) == dim).mean() > 0.94
    value = found.intensity.to_numpy()
    middle = (np.median(value[dim]) + np.median(value[~dim])) / 2
    assert ((value < middle) == dim).mean() < 0.9  # what intensity alone would tell, were the middle known
    alone = find_columns(made.image, survey=survey, max_species=1).table
    assert set(alone.species) == {"I1"}


def test_a_fit_of_few_counts_does_not_lose_what_the_network_placed() -> None:
    """Few counts: the network, which has seen lattices, knows better where a column is than the pixels alone; many: the fit does."""
    hits, rms = np.zeros((2, 2)), np.zeros((2, 2))
    for k, counts in enumerate((6, 2000)):
        made = [scene(seed, "honeycomb", spacing=9.0, counts=counts, side=160) for seed in (31, 32)]
        for refine in (False, True):
            found = [
                rates(s, find_columns(s.image, contrast="bright", spacing=9.0, refine=refine).table)
                for s in made
            ]
            hits[k, int(refine)] = sum(f[0] for f in found)
            rms[k, int(refine)] = np.sqrt(np.mean(np.concatenate([f[3] for f in found]) ** 2))
    assert hits[0, 1] > 0.98 * hits[0, 0]  # the fit alone loses a twentieth
    assert rms[1, 1] < 0.65 * rms[1, 0]


def test_a_score_is_a_probability() -> None:
    """Scores of all candidates, low ones too, over images at the limit: their mean is the share that is right."""
    score, right = [], []
    for seed in range(4):
        made = scene(seed, ("honeycomb", "two species")[seed % 2], spacing=9.0, counts=5)
        table = find_columns(made.image, threshold=0.02, refine=False, spacing=9.0, contrast="bright").table
        at = table[["y", "x"]].to_numpy()
        inner = np.all((at > 6) & (at < 249), axis=1)
        distance, _ = cKDTree(made.columns).query(at[inner])
        score.append(table.score.to_numpy()[inner])
        right.append(distance < 0.25 * made.spacing)
    all_scores, all_right = np.concatenate(score), np.concatenate(right)
    assert all_scores.std() > 0.2
    assert abs(all_scores.mean() - all_right.mean()) < 0.12
    sure, unsure = all_scores > 0.8, all_scores < 0.3
    assert all_right[sure].mean() > 0.8 > 0.45 > all_right[unsure].mean()


def test_a_precision_counts_the_odds_of_the_contrast() -> None:
    """The same image and scores: as the contrast gets doubtful fewer are kept, then none, and that is said."""
    made = scene(2, "two species", spacing=9.0, counts=15)
    kept = []
    for odds in (1.0, 0.99, 0.97, 0.9):
        survey = Survey(8 / 9, True, odds, 9.0, "given", "columns")
        found = find_columns(made.image, survey=survey, precision=0.95, refine=False)
        promised = len(found.table) - found.diagnostics["false_expected"]
        assert promised == pytest.approx(odds * found.table.score.sum())
        assert promised >= 0.95 * len(found.table)
        kept.append(len(found.table))
    assert kept[0] > kept[1] > kept[2] > kept[3] == 0
    assert any("columns.contrast" in w for w in found.warnings)
    told = find_columns(made.image, contrast="bright", spacing=9.0, precision=0.95, refine=False)
    assert len(told.table) == kept[0] and not any("precision" in w for w in told.warnings)


def test_the_tile_does_not_matter() -> None:
    made = scene(3, "honeycomb", spacing=9.0, counts=60, side=400)
    survey = survey_columns(made.image)
    one, two = (find_columns(made.image, survey=survey, refine=False, tile=t).table for t in (4096, 128))
    assert len(one) == len(two)
    assert np.abs(one[["y", "x"]] - two[["y", "x"]]).max(axis=None) < 1e-2
    assert np.abs(one.score - two.score).max() < 1e-3
    assert np.abs(one.domain - two.domain).max() < 1e-2


def test_a_large_image_is_fitted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scene(5, "honeycomb", spacing=10.0, counts=6, side=300)
    survey = survey_columns(made.image)
    whole = find_columns(made.image, survey=survey).table
    monkeypatch.setattr(columns, "BLOCK", 96)
    parts = find_columns(made.image, survey=survey).table
    gap = cKDTree(whole[["y", "x"]]).query(parts[["y", "x"]])[0]
    assert abs(len(parts) - len(whole)) < 0.01 * len(whole)
    assert np.median(gap) < 0.2 * whole.y_err.median() and np.quantile(gap, 0.98) < 2 * whole.y_err.median()


def test_a_column_on_the_far_edge_of_the_last_block_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maximum of a column cut by the border may lie a fraction of a pixel beyond it, which is no block's."""
    made = scene(8, "square", spacing=12.0, counts=60, side=192)
    monkeypatch.setattr(columns, "BLOCK", 96)
    survey = survey_columns(made.image)
    position = np.array([[191.6, 100.0], [100.0, 191.6], [96.0, 96.0]])
    fit = columns._refine(made.image, position, survey)[0]
    assert np.isfinite(fit[:, :2]).all()


def test_diagnostics_speak_of_the_table() -> None:
    noise = np.random.default_rng(4).poisson(20.0, (200, 200)).astype(np.float32)
    found = find_columns(noise, contrast="bright", spacing=9.0, threshold=0.02)
    assert found.diagnostics["columns"] == len(found.table)
    sure = found.survey.p_bright
    assert found.diagnostics["false_expected"] == pytest.approx((1 - sure * found.table.score).sum())


def test_the_same_image_gives_the_same_table() -> None:
    made = scene(4, "square", spacing=10.0, counts=40)
    one, two = (find_columns(made.image) for _ in range(2))
    assert one.table.equals(two.table)
    assert one.survey == two.survey


def test_the_image_is_not_changed_and_gain_does_not_matter() -> None:
    made = scene(5, "honeycomb", spacing=9.0, counts=100)
    before = made.image.copy()
    survey = survey_columns(made.image)
    plain = find_columns(made.image, survey=survey, refine=False).table
    scaled = find_columns(1000 + 37 * made.image, survey=survey, refine=False).table
    assert np.array_equal(made.image, before)
    assert len(plain) == len(scaled)


def test_detection_reads_lazily() -> None:
    class Lazy:
        shape = (1024, 1024)
        data = scene(6, "square", spacing=10.0, counts=80, side=1024).image
        largest = 0

        def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
            piece = self.data[key]
            Lazy.largest = max(Lazy.largest, piece.size)
            return piece

    net, _ = load_model("columns")
    survey = survey_columns(Lazy.data)
    position, _, _ = detect(Lazy(), net, survey=survey, tile=64)  # type: ignore[arg-type]
    assert len(position) > 8000
    assert Lazy.largest < 1024 * 1024 / 2


class Bright(torch.nn.Module):
    """Takes what is bright for a column: the map is the image."""

    def columns(self, image: torch.Tensor) -> torch.Tensor:
        return 3 * image - 4


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_every_decoder_finds_the_centres_whatever_the_tile(decoder: str) -> None:
    made = scene(8, "square", spacing=10.0, counts=4e5)
    survey = Survey(1.0, True, 1.0, made.spacing, "given", "columns")
    net = cast(ColumnFinder, Bright())
    whole, logit, cells = detect(made.image, net, survey=survey, decoder=decoder, backend="reference")
    tiled, again, same = detect(
        made.image, net, survey=survey, tile=128, decoder=decoder, backend="reference"
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-3)
    np.testing.assert_allclose(again, logit, atol=1e-3)
    np.testing.assert_allclose(same, cells, atol=1e-3)
    inner = made.columns[((made.columns > 10) & (made.columns < 245)).all(1)]
    gap = cKDTree(whole[logit > 0]).query(inner)[0]
    assert len(inner) > 400 and (gap < 0.5).mean() > 0.99 and np.median(gap) < 0.2
    with pytest.raises(UnknownNameError, match="decoder"):
        detect(made.image, net, survey=survey, decoder="nose")


def test_noise_is_warned_about_and_hardly_shows_a_column(rng: np.random.Generator) -> None:
    noise = rng.poisson(2.0, (256, 256)).astype(np.float32)
    found = find_columns(noise, refine=False)
    assert found.warnings
    assert len(found.table) < 20  # a lattice at the default spacing would have 650
    assert (found.table.score > 0.9).sum() < 3


@pytest.mark.parametrize("shape", [(1, 100), (3, 3, 3)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        find_columns(np.zeros(shape))


@pytest.mark.parametrize("image", [np.zeros((40, 50)), np.full((64, 64), np.nan), np.eye(2)])
def test_empty_images_give_empty_tables(image: np.ndarray) -> None:
    found = find_columns(image)
    assert len(found.table) == 0
    assert {"y", "x", "y_err", "x_err", "score"} <= set(found.table)
