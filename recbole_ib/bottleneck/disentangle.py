"""MRdIB's terms: what a modality tells alone (unique), and what two of them tell twice (redundant)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from recbole_ib.bottleneck.critics import CLUB, MINE
from recbole_ib.bottleneck.hsic import rbf_hsic
from recbole_ib.bottleneck.kernels import check_sigma2

#: mine: a lower bound with a critic; club: an upper bound with one; hsic: a kernel criterion of independence,
#: without
REDUNDANCY_ESTIMATORS = ("mine", "club", "hsic")


#: a regression on rows that do not vary is none
SMALLEST_VARIANCE = 1e-12


class UniqueDecoders(nn.Module):
    """Decoder MLP per modality: o_m = D_m(z_m), for L_U = sum_m E[-log p(y | z_m)] (MRdIB).

    The user's preference vector scores o_m. One hidden ReLU layer each and no parameter in common: the
    gradient of a modality's term reaches its own latent and decoder alone.

    Args:
        in_dims: modality -> the width d_m of its latent. Names may hold dots.
        out_dim: the width of the outputs.
        hidden_dim: the hidden width.

    Raises:
        ValueError: no modality.

    Example:
        >>> decoders = UniqueDecoders({"text": 4, "image": 3}, out_dim=2)
        >>> outputs = decoders({"text": torch.ones(5, 4), "image": torch.ones(6, 3)})
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'text': (5, 2), 'image': (6, 2)}
    """

    def __init__(self, in_dims: Mapping[str, int], out_dim: int, hidden_dim: int = 64):
        super().__init__()
        if not in_dims:
            raise ValueError("the decoders need at least one modality")
        self.in_dims = dict(in_dims)
        # a list in the order of in_dims: a ModuleDict refuses names with a dot, and names of its own methods
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, out_dim))
            for width in self.in_dims.values()
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew (Xavier); biases are 0."""
        for decoder in self.decoders:
            for layer in decoder.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def forward(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of all modalities.

        Args:
            latents: modality -> z_m, ``[n_m, d_m]``, of every modality in ``in_dims``.

        Returns:
            modality -> o_m, ``[n_m, out_dim]``, in the order of ``in_dims``.

        Raises:
            ValueError: other modalities or widths.
        """
        _check_latents(latents, self.in_dims)
        return {
            name: decoder(latents[name]) for name, decoder in zip(self.in_dims, self.decoders, strict=True)
        }

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the widths."""
        return f"in_dims={self.in_dims}"


def residuals(rows: Tensor, given: Tensor, ridge: float = 1e-3) -> Tensor:
    """Return what a ridge regression on ``given`` leaves of some rows, by columns: Z - G (G'G + a I)^-1 G'Z.

    Both are centered first, a = ridge tr(G'G) / e. The dependence of two residuals is a partial one: what
    both sides share through ``given`` is gone.

    Args:
        rows: Z, ``[n, d]``, with gradient.
        given: G, ``[n, e]``, a constant.
        ridge: a's share of the mean variance, > 0.

    Returns:
        ``[n, d]``.

    Example:
        >>> given = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        >>> own = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
        >>> residuals(3 * given + own, given, ridge=1e-6).round(decimals=3).flatten()
        tensor([ 1.,  1., -1., -1.])
    """
    given = (given - given.mean(dim=0)).detach().to(rows.dtype)
    rows = rows - rows.mean(dim=0)
    gram = given.T @ given
    width = gram.shape[0]
    added = ridge * gram.diagonal().mean().clamp_min(SMALLEST_VARIANCE)
    gram = gram + added * torch.eye(width, dtype=gram.dtype, device=gram.device)
    return rows - given @ torch.linalg.solve(gram, given.T @ rows)


class Redundancy(nn.Module):
    """Redundancy of the latents of all pairs of modalities: L_R = sum_{a < b} I^(z_a; z_b) (MRdIB).

    The estimate I^ is one of :data:`REDUNDANCY_ESTIMATORS`.

    ``mine``: :class:`~recbole_ib.bottleneck.critics.MINE`, as in the paper, at least 0 in every
    pair. It is a lower bound, so encoders gain by any move the critic has not followed yet; at 0 there is
    nothing left to gain.
    ``club``: :class:`~recbole_ib.bottleneck.critics.CLUB` with q(z_b|z_a), a before b in
    ``in_dims``; as it is.
    ``hsic``: :func:`~recbole_ib.bottleneck.hsic.rbf_hsic`, without a critic. Not in nats, and about 1/n for
    independent rows.

    The parameters of this module are the critics' alone. They belong to an optimizer of their own on
    :meth:`critic_loss`; the encoders minimize :meth:`forward`, whose gradient does not reach the critics.

    Args:
        in_dims: modality -> the width of its latent. Names may hold dots.
        estimator: one of :data:`REDUNDANCY_ESTIMATORS`.
        hidden_dim: the critics' hidden width.
        sigma2: sigma^2 of the RBF kernel on unit rows (hsic). The default is the median heuristic for rows of
            any direction, which have ||a - b||^2 of about 2.

    Raises:
        ValueError: fewer than two modalities, an unknown estimator, or a sigma2 that is not positive.

    Example:
        >>> redundancy = Redundancy({"text": 1, "image": 1}, "hsic")
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> round(redundancy({"text": x, "image": x}).item(), 4)  # (1 - exp(-2))^2
        0.7476
    """

    def __init__(self, in_dims: Mapping[str, int], estimator: str, hidden_dim: int = 64, sigma2: float = 1.0):
        super().__init__()
        if estimator not in REDUNDANCY_ESTIMATORS:
            raise ValueError(
                f"the redundancy estimator must be one of {', '.join(REDUNDANCY_ESTIMATORS)}, got "
                f"{estimator!r}"
            )
        if len(in_dims) < 2:
            raise ValueError(f"redundancy needs at least two modalities, got {list(in_dims)}")
        self.in_dims, self.estimator, self.sigma2 = dict(in_dims), estimator, check_sigma2(sigma2)
        self.pairs = list(combinations(self.in_dims, 2))
        critic = {"mine": MINE, "club": CLUB}.get(estimator)
        self.critics = nn.ModuleList(
            critic(self.in_dims[a], self.in_dims[b], hidden_dim) for a, b in self.pairs if critic is not None
        )

    @property
    def has_critic(self) -> bool:
        """Whether :meth:`critic_loss` has anything to train."""
        return len(self.critics) > 0

    def reset_parameters(self) -> None:
        """Draw the critics' weights anew."""
        for critic in self._critics():
            critic.reset_parameters()

    def forward(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of some DISTINCT items, for the encoders to minimize.

        Args:
            latents: modality -> z_m, ``[n, d_m]``, the same n items in every modality.

        Returns:
            A scalar; 0 for n < 2.

        Raises:
            ValueError: other modalities, widths or numbers of rows.
        """
        return torch.stack(self._terms(latents)).sum()

    def critic_loss(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the critics' own losses, for their optimizer to minimize.

        Args:
            latents: as in :meth:`forward`; no gradient flows into them.

        Returns:
            A scalar with a gradient to the critics; 0 without one where there is no critic (hsic).

        Raises:
            ValueError: as in :meth:`forward`.
        """
        _check_latents(latents, self.in_dims)
        if not self.has_critic:
            return next(iter(latents.values())).new_zeros(())
        pairs = zip(self.pairs, self._critics(), strict=True)
        return torch.stack([critic.critic_loss(latents[a], latents[b]) for (a, b), critic in pairs]).sum()

    @torch.no_grad()
    def estimates(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of :meth:`forward`, ``"a|b"`` -> a scalar without gradient, to look at.

        MINE's shuffle is drawn from torch's generator, which is put back: a run that is watched trains as one
        that is not.

        Args:
            latents: as in :meth:`forward`.

        Raises:
            ValueError: as in :meth:`forward`.
        """
        _check_latents(latents, self.in_dims)
        device = next(iter(latents.values())).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            terms = self._terms(latents)
        return {f"{a}|{b}": term for (a, b), term in zip(self.pairs, terms, strict=True)}

    def _critics(self) -> list[MINE | CLUB]:
        return [critic for critic in self.critics if isinstance(critic, MINE | CLUB)]

    def _terms(self, latents: Mapping[str, Tensor]) -> list[Tensor]:
        """Return a scalar for every pair."""
        _check_latents(latents, self.in_dims)
        pairs = [(latents[a], latents[b]) for a, b in self.pairs]
        if self.estimator == "hsic":
            return [_row_hsic(x, y, self.sigma2) for x, y in pairs]
        values = [critic(x, y) for (x, y), critic in zip(pairs, self.critics, strict=True)]
        return [value.clamp(min=0.0) for value in values] if self.estimator == "mine" else values

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the widths and the estimator."""
        return f"in_dims={self.in_dims}, estimator={self.estimator!r}, sigma2={self.sigma2}"


def _row_hsic(x: Tensor, y: Tensor, sigma2: float) -> Tensor:
    """HSIC of the rows that have a direction on both sides; 0 for fewer than two of them."""
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"the latents must have the same rows, got {tuple(x.shape)} and {tuple(y.shape)}")
    # an item without a modality may be a zero row: its gradient would be divided by the 1e-12 that stands for
    # its length
    usable = (x.detach() != 0).any(dim=1) & (y.detach() != 0).any(dim=1)
    rows_x, rows_y = x[usable], y[usable]
    if rows_x.shape[0] < 2:
        return (x.sum() + y.sum()) * 0.0
    return rbf_hsic(rows_x, rows_y, sigma2=sigma2)


def _check_latents(latents: Mapping[str, Tensor], in_dims: Mapping[str, int]) -> None:
    if set(latents) != set(in_dims):
        raise ValueError(f"latents of {list(in_dims)} are needed, got {list(latents)}")
    for name, width in in_dims.items():
        if latents[name].ndim != 2 or latents[name].shape[1] != width:
            raise ValueError(f"the latent of {name!r} must be [n, {width}], got {tuple(latents[name].shape)}")
