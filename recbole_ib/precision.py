"""Matrix products of feature rows; mixed precision: in training steps they read bfloat16 and sum in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

#: rows from this width on, and results up to that one, are multiplied by :class:`_WideRows`: a fifth to a third less time
WIDE, NARROW = 1024, 128
#: a gradient of W is summed over so many rows at a time
ROWS_AT_ONCE = 512
#: torch's own setting, outside the outermost mixed block; None where nothing is mixed
_outside: str | None = None


def is_mixed() -> bool:
    """Whether matrix products read bfloat16 at this moment."""
    return _outside is not None


@contextmanager
def mixed(enabled: bool = True) -> Iterator[None]:
    """Inside, float32 matrix products round what they read to bfloat16 and sum in float32, where the hardware can.

    It is torch's ``set_float32_matmul_precision("medium")``, which every block, nested ones too, leaves as it found it. Nothing else
    changes its precision, and results stay float32; not torch.autocast, whose bfloat16 results would go on into kernels, softmax and
    sparse products. A backward pass must be run inside too.

    Args:
        enabled: False leaves products as they are, and inside a mixed block gives them torch's setting from outside of it: for what
            is decided or kept for longer than a step.
    """
    global _outside
    if not enabled and _outside is None:
        yield
        return
    outer, before = _outside, torch.get_float32_matmul_precision()
    own = before if outer is None else outer
    _outside = own if enabled else None
    torch.set_float32_matmul_precision("medium" if enabled else own)
    try:
        yield
    finally:
        _outside = outer
        torch.set_float32_matmul_precision(before)


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices by its own instructions; elsewhere they are 4 to 16 times SLOWER than float32's."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b in float32, of float32 rows, or of CONSTANT rows in bfloat16: half the memory to read.

    Of bfloat16 rows the product and the gradient of W are summed in float32 and rounded to bfloat16 once; they have no second derivative.

    Args:
        x: ``[n, in]``, float32, or bfloat16 without a gradient.
        weight: W, float32 ``[out, in]``.
        bias: b, float32 ``[out]``.

    Returns:
        ``[n, out]``, float32.

    Raises:
        ValueError: bfloat16 rows with a gradient.
    """
    if x.dtype != torch.bfloat16:
        wide = x.device.type == "cpu" and x.ndim == 2 and x.shape[1] >= WIDE and weight.shape[0] <= NARROW
        return _WideRows.apply(x, weight, bias) if wide else F.linear(x, weight, bias)
    if x.requires_grad:
        raise ValueError("bfloat16 rows are constants here: they take no gradient")
    return _ConstantRows.apply(x, weight, bias)


class _WideRows(torch.autograd.Function):
    """``F.linear`` of a CPU for wide rows and a narrow result, where the shapes that torch hands to the matrix library suit it badly."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        turned = weight.T.contiguous()
        return x @ turned if bias is None else torch.addmm(bias, x, turned)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad_x, grad_weight = grad @ weight if of_x else None, None
        if of_weight and torch.is_grad_enabled():  # the gradient is to have a gradient
            grad_weight = grad.T @ x
        elif of_weight:
            grad_weight = torch.zeros_like(weight)
            for start in range(0, x.shape[0], ROWS_AT_ONCE):
                here = slice(start, start + ROWS_AT_ONCE)
                grad_weight.addmm_(grad[here].T, x[here])
        return grad_x, grad_weight, grad.sum(dim=0) if of_bias else None


class _ConstantRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        y = F.linear(x, weight.bfloat16()).float()
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        _, of_weight, of_bias = ctx.needs_input_grad
        return None, (grad.bfloat16().T @ x).float() if of_weight else None, grad.sum(dim=0) if of_bias else None
