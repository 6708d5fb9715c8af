import torch
from recbole.data.interaction import Interaction
from recbole.model.loss import EmbLoss


def batch(n=12):
    torch.manual_seed(0)
    return Interaction({k: torch.randint(1, 60, (n,)) for k in ("user_id", "item_id", "neg_item_id")})


def test_without_content_it_is_matrix_factorization(build):
    _, model, _, _, _ = build("VBPR")
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.zero_()
        user, item = model()
    d = model.embedding_size
    expected = model.user_embedding.weight[:, :d] @ model.item_embedding.weight.T
    torch.testing.assert_close(user @ item.T, expected)


def test_loss_equals_the_formula_on_all_items(build):
    """Only the batch's items are projected; the value is that of the whole table."""
    _, model, _, _, _ = build("VBPR")
    b = batch()
    user, item = model()
    u, i, j = user[b["user_id"]], item[b["item_id"]], item[b["neg_item_id"]]
    bpr = -torch.log(torch.sigmoid((u * i).sum(1) - (u * j).sum(1))).mean()
    losses = dict(zip(model.calculate_loss(b).names, model.calculate_loss(b), strict=True))
    torch.testing.assert_close(losses["bpr"], bpr)
    torch.testing.assert_close(losses["reg"], model.reg_weight * EmbLoss()(u, i, j).squeeze())


def test_features_are_constants_in_the_order_of_the_data_set(build):
    _, model, train, _, _ = build("VBPR", normalize_features="none")
    expected = torch.cat([train._dataset.modalities[m] for m in model.modalities], dim=1)
    torch.testing.assert_close(model.encoder.table("content"), expected)
    assert not any("features" in name for name, _ in model.named_parameters())


def test_user_content_is_the_half_that_meets_the_content(build):
    _, model, _, _, _ = build("VBPR")
    assert torch.equal(model.user_content().rows(torch.tensor([3])), model.user_embedding.weight[3:4, model.embedding_size :])
