"""Estimates of mutual information between the paired rows of two matrices, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

#: added to the variance of a coordinate that is standardized: only spreads around and below 1e-4 are damped
VARIANCE_FLOOR = 1e-8


def donsker_varadhan(joint: Tensor, product: Tensor) -> Tensor:
    """E_p(x,y)[f] - log E_p(x)p(y)[exp f] <= I(x; y) (Donsker & Varadhan 1983; MINE, Belghazi et al., ICML 2018, Eq. 10).

    Equality holds for f = log p(x,y) / (p(x) p(y)) + any constant. Finite samples carry noise, so that a value may lie above I.

    Args:
        joint: f of pairs that belong together, ``[n]``, n >= 1.
        product: f of pairs drawn independently, ``[m]``, m >= 1.

    Returns:
        A scalar.

    Raises:
        ValueError: other shapes.
    """
    if joint.ndim != 1 or product.ndim != 1 or not joint.numel() or not product.numel():
        raise ValueError(
            f"the critic's values must be two vectors, not empty, got {tuple(joint.shape)} and {tuple(product.shape)}"
        )
    return joint.mean() - _log_mean_exp(product)


def club_bound(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """mean_i log q(y_i|x_i) - mean_ij log q(y_j|x_i) of a Gaussian q (CLUB, Cheng et al., ICML 2020, Eq. 7-8).

    An upper bound of I(x; y) where q(y|x) = p(y|x). The normalizer of q cancels, and with c = mean_j y_j, v = mean_j (y_j - c)^2
    mean_j (y_j - mu_i)^2 = v + (mu_i - c)^2, so the sum over all n^2 pairs is, exactly and without n x n x d numbers,
    -1/2 mean_i sum_d [(y_i - c)^2 - v - 2 (mu_i - c) (y_i - c)] / s_i^2.

    Args:
        y: ``[n, d]``, n >= 1.
        mean: mu_i, the mean of q(y|x_i), ``[n, d]``.
        log_variance: log s_i^2 of q(y|x_i), ``[n, d]``.

    Returns:
        A scalar; below 0 where q predicts worse than by chance.

    Raises:
        ValueError: other shapes.
    """
    if y.ndim != 2 or not y.shape[0] or mean.shape != y.shape or log_variance.shape != y.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (y, mean, log_variance))
        raise ValueError(f"y, the mean and the log variance need one shape [n, d], n >= 1, got {shapes}")
    center = y.mean(dim=0)
    offset = y - center
    square = offset.square()
    excess = square - square.mean(dim=0) - 2.0 * (mean - center) * offset
    return -0.5 * (excess * torch.exp(-log_variance)).sum(dim=1).mean()


def infonce_bound(scores: Tensor) -> Tensor:
    """mean_i [s_ii - log sum_j exp s_ij] + log n <= min(log n, I) (van den Oord et al. 2018; Poole et al., ICML 2019, Eq. 10).

    The bound by log n holds for every matrix, the one by I in expectation.

    Args:
        scores: s_ij = f(x_i, y_j), ``[n, n]``, n >= 1.

    Returns:
        A scalar.

    Raises:
        ValueError: other shapes.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not scores.shape[0]:
        raise ValueError(f"the scores must be [n, n], n >= 1, got {tuple(scores.shape)}")
    return scores.log_softmax(dim=1).diagonal().mean() + math.log(scores.shape[0])


@torch.no_grad()
def gaussian_information(x: Tensor, y: Tensor, *, ridge: float = 1e-6) -> Tensor:
    """-1/2 sum_k log(1 - rho_k^2) - d_x d_y / (2 n) of the canonical correlations rho_k, at least 0: I of jointly Gaussian rows.

    The first term is Gelfand & Yaglom (1957). Sample correlations of independent rows are not 0: 2 n times the first term is
    about chi^2 with d_x d_y degrees of freedom (Bartlett 1938), whose mean is the second term. A diagnostic, without gradient:
    it sees linear dependence alone, and means little unless n is many times d_x + d_y.

    Args:
        x: ``[n, d_x]``.
        y: ``[n, d_y]``, the same rows seen otherwise.
        ridge: added to the variance of every coordinate, which is 1 after scaling. Coordinates that say the same would have a
            singular covariance; rows that determine each other get about -1/2 log(2 ridge) a coordinate instead of infinity.

    Returns:
        A scalar >= 0 in float64; 0 for n < 2.

    Raises:
        ValueError: other shapes, or a ridge that is not positive.
    """
    _check_pair(x, y)
    if not ridge > 0:
        raise ValueError(f"the ridge must be positive, got {ridge}")
    n = x.shape[0]
    if n < 2:
        return torch.zeros((), dtype=torch.double, device=x.device)
    x, y = _unit_spread(x.double()), _unit_spread(y.double())
    root_x, root_y = (torch.linalg.cholesky(z.T @ z / n + ridge * _eye(z)) for z in (x, y))
    # L_x^-1 C_xy L_y^-T, whose singular values are the canonical correlations
    half = torch.linalg.solve_triangular(root_x, x.T @ y / n, upper=False)
    whitened = torch.linalg.solve_triangular(root_y, half.T, upper=False)
    squares = torch.linalg.svdvals(whitened).square()
    information = -0.5 * torch.log1p(-squares).sum()
    return (information - x.shape[1] * y.shape[1] / (2.0 * n)).clamp(min=0.0)


class MINE(nn.Module):
    """A Donsker-Varadhan estimate of I(x; y) with a learned critic f (MINE, Belghazi et al., ICML 2018).

    f is an MLP of two hidden ReLU layers on [x, y]. The product pairs are the rows of x beside those of y in the order of a
    random cycle through the whole batch, so that no row meets its own partner among them. Every coordinate is scaled to mean 0
    and variance 1 over the batch first: the information does not depend on scale, but a critic of latents as small as 0.01
    would not learn, and encoders could lower the estimate by shrinking.

    It is a LOWER bound: the critic has to maximize it (:meth:`critic_loss`, an optimizer of its own) while the encoders minimize
    it (:meth:`forward`). Each of the two gives a gradient to its own side alone: ``forward`` to x and y and none to the critic,
    ``critic_loss`` to the critic and none to x and y, so neither can spoil the other whatever is summed or left uncleared.

    Args:
        x_dim, y_dim: the widths of x and y.
        hidden_dim: the critic's hidden width.
        ema: the share of the past in the moving average of E[exp f], in [0, 1).

    Raises:
        ValueError: ema outside its range.
    """

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
        _reset(self.critic)
        self.log_ema.fill_(-math.inf)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound, for the encoders to minimize; the gradient reaches x and y, not the critic.

        Information is never negative, this estimate may be: below 0 it tells nothing, and encoders that minimize it further only
        run away from a critic that lags behind, to minus infinity. Let them stop at 0, as
        :class:`~recbole_ib.bottleneck.disentangle.Redundancy` does.

        Args:
            x: ``[n, x_dim]``, of DISTINCT items.
            y: ``[n, y_dim]``, the same items.

        Returns:
            A scalar; 0 for n < 2, where there is no product pair.

        Raises:
            ValueError: other shapes.
        """
        _check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(x, y)
        return donsker_varadhan(*self._values(x, y, _constants(self.critic)))

    def critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the bound of the batch, its log term with the gradient grad E[exp f] / EMA (Belghazi et al., Eq. 12).

        The batch's own log mean exp has a biased gradient, as the log of a mean is not the mean of the logs. The average includes
        this batch; it is stored in training mode only, and part of the state dict, so that a resumed run goes on exactly.

        Args:
            x, y: as in :meth:`forward`; no gradient flows into them.

        Returns:
            A scalar with a gradient to the critic; 0 for n < 2, which leaves the average alone.

        Raises:
            ValueError: other shapes.
        """
        _check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(*self.critic.parameters())
        joint, product = self._values(x.detach(), y.detach(), dict(self.critic.named_parameters()))
        log_mean = _log_mean_exp(product)
        average = _averaged(self.log_ema, log_mean.detach(), self.ema)
        if self.training:
            self.log_ema.copy_(average)
        # at most 1 / (1 - ema), as the average holds this batch: exp cannot overflow
        ratio = torch.exp(log_mean - average)
        return log_mean.detach() + (ratio - ratio.detach()) - joint.mean()

    def _values(self, x: Tensor, y: Tensor, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """f of the joint and of the product pairs, both ``[n]``, in one pass."""
        x, y = _standardize(x), _standardize(y)
        pairs = torch.cat([torch.cat([x, x]), torch.cat([y, y[_random_cycle(y.shape[0], y.device)]])], dim=1)
        joint, product = functional_call(self.critic, parameters, (pairs,)).squeeze(1).chunk(2)
        return joint, product

    def extra_repr(self) -> str:
        return f"x_dim={self.x_dim}, y_dim={self.y_dim}, ema={self.ema}"


class CLUB(nn.Module):
    """An UPPER bound of I(x; y) with a learned q(y|x) = N(mu(x), diag s^2(x)) (CLUB, Cheng et al., ICML 2020).

    The bound is as good as q, which :meth:`critic_loss` fits by maximum likelihood while the encoders minimize :meth:`forward`;
    it is not symmetric in x and y. As in :class:`MINE`, every coordinate is scaled to variance 1 over the batch first, which
    does not change the bound, and each of the two methods gives a gradient to its own side alone.

    Args:
        x_dim, y_dim: the widths of x and y.
        hidden_dim: the hidden width of q.
    """

    def __init__(self, x_dim: int, y_dim: int, hidden_dim: int = 64):
        super().__init__()
        self.x_dim, self.y_dim = x_dim, y_dim
        self.q = _GaussianRegression(x_dim, y_dim, hidden_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset(self.q)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound :func:`club_bound`, for the encoders to minimize; the gradient reaches x and y, not q.

        Args:
            x: ``[n, x_dim]``, of DISTINCT items.
            y: ``[n, y_dim]``, the same items.

        Returns:
            A scalar; 0 for n < 2.

        Raises:
            ValueError: other shapes.
        """
        _check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(x, y)
        return club_bound(_standardize(y), *functional_call(self.q, _constants(self.q), (_standardize(x),)))

    def critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """-mean_i log q(y_i|x_i), of the scaled y.

        Args:
            x, y: as in :meth:`forward`; no gradient flows into them.

        Returns:
            A scalar with a gradient to q; 0 for n < 2.

        Raises:
            ValueError: other shapes.
        """
        _check_pair(x, y, self.x_dim, self.y_dim)
        if x.shape[0] < 2:
            return _zero_of(*self.q.parameters())
        y = _standardize(y.detach())
        mean, log_variance = self.q(_standardize(x.detach()))
        terms = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2.0 * math.pi)
        return 0.5 * terms.sum(dim=1).mean()

    def extra_repr(self) -> str:
        return f"x_dim={self.x_dim}, y_dim={self.y_dim}"


class _GaussianRegression(nn.Module):
    """x -> the mean and the log variance of y, both ``[n, y_dim]``, through one hidden ReLU layer."""

    # of the log variance, either side of the 0 of a scaled y: a y that x determines would have infinitely steep gradients
    BOUND = 6.0

    def __init__(self, x_dim: int, y_dim: int, hidden_dim: int):
        super().__init__()
        self.hidden = nn.Linear(x_dim, hidden_dim)
        self.mean = nn.Linear(hidden_dim, y_dim)
        self.log_variance = nn.Linear(hidden_dim, y_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x).relu()
        return self.mean(hidden), self.BOUND * torch.tanh(self.log_variance(hidden) / self.BOUND)


def _check_pair(x: Tensor, y: Tensor, x_dim: int | None = None, y_dim: int | None = None) -> None:
    """Raise ValueError unless x and y are matrices of as many rows each, and of the given widths."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ValueError(f"x and y must be [n, d] with the same rows, got {tuple(x.shape)} and {tuple(y.shape)}")
    if x_dim is not None and (x.shape[1], y.shape[1]) != (x_dim, y_dim):
        raise ValueError(f"x and y must be {x_dim} and {y_dim} wide, got {tuple(x.shape)} and {tuple(y.shape)}")


def _zero_of(*tensors: Tensor) -> Tensor:
    """0 with a gradient of zeros to all of the tensors."""
    return sum((t.sum() * 0.0 for t in tensors[1:]), tensors[0].sum() * 0.0)


def _log_mean_exp(values: Tensor) -> Tensor:
    return torch.logsumexp(values, dim=0) - math.log(values.shape[0])


def _averaged(log_average: Tensor, log_value: Tensor, past: float) -> Tensor:
    """log(past * average + (1 - past) * value) of logs; the value itself where nothing has been averaged yet."""
    if past == 0.0:
        return log_value
    mixed = torch.logaddexp(log_average + math.log(past), log_value + math.log1p(-past))
    return torch.where(torch.isneginf(log_average), log_value, mixed)


def _random_cycle(n: int, device: torch.device) -> Tensor:
    """A permutation of n rows drawn evenly from those that are one cycle: no row stays where it is, n >= 2. int64 ``[n]``."""
    order = torch.randperm(n, device=device)
    cycle = torch.empty_like(order)
    cycle[order] = order.roll(1)
    return cycle


def _standardize(x: Tensor) -> Tensor:
    """Every column of ``[n, d]`` scaled to mean 0 and variance 1; a constant one becomes 0."""
    centered = x - x.mean(dim=0)
    return centered * torch.rsqrt(centered.square().mean(dim=0) + VARIANCE_FLOOR)


def _unit_spread(x: Tensor) -> Tensor:
    """As :func:`_standardize`, for any scale: only a column whose spread is rounding alone becomes 0."""
    centered = x - x.mean(dim=0)
    spread = centered.square().mean(dim=0).sqrt()
    varies = spread > 1e-12 * x.abs().amax(dim=0)
    return torch.where(varies, centered / spread.where(varies, torch.ones_like(spread)), torch.zeros_like(centered))


def _eye(x: Tensor) -> Tensor:
    return torch.eye(x.shape[1], dtype=x.dtype, device=x.device)


def _constants(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters without gradient, for a call through which the gradient reaches the inputs alone."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def _reset(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
