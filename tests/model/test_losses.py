import math

import pytest
import torch
from recbole.model.loss import EmbLoss

from recbole_ib.model.losses import bpr, in_batch_contrast, unsquared_norms


def rows(*shapes, grad=False):
    torch.manual_seed(0)
    return [torch.randn(s, dtype=torch.double, requires_grad=grad) for s in shapes]


def test_bpr_equals_the_loop():
    users, positives, negatives = rows(*[(7, 4)] * 3)
    total = 0.0
    for u, i, j in zip(users, positives, negatives, strict=True):
        total -= math.log(1 / (1 + math.exp(-float(u @ i - u @ j))))
    assert float(bpr(users, positives, negatives)) == pytest.approx(total / 7)


def test_bpr_of_equal_items_is_log_two_and_large_scores_do_not_overflow():
    x = torch.ones(3, 2)
    assert float(bpr(x, x, x)) == pytest.approx(math.log(2))
    assert float(bpr(x, -1000 * x, 1000 * x)) == pytest.approx(4000)
    assert float(bpr(x, 1000 * x, -1000 * x)) == 0


def test_unsquared_norms_equal_the_loop_and_recboles_loss():
    tables = rows((5, 3), (4, 3), (6, 3))
    total = sum(math.sqrt(sum(float(v) ** 2 for v in x.flatten())) for x in tables)
    assert float(unsquared_norms(*tables)) == pytest.approx(total / 6)
    torch.testing.assert_close(unsquared_norms(*tables).float(), EmbLoss()(*tables)[0].float())


def naive_contrast(x, y, t):
    total = 0.0
    for b in range(len(x)):
        e = [math.exp(float(torch.cosine_similarity(x[b], other, dim=0)) / t) for other in y]
        total -= math.log(e[b] / sum(e))
    return total / len(x)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_in_batch_contrast_equals_the_loop(temperature):
    x, y = rows((6, 4), (6, 4))
    assert float(in_batch_contrast(x, y, temperature)) == pytest.approx(naive_contrast(x, y, temperature))


def test_in_batch_contrast_goes_one_way_and_ignores_lengths():
    x, y = rows((6, 4), (6, 4))
    assert float(in_batch_contrast(x, y, 0.2)) != pytest.approx(float(in_batch_contrast(y, x, 0.2)))
    torch.testing.assert_close(in_batch_contrast(x, y, 0.2), in_batch_contrast(3 * x, 7 * y, 0.2))


def test_a_repeated_row_is_a_negative_of_itself():
    """As published: with two equal pairs in a batch the loss cannot fall below log 2."""
    x = torch.eye(4)[[0, 0]]
    assert float(in_batch_contrast(x, x, 0.01)) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "loss", [bpr, unsquared_norms, lambda x, y, _: in_batch_contrast(x, y, 0.2)], ids=["bpr", "norms", "contrast"]
)
def test_gradients(loss):
    assert torch.autograd.gradcheck(loss, rows(*[(4, 3)] * 3, grad=True))


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="must be positive, got 0"):
        in_batch_contrast(*rows((2, 2), (2, 2)), 0)
