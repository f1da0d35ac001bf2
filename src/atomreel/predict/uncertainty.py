"""What a classifier does not know, in nats: entropy of its mean answer, and the part of it on which dropout passes differ.

With the probabilities p_t of passes t = 1 … T the predictive entropy is H[E p] = −Σ_c p̄_c ln p̄_c, p̄ = (1/T) Σ_t p_t, and
the mutual information of answer and weights is I = H[E p] − E H[p] (Houlsby et al., arXiv:1112.5745; Gal, Islam and
Ghahramani, ICML 2017). H is large wherever the answer is open, I only where the passes contradict each other: where the
network would have to learn, not where the data leave the question open. 0 ≤ I ≤ H ≤ ln C.
"""

from __future__ import annotations

import torch


def entropy(p: torch.Tensor) -> torch.Tensor:
    """(…, C) probabilities → (…) entropy [nats]; float64, because small differences of it are taken."""
    exact = p.double()
    return torch.special.entr(exact.clamp_min(0)).sum(-1)


def mutual_information(mean: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """(…, C) mean over passes and (…) mean entropy of the passes → (…) mutual information [nats], 0 or more."""
    return (entropy(mean) - inner).clamp_min(0)
