"""The encoders of the items' features: against naive computations, and in the models that build them by the key ``feature_encoder``."""

import pytest
import torch
from recbole.utils import init_seed
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.layers.encoder import (
    ENCODERS,
    ConcatEncoder,
    LinearEncoder,
    MLPEncoder,
    ModalityEncoder,
    is_tuned,
    make_encoder,
    register_encoder,
)
from recbole_ib.model.types import distinct
from tests.support.training import first_batch, fit, named, scores_of


def features():
    torch.manual_seed(0)
    return {"text": 5 * torch.randn(6, 3), "visual": torch.randn(6, 4)}


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("items", [None, torch.tensor([4, 1, 4])])
def test_equals_the_loop(tuned, items):
    given = features()
    module = LinearEncoder(given, 2, tuned=tuned)
    torch.nn.init.normal_(module.linear["text"].bias)
    out = module(items)
    assert list(out) == ["text", "visual"]
    for name, z in out.items():
        ids = range(6) if items is None else items.tolist()
        for row, item in enumerate(ids):
            torch.testing.assert_close(z[row], module.linear[name].weight @ given[name][item] + module.linear[name].bias)


def test_normalize_scales_rows_to_length_one_and_leaves_empty_rows_empty():
    given = features()
    given["text"][0] = 0
    table = LinearEncoder(given, 2, normalize=True).table("text")
    torch.testing.assert_close(table[1:], given["text"][1:] / given["text"][1:].norm(dim=1, keepdim=True))
    assert not bool(table[0].any())
    assert torch.equal(LinearEncoder(given, 2).table("text"), given["text"])


def test_frozen_features_stay_out_of_the_state_dict_and_tuned_ones_are_in_it():
    layers = {f"linear.{m}.{p}" for m in ("text", "visual") for p in ("weight", "bias")}
    tables = {"features_text", "features_visual"}
    frozen, tuned = LinearEncoder(features(), 2), LinearEncoder(features(), 2, tuned=True)
    assert set(frozen.state_dict()) == {n for n, _ in frozen.named_parameters()} == layers
    assert set(tuned.state_dict()) == {n for n, _ in tuned.named_parameters()} == layers | tables


def test_tuning_leaves_the_data_sets_own_features_alone():
    given = features()
    before = given["text"].clone()
    module = LinearEncoder(given, 2, tuned=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    sum(z.square().sum() for z in module().values()).backward()
    optimizer.step()
    assert torch.equal(given["text"], before)
    assert not torch.equal(module.table("text"), before)


def test_a_tuned_table_takes_a_gradient_at_the_rows_asked_for():
    module = LinearEncoder(features(), 2, tuned=True)
    module(torch.tensor([1, 3]))["text"].sum().backward()
    assert torch.nonzero(module.table("text").grad.abs().sum(1)).flatten().tolist() == [1, 3]


def test_initial_weights():
    wide = {"text": torch.zeros(2, 300)}
    normal = LinearEncoder(wide, 200, init="xavier_normal").linear["text"]
    uniform = LinearEncoder(wide, 200, init="xavier_uniform").linear["text"]
    default = LinearEncoder(wide, 200, init="default").linear["text"]
    # Glorot: variance 2 / (in + out); the uniform law ends at sqrt(6 / (in + out)); torch's at 1 / sqrt(in), with a bias
    assert normal.weight.std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert normal.weight.abs().max().item() > 3 * (2 / 500) ** 0.5
    assert uniform.weight.abs().max().item() == pytest.approx((6 / 500) ** 0.5, rel=0.01)
    assert default.weight.abs().max().item() == pytest.approx(300**-0.5, rel=0.01)
    assert not bool(normal.bias.any() or uniform.bias.any())
    assert bool(default.bias.any())


def test_reset_draws_anew():
    module = LinearEncoder(features(), 2)
    before = module.linear["text"].weight.clone()
    module.reset_parameters()
    assert not torch.equal(before, module.linear["text"].weight)


def test_the_items_of_a_batch_are_distinct_and_sorted():
    assert distinct(torch.tensor([5, 2, 5]), torch.tensor([2, 9])).tolist() == [2, 5, 9]


def test_raw_features_takes_two_words(build):
    assert is_tuned({"raw_features": "tuned"})
    assert not is_tuned({"raw_features": "frozen"})
    for name in ("LATTICE", "MICRO", "BM3", "FREEDOM", "MGCN", "SOIL"):
        with pytest.raises(ConfigurationError, match="raw_features is 'half'; allowed: tuned, frozen"):
            build(name, raw_features="half")


# -- the other encoders -----------------------------------------------------------------------------------------------


def shaken(module):
    """The module with weights and biases of which none is zero."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize("items", [None, torch.tensor([4, 1, 4])])
@pytest.mark.parametrize("normalize", [False, True])
def test_concatenated_equals_the_loop_and_its_parts_sum_to_it(items, normalize):
    given = features()
    module = shaken(ConcatEncoder(given, 2, normalize))
    layer = module.first_layer("content")
    if normalize:  # every modality's rows have length 1
        given = {m: F.normalize(x, dim=1) for m, x in given.items()}
    together = torch.cat(list(given.values()), dim=1)
    ids = range(6) if items is None else items.tolist()
    (z,) = module(items).values()
    parts, rows = module.parts(items), module.part_features(items)
    assert (list(module(items)), list(parts), list(rows)) == (["content"], ["text", "visual"], ["text", "visual"])
    for row, item in enumerate(ids):
        torch.testing.assert_close(z[row], layer.weight @ together[item] + layer.bias)
        # W = [W_text W_visual]; the first part carries the bias
        torch.testing.assert_close(parts["text"][row], layer.weight[:, :3] @ together[item, :3] + layer.bias)
        torch.testing.assert_close(parts["visual"][row], layer.weight[:, 3:] @ together[item, 3:])
        torch.testing.assert_close(rows["text"][row], together[item, :3])
        torch.testing.assert_close(rows["visual"][row], together[item, 3:])
    assert not any(x.requires_grad for x in rows.values())
    assert module.widths == {"content": 7}


@pytest.mark.parametrize("items", [None, torch.tensor([4, 1, 4])])
def test_mlp_equals_the_loop(items):
    given = features()
    module = shaken(MLPEncoder(LinearEncoder(given, 5), 2))
    out = module(items)
    assert list(out) == ["text", "visual"]
    for name, z in out.items():
        first, second = module.first_layer(name), module.second[name]
        for row, item in enumerate(range(6) if items is None else items.tolist()):
            hidden = first.weight @ given[name][item] + first.bias
            hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
            torch.testing.assert_close(z[row], second.weight @ hidden + second.bias)
        assert torch.equal(module.rows(name, items), module.first.rows(name, items))
        assert torch.equal(module.table(name), given[name])
    assert (module.out_dim, module.widths, module.tuned) == (2, {"text": 3, "visual": 4}, False)


def test_an_mlp_has_a_hidden_layer_and_both_are_drawn_anew():
    module = MLPEncoder(LinearEncoder(features(), 5), 2)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert {name: tuple(p.shape) for name, p in before.items() if "text" in name and "weight" in name} == {
        "first.linear.text.weight": (5, 3),
        "second.text.weight": (2, 5),
    }
    module.reset_parameters()
    assert all(not torch.equal(p, before[name]) for name, p in module.named_parameters() if "weight" in name)


def test_another_first_layer_and_other_projections_take_the_place_of_those_there():
    class Doubled(LinearEncoder):
        def __init__(self, replaced):
            super().__init__({m: replaced.table(m) for m in replaced.modalities}, replaced.out_dim)

        def forward(self, items=None):
            return {m: 2 * z for m, z in super().forward(items).items()}

    mlp, linear = MLPEncoder(LinearEncoder(features(), 5), 2), LinearEncoder(features(), 2)
    for module in (mlp, linear):
        layer = torch.nn.Linear(3, module.first_layer("text").out_features)
        module.set_first_layer("text", layer)
        assert module.first_layer("text") is layer
        torch.testing.assert_close((mlp.first if module is mlp else linear)()["text"], layer(features()["text"]))
    # an mlp keeps its second layer on them, a linear one is replaced as a whole
    second = mlp.second
    assert mlp.replace_projections(Doubled) is mlp
    assert isinstance(mlp.first, Doubled)
    assert mlp.second is second
    assert isinstance(linear.replace_projections(Doubled), Doubled)


ALL = {
    "linear": lambda given: LinearEncoder(given, 2),
    "concatenated": lambda given: ConcatEncoder(given, 2),
    "mlp": lambda given: MLPEncoder(LinearEncoder(given, 5), 2),
    "mlp of all": lambda given: MLPEncoder(ConcatEncoder(given, 5), 2),
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("items", [None, torch.tensor([4, 1, 4])])
def test_parts_fuse_to_the_latents(kind, items):
    module = shaken(ALL[kind](features()))
    latents = module(items)
    fused = module.fuse(module.parts(items))
    assert fused.keys() == latents.keys()
    for name, z in latents.items():
        torch.testing.assert_close(fused[name], z)
    assert module.features(items).keys() == latents.keys()
    assert not any(x.requires_grad for x in module.features(items).values())


@pytest.mark.parametrize("kind", ALL)
def test_masks_go_with_the_latents(kind):
    class Given:
        has_feature = {"text": torch.tensor([False, True, False]), "visual": torch.tensor([False, True, True])}  # noqa: RUF012

    masks = ALL[kind](features()).masks(Given)
    if kind in ("concatenated", "mlp of all"):
        assert {name: mask.tolist() for name, mask in masks.items()} == {"content": [False, True, True]}
    else:
        assert masks == Given.has_feature


# -- the key feature_encoder ------------------------------------------------------------------------------------------


MLP = {"feature_encoder": "mlp", "encoder_hidden_size": 8}


@pytest.mark.parametrize("name", ["VBPR", "LATTICE", "FREEDOM", "GRCN", "VLATTICE+fib+gib", "MRdIBMGCN"])
def test_a_backbone_trains_on_an_mlp(build, name):
    config, model, train, valid, _ = build(name, epochs=2, learning_rate=0.01, **MLP)
    assert isinstance(model.encoder, MLPEncoder)
    names = ["content"] if name == "VBPR" else model.modalities
    assert list(model.latents()) == names
    for latent in names:
        assert model.encoder.first_layer(latent).out_features == 8
        assert model.encoder.second[latent].out_features == model.encoder.out_dim
    before = {n: p.detach().clone() for n, p in model.encoder.named_parameters()}
    trainer = fit(config, model, train, valid)
    assert all(torch.isfinite(torch.as_tensor(loss)) for loss in trainer.train_loss_dict.values())
    assert 0 <= trainer.best_valid_score <= 1
    moved = {n for n, p in model.encoder.named_parameters() if not torch.equal(before[n], p)}
    assert {n for n in before if "weight" in n} <= moved
    latents = model.encoder()
    (expected,) = {z.shape[1] for z in latents.values()}
    assert expected == (model.feature_dim if name == "GRCN" else config["feature_dim"] if name == "LATTICE" else 64)


@pytest.mark.parametrize("name", ["VBPR", "LATTICE", "FREEDOM", "GRCN"])
def test_a_linear_encoder_is_the_default(build, name):
    found = []
    for settings in ({}, {"feature_encoder": "linear"}):
        _, model, train, _, _ = build(name, **settings)
        assert isinstance(model.encoder, LinearEncoder)
        init_seed(1, True)
        model.pre_epoch(0)
        found.append(named(model.calculate_loss(first_batch(train))))
    assert found[0] == found[1]


def test_bottlenecks_read_the_features_of_an_mlp(build):
    """HSIC(Z, M) is of the pre-trained features, not of the hidden layer."""
    _, model, train, _, _ = build("VLATTICE+fib", **MLP)
    for name, table in model.encoder.features().items():
        torch.testing.assert_close(table, model.encoder.first.table(name))
        assert table.shape[1] == train._dataset.modalities[name].shape[1]
    parts = model.encoder.parts()
    assert {z.shape[1] for z in parts.values()} == {model.embedding_size}
    named(model.calculate_loss(first_batch(train)))["fib"].backward()
    for m in model.modalities:
        assert model.encoder.first_layer(m).weight.grad.abs().sum() > 0
        assert model.encoder.second[m].weight.grad.abs().sum() > 0


def test_mrdib_refuses_an_encoder_that_mixes_the_modalities(build):
    with pytest.raises(
        ConfigurationError, match=r"the encoder of VBPR makes content of all of them together; set feature_encoder: linear"
    ):
        build("VBPR+mrdib", **MLP)
    _, model, _, _, _ = build("VBPR+mrdib")
    assert list(model.encoder.parts()) == model.modalities


@pytest.mark.parametrize(("wrapper", "backbone"), [("SGFD", "VLATTICE"), ("SGFD", "DualGNN"), ("InvRL", "VBPR")])
def test_a_wrapper_reaches_the_first_layer_of_an_mlp(build, wrapper, backbone):
    settings = {} if backbone == "DualGNN" else MLP
    _, model, train, _, _ = build(wrapper, backbone=backbone, **settings)
    mlp = model.feature_encoder
    assert isinstance(mlp, MLPEncoder)
    model.train()
    model.pre_epoch(0)
    sum(model.calculate_loss(first_batch(train))).backward()
    for name in mlp.modalities:
        assert mlp.first_layer(name).weight.grad.abs().sum() > 0
        assert mlp.second[name].weight.grad.abs().sum() > 0
    replaced = {"SGFD": "Students", "InvRL": "MaskedLinear"}[wrapper]
    assert type(mlp.first if wrapper == "SGFD" else mlp.first_layer(mlp.modalities[0])).__name__ == replaced


@pytest.mark.parametrize("name", ["VBPR", "LATTICE", "FREEDOM", "GRCN"])
def test_an_unknown_encoder_names_the_known_ones(build, name):
    with pytest.raises(ConfigurationError, match="feature_encoder is 'mpl'; allowed: linear, mlp"):
        build(name, feature_encoder="mpl")


def test_the_key_names_the_class_and_the_backbone_the_projections(build):
    widths = []
    for word, encoder in (("linear", LinearEncoder), ("mlp", MLPEncoder)):
        config, *_ = build("VBPR", feature_encoder=word, encoder_hidden_size=8)
        module = make_encoder(config, lambda size: widths.append(size) or LinearEncoder(features(), size), 4)
        assert (type(module), module.out_dim) == (encoder, 4)
    # an mlp asks for its hidden width
    assert widths == [4, 8]


def test_a_third_encoder_by_its_registered_name(build, monkeypatch):
    class Squared(LinearEncoder):
        """Z^k = (M^k W_k + b_k)^2."""

        @classmethod
        def build(cls, config, linear, out_dim):
            projections = linear(out_dim)
            return cls({m: projections.table(m) for m in projections.modalities}, out_dim)

        def forward(self, items=None):
            return {m: z.square() for m, z in super().forward(items).items()}

    before = dict(ENCODERS)
    monkeypatch.setitem(ENCODERS, "squared", None)  # taken away again behind the test
    del ENCODERS["squared"]
    assert register_encoder("squared")(Squared) is Squared
    assert {**before, "squared": Squared} == ENCODERS
    config, model, train, valid, _ = build("VLightGCN", feature_encoder="squared", epochs=1)
    assert isinstance(model.encoder, Squared)
    assert isinstance(model.encoder, ModalityEncoder)
    assert all(bool((z >= 0).all()) for z in model.latents().values())
    layer = model.encoder.first_layer("text")
    expected = F.linear(model.encoder.table("text"), layer.weight, layer.bias).square()
    torch.testing.assert_close(model.latents()["text"], expected)
    fit(config, model, train, valid)
    assert torch.isfinite(scores_of(model, config, torch.arange(1, 9))).all()
    with pytest.raises(ConfigurationError, match="feature_encoder is 'cubed'; allowed: linear, mlp, squared"):
        build("VLightGCN", feature_encoder="cubed")


@pytest.mark.parametrize("wrong", [dict, "linear", torch.nn.Linear])
def test_what_is_no_encoder_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"an encoder is a subclass of recbole_ib\.ModalityEncoder, got"):
        register_encoder("wrong")(wrong)
    assert "wrong" not in ENCODERS


def test_the_name_of_another_encoder_is_refused_and_the_same_class_is_not():
    class Mine(LinearEncoder):
        """A class that would take the place of LinearEncoder."""

    with pytest.raises(ConfigurationError, match=r"feature_encoder: linear is .*LinearEncoder; take another name"):
        register_encoder("linear")(Mine)
    assert register_encoder("linear")(LinearEncoder) is LinearEncoder
    assert ENCODERS["linear"] is LinearEncoder
