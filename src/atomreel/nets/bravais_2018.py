"""The network of Vasudevan et al., npj Comput. Mater. 4, 30 (2018), Fig. 1a: three convolutions, one pooling, two dense."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from atomreel.nets.dropout import kept, sample_sums
from atomreel.nets.sharpen import read_lattices
from atomreel.nets.spectrum import Lattices

CLASSES = 6
AT_ONCE = 16  # passes whose maps are made together where every layer is masked: they stay in the cache
DENSE_AT_ONCE = (
    128  # passes that go through the first dense layer together: its weights are read once for them
)


def amplitude(windows: torch.Tensor, *, reach: int) -> torch.Tensor:
    """(N, Y, X) → (N, 1, 2·reach, reach): Fourier amplitude without the mean, its root mean square 1.

    Rows are −reach … reach − 1 cycles per window, columns 0 … reach − 1: the other half of the plane says the same,
    since the amplitude of a real image does not change under a half turn.
    """
    x = windows.float()
    spectrum = torch.fft.rfft2(x - x.mean((1, 2), keepdim=True)).abs()
    shown = torch.cat([spectrum[:, -reach:, :reach], spectrum[:, :reach, :reach]], 1)
    level = shown.square().mean((1, 2), keepdim=True).sqrt()
    return (shown / level.clamp_min(1e-6 * x.abs().amax((1, 2), keepdim=True) + 1e-30))[:, None]


class PaperNet(nn.Module):
    """amplitude → three 3 × 3 convolutions → mean of 2 × 2 → dense → dense; ReLU. (N, 1, 2·reach, reach) → (N, 6) logits.

    everywhere: dropout after every layer but the last; else on the inputs of the two dense layers only.
    """

    def __init__(
        self, *, reach: int, filters: Sequence[int], dense: int, dropout: float, everywhere: bool
    ) -> None:
        super().__init__()
        channels = [1, *filters]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1) for i, o in zip(channels, filters, strict=False)
        )
        self.first = nn.Linear(filters[-1] * reach * (reach // 2), dense)
        self.out = nn.Linear(dense, CLASSES)
        self.reach, self.dropout, self.everywhere = reach, dropout, everywhere
        for layer in (*self.convolutions, self.first, self.out):
            nn.init.xavier_uniform_(layer.weight)  # the default of Keras, which the paper used
            nn.init.zeros_(layer.bias)

    def read(self, windows: torch.Tensor) -> tuple[torch.Tensor, Lattices]:
        """(N, 128, 128) → what `forward` takes, and lattices that were fitted to the spots and that it does not use."""
        return amplitude(windows, reach=self.reach), read_lattices(windows)[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            x = self._drop(x) if self.everywhere else x
        hidden = self._drop(F.avg_pool2d(x, 2).flatten(1))
        return self.out(self._drop(self.hidden(hidden)))

    def hidden(self, flat: torch.Tensor) -> torch.Tensor:
        """(N, …) pooled maps, flat → (N, dense): the vector that the paper draws by t-SNE."""
        return F.relu(self.first(flat))

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, …) amplitudes → (N, …) pooled maps: all that lies before the first mask of the dense part."""
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return F.avg_pool2d(x, 2).flatten(1)

    @torch.no_grad()
    def sample(self, described: torch.Tensor, *, passes: int, generator: torch.Generator) -> torch.Tensor:
        """(N, 1, …) amplitudes → (passes, N, 6) logits with dropout, distributed as those of naive passes.

        Where only the dense part is masked, the maps are made once. Else the first convolution is, and the others are
        done in bfloat16 for AT_ONCE masks together.
        """
        seed = int(torch.randint(2**62, (1,), generator=generator))
        rng = np.random.default_rng(seed)
        draw = self._sample_everywhere if self.everywhere else self._sample_dense
        return torch.stack([draw(one[None], passes, rng) for one in described], 1)

    def _sample_dense(self, one: torch.Tensor, passes: int, rng: np.random.Generator) -> torch.Tensor:
        p = self.dropout
        sums = sample_sums(self.flat(one)[0], self.first.weight, dropout=p, passes=passes, rng=rng)
        return self._sample_last(sums, rng)

    def _sample_everywhere(self, one: torch.Tensor, passes: int, rng: np.random.Generator) -> torch.Tensor:
        """Masks leave maps unscaled: the weights of the next layer take the factor, the dense ones that of two masks."""
        p, factor = self.dropout, 1 / (1 - self.dropout)
        first, *others = (cast(nn.Conv2d, convolution) for convolution in self.convolutions)
        halves = [copy.deepcopy(other).bfloat16() for other in others]
        for half in halves:
            half.weight.mul_(factor)
        channels = others[-1].weight.shape[0] if others else first.weight.shape[0]
        shape = (len(self.first.weight), channels, self.reach, self.reach // 2)
        dense = self.first.weight.reshape(shape).permute(0, 2, 3, 1).flatten(1) * factor**2
        dense = dense.bfloat16().T
        start = first(one).bfloat16().contiguous(memory_format=torch.channels_last)
        sums, pooled = [], []
        for done in range(0, passes, AT_ONCE):
            count = min(AT_ONCE, passes - done)
            x = _masked(start, count, dropout=p, rng=rng)
            for half in halves:
                x = _masked(half(x), count, dropout=p, rng=rng)
            x = _masked(F.avg_pool2d(x, 2), count, dropout=p, rng=rng)
            pooled.append(x.permute(0, 2, 3, 1).reshape(count, -1))
            if len(pooled) * AT_ONCE >= DENSE_AT_ONCE or done + count == passes:
                sums.append((torch.cat(pooled) @ dense).float())
                pooled = []
        return self._sample_last(torch.cat(sums), rng)

    def _sample_last(self, sums: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(passes, dense) sums of the first dense layer, without bias → (passes, 6) logits."""
        hidden = F.relu(sums + self.first.bias)
        masks = kept(tuple(hidden.shape), dropout=self.dropout, rng=rng)
        return self.out(hidden * masks / (1 - self.dropout))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, training=self.training)


def _masked(x: torch.Tensor, count: int, *, dropout: float, rng: np.random.Generator) -> torch.Tensor:
    """(count or 1, C, Y, X) bfloat16 maps, channels last → (count, C, Y, X): ReLU and dropout, not rescaled.

    Both on the bits: a number below nought is an integer below nought, and what is not kept has no bit left.
    """
    maps = x.permute(0, 2, 3, 1).view(torch.int16).clamp_min(0)
    masks = kept((count, *maps.shape[1:]), dropout=dropout, rng=rng).to(torch.int16).neg_()
    return masks.bitwise_and_(maps).view(torch.bfloat16).permute(0, 3, 1, 2)


def build(
    *,
    reach: int = 32,
    filters: Sequence[int] = (32, 32, 64),
    dense: int = 128,
    dropout: float = 0.2,
    everywhere: bool = False,
) -> PaperNet:
    """The network of `tasks/bravais_2018.py`. reach = 64 takes the whole half plane of 128 px."""
    return PaperNet(reach=reach, filters=filters, dense=dense, dropout=dropout, everywhere=everywhere)
