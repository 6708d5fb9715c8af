import torch
from torch.nn import functional as F

from recbole_ib.graph import EdgeGraph, EdgeStructure


def test_with_the_identity_as_item_graph(build):
    """S = I: y = y-bar + Y0 / ||Y0||."""
    _, model, _, _, _ = build("VLATTICE")
    n = model.n_items
    identity = EdgeGraph(EdgeStructure(torch.arange(n), torch.arange(n), n), torch.ones(n))
    latents = model.latents()
    encoded = model.encode(latents)
    item = model.apply_item_graph(encoded, identity).item
    y0 = torch.cat([model.item_embedding.weight, *latents.values()], dim=1)
    torch.testing.assert_close(item, encoded.item + F.normalize(y0, dim=1))


def test_without_content_and_with_one_modality_it_is_lattice(build):
    """C = Z = 0, one modality: LATTICE with lambda 1 on the symmetric adjacency."""
    settings = {"use_modalities": ["text"], "item_graph": "frozen", "embedding_size": 8}
    _, model, _, _, _ = build("VLATTICE", **settings)
    _, lattice, _, _, _ = build("LATTICE", ui_norm="sym", **settings)
    with torch.no_grad():
        model.user_preference.weight.zero_()
        for p in model.encoder.parameters():
            p.zero_()
        lattice.user_embedding.weight.copy_(model.user_embedding.weight)
        lattice.item_embedding.weight.copy_(model.item_embedding.weight)
        (user, item), (lattice_user, lattice_item) = model(), lattice()
    torch.testing.assert_close(user @ item.T, lattice_user @ lattice_item.T)


def test_replaced_latents_are_used(build):
    _, model, _, _, _ = build("VLATTICE")
    z = {m: torch.zeros_like(t) for m, t in model.latents().items()}
    encoded = model.encode(z)
    assert torch.equal(encoded.item0[:, model.embedding_size :], torch.zeros(model.n_items, 2 * model.embedding_size))
    assert not torch.equal(model(z)[1], model()[1])


def test_fixed_modality_weights(build):
    _, model, _, _, _ = build("VLATTICE", modality_weights={"text": 0.9, "visual": 0.1})
    torch.testing.assert_close(model.item_graph_layer.graph.weights(), torch.tensor([0.9, 0.1]))
    assert not any("logits" in n for n, _ in model.named_parameters())


def test_the_learned_graph_follows_z(build):
    _, model, _, _, _ = build("VLATTICE", item_graph="learned", static_weight=0.2)
    model.eval()
    before = model()[1]
    with torch.no_grad():
        model.encoder.linear["text"].weight.copy_(torch.randn_like(model.encoder.linear["text"].weight))
    latents = model.latents()
    assert model.item_graph(latents).structure.n_edges > 0
    assert not torch.equal(model()[1], before)
