"""The surveyor learns from pieces whose truth is known; it can be taught again with the same result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomreel.nets.columns import build
from atomreel.nets.surveyor import BINS, spacing_bins
from atomreel.tasks.survey import CROPS, Piece, batched, fit_surveyor, survey_pieces, targets
from atomreel.tasks.task import Arrays


def sample(rng: np.random.Generator) -> Arrays:
    """Spots on a square grid, bright or dark."""
    spacing = float(rng.uniform(8, 16))
    y, x = np.mgrid[:192, :192] * (2 * np.pi / spacing)
    bright = bool(rng.random() < 0.6)
    spots = np.exp(2 * (np.cos(y) + np.cos(x) - 2)) * (1 if bright else -1)
    image = spots + rng.normal(0, 0.2, spots.shape)
    facts = np.array([spacing, bright, 0], dtype=np.float32)
    return {"image": image.astype(np.float16), "columns": np.zeros((1, 2), np.float32), "facts": facts}


def test_pieces_know_their_scale_and_contrast() -> None:
    pieces = list(survey_pieces(sample, seed=1, examples=5))
    assert len(pieces) == 5 * CROPS
    assert len({p.bright for p in pieces}) == 2
    for p in pieces:
        side = np.abs(np.fft.rfft(p.crop - p.crop.mean(), axis=0)).sum(1)[4:]
        assert abs(np.log2(128 / (np.argmax(side) + 4)) - p.log2_spacing) < 0.35
    again = list(survey_pieces(sample, seed=1, examples=5))
    assert all(np.array_equal(a.crop, b.crop) for a, b in zip(pieces, again, strict=True))


@pytest.mark.slow
def test_a_surveyor_learns_and_leaves_the_u_net_alone() -> None:
    pieces = list(survey_pieces(sample, seed=2, examples=40))
    with torch.random.fork_rng():
        net = build(width=8).eval()
    before = {k: v.clone() for k, v in net.columns.state_dict().items()}
    fit_surveyor(net, iter(pieces), seed=3)
    first = {k: v.clone() for k, v in net.surveyor.state_dict().items()}
    with torch.no_grad():
        told = net.survey(torch.from_numpy(np.stack([p.crop for p in pieces])[:, None])).exp()
    assert torch.allclose(told.sum((1, 2)), torch.ones(len(pieces)), atol=1e-4)
    error = np.abs(spacing_bins()[told.sum(1).argmax(1)].numpy() - [p.log2_spacing for p in pieces])
    assert np.median(error) < 0.15
    assert np.mean((told[:, 1].sum(1) > 0.5).numpy() == [p.bright for p in pieces]) > 0.9
    assert all(torch.equal(v, before[k]) for k, v in net.columns.state_dict().items())
    fit_surveyor(net, iter(pieces), seed=3)
    assert all(torch.equal(v, first[k]) for k, v in net.surveyor.state_dict().items())


def test_batches_lose_nothing() -> None:
    pieces = [Piece(np.zeros((2, 2), np.float32), float(i), True) for i in range(7)]
    parts = list(batched(iter(pieces), 3))
    assert [len(p) for p in parts] == [3, 3, 1]
    assert [p.log2_spacing for part in parts for p in part] == list(range(7))


def test_the_target_stands_at_the_truth() -> None:
    wanted = targets(torch.tensor([3.0, 1.2]), torch.tensor([1.0, 0.0]))
    assert wanted.shape == (2, 2, BINS)
    assert torch.allclose(wanted.sum((1, 2)), torch.ones(2))
    assert wanted[0, 0].sum() == 0 and wanted[1, 1].sum() == 0
    assert torch.allclose((wanted.sum(1) * spacing_bins()).sum(1), torch.tensor([3.0, 1.2]), atol=0.02)
