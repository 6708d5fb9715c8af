"""Rows of length 1, with a closed-form gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: a row whose squared length is below it counts as zero, as in ``torch.nn.functional.normalize``
SMALLEST_SQUARE = 1e-24


def unit_rows(x: Tensor, tiny: float = SMALLEST_SQUARE**-0.5) -> Tensor:
    """Return x_i / ||x_i||, ``[n, d]``; a row shorter than 1e-12 is multiplied by ``tiny``.

    With the default this is ``F.normalize``, but with finite gradients of both orders at a zero row
    (padding), and with 4 passes over ``[n, d]`` in the backward instead of 10; with 0 such a row is zero and
    takes no gradient.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return _UnitRows.apply(x, tiny)


class _UnitRows(torch.autograd.Function):
    """With s_i = 1 / ||x_i|| the gradient is s (g - s^2 <g, x> x), by rows; of a short row ``tiny`` g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tiny: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        small = length < SMALLEST_SQUARE**0.5
        scale = length.reciprocal().masked_fill_(small, tiny)
        ctx.tiny = tiny
        ctx.save_for_backward(x, scale, small)
        return x * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, small = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient: the scale as a function of x
            square = torch.where(small, torch.ones_like(scale), x.square().sum(dim=1, keepdim=True))
            scale = torch.where(small, torch.full_like(scale, ctx.tiny), square.rsqrt())
            along = (grad * x).sum(dim=1, keepdim=True) * scale.square()
            return scale * (grad - torch.where(small, torch.zeros_like(along), along) * x), None
        along = (
            torch.einsum("ij,ij->i", grad, x)[:, None]
            .mul_(scale)
            .mul_(scale)
            .mul_(scale)
            .masked_fill_(small, 0.0)
        )
        return (grad * scale).addcmul_(x, along, value=-1.0), None
