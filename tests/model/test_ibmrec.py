"""IBMRec against a second, naive implementation of Algorithm 1 with dense matrices and loops."""

import math

import numpy as np
import pytest
import torch
import yaml
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch.nn import functional as F

from recbole_ib.model.bottleneck import batch_subset_of
from recbole_ib.model.ibmrec import IBMRec
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.bottlenecks import PAPER_FIB, PAPER_GIB, PAPER_IBMREC, named
from tests.support.datasets import planted, write_dataset
from tests.support.formulas import dense, naive_hsic
from tests.support.training import first_batch


def shared_gate(model):
    return model.ib["gib"].gates["shared"].gate


def naive_gate(model, latents):
    """rho of every edge, without noise, one pair at a time."""
    gate, s = shared_gate(model), model.item_graph(latents).structure
    h = torch.cat([*latents.values(), model.item_embedding.weight], dim=1)
    rho = torch.zeros(model.n_items, model.n_items)
    for i, j in zip(s.rows.tolist(), s.cols.tolist(), strict=True):
        hidden = torch.relu(gate.target.weight @ h[i] + gate.source.weight @ h[j] + gate.target.bias)
        rho[i, j] = torch.sigmoid(gate.output.weight[0] @ hidden + gate.output.bias[0])
    return rho


def test_l1_equals_the_naive_algorithm(build):
    _, model, train, _, _ = build(
        "IBMRec", **{**PAPER_IBMREC, "fib_weight": 1.3}, embedding_size=8, gib_weight=0.7, reg_weight=0.01
    )
    model.pre_epoch(0)
    shared_gate(model).eval()  # the noise off: the rest of the model trains
    b = first_batch(train)
    got = named(model.calculate_loss(b))

    with torch.no_grad():
        r = torch.from_numpy(train._dataset.inter_matrix(form="csr").toarray())
        a = torch.zeros((sum(r.shape),) * 2)
        a[: r.shape[0], r.shape[0] :], a[r.shape[0] :, : r.shape[0]] = r, r.T
        degree = a.sum(1)
        root = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
        a = root[:, None] * a * root[None, :]
        z = {m: F.linear(model.encoder.table(m), layer.weight, layer.bias) for m, layer in model.encoder.linear.items()}
        x0 = torch.cat([model.user_embedding.weight, model.user_preference.weight], dim=1)
        y0 = torch.cat([model.item_embedding.weight, *z.values()], dim=1)
        nodes = torch.cat([x0, y0])
        nodes = (nodes + a @ nodes + a @ (a @ nodes)) / 3
        x, y_bar = nodes[: len(r)], nodes[len(r) :]
        s = dense(model.item_graph(z))
        refined = y_bar + F.normalize((s * naive_gate(model, z)) @ y0, dim=1)
        original = y_bar + F.normalize(s @ y0, dim=1)
        users, positives, negatives = b["user_id"], b["item_id"], b["neg_item_id"]
        bpr = sum(
            -math.log(1 / (1 + math.exp(-float(x[u] @ refined[i] - x[u] @ refined[j]))))
            for u, i, j in zip(users, positives, negatives, strict=True)
        ) / len(b)
        reg = float(x0[users].square().sum() + y0[positives].square().sum() + y0[negatives].square().sum()) / len(b)
        items = sorted(set(positives.tolist()))
        fib = sum(naive_hsic(z[m][items].double().numpy(), model.encoder.table(m)[items].double().numpy(), 0.15) for m in z)
        gib = naive_hsic(refined[items].double().numpy(), original[items].double().numpy(), 0.15)

    for name, expected in {"bpr": bpr, "reg": 0.01 * reg, "fib": 1.3 * fib, "gib": 0.7 * gib}.items():
        assert float(got[name]) == pytest.approx(expected, rel=2e-4), name


def test_l2_equals_the_naive_loop(build):
    _, model, train, _, _ = build("IBMRec", **PAPER_IBMREC, contrastive_temperature=0.3)
    b = first_batch(train)
    z = torch.cat(list(model.latents().values()), dim=1)
    items, total = sorted(set(b["item_id"].tolist())), 0.0
    for a, i in zip(b["user_id"], b["item_id"], strict=True):
        e = {j: math.exp(float(torch.cosine_similarity(model.user_preference.weight[a], z[j], dim=0)) / 0.3) for j in items}
        total -= math.log(e[int(i)] / sum(e.values()))
    assert float(model.ib["fib"].contrastive_loss(model, b)[0]) == pytest.approx(total / len(b), rel=1e-4)


@pytest.mark.parametrize("name", ["IBMRec", "IBMRecWoGIB", "IBMRecVLightGCN", "IBMRecVBPR"])
def test_the_second_step_updates_content_alone(build, name):
    """Theta_2 = [C, Z]: the users' content preferences and the projections."""
    config, model, train, _, _ = build(name)
    trainer = MultimodalTrainer(config, model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    share = trainer.processes.share(first_batch(train), "cpu")
    trainer._step(model.phases()[1], share)
    changed = {n.split(".")[0] for n, p in model.named_parameters() if not torch.equal(before[n], p)}
    assert changed == {"encoder", "user_embedding" if name == "IBMRecVBPR" else "user_preference"}
    if name == "IBMRecVBPR":
        d = model.embedding_size
        assert torch.equal(before["user_embedding.weight"][:, :d], model.user_embedding.weight[:, :d])


@pytest.mark.parametrize(
    ("name", "terms", "phases"),
    [
        ("IBMRec", ("bpr", "reg", "fib", "gib"), ("L_1", "L_2")),
        ("IBMRecWoFIB", ("bpr", "reg", "gib"), ("model",)),
        ("IBMRecWoGIB", ("bpr", "reg", "fib"), ("L_1", "L_2")),
        ("IBMRecVBPR", ("bpr", "reg", "fib"), ("L_1", "L_2")),
        ("IBMRecVLightGCN", ("bpr", "reg", "fib"), ("L_1", "L_2")),
        ("IBMRecLATTICE", ("bpr", "reg", "gib"), ("model",)),
    ],
)
def test_each_variant_has_its_terms_and_steps(build, name, terms, phases):
    _, model, train, _, _ = build(name)
    model.pre_epoch(0)
    assert model.calculate_loss(first_batch(train)).names == terms
    assert tuple(p.name for p in model.phases()) == phases
    assert list(model.ib) == [term for term in ("fib", "gib") if term in terms]


@pytest.mark.parametrize(("name", "backbone"), [("IBMRec", "VLATTICE"), ("IBMRecVBPR", "VBPR"), ("IBMRecVLightGCN", "VLightGCN")])
def test_with_weight_zero_and_an_open_gate_l1_is_the_backbones_loss(build, name, backbone):
    _, model, train, _, _ = build(name, fib_weight=0.0, **({"gib_weight": 0.0} if name == "IBMRec" else {}))
    _, plain, _, _, _ = build(backbone)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("ib.gib.")})
    if name == "IBMRec":
        with torch.no_grad():
            shared_gate(model).output.bias.fill_(1e4)
    b = first_batch(train)
    got, expected = named(model.calculate_loss(b)), named(plain.calculate_loss(b))
    torch.testing.assert_close(got["bpr"], expected["bpr"])
    torch.testing.assert_close(got["reg"], expected["reg"])


def test_the_ranking_uses_the_refined_graph(build):
    _, model, _, _, _ = build("IBMRec", **PAPER_GIB)
    model.eval()
    latents = model.latents()
    graph = model.item_graph(latents)
    expected = model.apply_item_graph(
        model.encode(latents), graph.masked(naive_gate(model, latents)[graph.structure.rows, graph.structure.cols])
    )
    torch.testing.assert_close(model()[1], expected[1])


def test_the_gates_mlp_is_trained_by_the_ranking_loss_alone(build):
    """A detached mask would turn GIB into random edge noise."""
    _, model, train, _, _ = build("IBMRecWoFIB", gib_weight=0.0)
    named(model.calculate_loss(first_batch(train)))["bpr"].backward()
    assert all(p.grad.abs().sum() > 0 for p in shared_gate(model).parameters())


def test_the_gate_of_a_backbone_without_latents_sees_content_too(build):
    _, frozen, _, _, _ = build("IBMRecLATTICE", item_graph="frozen", embedding_size=8)
    assert shared_gate(frozen).target.in_features == 3 * 8
    assert frozen.ib["gib"].encoder is not None
    assert frozen.encoder is None
    _, learned, _, _, _ = build("IBMRecLATTICE", item_graph="learned", embedding_size=8, feature_dim=5)
    assert shared_gate(learned).target.in_features == 8 + 2 * 5
    assert learned.ib["gib"].encoder is None


@pytest.mark.parametrize("fib", [{"fib_weight": 20.0}, {**PAPER_FIB, "fib_weight": 20.0}], ids=["defaults", "paper"])
def test_training_lowers_the_dependence_on_the_noise_modality(build, fib):
    """On the planted data ``visual`` is pure noise: FIB must make its latents depend less on it than the plain backbone's."""
    from recbole_ib.bottleneck import rbf_hsic

    found = {}
    for name in ("VLightGCN", "IBMRecVLightGCN"):
        settings = {"epochs": 20, "learning_rate": 0.01, "embedding_size": 16, "stopping_step": 100}
        config, model, train, _, _ = build(name, **settings, **(fib if name != "VLightGCN" else {}))
        MultimodalTrainer(config, model).fit(train, None, verbose=False, saved=False)
        with torch.no_grad():
            z, m = model.latents()["visual"][1:], train._dataset.modalities["visual"][1:]
            found[name] = float(rbf_hsic(z, m, sigma2=0.15))
    assert found["IBMRecVLightGCN"] < found["VLightGCN"]
    assert np.isfinite(list(found.values())).all()


def with_missing_items(tmp_path, rule):
    """The planted set, where every fourth item has no visual row and every eighth no row at all."""
    pairs, modalities, _, _ = planted(40, 32)
    path = write_dataset(tmp_path / rule, "gaps", pairs, modalities)
    folder = path / "gaps"
    for name, absent in (("visual", 4), ("text", 8)):
        keep = [i for i in range(32) if i % absent]
        np.save(folder / f"{name}.npy", modalities[name][keep].astype(np.float32))
        (folder / f"{name}.tokens").write_text("".join(f"i{i}\n" for i in keep))
    settings = yaml.safe_load((folder / "gaps.yaml").read_text())
    for entry in settings["modalities"].values():
        entry["missing"] = rule
    (folder / "gaps.yaml").write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.mark.parametrize("settings", [{"fib_weight": 1.0}, PAPER_FIB], ids=["defaults", "paper"])
@pytest.mark.parametrize("name", ["IBMRec", "IBMRecVBPR", "IBMRecVLightGCN"])
def test_items_without_a_feature_take_no_part_in_fib_and_l2(build, tmp_path, name, settings):
    """Neither filled-in rows (which repeat one another) nor zero rows (which have no direction, and an exploding gradient)."""
    found = {}
    for rule in ("zero", "mean"):
        _, model, train, _, _ = build(name, dataset="gaps", data_path=with_missing_items(tmp_path, rule), **settings)
        model.pre_epoch(0)
        batch = first_batch(train)
        losses, fib = named(model.calculate_loss(batch)), model.ib["fib"]
        (losses["fib"] + fib.contrastive_loss(model, batch)[0]).backward()
        largest = max(float(p.grad.abs().max()) for p in model.user_content().parameters())
        assert largest < 10.0
        found[rule] = (float(losses["fib"].detach()), float(fib.contrastive_loss(model, batch)[0].detach()))
    if name != "IBMRecVBPR":  # whose one latent joins both modalities: an item with one of them takes part, its gap filled
        assert found["zero"][0] == pytest.approx(found["mean"][0], rel=1e-5)


def test_a_batch_whose_items_have_no_content_adds_nothing(build, tmp_path):
    _, model, _, _, _ = build("IBMRec", dataset="gaps", data_path=with_missing_items(tmp_path, "mean"))
    nobody = torch.nonzero(~model.ib["fib"].has_content).flatten()[1:3]
    batch = Interaction({"user_id": torch.tensor([1, 2]), "item_id": nobody, "neg_item_id": nobody.flip(0)})
    assert float(named(model.calculate_loss(batch))["fib"].detach()) == 0.0
    assert float(model.ib["fib"].contrastive_loss(model, batch)[0].detach()) == 0.0


def test_the_gate_leaves_lattices_schedule_alone(build):
    """LATTICE trains its feature transform in the first batch of an epoch; the gate reads it without a gradient."""
    _, model, train, _, _ = build("IBMRecLATTICE")
    model.train()
    model.pre_epoch(0)
    batch = first_batch(train)
    model.calculate_loss(batch)
    sum(model.calculate_loss(batch)).backward()
    assert model.encoder.linear["text"].weight.grad is None
    assert shared_gate(model).source.weight.grad.abs().sum() > 0


def test_a_modality_named_content_keeps_its_own_mask(build, tmp_path):
    """The mask of one modality is not the one of items with any feature."""
    pairs, modalities, _, _ = planted(30, 20)
    path = write_dataset(tmp_path / "data", "named", pairs, {"content": modalities["visual"], "text": modalities["text"]})
    keep = list(range(10))
    np.save(path / "named" / "content.npy", modalities["visual"][keep].astype(np.float32))
    (path / "named" / "content.tokens").write_text("".join(f"i{i}\n" for i in keep))
    _, model, train, _, _ = build("IBMRec", dataset="named", data_path=str(path))
    fib = model.ib["fib"]
    assert torch.equal(fib.hsic.mask("content"), train._dataset.has_feature["content"])
    assert int(fib.hsic.mask("content").sum()) < int(fib.has_content.sum())


@pytest.mark.parametrize(
    ("name", "settings"), [("IBMRec", {}), ("IBMRec", {"item_graph": "learned"}), ("IBMRecLATTICE", {}), ("FREEDOM+gib", {})]
)
def test_gating_the_batchs_edges_alone_changes_no_loss_and_no_gradient(build, name, settings, monkeypatch):
    _, model, train, _, _ = build(name, **settings)
    shared_gate(model).eval()  # without the draws of edges that are left out
    batch, found, gated = first_batch(train)[:10], [], []
    refine = model.refine
    monkeypatch.setattr(model, "refine", lambda graph, z: gated.append(int((graph.weights != 0).sum())) or refine(graph, z))
    subset = model.batch_subset(batch)
    assert set(subset.graph_items.tolist()) == {*batch["item_id"].tolist(), *batch["neg_item_id"].tolist()}
    for alone in (True, False):
        monkeypatch.setattr(model, "batch_subset", lambda _, s=subset, a=alone: s if a else s._replace(graph_items=None))
        assert (batch_subset_of(model, batch).graph_items is not None) is alone
        model.zero_grad()
        init_seed(5, True)
        model.pre_epoch(0)
        losses = named(model.calculate_loss(batch))
        sum(losses.values()).backward()
        found.append((losses, {k: p.grad for k, p in model.named_parameters()}))
    for part, whole in zip(*found, strict=True):
        for key, value in part.items():
            torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-7)
    assert 0 < gated[0] < gated[1]


def test_a_loss_of_its_own_and_two_item_layers_need_every_edge(build):
    config, model, train, _, _ = build("IBMRec")
    batch = first_batch(train)

    def gates_batch_alone(network):
        return batch_subset_of(network, batch).graph_items is not None

    assert gates_batch_alone(model)
    for method in ("calculate_loss", "ranking_losses", "latents", "item_graph", "apply_item_graph", "encode"):
        own = type("Own", (IBMRec,), {method: getattr(IBMRec, method)})
        assert not gates_batch_alone(own(config, train._dataset)), method
    _, deep, _, _, _ = build("IBMRec", n_item_layers=2)
    assert not gates_batch_alone(deep)
    _, views, _, _, _ = build("MICRO+gib")
    assert not gates_batch_alone(views)
    # without a gate nothing is saved by a part of the graph
    for name in ("IBMRecWoGIB", "VLATTICE"):
        _, ungated, _, _, _ = build(name)
        assert not gates_batch_alone(ungated), name
