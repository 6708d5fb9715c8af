"""Estimates of mutual information with a critic that is learned beside them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from recbole_ib.bottleneck.mutual_information import check_pair, club_bound, donsker_varadhan, log_mean_exp

#: added to the variance of a coordinate that is standardized: only spreads around and below 1e-4 are damped
VARIANCE_FLOOR = 1e-8


class MINE(nn.Module):
    """Donsker-Varadhan estimate of I(x; y) with a learned critic f (MINE, Belghazi et al., ICML 2018).

    f is an MLP of two hidden ReLU layers on [x, y]. The product pairs are the rows of x beside those of y in
    the order of a random cycle through the whole batch, so that no row meets its own partner among them.
    Every coordinate is scaled to mean 0 and variance 1 over the batch first: the information does not depend
    on scale, but a critic of latents as small as 0.01 would not learn, and encoders could lower the estimate
    by shrinking.

    It is a LOWER bound: the critic has to maximize it (:meth:`critic_loss`, an optimizer of its own) while
    the encoders minimize it (:meth:`forward`). Each of the two gives a gradient to its own side alone:
    ``forward`` to x and y and none to the critic, ``critic_loss`` to the critic and none to x and y, so
    neither can spoil the other whatever is summed or left uncleared.

    Args:
        x_dim: the width of x.
        y_dim: the width of y.
        hidden_dim: the critic's hidden width.
        ema: the share of the past in the moving average of E[exp f], in [0, 1).

    Raises:
        ValueError: ema outside its range.

    Example:
        >>> estimate = MINE(x_dim=2, y_dim=3)(torch.randn(8, 2), torch.randn(8, 3))
        >>> estimate.shape
        torch.Size([])
    """

    log_ema: Tensor

    def __init__(self, x_dim: int, y_dim: int, hidden_dim: int = 64, ema: float = 0.99):
        super().__init__()
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"the moving average's share of the past must lie in [0, 1), got {ema}")
        self.x_dim, self.y_dim, self.ema = x_dim, y_dim, float(ema)
        self.critic = nn.Sequential(
            nn.Linear(x_dim + y_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, 1),
        )
        # the log of the average, as exp f leaves float32 beyond f = 88; -inf: nothing averaged yet
        self.register_buffer("log_ema", torch.full((), -math.inf))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the critic's weights anew and forget the moving average."""
        _reset(self.critic)
        self.log_ema.fill_(-math.inf)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the bound, for the encoders to minimize; the gradient reaches x and y, not the critic.

        Information is never negative, this estimate may be: below 0 it tells nothing, and encoders that
        minimize it further only run away from a critic that lags behind, to minus infinity. Let them stop
        at 0, as :class:`~recbole_ib.bottleneck.disentangle.Redundancy` does.

        Args:
            x: ``[n, x_dim]``, of DISTINCT items.
            y: ``[n, y_dim]``, the same items.

        Returns:
            A scalar; 0 for n < 2, where there is no product pair.

        Raises:
            ValueError: other shapes.
        """
        check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(x, y)
        return donsker_varadhan(*self._values(x, y, _constants(self.critic)))

    def critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return minus the bound of the batch, whose log term has the gradient grad E[exp f] / EMA.

        Belghazi et al., Eq. 12.

        The batch's own log mean exp has a biased gradient, as the log of a mean is not the mean of the logs.
        The average includes this batch; it is stored in training mode only, and part of the state dict, so
        that a resumed run goes on exactly.

        Args:
            x: as in :meth:`forward`; no gradient flows into it.
            y: the same.

        Returns:
            A scalar with a gradient to the critic; 0 for n < 2, which leaves the average alone.

        Raises:
            ValueError: other shapes.
        """
        check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(*self.critic.parameters())
        joint, product = self._values(x.detach(), y.detach(), dict(self.critic.named_parameters()))
        log_mean = log_mean_exp(product)
        average = _averaged(self.log_ema, log_mean.detach(), self.ema)
        if self.training:
            self.log_ema.copy_(average)
        # at most 1 / (1 - ema), as the average holds this batch: exp cannot overflow
        ratio = torch.exp(log_mean - average)
        return log_mean.detach() + (ratio - ratio.detach()) - joint.mean()

    def _values(self, x: Tensor, y: Tensor, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return f of the joint and of the product pairs, both ``[n]``, in one pass."""
        x, y = _standardize(x), _standardize(y)
        pairs = torch.cat([torch.cat([x, x]), torch.cat([y, y[_random_cycle(y.shape[0], y.device)]])], dim=1)
        joint, product = functional_call(self.critic, parameters, (pairs,)).squeeze(1).chunk(2)
        return joint, product

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the widths and the moving average's share of the past."""
        return f"x_dim={self.x_dim}, y_dim={self.y_dim}, ema={self.ema}"


class CLUB(nn.Module):
    """UPPER bound of I(x; y) with a learned q(y|x) = N(mu(x), diag s^2(x)) (CLUB, Cheng et al., ICML 2020).

    The bound is as good as q, which :meth:`critic_loss` fits by maximum likelihood while the encoders
    minimize :meth:`forward`; it is not symmetric in x and y. As in :class:`MINE`, every coordinate is scaled
    to variance 1 over the batch first, which does not change the bound, and each of the two methods
    gives a gradient to its own side alone.

    Args:
        x_dim: the width of x.
        y_dim: the width of y.
        hidden_dim: the hidden width of q.

    Example:
        >>> CLUB(x_dim=2, y_dim=3)(torch.ones(1, 2), torch.ones(1, 3))  # one row has no pair
        tensor(0.)
    """

    def __init__(self, x_dim: int, y_dim: int, hidden_dim: int = 64):
        super().__init__()
        self.x_dim, self.y_dim = x_dim, y_dim
        self.q = _GaussianRegression(x_dim, y_dim, hidden_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of q anew."""
        _reset(self.q)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the bound :func:`club_bound`, for the encoders to minimize.

        The gradient reaches x and y, not q.

        Args:
            x: ``[n, x_dim]``, of DISTINCT items.
            y: ``[n, y_dim]``, the same items.

        Returns:
            A scalar; 0 for n < 2.

        Raises:
            ValueError: other shapes.
        """
        check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(x, y)
        return club_bound(_standardize(y), *functional_call(self.q, _constants(self.q), (_standardize(x),)))

    def critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return -mean_i log q(y_i|x_i), of the scaled y.

        Args:
            x: as in :meth:`forward`; no gradient flows into it.
            y: the same.

        Returns:
            A scalar with a gradient to q; 0 for n < 2.

        Raises:
            ValueError: other shapes.
        """
        check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(*self.q.parameters())
        y = _standardize(y.detach())
        mean, log_variance = self.q(_standardize(x.detach()))
        terms = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2.0 * math.pi)
        return 0.5 * terms.sum(dim=1).mean()

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the widths."""
        return f"x_dim={self.x_dim}, y_dim={self.y_dim}"


class _GaussianRegression(nn.Module):
    """Gaussian regression: x -> the mean and the log variance of y, both ``[n, y_dim]``."""

    # of the log variance, either side of the 0 of a scaled y: a y that x determines would have infinitely
    # steep gradients
    BOUND = 6.0

    def __init__(self, x_dim: int, y_dim: int, hidden_dim: int):
        super().__init__()
        self.hidden = nn.Linear(x_dim, hidden_dim)
        self.mean = nn.Linear(hidden_dim, y_dim)
        self.log_variance = nn.Linear(hidden_dim, y_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x).relu()
        return self.mean(hidden), self.BOUND * torch.tanh(self.log_variance(hidden) / self.BOUND)


def _zero_of(*tensors: Tensor) -> Tensor:
    """Return 0 with a gradient of zeros to all of the tensors."""
    return sum((t.sum() * 0.0 for t in tensors[1:]), tensors[0].sum() * 0.0)


def _averaged(log_average: Tensor, log_value: Tensor, past: float) -> Tensor:
    """Return log(past * average + (1 - past) * value) of logs.

    The value itself where nothing has been averaged yet.
    """
    if past == 0.0:
        return log_value
    mixed = torch.logaddexp(log_average + math.log(past), log_value + math.log1p(-past))
    return torch.where(torch.isneginf(log_average), log_value, mixed)


def _random_cycle(n: int, device: torch.device) -> Tensor:
    """Draw a permutation of n >= 2 rows evenly from those that are one cycle: no row stays where it is.

    int64 ``[n]``.
    """
    order = torch.randperm(n, device=device)
    cycle = torch.empty_like(order)
    cycle[order] = order.roll(1)
    return cycle


def _standardize(x: Tensor) -> Tensor:
    """Scale every column of ``[n, d]`` to mean 0 and variance 1; a constant one becomes 0."""
    centered = x - x.mean(dim=0)
    return centered * torch.rsqrt(centered.square().mean(dim=0) + VARIANCE_FLOOR)


def _constants(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's parameters without gradient.

    For a call through which the gradient reaches the inputs alone.
    """
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def _reset(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
