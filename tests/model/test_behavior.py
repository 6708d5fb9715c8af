"""What every model of the catalog must do, on planted data whose right answer is known."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_ib import list_models
from recbole_ib.bottleneck import ConcreteEdgeGate
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.backbones.mgcn import MGCN
from recbole_ib.model.backbones.micro import MICRO
from recbole_ib.model.backbones.soil import SOIL
from recbole_ib.model.bottleneck import batch_subset_of, restates_subset
from recbole_ib.model.types import BatchSubset, Outputs
from tests.support.bottlenecks import PAPER_IBMREC
from tests.support.datasets import planted, write_dataset
from tests.support.mrdib import PAPER_MRDIB
from tests.support.training import STAGES, computed, first_batch, fit, named, scores_of

#: models with the terms of their papers, which are not the defaults, as "MODEL as published"
AS_PUBLISHED = " as published"
PAPERS = {"IBMRec": PAPER_IBMREC, "MRdIBVBPR": PAPER_MRDIB, "MRdIBMGCN": PAPER_MRDIB}
MODELS = [*list_models(), *(f"{name}{AS_PUBLISHED}" for name in PAPERS)]
#: models that need more than 25 epochs at rate .01, by their own papers' account
PATIENCE = {"BM3": {"epochs": 80}}

#: backbones whose loss compares every pair of a batch
IN_BATCH = ("SLMRec", "MGCN", "SOIL")


@pytest.fixture
def build(build):
    def make(name, **settings):
        paper = PAPERS[name.removesuffix(AS_PUBLISHED)] if name.endswith(AS_PUBLISHED) else {}
        return build(name.removesuffix(AS_PUBLISHED), **{**STAGES.get(name, {}), **paper, **settings})

    return make


@pytest.mark.parametrize("name", MODELS)
def test_recommends_the_withheld_structure(build, name):
    """Users take items of their group: the group's items that they have not taken yet must come first."""
    config, model, train, _, _ = build(
        name,
        **{
            "epochs": 25,
            "learning_rate": 0.01,
            "embedding_size": 16,
            "feature_dim": 16,
            "stopping_step": 100,
            **PATIENCE.get(name, {}),
        },
    )
    fit(config, model, train, None)
    dataset = train._dataset
    _, _, item_group, user_group = planted()
    ids = dataset.field2id_token["item_id"]
    group_of_item = np.array([-1] + [item_group[int(t[1:])] for t in ids[1:]])
    group_of_user = np.array([-1] + [user_group[int(t[1:])] for t in dataset.field2id_token["user_id"][1:]])
    users = torch.arange(1, dataset.user_num)
    scores = scores_of(model, config, users).numpy()
    taken = dataset.inter_matrix(form="csr").toarray()[1:] > 0
    scores[taken] = -np.inf
    scores[:, 0] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :5]
    hits = (group_of_item[top] == group_of_user[1:, None]).mean()
    assert hits > 0.75  # by chance: some .15, a quarter of the items less those taken


@pytest.mark.parametrize("name", MODELS)
def test_two_runs_with_one_seed_are_equal(build, name):
    found = []
    for _ in range(2):
        config, model, train, valid, _ = build(name, epochs=2)
        trainer = fit(config, model, train, valid)
        found.append((trainer.train_loss_dict, trainer.best_valid_result, scores_of(model, config, torch.arange(1, 9))))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]
    assert torch.equal(found[0][2], found[1][2])


@pytest.mark.parametrize("name", MODELS)
def test_gradients_do_not_depend_on_the_order_of_threads(build, name):
    """A gradient that several threads add up in any order differs in its last bits from run to run."""
    _, model, train, _, _ = build(name, modality_weights="learned")
    dataset = train._dataset
    # items and users repeat many times in a batch this large: that is where threads meet
    n = 2_000 if name.removeprefix("MRdIB").removesuffix(AS_PUBLISHED) in IN_BATCH else 20_000
    torch.manual_seed(0)
    fields = {"user_id": dataset.user_num, "item_id": dataset.item_num, "neg_item_id": dataset.item_num}
    batch = Interaction({field: torch.randint(1, size, (n,)) for field, size in fields.items()})
    torch.set_num_threads(2)
    found = []
    for _ in range(3):
        torch.manual_seed(1)
        model.zero_grad(set_to_none=True)
        model.pre_epoch(0)
        sum(sum(phase.loss(batch)) for phase in model.phases()).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_round_trip_gives_equal_scores(build, name):
    config, model, train, _, _ = build(name, epochs=1)
    fit(config, model, train, None)
    _, other, _, _, _ = build(name)
    users = torch.arange(1, 9)
    assert not torch.equal(scores_of(model, config, users), scores_of(other, config, users))
    other.load_state_dict(model.state_dict())
    assert torch.equal(scores_of(model, config, users), scores_of(other, config, users))


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_depends_on_nothing_but_the_weights(build, name):
    """Not on the batch, not on a training forward before it, not on noise."""
    config, model, train, _, _ = build(name)
    model.pre_epoch(0)
    users = torch.arange(1, 9)
    before = scores_of(model, config, users)
    torch.testing.assert_close(before[2:3], scores_of(model, config, users[2:3]))
    model.train()
    model.calculate_loss(first_batch(train))
    after = scores_of(model, config, users)
    torch.testing.assert_close(before, after)
    pairs = Interaction({"user_id": users, "item_id": torch.arange(2, 10)})
    with torch.no_grad():
        torch.testing.assert_close(model.predict(pairs), after[torch.arange(8), torch.arange(2, 10)])


@pytest.mark.parametrize("name", MODELS)
def test_one_evaluation_propagates_once(build, name, monkeypatch):
    _, model, _, _, _ = build(name)
    calls = []
    # a plug-in leaves the scoring to its backbone
    scoring = getattr(model, "backbone", model)
    encode = scoring.encode
    monkeypatch.setattr(scoring, "encode", lambda *a, **k: calls.append(1) or encode(*a, **k))
    model.eval()
    for user in range(1, 6):
        model.full_sort_predict(Interaction({"user_id": torch.tensor([user])}))
    assert len(calls) == 1


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_every_parameter(build, name):
    _, model, train, _, _ = build(name)
    model.train()
    model.pre_epoch(0)
    batch = first_batch(train)
    for phase in model.phases():
        sum(phase.loss(batch)).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert silent == []


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_no_other_score(build, name):
    config, model, _, _, _ = build(name)
    users = torch.arange(1, 9)
    before = scores_of(model, config, users)[:, 1:]
    tables = [
        m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m.num_embeddings in (model.n_users, model.n_items)
    ]
    assert tables
    with torch.no_grad():
        for table in tables:
            table.weight[0] = 100.0
    model.train()
    torch.testing.assert_close(before, scores_of(model, config, users)[:, 1:])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_modalities_by_any_name(build, name, count, tmp_path):
    pairs, modalities, _, _ = planted(30, 20)
    made = {f"sense_{i}": np.roll(modalities["visual"], i, axis=0) for i in range(count)}
    path = write_dataset(tmp_path / "data", "other", pairs, made)
    # the redundancy of one modality with itself is refused, tests/model/bottlenecks/test_mrdib.py
    alone = {"redundancy_weight": 0.0} if count == 1 else {}
    config, model, train, valid, test = build(name, dataset="other", data_path=str(path), epochs=1, **alone)
    trainer = fit(config, model, train, valid)
    result = trainer.evaluate(test, load_best_model=False)
    assert 0.0 <= result["recall@20"] <= 1.0
    assert model.modalities == list(made)


@pytest.mark.parametrize("name", MODELS)
def test_a_data_set_without_modalities_is_refused(build, name, tmp_path):
    pairs, _, _, _ = planted(20, 20)
    path = write_dataset(tmp_path / "data", "bare", pairs, {})
    with pytest.raises(ConfigurationError, match="at least 1 modality"):
        build(name, dataset="bare", data_path=str(path))


@pytest.mark.parametrize("name", MODELS)
def test_repr_shows_the_sizes(build, name):
    _, model, _, _, _ = build(name)
    assert "Embedding(81, " in repr(model)


@pytest.mark.parametrize("name", ["MGCN", "SOIL", "MMGCN", "MGCN+gib"])
def test_outputs_of_the_batchs_rows_alone_change_no_loss_and_no_gradient(build, name, monkeypatch):
    _, model, train, _, _ = build(name)
    model.train()
    for module in model.modules():
        if isinstance(module, ConcreteEdgeGate):
            module.eval()  # its draws would differ
    batch, found, passes = first_batch(train)[:40], [], computed(monkeypatch, model)
    subset = batch_subset_of(model, batch)
    read = subset.nodes
    for rows in (read, None):
        monkeypatch.setattr(model, "batch_subset", lambda _, rows=rows: subset._replace(nodes=rows))
        losses = named(model.calculate_loss(batch))
        gradients = torch.autograd.grad(sum(losses.values()), list(model.parameters()), allow_unused=True)
        found.append((losses, dict(zip(dict(model.named_parameters()), gradients, strict=True))))
        outputs = torch.cat([passes[-1].outputs.user, passes[-1].outputs.item])
        # a row that nobody computed cannot pass for one
        unread = torch.ones(len(outputs), dtype=torch.bool)
        unread[read] = False
        assert bool(outputs[unread].isnan().all()) is (rows is not None)
        assert bool(outputs[read].isfinite().all())
    for part, whole in zip(*found, strict=True):
        for key, value in part.items():
            torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-6)


def test_a_subclass_that_changes_the_outputs_trains_by_them(build, monkeypatch):
    """As it ranks by them; it restates no subset, so all rows are computed."""

    class Doubled(MGCN):
        def apply_item_graph(self, encoded, graph, nodes=None):
            assert nodes is None
            user, item, views = super().apply_item_graph(encoded, graph, nodes)
            return Outputs(user, 2 * item, views)

    config, model, train, _, _ = build("MGCN")
    own = Doubled(config, train._dataset)
    own.load_state_dict(model.state_dict())
    batch = first_batch(train)[:20]
    items = []
    for m in (model, own):
        m.train()
        passes = computed(monkeypatch, m)
        m.calculate_loss(batch)
        items.append(passes[-1].outputs.item[batch["item_id"]])
    plain, doubled = items
    torch.testing.assert_close(doubled, 2 * plain)
    assert (batch_subset_of(model, batch).nodes is None, batch_subset_of(own, batch)) == (False, BatchSubset())


def test_a_subset_holds_for_the_methods_that_it_was_written_for():
    """A subclass that changes one of them and restates nothing computes all rows; others, and methods that it inherits, do not count."""
    for method in ("latents", "encode", "item_graph", "apply_item_graph", "ranking_losses", "calculate_loss"):
        changed = type("Changed", (MGCN,), {method: lambda self, *args, **kwargs: None})
        assert not restates_subset(changed), method
        assert restates_subset(type("Restated", (changed,), {"batch_subset": MGCN.batch_subset})), method
        assert not restates_subset(type("Below", (changed,), {})), method
    assert restates_subset(type("Other", (MGCN,), {"pre_epoch": lambda self, epoch: None, "user_content": lambda self: None}))
    # SOIL's losses are its own, and it says that they read MGCN's rows
    assert "ranking_losses" in vars(SOIL)
    assert restates_subset(SOIL)
    assert not restates_subset(MICRO)


def test_a_loss_that_reads_rows_nobody_computed_is_told_so(build):
    class Reader(MGCN):
        batch_subset = MGCN.batch_subset

        def ranking_losses(self, batch):
            return {**super().ranking_losses(batch), "all": batch.outputs.item.square().mean()}

    config, _, train, valid, _ = build("MGCN", train_batch_size=8)
    with pytest.raises(ValueError, match=r"all = nan.*outside of the model's batch_subset"):
        fit(config, Reader(config, train._dataset), train, valid)


def test_a_loss_that_reads_all_rows_gets_them_where_it_restates_nothing(build):
    class Reader(MGCN):
        def ranking_losses(self, batch):
            return {**super().ranking_losses(batch), "all": batch.outputs.item.square().mean()}

    config, _, train, valid, _ = build("MGCN", train_batch_size=8, epochs=1)
    trainer = fit(config, Reader(config, train._dataset), train, valid)
    assert np.isfinite(trainer.train_loss_dict[0])
