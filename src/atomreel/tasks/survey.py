"""Teaching the surveyor: which scale and contrast does a crop have, given what the trained U-Net makes of it?

The U-Net stays as it is, so its features are computed once and read many times.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from atomreel.nets.columns import ColumnFinder
from atomreel.nets.surveyor import spacing_bins
from atomreel.tasks.spoil import cut, spoil, turn
from atomreel.tasks.task import Arrays

SURVEYED = (3.0, 30.0)  # column spacings that the surveyor tells apart [px]
CROP = 128  # side of a crop [px]
CROPS = 4  # of each image, at scales of their own
DARK = 0.1  # share of crops whose contrast is turned round, beside those that are dark anyway
Sampler = Callable[[np.random.Generator], Arrays]
EPOCHS, BATCH, RATE, DECAY = 30, 64, 1.5e-3, 0.05
BLUR = 0.08  # of the true log2 spacing: what a strained lattice has, and less than a bin


@dataclass(frozen=True)
class Piece:
    """crop: (CROP, CROP). log2_spacing: of its columns [px]. bright: contrast."""

    crop: npt.NDArray[np.float32]
    log2_spacing: float
    bright: bool


def survey_pieces(sample: Sampler, *, seed: int, examples: int, workers: int = 2) -> Iterator[Piece]:
    """CROPS pieces of each simulated image, turned, spoilt and zoomed at random; other processes make them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for pieces in pool.map(partial(_pieces_of, sample, seed), range(examples), chunksize=4):
            yield from pieces


def _pieces_of(sample: Sampler, seed: int, number: int) -> list[Piece]:
    """The pieces of image `number`."""
    rng = np.random.default_rng([seed, 2, number])
    example = sample(rng)
    spacing, bright = float(example["facts"][0]), bool(example["facts"][1])
    pieces = []
    for _ in range(CROPS):
        image, _ = turn(example["image"].astype(np.float32), example["columns"], rng)
        image = spoil(image, rng)
        sign = -1.0 if rng.random() < DARK else 1.0
        crop, zoom, _ = cut(image, CROP, rng, spacing=spacing, wanted=SURVEYED)
        pieces.append(
            Piece((sign * crop).astype(np.float32), float(np.log2(zoom * spacing)), bright == (sign > 0))
        )
    return pieces


def batched(pieces: Iterator[Piece], size: int) -> Iterator[list[Piece]]:
    """Lists of `size` pieces, the last one shorter."""
    while some := list(islice(pieces, size)):
        yield some


def fit_surveyor(net: ColumnFinder, pieces: Iterator[Piece], *, seed: int) -> None:
    """Sets the weights of `net.surveyor` in place: cross-entropy of contrast and spacing together."""
    features, truth = [], []
    with torch.no_grad():
        for some in batched(pieces, BATCH):
            crops = torch.from_numpy(np.stack([piece.crop for piece in some])[:, None])
            features.append(net.eval().survey_features(crops))
            truth += [(piece.log2_spacing, float(piece.bright)) for piece in some]
    x, wanted = torch.cat(features), targets(*torch.tensor(truth).unbind(1))
    reader = net.surveyor
    reader.mean.copy_(x.mean(0))
    reader.scale.copy_(x.std(0) + 1e-3)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        for layer in reader.read:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
        reader.train().requires_grad_(True)
        optimiser = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=DECAY)
        fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
        for _ in range(EPOCHS):
            for part in torch.randperm(len(x), generator=order).split(BATCH):
                loss = -(wanted[part] * reader(x[part])).sum((1, 2)).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            fading.step()
    net.eval().requires_grad_(False)


def targets(log2_spacing: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    """(N,), (N,) → (N, 2, BINS): a narrow Gaussian at the true spacing, in the row of the true contrast."""
    share = torch.softmax(-0.5 * ((spacing_bins() - log2_spacing[:, None]) / BLUR) ** 2, 1)
    return torch.stack([(1 - bright)[:, None] * share, bright[:, None] * share], 1)
