import itertools

import pytest
import torch

from recbole_ib.bottleneck import center, hsic, rbf_hsic, rbf_kernel, unbiased_hsic
from tests.support.formulas import naive_hsic, naive_kernel


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(13, 5, dtype=torch.double), torch.randn(13, 8, dtype=torch.double)


@pytest.mark.parametrize("sigma2", [0.15, 0.25, 2.0])
def test_equals_the_definition_with_explicit_matrices(pair, sigma2):
    x, y = pair
    expected = naive_hsic(x.numpy(), y.numpy(), sigma2)
    assert float(hsic(rbf_kernel(x, sigma2), rbf_kernel(y, sigma2))) == pytest.approx(expected, rel=1e-9)
    assert float(rbf_hsic(x, y, sigma2=sigma2)) == pytest.approx(expected, rel=1e-9)
    assert float(rbf_hsic(x, sigma2=sigma2, kernel_y=rbf_kernel(y, sigma2))) == pytest.approx(expected, rel=1e-9)


def test_closed_form_gradient(pair):
    x, y = (t.clone().requires_grad_() for t in pair)
    assert torch.autograd.gradcheck(lambda a, b: rbf_hsic(a, b, sigma2=0.3), (x, y))
    kernel = rbf_kernel(pair[1], 0.3)
    assert torch.autograd.gradcheck(lambda a: rbf_hsic(a, sigma2=0.3, kernel_y=kernel), (x,))


def test_gradient_equals_autograd_of_the_plain_form(pair):
    x, y = (t.clone().requires_grad_() for t in pair)
    fused = torch.autograd.grad(rbf_hsic(x, y, sigma2=0.2), (x, y))
    plain = torch.autograd.grad(hsic(rbf_kernel(x, 0.2), rbf_kernel(y, 0.2)), (x, y))
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_gradient_flows_when_both_sides_are_one_tensor(pair):
    x = pair[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: rbf_hsic(a, a * 1.0, sigma2=0.3), (x,))


def test_symmetric_not_negative_and_blind_to_row_scale(pair):
    x, y = pair
    value = rbf_hsic(x, y, sigma2=0.2)
    assert float(value) > 0
    torch.testing.assert_close(value, rbf_hsic(y, x, sigma2=0.2))
    torch.testing.assert_close(value, rbf_hsic(3.0 * x, 0.1 * y, sigma2=0.2))


def permutation_rank(x, y, shuffles):
    """The share of row permutations whose HSIC reaches the observed one (a permutation test's p-value)."""
    observed = float(rbf_hsic(x, y, sigma2=0.5))
    return sum(float(rbf_hsic(x, y[p], sigma2=0.5)) >= observed for p in shuffles) / len(shuffles)


def test_tells_dependence_from_independence_by_permutation():
    """Dependent rows lie above every permutation; over many independent draws the p-values spread over [0, 1]."""
    torch.manual_seed(1)
    shuffles = [torch.randperm(100) for _ in range(40)]
    independent = []
    for _ in range(12):
        x = torch.randn(100, 3)
        assert permutation_rank(x, x @ torch.randn(3, 4) + 0.1 * torch.randn(100, 4), shuffles) == 0.0
        independent.append(permutation_rank(x, torch.randn(100, 4), shuffles))
    assert 0.25 < sum(independent) / len(independent) < 0.75


def test_biased_estimate_is_about_one_over_n_for_narrow_kernels():
    """The number that diagnostics must not read as dependence."""
    torch.manual_seed(0)
    value = float(rbf_hsic(torch.randn(400, 64), torch.randn(400, 128), sigma2=0.15))
    assert value == pytest.approx(1 / 400, rel=0.15)


def test_center_equals_hkh(pair):
    k = rbf_kernel(pair[0], 0.3)
    h = torch.eye(13, dtype=torch.double) - 1 / 13
    torch.testing.assert_close(center(k), h @ k @ h)


def test_wrong_input_is_refused(pair):
    x, y = pair
    with pytest.raises(ValueError, match="positive, got 0"):
        rbf_hsic(x, y, sigma2=0)
    with pytest.raises(ValueError, match="positive"):
        rbf_kernel(x, -1.0)
    with pytest.raises(ValueError, match="exactly one"):
        rbf_hsic(x, sigma2=0.1)
    with pytest.raises(ValueError, match="exactly one"):
        rbf_hsic(x, y, sigma2=0.1, kernel_y=rbf_kernel(y, 0.1))
    with pytest.raises(ValueError, match="same ones"):
        rbf_hsic(x, y[:-1], sigma2=0.1)
    with pytest.raises(ValueError, match="at least 2"):
        rbf_hsic(x[:1], y[:1], sigma2=0.1)
    with pytest.raises(ValueError, match="square"):
        hsic(rbf_kernel(x, 0.1), rbf_kernel(y[:-1], 0.1))


def double_sum(x, y, sigma2):
    """HSIC without any matrix product: the sum over all i and j of both centered kernels, each entry centered by hand."""
    n = len(x)
    kernels = [naive_kernel(z, sigma2) for z in (x, y)]
    total = 0.0
    for i in range(n):
        for j in range(n):
            a, b = (
                k[i][j] - sum(k[i][m] for m in range(n)) / n - sum(k[m][j] for m in range(n)) / n + sum(map(sum, k)) / n**2
                for k in kernels
            )
            total += a * b
    return total / (n - 1) ** 2


@pytest.mark.parametrize("sigma2", [0.15, 1.0])
@pytest.mark.parametrize("n", [2, 3, 13])
def test_equals_the_double_sum_over_centered_kernels(pair, sigma2, n):
    x, y = (t[:n] for t in pair)
    expected = double_sum(x.numpy(), y.numpy(), sigma2)
    assert float(hsic(rbf_kernel(x, sigma2), rbf_kernel(y, sigma2))) == pytest.approx(expected, rel=1e-9)
    assert float(rbf_hsic(x, y, sigma2=sigma2)) == pytest.approx(expected, rel=1e-9)


def test_dependent_rows_lie_above_all_of_200_permutations_and_independent_ones_among_them():
    """Dependence without correlation as well: y = x^2 has no linear part. Rows are shifted, as this HSIC sees directions."""
    torch.manual_seed(2)
    shuffles = [torch.randperm(150) for _ in range(200)]
    x = torch.randn(150, 2)
    noise = 0.1 * torch.randn(150, 2)
    shift = torch.tensor([[0.0, 0.0, 2.0]])
    wide = torch.cat([x, torch.zeros(150, 1)], dim=1) + shift
    linear = torch.cat([x.flip(1) + noise, torch.zeros(150, 1)], dim=1) + shift
    square = torch.cat([x.square() + noise, torch.zeros(150, 1)], dim=1) + shift
    assert permutation_rank(wide, linear, shuffles) == 0.0
    assert permutation_rank(wide, square, shuffles) == 0.0
    assert 0.05 < permutation_rank(wide, torch.cat([torch.randn(150, 2), torch.zeros(150, 1)], dim=1) + shift, shuffles) < 0.95


@pytest.mark.parametrize("sigma2", [0.15, 0.5, 1.0])
def test_value_does_not_depend_on_the_order_of_the_rows(pair, sigma2):
    x, y = pair
    order = torch.randperm(13)
    torch.testing.assert_close(rbf_hsic(x[order], y[order], sigma2=sigma2), rbf_hsic(x, y, sigma2=sigma2))


@pytest.mark.parametrize("numbers", [1, 26, 60, 1 << 18])
def test_blocks_of_any_size_give_the_plain_value_and_gradient(pair, numbers, monkeypatch):
    """One row a block, blocks that do not divide the rows, and one block for all."""
    monkeypatch.setattr("recbole_ib.bottleneck.kernels.BLOCK_NUMBERS", numbers)
    x, y = (t.clone().requires_grad_() for t in pair)
    kernels = rbf_kernel(x, 0.2), rbf_kernel(y, 0.2)
    plain = hsic(*kernels)
    for fused, inputs in (
        (rbf_hsic(x, y, sigma2=0.2), (x, y)),
        (rbf_hsic(x, sigma2=0.2, kernel_y=kernels[1].detach()), (x,)),
    ):
        torch.testing.assert_close(fused, plain)
        expected = torch.autograd.grad(plain, inputs, retain_graph=True)
        for got, want in zip(torch.autograd.grad(fused, inputs), expected, strict=True):
            torch.testing.assert_close(got, want)


def test_the_gradient_has_a_gradient(pair):
    x, y = (t[:6].clone().requires_grad_() for t in pair)
    assert torch.autograd.gradgradcheck(lambda a, b: rbf_hsic(a, b, sigma2=0.5), (x, y))
    kernel = rbf_kernel(y.detach(), 0.5)
    assert torch.autograd.gradgradcheck(lambda a: rbf_hsic(a, sigma2=0.5, kernel_y=kernel), (x,))
    one = x.detach().clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a: rbf_hsic(a, y.detach(), sigma2=0.5), (one,))
    assert torch.autograd.gradgradcheck(lambda a: rbf_hsic(y.detach(), a, sigma2=0.5), (one,))


def test_a_kernel_may_have_another_precision(pair):
    x, y = pair
    kernel = rbf_kernel(y, 0.3)
    expected = rbf_hsic(x, sigma2=0.3, kernel_y=kernel)
    assert float(rbf_hsic(x, sigma2=0.3, kernel_y=kernel.float())) == pytest.approx(float(expected), rel=1e-5)
    assert float(rbf_hsic(x.float(), sigma2=0.3, kernel_y=kernel)) == pytest.approx(float(expected), rel=1e-5)


def naive_unbiased(k, other):
    """The estimate as sums over distinct indices (Song et al. 2012, Theorem 2), in plain loops."""
    n, pairs, triples, fours = len(k), 0.0, 0.0, 0.0
    for i, j, q, r in itertools.product(range(n), repeat=4):
        if len({i, j, q, r}) == 4:
            fours += k[i, j] * other[q, r]
        if r == 0 and len({i, j, q}) == 3:
            triples += k[i, j] * other[i, q]
        if r == q == 0 and i != j:
            pairs += k[i, j] * other[i, j]
    return pairs / (n * (n - 1)) + fours / (n * (n - 1) * (n - 2) * (n - 3)) - 2 * triples / (n * (n - 1) * (n - 2))


def test_unbiased_equals_the_sums_over_distinct_indices(pair):
    x, y = pair[0][:6], pair[1][:6]
    kernels = [rbf_kernel(rows, 0.4) for rows in (x, y)]
    expected = naive_unbiased(*(k.numpy() for k in kernels))
    assert float(unbiased_hsic(*kernels)) == pytest.approx(expected, rel=1e-9)
    assert float(rbf_hsic(x, y, sigma2=0.4, estimator="unbiased")) == pytest.approx(expected, rel=1e-9)
    assert float(rbf_hsic(x, sigma2=0.4, kernel_y=kernels[1], estimator="unbiased")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("estimator", ["unbiased", "normalized"])
def test_closed_form_gradients_of_the_other_estimators(pair, estimator, monkeypatch):
    x, y = (t.clone().requires_grad_() for t in pair)
    monkeypatch.setattr("recbole_ib.bottleneck.kernels.BLOCK_NUMBERS", 13 * 4)  # blocks of four rows
    assert torch.autograd.gradcheck(lambda a, b: rbf_hsic(a, b, sigma2=0.3, estimator=estimator), (x, y))
    kernel = rbf_kernel(pair[1], 0.3)
    assert torch.autograd.gradcheck(lambda a: rbf_hsic(a, sigma2=0.3, kernel_y=kernel, estimator=estimator), (x,))
    assert torch.autograd.gradgradcheck(lambda a: rbf_hsic(a, sigma2=0.3, kernel_y=kernel, estimator=estimator), (x,))


@pytest.mark.parametrize("sigma2", [0.15, 1.0])
def test_means_over_independent_rows(sigma2):
    """Zero for the unbiased estimates whatever the kernel's width; the biased one is as large as its bias."""
    torch.manual_seed(0)
    found = {name: [] for name in ("biased", "unbiased", "normalized")}
    for _ in range(200):
        x, y = torch.randn(30, 6, dtype=torch.double), torch.randn(30, 9, dtype=torch.double)
        for name, values in found.items():
            values.append(float(rbf_hsic(x, y, sigma2=sigma2, estimator=name)))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    errors = {name: torch.tensor(values).std() / 200**0.5 for name, values in found.items()}
    assert abs(means["unbiased"]) < 3 * errors["unbiased"]
    assert abs(means["normalized"]) < 3 * errors["normalized"]
    assert means["biased"] > 20 * errors["biased"]


@pytest.mark.parametrize("sigma2", [0.15, 1.0])
def test_normalized_is_one_for_equal_rows_and_does_not_depend_on_scale(pair, sigma2):
    x, y = pair
    assert float(rbf_hsic(x, 2.0 * x, sigma2=sigma2, estimator="normalized")) == pytest.approx(1.0)
    kernel = rbf_kernel(x, sigma2)
    assert float(rbf_hsic(x, sigma2=sigma2, kernel_y=kernel, estimator="normalized")) == pytest.approx(1.0)
    value = rbf_hsic(x, y, sigma2=sigma2, estimator="normalized")
    torch.testing.assert_close(rbf_hsic(5.0 * x, y, sigma2=sigma2, estimator="normalized"), value)
    torch.testing.assert_close(rbf_hsic(x, sigma2=sigma2, kernel_y=7.0 * rbf_kernel(y, sigma2), estimator="normalized"), value)


def test_rows_that_are_all_alike_have_no_normalized_dependence():
    x, y = torch.ones(6, 3, dtype=torch.double, requires_grad=True), torch.randn(6, 4, dtype=torch.double)
    value = rbf_hsic(x, y, sigma2=0.5, estimator="normalized")
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-3)
    assert bool(torch.isfinite(x.grad).all())


def test_unknown_estimators_and_too_few_rows():
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match="biased, unbiased, normalized"):
        rbf_hsic(x, x, sigma2=0.5, estimator="exact")
    for estimator in ("unbiased", "normalized"):
        with pytest.raises(ValueError, match="at least 4 rows"):
            rbf_hsic(x, x, sigma2=0.5, estimator=estimator)
    with pytest.raises(ValueError, match="at least 4 rows"):
        unbiased_hsic(torch.eye(3), torch.eye(3))
