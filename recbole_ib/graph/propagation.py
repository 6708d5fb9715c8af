"""Sparse products with their own backward pass.

Autograd's backward of a sparse product transposes the matrix anew at every step and, for a matrix without
parameters, does it for nothing. Here a matrix keeps its transpose (itself, where it is symmetric),
so a backward pass costs what a forward pass costs. Where the edge weights have a gradient, it is the sampled
product of the two dense factors at the edges, never an N x N matrix.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# said once a process by torch.sparse_csr_tensor; nothing for a user to do about it
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def _product(crow: Tensor, col: Tensor, values: Tensor, n_cols: int, x: Tensor) -> Tensor:
    """Return CSR times dense, without a gradient: ``[n_rows, n_cols] @ [n_cols, d]``."""
    x = x.contiguous()
    if x.device.type == "cpu":
        # a weighted sum of embedding rows IS this product, and its kernel is 1.7 to 3 times as fast as
        # torch's and scipy's sparse ones (benchmarks/sparse_product.py); every row is summed by one thread in
        # the order of its entries
        return F.embedding_bag(
            col, x, crow, mode="sum", per_sample_weights=values.to(x.dtype), include_last_offset=True
        )
    shape = (crow.numel() - 1, n_cols)
    return torch.sparse_csr_tensor(crow, col, values, size=shape, check_invariants=False) @ x


class SparseMatrix(nn.Module):
    """Constant sparse matrix, whose product with a dense block has a backward of the same cost.

    Shapes: ``[n_rows, n_cols]``; ``forward`` takes ``[n_cols, d]`` and returns ``[n_rows, d]``. The CSR parts
    are buffers that follow ``.to(device)`` and stay out of the state dict, because the data set gives them
    again.

    Example:
        >>> SparseMatrix(sp.csr_array([[0.0, 2.0], [1.0, 0.0]]))(torch.tensor([[1.0], [3.0]]))
        tensor([[6.],
                [1.]])
    """

    crow: Tensor
    col: Tensor
    values: Tensor
    t_crow: Tensor
    t_col: Tensor
    t_values: Tensor

    def __init__(self, matrix: sp.spmatrix | sp.sparray, symmetric: bool = False):
        super().__init__()
        csr = sp.csr_array(matrix, dtype=np.float32)
        csr.sort_indices()
        if symmetric and csr.shape[0] != csr.shape[1]:
            raise ValueError(f"a matrix of shape {csr.shape} cannot be symmetric")
        self.shape, self.symmetric = csr.shape, symmetric
        self._register("", csr)
        if not symmetric:
            transposed = sp.csr_array(csr.T)
            transposed.sort_indices()
            self._register("t_", transposed)

    def _register(self, prefix: str, csr: sp.csr_array) -> None:
        for name, array, dtype in (
            ("crow", csr.indptr, np.int32),
            ("col", csr.indices, np.int32),
            ("values", csr.data, np.float32),
        ):
            self.register_buffer(prefix + name, torch.from_numpy(array.astype(dtype)), persistent=False)

    def product(self, x: Tensor, transpose: bool = False) -> Tensor:
        """Return ``A x``, or ``A^T x``, without a gradient."""
        if transpose and not self.symmetric:
            return _product(self.t_crow, self.t_col, self.t_values, self.shape[0], x)
        return _product(self.crow, self.col, self.values, self.shape[1], x)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``A x``, with a gradient to x. ``[n_cols, d]`` -> ``[n_rows, d]``."""
        return _ConstantProduct.apply(x, self, False)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the shape and the number of entries."""
        return f"{self.shape[0]} x {self.shape[1]}, {self.values.numel()} entries, symmetric={self.symmetric}"


# Every backward pass below is made of these functions again, so that a gradient has a gradient (a penalty on
# gradients needs it).


class _ConstantProduct(torch.autograd.Function):
    """``A x``, or ``A^T x``, of a constant matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: SparseMatrix, transpose: bool) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        return matrix.product(x.detach(), transpose)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _ConstantProduct.apply(grad, ctx.matrix, not ctx.transpose), None, None


class _MeanPropagation(torch.autograd.Function):
    """The mean of the layers ``A^l x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: SparseMatrix, num_layers: int, transpose: bool) -> Tensor:
        ctx.matrix, ctx.num_layers, ctx.transpose = matrix, num_layers, transpose
        return _layer_mean(matrix, x.detach(), num_layers, transpose)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # sum_l A^l is a polynomial in A: its transpose is the same polynomial in A^T, no layer needs to be
        # kept.
        return _MeanPropagation.apply(grad, ctx.matrix, ctx.num_layers, not ctx.transpose), None, None, None


def _layer_mean(matrix: SparseMatrix, x: Tensor, num_layers: int, transpose: bool) -> Tensor:
    share = 1.0 / (num_layers + 1)
    total, layer = x * share, x
    for _ in range(num_layers):
        layer = matrix.product(layer, transpose=transpose)
        total.add_(layer, alpha=share)
    return total


def mean_propagation(matrix: SparseMatrix, x: Tensor, num_layers: int) -> Tensor:
    """Propagate as LightGCN does: ``(1 / (L + 1)) sum_{l=0..L} A^l x``.

    He et al. 2020, Eq. 8; IBMRec Eq. 6-7.

    Args:
        matrix: A, ``[n, n]``.
        x: ``[n, d]``.
        num_layers: L >= 0; with 0 the result is x.

    Returns:
        ``[n, d]``.

    Raises:
        ValueError: a negative number of layers.

    Example:
        >>> swap = SparseMatrix(sp.csr_array([[0.0, 1.0], [1.0, 0.0]]), symmetric=True)
        >>> mean_propagation(swap, torch.tensor([[2.0], [4.0]]), num_layers=1)
        tensor([[3.],
                [3.]])
    """
    if num_layers < 0:
        raise ValueError(f"the number of layers must not be negative, got {num_layers}")
    return _MeanPropagation.apply(x, matrix, num_layers, False)


class EdgeStructure(nn.Module):
    """Pattern of a square graph, without its weights, and that of its transpose.

    Args:
        rows, cols: int64 ``[n_edges]``, an edge row <- col each; sorted here by (row, col), so ``order``
            gives the input position of every stored edge.
        n_nodes: the number of nodes.

    Raises:
        ValueError: an edge stands there twice, or points outside the graph.

    Example:
        >>> structure = EdgeStructure(torch.tensor([1, 0]), torch.tensor([0, 1]), n_nodes=2)
        >>> structure.rows.tolist(), structure.cols.tolist(), structure.order.tolist()
        ([0, 1], [1, 0], [1, 0])
    """

    rows: Tensor
    cols: Tensor
    order: Tensor
    transposed: Tensor
    crow: Tensor
    col: Tensor
    t_crow: Tensor
    t_col: Tensor

    def __init__(self, rows: Tensor, cols: Tensor, n_nodes: int):
        super().__init__()
        rows, cols = rows.long(), cols.long()
        if rows.numel() and not (
            0 <= int(min(rows.min(), cols.min())) <= int(max(rows.max(), cols.max())) < n_nodes
        ):
            raise ValueError(f"an edge points outside a graph of {n_nodes} nodes")
        key, order = torch.sort(rows * n_nodes + cols)
        if bool((key[1:] == key[:-1]).any()):
            raise ValueError("an edge is given twice; sum the weights of parallel edges first")
        rows, cols = rows[order], cols[order]
        _, transposed = torch.sort(cols * n_nodes + rows)
        self._hold(rows, cols, order, transposed, n_nodes)

    def _hold(self, rows: Tensor, cols: Tensor, order: Tensor, transposed: Tensor, n_nodes: int) -> None:
        self.n_nodes = n_nodes
        for name, value in (
            ("rows", rows),
            ("cols", cols),
            ("order", order),
            ("transposed", transposed),
            ("crow", _row_pointers(rows, n_nodes)),
            ("col", cols.int()),
            ("t_crow", _row_pointers(cols, n_nodes)),
            ("t_col", rows[transposed].int()),
        ):
            self.register_buffer(name, value, persistent=False)

    def of_rows(self, rows: Tensor) -> tuple[EdgeStructure, Tensor]:
        """Return the structure of the given rows' edges among the same nodes, and their positions here.

        The work is that of these edges, not of the whole graph's.
        """
        rows = torch.unique(rows)
        starts, counts = self.crow[rows].long(), (self.crow[rows + 1] - self.crow[rows]).long()
        before = counts.cumsum(0) - counts
        edges = torch.arange(int(counts.sum()), device=rows.device) + torch.repeat_interleave(
            starts - before, counts
        )
        ends, cols = torch.repeat_interleave(rows, counts), self.cols[edges]
        # a stable sort by column keeps the order of the rows
        turned = torch.sort(cols, stable=True).indices
        part = EdgeStructure.__new__(EdgeStructure)
        nn.Module.__init__(part)
        part._hold(ends, cols, edges, turned, self.n_nodes)
        return part, edges

    @property
    def n_edges(self) -> int:
        """The number of edges."""
        return self.rows.numel()

    def row_sums(self, values: Tensor) -> Tensor:
        """Return the weighted out-degrees: ``[n_edges] -> [n_nodes]``, with gradient."""
        return values.new_zeros(self.n_nodes).index_add(0, self.rows, values)

    def normalize(self, values: Tensor) -> Tensor:
        """Return ``D^-1/2 S D^-1/2`` with ROW degrees on both sides, ``[n_edges] -> [n_edges]``.

        A degree that is not positive gives weight 0.
        """
        degree = self.row_sums(values)
        inverse_root = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), torch.zeros_like(degree))
        # index_select, not indexing: on several CPU threads the latter's backward adds in the order of the
        # threads
        return values * inverse_root.index_select(0, self.rows) * inverse_root.index_select(0, self.cols)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows: the numbers of nodes and edges."""
        return f"{self.n_nodes} nodes, {self.n_edges} edges"


def _row_pointers(sorted_or_not: Tensor, n_nodes: int) -> Tensor:
    counts = torch.bincount(sorted_or_not, minlength=n_nodes)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


class EdgeGraph:
    """Graph with weights: an :class:`EdgeStructure` and one weight per edge, which may carry a gradient.

    Args:
        structure: the edges.
        weights: ``[n_edges]``, in the order of the structure.

    Raises:
        ValueError: another number of weights.

    Example:
        >>> structure = EdgeStructure(torch.tensor([0, 1]), torch.tensor([1, 0]), n_nodes=2)
        >>> EdgeGraph(structure, torch.tensor([2.0, 1.0])).propagate(torch.tensor([[1.0], [3.0]]))
        tensor([[6.],
                [1.]])
    """

    def __init__(self, structure: EdgeStructure, weights: Tensor):
        if weights.shape != (structure.n_edges,):
            raise ValueError(
                f"{structure.n_edges} edges need as many weights, got shape {tuple(weights.shape)}"
            )
        self.structure, self.weights = structure, weights

    def masked(self, gate: Tensor) -> EdgeGraph:
        """Return S' = S * rho (IBMRec Eq. 23).

        The same pattern, every weight times its gate ``[n_edges]``.
        """
        return EdgeGraph(self.structure, self.weights * gate)

    def detach(self) -> EdgeGraph:
        """Return the graph with its weights as constants."""
        return EdgeGraph(self.structure, self.weights.detach())

    def of_rows(self, rows: Tensor) -> EdgeGraph:
        """Return the graph with the edges of the given rows alone.

        One layer of :meth:`propagate` gives these rows as before, others 0.
        """
        part, edges = self.structure.of_rows(rows)
        return EdgeGraph(part, self.weights.index_select(0, edges))

    def propagate(self, x: Tensor, num_layers: int = 1) -> Tensor:
        """Return ``S^L x`` (LATTICE; IBMRec Eq. 11): the last layer alone.

        ``[n_nodes, d] -> [n_nodes, d]``.
        """
        for _ in range(num_layers):
            x = _EdgeProduct.apply(self.weights, x, self.structure, False)
        return x


class _EdgeProduct(torch.autograd.Function):
    """``S x``, or ``S^T x``, with gradients for the edge weights and for x."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, structure: EdgeStructure, transpose: bool) -> Tensor:
        ctx.structure, ctx.transpose = structure, transpose
        ctx.save_for_backward(weights, x)
        s, weights, x = structure, weights.detach(), x.detach()
        if transpose:
            return _product(s.t_crow, s.t_col, weights[s.transposed], s.n_nodes, x)
        return _product(s.crow, s.col, weights, s.n_nodes, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, x = ctx.saved_tensors
        s, grad_weights, grad_x = ctx.structure, None, None
        if ctx.needs_input_grad[0]:
            # d/dw_ij = <grad_i, x_j>, at the edges alone
            ends = (x, grad) if ctx.transpose else (grad, x)
            grad_weights = EdgeDot.apply(*ends, s)
        if ctx.needs_input_grad[1]:
            grad_x = _EdgeProduct.apply(weights, grad, s, not ctx.transpose)
        return grad_weights, grad_x, None, None


class EdgeDot(torch.autograd.Function):
    """Inner product ``<a_row, b_col>`` of every edge: two ``[n_nodes, d] -> [n_edges]``.

    Example:
        >>> structure = EdgeStructure(torch.tensor([0]), torch.tensor([1]), n_nodes=2)
        >>> EdgeDot.apply(torch.tensor([[2.0], [3.0]]), torch.tensor([[5.0], [7.0]]), structure)
        tensor([14.])
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, structure: EdgeStructure) -> Tensor:
        """Return the products at the edges, ``[n_edges]``."""
        ctx.structure = structure
        ctx.save_for_backward(a, b)
        s, a, b = structure, a.detach().contiguous(), b.detach().contiguous()
        zeros = torch.zeros(s.n_edges, dtype=a.dtype, device=a.device)
        pattern = torch.sparse_csr_tensor(
            s.crow, s.col, zeros, size=(s.n_nodes, s.n_nodes), check_invariants=False
        )
        return torch.sparse.sampled_addmm(pattern, a, b.T, beta=0.0).values()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients to ``a`` and ``b``, ``[n_nodes, d]`` each."""
        a, b = ctx.saved_tensors
        s, grad_a, grad_b = ctx.structure, None, None
        if ctx.needs_input_grad[0]:
            grad_a = _EdgeProduct.apply(grad, b, s, False)
        if ctx.needs_input_grad[1]:
            grad_b = _EdgeProduct.apply(grad, a, s, True)
        return grad_a, grad_b, None
