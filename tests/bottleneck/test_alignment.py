"""The measures of the diagnostics, by naive forms of their equations."""

import math

import numpy as np
import pytest
import torch

from recbole_ib.bottleneck.alignment import alignment, mean_row, median_rbf_kernel, variance_share
from recbole_ib.bottleneck.kernels import center
from tests.support.diagnostics import naive_hsic, naive_kernel


@pytest.mark.parametrize("n", [2, 3, 17])
def test_normalized_hsic_equals_the_naive_one(n):
    x, y = torch.randn(n, 5), torch.randn(n, 3)
    a, b = naive_kernel(x), naive_kernel(y)
    np.testing.assert_allclose(median_rbf_kernel(x).numpy(), a, atol=1e-12)
    found = alignment(center(median_rbf_kernel(x)), center(median_rbf_kernel(y)))
    assert float(found.hsic) == pytest.approx(naive_hsic(a, b), rel=1e-9)
    expected = naive_hsic(a, b) / math.sqrt(naive_hsic(a, a) * naive_hsic(b, b))
    assert float(found.normalized) == pytest.approx(expected, rel=1e-9)


def test_rows_that_are_the_same_have_one():
    x = torch.randn(50, 4)
    for y in (x, 3 * x, x[:, [2, 0, 3, 1]]):
        found = alignment(center(median_rbf_kernel(x)), center(median_rbf_kernel(y)))
        assert float(found.normalized) == pytest.approx(1)
        assert float(found.independent) < 0.5


def test_independent_rows_have_the_independence_level():
    torch.manual_seed(0)
    found = alignment(center(median_rbf_kernel(torch.randn(600, 4))), center(median_rbf_kernel(torch.randn(600, 6))))
    assert 0 < float(found.independent) < 0.02
    assert float(found.normalized) == pytest.approx(float(found.independent), abs=0.005)


def test_the_independence_level_is_the_mean_over_all_permutations():
    from itertools import permutations

    a, b = (center(median_rbf_kernel(torch.randn(5, 3))) for _ in range(2))
    orders = [list(p) for p in permutations(range(5))]
    mean = np.mean([float(alignment(a, b[p][:, p]).normalized) for p in orders])
    assert float(alignment(a, b).independent) == pytest.approx(mean)


def test_a_side_without_any_difference_depends_on_nothing():
    x = torch.randn(30, 4)
    for constant in (torch.zeros(30, 4), torch.randn(1, 4).expand(30, 4), torch.randn(30, 1).abs() * torch.randn(1, 4)):
        kernel = median_rbf_kernel(constant)
        assert torch.equal(kernel, torch.ones_like(kernel))
        found = alignment(center(median_rbf_kernel(x)), center(kernel))
        assert [float(v) for v in found[1:]] == [0, 0]
        assert float(found.hsic) == pytest.approx(0, abs=1e-15)


def test_many_equal_rows_leave_a_width():
    x = torch.randn(3, 4)[torch.tensor([0] * 20 + [1, 2])]
    kernel = median_rbf_kernel(x)
    assert torch.equal(kernel[:20, :20], torch.ones(20, 20, dtype=torch.double))
    assert float(kernel[0, 20]) < 0.9


@pytest.mark.parametrize("shape", [(1, 3), (4,), (2, 2, 2)])
def test_shapes_without_pairs_of_rows_are_refused(shape):
    with pytest.raises(ValueError, match="at least 2 rows"):
        median_rbf_kernel(torch.ones(shape))


@pytest.mark.parametrize("shapes", [((3, 3), (4, 4)), ((3, 2), (3, 2)), ((1, 1), (1, 1))])
def test_kernels_of_other_sizes_are_refused(shapes):
    with pytest.raises(ValueError, match="two square kernels"):
        alignment(*(torch.ones(s) for s in shapes))


def test_the_share_is_the_lost_spread():
    s, without = torch.randn(6, 9), torch.randn(6, 9)
    lost = np.mean([np.var((s - without)[u].numpy(), ddof=1) for u in range(6)])
    whole = np.mean([np.var(s[u].numpy(), ddof=1) for u in range(6)])
    assert float(variance_share(s, without)) == pytest.approx(lost / whole, rel=1e-5)
    assert float(variance_share(s, s + torch.randn(6, 1))) == pytest.approx(0, abs=1e-12)
    assert float(variance_share(torch.ones(6, 9), without)) == 0


def test_the_mean_of_equal_rows_is_that_row_to_the_last_digit():
    table = torch.randn(1, 7).expand(1001, 7)
    mask = torch.rand(1001) < 0.7
    assert torch.equal(mean_row(table, mask), table)
    rows = torch.randn(5, 3)
    mask = torch.tensor([False, True, True, False, True])
    torch.testing.assert_close(mean_row(rows, mask), rows[[1, 2, 4]].mean(dim=0).expand(5, 3))
