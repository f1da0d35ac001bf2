"""Monte-Carlo dropout (Gal & Ghahramani, ICML 2016) without a pass of the network for each draw.

What dropout does not touch is computed once by the caller. The sum that a dense layer takes over its masked inputs,
z_u = b_u + Σ_i w_ui h_i m_i / q with m_i = 1 at probability q = 1 − p, has mean b_u + Σ_i w_ui h_i and covariance
(p/q) Σ_i w_ui w_vi h_i². Inputs that are strong for any unit are masked one by one; all others together are normal by the
theorem of Lyapunov, and one product of matrices gives their covariance.
"""

from __future__ import annotations

import numpy as np
import torch

SMALL = 0.05  # of a unit's deviation: the third cumulant of all weaker inputs together is at most 0.05 · (1 − 2p)/√(pq) of σ³


def kept(shape: tuple[int, ...], *, dropout: float, rng: np.random.Generator) -> torch.Tensor:
    """Independent masks, True at probability 1 − dropout (to 2⁻¹⁶): sixteen random bits each, which is what is quick."""
    count = int(np.prod(shape))
    bits = rng.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
    return torch.from_numpy((bits >= round(dropout * 65536)).reshape(shape))


def sample_sums(
    values: torch.Tensor, weight: torch.Tensor, *, dropout: float, passes: int, rng: np.random.Generator
) -> torch.Tensor:
    """(F,) inputs and (U, F) weights → (passes, U) draws of weight @ (mask · values) / (1 − dropout)."""
    keep = 1 - dropout
    terms = weight * values
    squares = terms.square()
    deviation = (squares.sum(1) * dropout / keep).sqrt()
    if passes <= len(terms):  # fewer products than a covariance takes
        strong = torch.nonzero(values)[:, 0]
    else:
        share = squares / deviation.square().clamp_min(1e-30)[:, None] * (dropout / keep)
        strong = torch.nonzero(share.amax(0) > SMALL**2)[:, 0]
    masks = kept((passes, len(strong)), dropout=dropout, rng=rng).to(terms.dtype)
    drawn = masks @ (terms[:, strong].T / keep)
    if len(strong) == int(torch.count_nonzero(values)):
        return drawn
    terms[:, strong] = 0
    level, axes = torch.linalg.eigh(terms @ terms.T * (dropout / keep))
    normal = torch.from_numpy(rng.standard_normal((passes, len(terms)), dtype=np.float32))
    spread = axes * level.clamp_min(0).sqrt()
    return drawn + terms.sum(1) + normal.to(terms.dtype) @ spread.T
