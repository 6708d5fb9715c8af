import torch

from recbole_ib.bottleneck import ConstantKernel, kernels, rbf_kernel


def test_a_kept_kernel_is_that_of_the_rows(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK_ROWS", 7)
    table = torch.randn(40, 200)
    kept = ConstantKernel(0.15)
    assert not kept.known
    kept.compute(table)
    kept.compute(torch.zeros(40, 200))  # the rows never change: a second call is none
    assert kept.known
    for rows in (torch.tensor([3, 39, 0]), torch.arange(40)):
        torch.testing.assert_close(kept.of(rows), rbf_kernel(table[rows], 0.15))
    assert not kept.of(rows).requires_grad


def test_a_kernel_is_kept_where_it_fits_and_saves_work():
    assert ConstantKernel.worth(1000, 200, 4e6)
    assert not ConstantKernel.worth(1000, 200, 4e6 - 1)
    assert not ConstantKernel.worth(1000, 8, 4e6)
