import numpy as np
import torch
from recbole.model.general_recommender import LightGCN


def test_without_content_it_is_recbole_lightgcn(build):
    config, model, train, _, _ = build("VLightGCN")
    config["require_pow"] = False
    reference = LightGCN(config, train._dataset)
    with torch.no_grad():
        model.user_preference.weight.zero_()
        for p in model.encoder.parameters():
            p.zero_()
        reference.user_embedding.weight.copy_(model.user_embedding.weight)
        reference.item_embedding.weight.copy_(model.item_embedding.weight)
        user, item = model()
        expected_user, expected_item = reference.forward()
    torch.testing.assert_close(user @ item.T, expected_user @ expected_item.T)


def test_without_layers_it_is_factorization_on_ids_and_content(build):
    _, model, _, _, _ = build("VLightGCN", n_layers=0)
    user, item = model()
    z = model.latents()
    assert torch.equal(user, torch.cat([model.user_embedding.weight, model.user_preference.weight], dim=1))
    assert torch.equal(item, torch.cat([model.item_embedding.weight, *z.values()], dim=1))


def test_forward_equals_dense_matrices(build):
    _, model, train, _, _ = build("VLightGCN", n_layers=2)
    r = train._dataset.inter_matrix(form="csr").toarray()
    a = np.block([[np.zeros((len(r),) * 2), r], [r.T, np.zeros((r.shape[1],) * 2)]])
    root = np.divide(1, np.sqrt(a.sum(1)), out=np.zeros(len(a)), where=a.sum(1) > 0)
    a = torch.from_numpy((root[:, None] * a * root[None, :]).astype(np.float32))
    z = [model.encoder.table(m) @ model.encoder.linear[m].weight.T + model.encoder.linear[m].bias for m in model.modalities]
    x0 = torch.cat([model.user_embedding.weight, model.user_preference.weight], dim=1)
    start = torch.cat([x0, torch.cat([model.item_embedding.weight, *z], dim=1)])
    expected = (start + a @ start + a @ a @ start) / 3
    torch.testing.assert_close(torch.cat(model()), expected)


def test_init_has_the_stated_spread(build):
    _, model, _, _, _ = build("VLightGCN", init_std=0.3, embedding_size=64)
    assert abs(float(model.user_preference.weight.std()) - 0.3) < 0.02
