"""Drawing edges of the user-item graph."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch


def degree_sensitive_edges(interactions: sp.sparray | sp.spmatrix, dropout: float) -> sp.csr_array:
    """Draw floor((1 - rho) E) edges, without replacement, with probability proportional to 1 / sqrt(d_u d_i).

    FREEDOM's degree-sensitive pruning (Zhou & Shen, ACM MM 2023, section 3.2): edges between popular nodes go
    first. Drawn as an exponential race (the smallest of Exp(1) / weight), which is the same distribution as
    drawing one by one and has no limit on E.

    Args:
        interactions: R, sparse ``[n_users, n_items]``, its entries are the edges.
        dropout: rho in [0, 1); 0 or less keeps all.

    Returns:
        CSR of the same shape with ones at the kept edges. Random numbers come from torch's global generator.

    Raises:
        ValueError: rho is 1 or more.

    Example:
        >>> kept = degree_sensitive_edges(sp.csr_array([[1, 1, 0], [0, 1, 1]]), dropout=0.5)
        >>> kept.shape, int(kept.sum())
        ((2, 3), 2)
    """
    if dropout >= 1:
        raise ValueError(f"the share of dropped edges must be below 1, got {dropout}")
    coo = sp.coo_array(sp.csr_array(interactions))
    rows, cols = coo.coords
    if dropout > 0:
        # as a decimal number: (1 - .8) * 100 is 19.999... in binary
        kept = int(np.floor(round((1 - dropout) * rows.size, 6)))
        degree = (
            np.bincount(rows, minlength=coo.shape[0])[rows] * np.bincount(cols, minlength=coo.shape[1])[cols]
        )
        race = torch.empty(rows.size, dtype=torch.float64).exponential_() * torch.from_numpy(np.sqrt(degree))
        chosen = race.topk(kept, largest=False, sorted=False).indices.numpy()
        rows, cols = rows[chosen], cols[chosen]
    return sp.csr_array((np.ones(rows.size, dtype=np.float32), (rows, cols)), shape=coo.shape)
