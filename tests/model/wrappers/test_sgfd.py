import logging

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.wrappers.item_labels import field_values, merge_small_classes
from recbole_ib.model.wrappers.sgfd import cross_entropy, teacher_widths
from recbole_ib.ops.normalize import unit_rows
from tests.support.datasets import planted, write_dataset
from tests.support.training import first_batch, fit, scores_of


@pytest.fixture
def labeled(tmp_path):
    """The planted set with an item file: ``kind`` tells the group, ``path`` lists a root and the group; i0 and i1 have neither."""
    pairs, modalities, group, _ = planted()
    load = {"inter": ["user_id", "item_id"], "item": ["item_id", "kind", "path", "price"]}
    path = write_dataset(tmp_path / "data", "labeled", pairs, modalities, load_col=load)
    lines = ["item_id:token\tkind:token\tpath:token_seq\tprice:float", "i0\t\t\t1.0", "i1\t\t\t1.0"]
    lines += [f"i{i}\tg{group[i]}\troot sub{group[i]} leaf{i}\t1.0" for i in range(2, len(group))]
    (path / "labeled" / "labeled.item").write_text("\n".join(lines) + "\n")
    return {"dataset": "labeled", "data_path": str(path)}


def group_numbers(dataset):
    group = planted()[2]
    return np.array([-1] + [group[int(t[1:])] for t in dataset.field2id_token["item_id"][1:]])


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "position"), [("kind", 0), ("path", 1)])
def test_labels_of_an_item_field(build, labeled, field, position):
    _, model, train, _, _ = build("SGFD", sgfd_labels=field, label_position=position, **labeled)
    labels, groups = model.labels.numpy(), group_numbers(train._dataset)
    ids = list(train._dataset.field2id_token["item_id"])
    unknown = [0, ids.index("i0"), ids.index("i1")]
    assert sorted(np.flatnonzero(labels == -1)) == sorted(unknown)
    known = labels >= 0
    assert len({(a, b) for a, b in zip(labels[known], groups[known], strict=True)}) == 4
    assert set(labels[known]) == {0, 1, 2, 3}


def test_small_classes_become_one_and_no_label_stays_none():
    values = torch.tensor([5, 1, 1, 1, 2, 2, 2, 3, 0, 4])
    assert merge_small_classes(values, 3).tolist() == [-1, 0, 0, 0, 1, 1, 1, 2, -1, 2]


def test_an_item_with_fewer_entries_gives_its_last_one():
    class Sequences:
        iid_field, field2type = "item_id", {"path": FeatureType.TOKEN_SEQ}
        item_feat = Interaction({"item_id": torch.arange(3), "path": torch.tensor([[0, 0], [4, 0], [4, 5]])})

    assert field_values(Sequences, "path", 1).tolist() == [0, 4, 5]
    assert field_values(Sequences, "path", 0).tolist() == [0, 4, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sgfd_labels": "kid"}, "fields kind, path, price. Did you mean kind"),
        ({"sgfd_labels": "none"}, "sgfd_labels is None; it takes a field of the item file, or kmeans"),
        ({"sgfd_labels": "price"}, "the field 'price' is a float"),
        ({"sgfd_labels": "path", "label_position": 0}, "'path' gives fewer than two classes of at least 10 items"),
        ({"sgfd_labels": "path", "label_position": 2}, "'path' gives fewer than two classes"),
        ({"sgfd_labels": "path", "label_position": -1}, "label_position is -1; it takes a whole number, 0 or more"),
        ({"n_classes": 1}, "n_classes is 1"),
        ({"sgfd_temperature": 0}, "sgfd_temperature is 0; it takes a number above 0"),
        ({"teacher_activation": "tanh"}, "teacher_activation is 'tanh'; allowed: linear, relu"),
    ],
)
def test_wrong_settings(build, labeled, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        build("SGFD", **labeled, **settings)


def test_a_data_set_without_item_fields_says_so(build):
    with pytest.raises(ConfigurationError, match=r"items have no fields.*load_col: \{item: \[item_id, kind\]\}"):
        build("SGFD", sgfd_labels="kind")


def test_clusters_find_the_planted_groups_and_are_logged_as_a_deviation(build, caplog):
    with caplog.at_level(logging.WARNING):
        _, model, train, _, _ = build("SGFD", n_classes=4, use_modalities=["text"])
    assert "4 clusters of the features stand in for the items' categories" in caplog.text
    groups, labels = group_numbers(train._dataset)[1:], model.labels[1:].numpy()
    assert model.labels[0] == -1
    assert len(set(zip(groups, labels, strict=True))) == 4
    _, again, _, _, _ = build("SGFD", n_classes=4, use_modalities=["text"])
    assert torch.equal(again.labels, model.labels)


# -- the equations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "out", "widths"),
    [
        (4096, 64, [4096, 1024, 256, 64]),
        (384, 64, [384, 96, 64]),
        (128, 64, [128, 64]),
        (30, 64, [30, 64]),
        (1030, 16, [1030, 257, 64, 16]),
    ],
)
def test_widths_of_the_teacher(features, out, widths):
    assert teacher_widths(features, out) == widths


def test_a_row_of_zeros_stays_zero_and_takes_no_gradient():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    y = unit_rows(x, tiny=0.0)
    assert y.tolist() == [[0.0, 0.0], pytest.approx([0.6, 0.8])]
    (y * torch.tensor([[1.0, 2.0], [1.0, 0.0]])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.0, 0.0], [0.128, -0.096]]))


def test_cross_entropy_leaves_out_unknown_labels():
    logits, labels = torch.randn(4, 3), torch.tensor([2, -1, 0, -1])
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits[[0, 2]], labels[[0, 2]]))
    assert cross_entropy(logits, torch.full((4,), -1)) == 0


def naive(model, items, legacy):
    """The four terms, item by item and class by class."""
    names, t = model.students.modalities, model.temperature
    teacher, student = {}, {}
    for m in names:
        f = model.students.table(m)[items]
        layer = model.students.first_layer(m)
        z = F.leaky_relu(f @ layer.weight.T + layer.bias)
        student[m] = z / z.norm(dim=1, keepdim=True)
        for step in model.teacher.chain[m]:
            f = f @ step.weight.T + step.bias
        h = F.leaky_relu(f)
        teacher[m] = h / h.norm(dim=1, keepdim=True)
    out = dict.fromkeys(("class", "response", "feature", "fusion"), 0.0)
    labeled = [b for b, item in enumerate(items.tolist()) if model.labels[item] >= 0]
    for m in names:
        classify = model.teacher.classifier[m]
        for b in labeled:
            logits = classify(teacher[m][b])
            logits = torch.softmax(logits, 0) if legacy else logits
            out["class"] += -torch.log_softmax(logits, 0)[model.labels[items[b]]] / len(labeled) / len(names)
        p, q = (torch.softmax(classify(x[m]) / t, 1) for x in (teacher, student))
        out["response"] += (p - q).abs().sum() / p.numel() / len(names)
        out["feature"] += ((student[m] - teacher[m]) ** 2).sum() / student[m].numel() / len(names)
    fused = model.teacher.fused_classifier(F.leaky_relu(model.teacher.fusion(torch.cat([teacher[m] for m in names], 1))))
    out["fusion"] = -sum(torch.log_softmax(fused[b], 0)[model.labels[items[b]]] for b in labeled) / len(labeled)
    return out


@pytest.mark.parametrize("legacy", [False, True])
def test_terms_equal_a_naive_computation(build, labeled, legacy):
    _, model, train, _, _ = build("SGFD", sgfd_labels="kind", legacy_softmax=legacy, **labeled)
    ids = list(train._dataset.field2id_token["item_id"])
    items = torch.tensor([3, 9, 9, 4, ids.index("i0"), 7])
    expected = naive(model, items, legacy)
    got = model.distillation(items)
    assert set(got) == set(expected)
    for name, value in got.items():
        torch.testing.assert_close(value, torch.as_tensor(expected[name]), msg=name)


def test_the_loss_is_the_backbones_and_the_weighted_terms(build):
    _, model, train, _, _ = build("SGFD", ce_weight=2.0, kd_weight=3.0)
    batch = first_batch(train)
    model.train()
    model.pre_epoch(0)
    losses = model.calculate_loss(batch)
    terms = dict(zip(losses.names, losses, strict=True))
    assert losses.names == ("bpr", "reg", "class", "response", "feature", "fusion")
    plain = model.distillation(batch["item_id"])
    for name, weight in (("class", 2.0), ("fusion", 2.0), ("response", 3.0), ("feature", 3.0)):
        torch.testing.assert_close(terms[name], weight * plain[name])


@pytest.mark.parametrize("backbone", ["LATTICE", "VBPR", "BM3"])
def test_scores_do_not_need_the_teacher(build, backbone):
    config, model, train, _, _ = build("SGFD", backbone=backbone, epochs=1)
    fit(config, model, train, None)
    users = torch.arange(1, 9)
    before = scores_of(model, config, users)
    del model.teacher, model.labels
    model.train()
    assert torch.equal(scores_of(model, config, users), before)


def test_without_weights_it_is_the_backbone_with_another_projection(build):
    found = {}
    for labels in (4, 6):
        config, model, train, _, _ = build("SGFD", ce_weight=0, kd_weight=0, n_classes=labels, epochs=2)
        fit(config, model, train, None)
        found[labels] = scores_of(model, config, torch.arange(1, 9))
    assert torch.equal(found[4], found[6])
    assert torch.equal(model.latents()["text"], model.students()["text"])
    latents = model.latents()["text"]
    torch.testing.assert_close(latents[1:].norm(dim=1), torch.ones(len(latents) - 1))


def test_a_detached_teacher_learns_from_the_classes_alone(build):
    _, model, train, _, _ = build("SGFD", detach_teacher=True)
    terms = model.distillation(first_batch(train)["item_id"])
    chain = list(model.teacher.chain.parameters())
    grads = torch.autograd.grad(terms["response"] + terms["feature"], chain, retain_graph=True, allow_unused=True)
    assert all(g is None for g in grads)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(terms["class"], chain))


def test_a_relu_between_the_teachers_layers(build):
    _, model, _, _, _ = build("SGFD", embedding_size=1, feature_dim=1, teacher_activation="relu", backbone="VBPR")
    assert [type(layer).__name__ for layer in model.teacher.chain["content"]] == ["Linear", "ReLU", "Linear"]


# -- what it is for ---------------------------------------------------------------------------------------------------


def test_students_learn_the_categories(build, labeled):
    """Only ``text`` tells the category; its student must put the items of a category together, better than without the terms."""
    found = {}
    for weight in (0.0, 1.0):
        config, model, train, _, _ = build(
            "SGFD", backbone="VLightGCN", sgfd_labels="kind", ce_weight=weight, kd_weight=10 * weight, sgfd_temperature=1.0, epochs=30,
            embedding_size=16, learning_rate=0.01, stopping_step=100, **labeled,
        )  # fmt: skip
        fit(config, model, train, None)
        model.eval()
        with torch.no_grad():
            predicted = model.teacher.classifier["text"](model.students()["text"]).argmax(dim=1)
        known = model.labels >= 0
        found[weight] = float((predicted == model.labels)[known].float().mean())
    assert found[1.0] > 0.95
    assert found[0.0] < 0.6


def test_labels_travel_with_the_weights(build, labeled):
    _, model, _, _, _ = build("SGFD", sgfd_labels="kind", **labeled)
    assert torch.equal(model.state_dict()["labels"], model.labels)
    # the students are the backbone's encoder, and no parameters beside it
    assert {id(p) for p in model.students.parameters()} == {id(p) for p in model.backbone.encoder.parameters()}
    assert not any(name.startswith("students") and "linear" not in name for name, _ in model.named_parameters())
