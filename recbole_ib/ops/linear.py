"""Matrix products of feature rows; in mixed-precision steps they read bfloat16 and sum in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: rows from the first width on, with results up to the second, take a fifth to a third less time on a CPU as
#: :class:`_Rows`
WIDE, NARROW = 256, 128
#: rows from this width on are read in bfloat16 in a mixed step on a CPU; of narrower ones the product only
#: waits for memory
MIXED_WIDTH = 128
#: rows of a product, or of the sum of a gradient, at a time on a CPU
ROWS_AT_ONCE = 512
#: rows of a product of narrow rows that is itself wide, such as the gradient of a trained table: 2 MiB at
#: 4,096 columns
WIDE_ROWS_AT_ONCE = 128


@dataclass
class _State:
    """The precision at this moment."""

    mixed: bool = False
    #: torch's own setting, where a mixed block on a GPU has replaced it
    outside: str | None = None


_state = _State()


def is_mixed() -> bool:
    """Return whether matrix products read bfloat16 at this moment.

    Example:
        >>> is_mixed()
        False
        >>> with mixed():
        ...     is_mixed()
        True
    """
    return _state.mixed


@contextmanager
def mixed(enabled: bool = True, device: torch.device | str = "cpu") -> Iterator[None]:
    """Round what matrix products read to bfloat16 inside the block, and sum in float32.

    It does so where the hardware can, and where it pays.

    On a CPU these are the products of :func:`linear`. On a GPU they are all of float32, by torch's
    ``set_float32_matmul_precision("medium")`` (in practice TF32), which every block, nested ones too, leaves
    as it found it. Nothing else changes its precision, and results stay float32; not torch.autocast, whose
    bfloat16 results would go on into kernels, softmax and sparse products. A backward pass must be run inside
    too.

    Args:
        enabled: False leaves products as they are, also inside a mixed block: for what is decided or kept for
            longer than a step.
        device: where the products are.

    Example:
        >>> with mixed(), mixed(enabled=False):
        ...     is_mixed()
        False
    """
    outer = replace(_state)
    changes = torch.device(device).type == "cuda" if enabled else outer.outside is not None
    before = torch.get_float32_matmul_precision() if changes else "highest"
    if changes:
        torch.set_float32_matmul_precision("medium" if enabled else outer.outside or before)
        _state.outside = (outer.outside or before) if enabled else None
    _state.mixed = enabled
    try:
        yield
    finally:
        _state.mixed, _state.outside = outer.mixed, outer.outside
        if changes:
            torch.set_float32_matmul_precision(before)


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices by its own instructions.

    Elsewhere such products are 4 to 16 times SLOWER than those of float32.

    Example:
        >>> has_bfloat16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def reads_bfloat16(device: torch.device, width: int) -> bool:
    """Return whether :func:`linear` reads rows of this width in bfloat16 at this moment.

    Example:
        >>> reads_bfloat16(torch.device("cpu"), width=4096)  # outside a mixed step
        False
    """
    return _state.mixed and (device.type != "cpu" or width >= MIXED_WIDTH) and has_bfloat16(device)


class Linear(nn.Linear):
    """Linear layer on many or wide rows: ``nn.Linear`` by :func:`linear`.

    Example:
        >>> Linear(3, 2)(torch.ones(5, 3)).shape
        torch.Size([5, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, ``[n, in]`` -> ``[n, out]``."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b in float32, in a mixed step of what is rounded to bfloat16.

    Args:
        x: ``[n, in]``, float32, or CONSTANT rows in bfloat16: half the memory to read.
        weight: W, float32 ``[out, in]``.
        bias: b, float32 ``[out]``.

    Returns:
        ``[n, out]``, float32.

    Raises:
        ValueError: bfloat16 rows with a gradient.

    Example:
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> linear(torch.tensor([[1.0, 2.0]]), weight, bias=torch.tensor([0.5, 0.0]))
        tensor([[11.5000,  2.0000]])
    """
    if x.dtype == torch.bfloat16 and x.requires_grad:
        raise ValueError("bfloat16 rows are constants here: they take no gradient")
    cpu, (outs, ins) = x.device.type == "cpu" and x.ndim == 2, weight.shape
    rounded = x.dtype == torch.bfloat16 or (cpu and reads_bfloat16(x.device, ins))
    if rounded or (cpu and ins >= WIDE and outs <= NARROW):
        return _Rows.apply(x, weight, bias, rounded)
    return F.linear(x, weight, bias)


class _Rows(torch.autograd.Function):
    """``F.linear`` in the shapes that suit a CPU's matrix library.

    The products are those of float32, or of what is rounded to bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rounded: bool) -> Tensor:
        ctx.rounded = rounded
        ctx.save_for_backward(x, weight)
        y = _product(x, weight.T.contiguous(), rounded)
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        grad_x = grad_weight = None
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            grad_x = grad @ weight if of_x else None
            grad_weight = grad.T @ x.to(grad.dtype) if of_weight else None
        else:
            grad_x = _product(grad, weight, ctx.rounded) if of_x else None
            grad_weight = _sum_of_products(grad, x, ctx.rounded) if of_weight else None
        return grad_x, grad_weight, grad.sum(dim=0) if of_bias else None, None


def _blocks(x: Tensor) -> tuple[list[slice], slice]:
    """Return blocks of rows of one size, and the rest.

    For a shape that changes with every batch oneDNN compiles a kernel every time.
    """
    step = ROWS_AT_ONCE if x.device.type == "cpu" else max(1, len(x))
    whole = len(x) - len(x) % step
    return [slice(start, start + step) for start in range(0, whole, step)], slice(whole, None)


@contextmanager
def _reads_bfloat16() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _product(x: Tensor, other: Tensor, rounded: bool) -> Tensor:
    """Return x B, ``[n, k] @ [k, m]`` in B's dtype, without a gradient."""
    out = other.new_empty(x.shape[0], other.shape[1])
    if not rounded:
        step = (
            WIDE_ROWS_AT_ONCE
            if x.device.type == "cpu" and other.shape[0] <= NARROW < other.shape[1]
            else max(1, len(x))
        )
        for start in range(0, len(x), step):
            block = slice(start, start + step)
            torch.mm(x[block], other, out=out[block])
        return out
    blocks, rest = _blocks(x)
    narrow = other.to(x.dtype)
    with _reads_bfloat16():
        for block in blocks:
            out[block] = x[block] @ narrow
    out[rest] = x[rest].to(other.dtype) @ other
    return out


def _sum_of_products(grad: Tensor, x: Tensor, rounded: bool) -> Tensor:
    """Return grad^T x, ``[n, k]``, ``[n, m]`` -> ``[k, m]`` in grad's dtype, without a gradient."""
    total = grad.new_zeros(grad.shape[1], x.shape[1])
    blocks, rest = _blocks(x)
    with _reads_bfloat16() if rounded else nullcontext():
        for block in blocks:
            if x.dtype == grad.dtype:
                total.addmm_(grad[block].T, x[block])
            else:
                total += grad[block].to(x.dtype).T @ x[block]
    return total.addmm_(grad[rest].T, x[rest].to(grad.dtype))
