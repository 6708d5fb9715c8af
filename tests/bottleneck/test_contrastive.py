import math

import pytest
import torch
from torch.nn import functional as F

from recbole_ib.bottleneck import conditional_contrast, contrastive, two_view_contrast
from recbole_ib.bottleneck.contrastive import KnownPositives, inclusion_log_probability, known_positives


def test_equals_the_naive_loop():
    torch.manual_seed(0)
    users, items, positives = torch.randn(5, 4), torch.randn(3, 4), torch.tensor([0, 2, 1, 1, 0])
    total = 0.0
    for a, i in enumerate(positives):
        scores = [math.exp(float(torch.cosine_similarity(users[a], z, dim=0)) / 0.2) for z in items]
        total -= math.log(scores[i] / sum(scores))
    assert float(conditional_contrast(users, items, positives, 0.2)) == pytest.approx(total / 5, rel=1e-5)


def test_gradient():
    users, items = (torch.randn(n, 3, dtype=torch.double, requires_grad=True) for n in (4, 3))
    positives = torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda u, z: conditional_contrast(u, z, positives, 0.5), (users, items))


def test_is_log_n_when_nothing_is_told_and_bounds_the_information():
    """InfoNCE: log n - L never exceeds log n, and is 0 where all items look alike."""
    users, positives = torch.randn(64, 4), torch.arange(64) % 8
    assert float(conditional_contrast(users, torch.ones(8, 4), positives, 0.2)) == pytest.approx(math.log(8), rel=1e-5)
    aligned = torch.eye(8)
    loss = float(conditional_contrast(aligned[positives], aligned, positives, 0.05))
    assert 0 <= math.log(8) - loss <= math.log(8)
    assert loss < 1e-6


def test_training_aligns_users_with_their_items():
    torch.manual_seed(0)
    users = torch.randn(20, 8, requires_grad=True)
    items, positives = torch.randn(5, 8), torch.arange(20) % 5
    optimizer = torch.optim.Adam([users], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        conditional_contrast(users, items, positives, 0.2).backward()
        optimizer.step()
    best = (torch.nn.functional.normalize(users, dim=1) @ torch.nn.functional.normalize(items, dim=1).T).argmax(dim=1)
    assert torch.equal(best, positives)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature"):
        conditional_contrast(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0]), 0.0)


def naive_two_views(z, h, t):
    """The definition, term by term: own view and other view of every other row, and the other view of the row itself."""

    def e(a, b):
        return torch.exp(torch.dot(a, b) / (a.norm() * b.norm()) / t)

    total = 0.0
    for i in range(len(z)):
        below = sum(e(z[i], h[j]) for j in range(len(h))) + sum(e(z[i], z[j]) for j in range(len(z)) if j != i)
        total = total - torch.log(e(z[i], h[i]) / below)
    return total / len(z)


@pytest.mark.parametrize("block", [None, 1, 3, 7, 8, 100])
@pytest.mark.parametrize("temperature", [0.2, 0.5, 3.0])
def test_blocks_of_any_size_equal_the_naive_loop(block, temperature):
    torch.manual_seed(0)
    z, h = 2.0 * torch.randn(7, 4), torch.randn(7, 4)
    expected = naive_two_views(z.double(), h.double(), temperature)
    assert float(two_view_contrast(z, h, temperature, block)) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("block", [None, 1, 3, 100])
def test_gradients_of_any_block_size_equal_those_of_the_naive_loop(block):
    torch.manual_seed(0)
    given = [torch.randn(7, 4, dtype=torch.double) for _ in range(2)]
    found = []
    for loss in (naive_two_views, lambda *a: two_view_contrast(*a, block)):
        leaves = [x.clone().requires_grad_() for x in given]
        found.append(torch.autograd.grad(loss(*leaves, 0.5), leaves))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_two_view_gradient_check():
    torch.manual_seed(0)
    z, h = (torch.randn(5, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: two_view_contrast(a, b, 0.5, 2), (z, h))


def test_default_block_stays_within_its_bound(monkeypatch):
    """The value must not depend on how many numbers a block may hold; fewer than one row still makes a block of one."""
    torch.manual_seed(0)
    z, h = torch.randn(9, 4), torch.randn(9, 4)
    expected = two_view_contrast(z, h, 0.5)
    widest = []
    inner = contrastive._block_contrast
    monkeypatch.setattr(contrastive, "_block_contrast", lambda z, h, a, b, t: widest.append(b - a) or inner(z, h, a, b, t))
    for numbers, rows in ((1, 1), (40, 2), (1 << 24, 9)):
        monkeypatch.setattr(contrastive, "BLOCK_NUMBERS", numbers)
        widest.clear()
        torch.testing.assert_close(two_view_contrast(z, h, 0.5), expected)
        assert max(widest) == rows


def test_aligned_views_still_have_a_loss():
    """The anchor's own view is in the denominator, so not even equal views with no other likeness bring the loss to 0."""
    n, t = 6, 0.5
    aligned = torch.eye(n)
    expected = math.log(math.exp(1 / t) + 2 * (n - 1)) - 1 / t
    assert float(two_view_contrast(aligned, aligned, t)) == pytest.approx(expected, rel=1e-5)
    assert expected > 0
    # nothing told apart: one of 2 n - 1
    assert float(two_view_contrast(torch.ones(n, 3), torch.ones(n, 3), t)) == pytest.approx(math.log(2 * n - 1), rel=1e-5)


def test_two_views_are_not_interchangeable():
    torch.manual_seed(0)
    z, h = torch.randn(6, 3), torch.randn(6, 3)
    assert abs(float(two_view_contrast(z, h, 0.5) - two_view_contrast(h, z, 0.5))) > 1e-3


@pytest.mark.parametrize("temperature", [0.0, -0.5, float("nan")])
def test_two_view_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be positive, got"):
        two_view_contrast(torch.ones(2, 2), torch.ones(2, 2), temperature)


@pytest.mark.parametrize("numbers", [1, 10, 1 << 18])
@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_the_fused_contrast_is_the_cross_entropy(scale, numbers, monkeypatch):
    """Value, gradient and gradient of the gradient; logits of 400 overflow an exponential that is not shifted."""
    monkeypatch.setattr("recbole_ib.bottleneck.kernels.BLOCK_NUMBERS", numbers)
    torch.manual_seed(0)
    x, y = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (7, 5))
    positives = torch.tensor([0, 4, 4, 2, 1, 0, 3])

    def fused(x, y):
        return contrastive._SoftmaxContrast.apply(x * scale, y, contrastive._Logits(torch.arange(7), positives, 0.3))

    def plain(x, y):
        return F.cross_entropy(x * scale @ y.T / 0.3, positives)

    torch.testing.assert_close(fused(x, y), plain(x, y))
    grads = [torch.autograd.grad(f(x, y), (x, y)) for f in (fused, plain)]
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected)
    if scale == 1.0:
        assert torch.autograd.gradcheck(fused, (x, y))
        assert torch.autograd.gradgradcheck(fused, (x, y))


def made_pairs(dtype=torch.float):
    """Five pairs over four items of nine, whose users know some of them, and what conditions the logits."""
    torch.manual_seed(0)
    likes = {0: [1, 4, 8], 1: [4], 2: [0, 2, 3, 5]}
    counts = torch.tensor([len(v) for v in likes.values()])
    interactions = KnownPositives(
        torch.cat([counts.new_zeros(1), counts.cumsum(0)]), torch.tensor([i for v in likes.values() for i in v])
    )
    users, items = torch.tensor([0, 1, 2, 0, 2]), torch.tensor([1, 3, 4, 5])
    positives = torch.tensor([0, 2, 3, 2, 1])
    rows = [torch.randn(n, 3, dtype=dtype) for n in (5, 4)]
    condition = tuple(torch.randn(n, 2, dtype=dtype) for n in (5, 4))
    left_out = known_positives(interactions, users, items, n_items=9)
    return likes, users, items, positives, rows, left_out, torch.randn(4, dtype=dtype), condition


def test_every_part_of_the_logits_equals_the_naive_loop(monkeypatch):
    likes, users, items, positives, (c, z), left_out, offsets, (p, q) = made_pairs(torch.double)
    total = 0.0
    for a, user in enumerate(users.tolist()):
        own = int(positives[a])
        score = [
            float(torch.cosine_similarity(c[a], z[j], dim=0)) / 0.3 - float(offsets[j]) + float(p[a] @ q[j]) for j in range(4)
        ]
        below = [score[j] for j, item in enumerate(items.tolist()) if j == own or item not in likes[user]]
        total -= score[own] - math.log(sum(map(math.exp, below)))
    assert sum(len(likes[u]) for u in users.tolist()) > left_out.columns.numel() > 5
    given = {"left_out": left_out, "offsets": offsets, "condition": (p, q)}
    assert float(conditional_contrast(c, z, positives, 0.3, **given)) == pytest.approx(total / 5, rel=1e-9)
    # rows at a time: the value must not depend on it
    monkeypatch.setattr(
        contrastive, "row_blocks", lambda n, rows: [slice(i, min(i + 2, len(rows))) for i in range(0, len(rows), 2)]
    )
    assert float(conditional_contrast(c, z, positives, 0.3, **given)) == pytest.approx(total / 5, rel=1e-9)


def test_gradient_of_every_part_of_the_logits():
    *_, positives, rows, left_out, offsets, condition = made_pairs(torch.double)
    leaves = [x.requires_grad_() for x in rows]

    def loss(c, z):
        return conditional_contrast(c, z, positives, 0.3, left_out=left_out, offsets=offsets, condition=condition)

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("numbers", [1, 8, 1 << 18])
def test_pairs_of_distinct_users_equal_pairs_with_a_row_each(extra, numbers, monkeypatch):
    """Value, gradient and gradient of the gradient; user 3 likes all items of the batch, user 1 has one unknown."""
    monkeypatch.setattr("recbole_ib.bottleneck.kernels.BLOCK_NUMBERS", numbers)
    torch.manual_seed(0)
    likes = {0: [1, 4, 8], 1: [4], 2: [0, 2, 3, 5], 3: [1, 3, 4, 5]}
    pointers = torch.tensor([0, 3, 4, 8, 12])
    interactions = KnownPositives(pointers, torch.tensor([i for v in likes.values() for i in v]))
    items, of_users, positives = (
        torch.tensor([1, 3, 4, 5]),
        torch.tensor([2, 0, 1, 3, 0, 2, 3, 2]),
        torch.tensor([1, 0, 0, 2, 2, 3, 0, 1]),
    )
    users, table, offsets = torch.arange(4), torch.randn(4, 3, dtype=torch.double), torch.randn(4, dtype=torch.double)
    z, p, q = (torch.randn(n, 3, dtype=torch.double) for n in (4, 4, 4))
    given = {"offsets": offsets} if extra else {}

    def distinct(c, z):
        left_out = known_positives(interactions, users, items, n_items=9)
        condition = (p, q) if extra else None
        return conditional_contrast(c, z, positives, 0.3, of_users=of_users, left_out=left_out, condition=condition, **given)

    def repeated(c, z):
        left_out = known_positives(interactions, of_users, items, n_items=9)
        condition = (p[of_users], q) if extra else None
        return conditional_contrast(c[of_users], z, positives, 0.3, left_out=left_out, condition=condition, **given)

    leaves = [x.requires_grad_() for x in (table, z)]
    torch.testing.assert_close(distinct(*leaves), repeated(*leaves))
    for got, expected in zip(*(torch.autograd.grad(f(*leaves), leaves) for f in (distinct, repeated)), strict=True):
        torch.testing.assert_close(got, expected)
    assert torch.autograd.gradcheck(distinct, leaves)
    assert torch.autograd.gradgradcheck(distinct, leaves)


def test_the_condition_takes_no_gradient_and_what_it_explains_needs_no_content():
    """Where the ids already choose the item, the content's gradient is gone: content explains what ids do not."""
    users, items = (torch.randn(n, 3, requires_grad=True) for n in (4, 4))
    positives, ids = torch.arange(4), torch.eye(4, requires_grad=True)
    norms = []
    for strength in (0.0, 3.0, 30.0):
        users.grad = None
        conditional_contrast(users, items, positives, 0.5, condition=(strength * ids, ids)).backward()
        norms.append(float(users.grad.norm()))
    assert norms[0] > norms[1] > norms[2]
    assert norms[2] < 1e-6
    assert ids.grad is None


def test_inclusion_probability_is_that_of_drawn_batches():
    counts, batch = torch.tensor([1.0, 4.0, 15.0, 0.0]), 6
    torch.manual_seed(0)
    drawn = torch.multinomial(counts, 20_000 * batch, replacement=True).view(-1, batch)
    found = torch.stack([(drawn == item).any(dim=1).double().mean() for item in range(3)])
    expected = inclusion_log_probability(counts, batch).exp()
    torch.testing.assert_close(found.float(), expected[:3], atol=0.01, rtol=0.0)
    rare = inclusion_log_probability(torch.tensor([1.0, 1e12]), 3)[0]
    assert float(rare.exp()) == pytest.approx(3e-12, rel=1e-5)


def test_corrected_batches_estimate_the_softmax_over_all_items():
    """Horvitz-Thompson: the mean of the batches' denominators is that of all items, with popular items seen more often."""
    torch.manual_seed(0)
    counts, batch, temperature = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), 4, 0.5
    items, user = torch.randn(5, 3, dtype=torch.double), torch.randn(1, 3, dtype=torch.double)
    scores = torch.cosine_similarity(items, user) / temperature
    offsets = inclusion_log_probability(counts, batch).double()
    found = {"corrected": [], "plain": []}
    for drawn in torch.multinomial(counts, 4000 * batch, replacement=True).view(-1, batch):
        distinct, positives = torch.unique(drawn, return_inverse=True)
        for name, given in (("corrected", offsets[distinct]), ("plain", None)):
            loss = conditional_contrast(user.expand(batch, -1), items[distinct], positives, temperature, offsets=given)
            own = scores[drawn] - (offsets[drawn] if given is not None else 0.0)
            found[name].append(float((loss + own.mean()).exp()))
    whole = float(scores.exp().sum())
    assert sum(found["corrected"]) / 4000 == pytest.approx(whole, rel=0.05)
    assert sum(found["plain"]) / 4000 < 0.8 * whole
