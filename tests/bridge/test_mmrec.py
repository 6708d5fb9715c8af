"""The bridge to MMRec, with a stand-in checkout of our own: what its models are given, and how they train."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_ib import read_checkpoint, run_recbole_ib
from recbole_ib.bridge import network
from recbole_ib.bridge.checkout import open_checkout
from recbole_ib.bridge.interface import USER_NEIGHBORS, user_neighbors
from recbole_ib.bridge.network import check_order
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.patches.compat import TRUST_VARIABLE
from tests.support.datasets import planted, write_dataset
from tests.support.mmrec import STANDIN, copy_of_standin, one_epoch, settings_of


def run(planted_path, name="PlainBPR", **changes) -> dict:
    return run_recbole_ib(f"mmrec:{name}", "planted", config_dict=settings_of(planted_path, **changes))


# -- what a model is given ----------------------------------------------------------------------------------------------


def test_the_model_sees_ids_without_padding(bridged):
    config, model, train, _, _ = bridged("PlainBPR")
    network, data = model.network, train._dataset
    assert (network.n_users, network.n_items) == (model.n_users - 1, model.n_items - 1)
    ours = data.inter_matrix(form="csr")[1:, 1:]
    assert (network.loader.inter_matrix(form="csr") != ours).nnz == 0
    assert sp.issparse(network.loader.inter_matrix())
    assert network.loader.inter_matrix().format == "coo"
    assert network.loader.inter_num == len(data.inter_feat) < 1000
    assert network.loader.dataset.df[config["ITEM_ID_FIELD"]].min() == 0
    assert network.loader.dataset.user_num == network.loader.get_user_num() == model.n_users - 1
    assert network.loader.history_items_per_u[0] == set(ours[[0]].indices.tolist())
    assert max(network.loader.all_items) == model.n_items - 2
    assert len(network.loader) == -(-network.loader.inter_num // 256)


def test_a_batch_is_shifted(bridged):
    _, model, train, _, _ = bridged("PlainBPR")
    batch = next(iter(train))
    before = batch[model.ITEM_ID].clone()
    loss = model.calculate_loss(batch)
    expected = torch.stack([batch[f] - 1 for f in (model.USER_ID, model.ITEM_ID, model.NEG_ITEM_ID)])
    assert torch.equal(model.network.seen, expected)
    assert torch.equal(batch[model.ITEM_ID], before)
    assert loss.shape == ()
    assert loss.requires_grad


def test_features_follow_the_tokens(bridged, planted_path):
    _, model, train, _, _ = bridged("PlainBPR")
    tokens = train._dataset.field2id_token["item_id"][1:]
    for part, name in (("t_feat", "text"), ("v_feat", "visual")):
        raw = np.load(planted_path / "planted" / f"{name}.npy")
        rows = np.array([int(token[1:]) for token in tokens])
        assert np.allclose(getattr(model.network, part).numpy(), raw[rows])


def test_mmrec_modalities_swaps(bridged):
    _, model, _, _, _ = bridged("PlainBPR", mmrec_modalities={"text": "visual"})
    assert model.network.t_feat.shape[1] == 6
    assert model.network.v_feat is None


def test_scores_by_hand_and_the_padding_item(bridged):
    _, model, _train, _, _ = bridged("PlainBPR")
    model.eval()
    users = torch.tensor([1, 5, 9])
    with torch.no_grad():
        scores = model.full_sort_predict({model.USER_ID: users}).view(3, -1)
        net = model.network
        hand = net.user.weight[users - 1] @ (net.item.weight + net.t_feat @ net.text.weight.T + net.text.bias).T
    assert torch.allclose(scores[:, 1:], hand, atol=1e-6)
    assert torch.isneginf(scores[:, 0]).all()
    pairs = {model.USER_ID: torch.tensor([5, 1, 5]), model.ITEM_ID: torch.tensor([3, 7, 1])}
    with torch.no_grad():
        assert torch.allclose(model.predict(pairs), torch.stack([scores[1, 3], scores[0, 7], scores[1, 1]]))


def test_user_neighbors_by_hand():
    matrix = sp.csr_matrix(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    assert user_neighbors(matrix) == {
        0: [[1, 2], [2.0, 1.0]],
        1: [[0, 2], [2.0, 1.0]],
        2: [[0, 1], [1.0, 1.0]],
        3: [[], []],
    }
    assert user_neighbors(matrix, top=1)[0] == [[1], [2.0]]


def test_user_neighbors_count_pairs_once_and_keep_the_most():
    rng = np.random.default_rng(0)
    dense = rng.random((260, 12)) < 0.5
    graph = user_neighbors(sp.csr_matrix(dense.astype(float) * 3))
    shared = dense.astype(int) @ dense.astype(int).T
    ids, counts = graph[7]
    assert len(ids) == USER_NEIGHBORS
    assert 7 not in ids
    assert counts == shared[7, ids].tolist() == sorted(np.delete(shared[7], 7).tolist(), reverse=True)[:USER_NEIGHBORS]


def test_the_user_graph_is_made_of_training_interactions(bridged):
    _, model, train, _, _ = bridged("UserGraph")
    assert model.network.graph == user_neighbors(train._dataset.inter_matrix(form="csr")[1:, 1:].tocsr())


def test_files_by_position_need_ids_that_are_positions(bridged, tmp_path):
    np.save(tmp_path / "mine.npy", {}, allow_pickle=True)
    words = r"user_graph_dict_file: .*read by position, and 80 of 80 users .* have another place than their id says"
    with pytest.raises(ConfigurationError, match=words):
        bridged("UserGraph", user_graph_dict_file=str(tmp_path / "mine.npy"))
    check_order("user_graph_dict_file", "mine.npy", {"user": ["0", "1"], "item": ["7", "3"]})
    with pytest.raises(ConfigurationError, match=r"1 of 3 items .*\(2 keep theirs\)"):
        check_order("item_graph_dict_file", "mine.npy", {"user": ["5"], "item": ["0", "1", "3"]})


def test_a_user_graph_of_ones_own(bridged, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "check_order", lambda *_: None)
    graph = {u: [[], []] for u in range(80)}
    np.save(tmp_path / "mine.npy", graph, allow_pickle=True)
    _, model, _, _, _ = bridged("UserGraph", user_graph_dict_file=str(tmp_path / "mine.npy"))
    assert model.network.graph == graph
    with pytest.raises(ConfigurationError, match="user_graph_dict_file: there is no file"):
        bridged("UserGraph", user_graph_dict_file=str(tmp_path / "absent.npy"))


def test_the_folder_is_removed_with_all_caches(bridged, planted_path):
    before = sorted(p.name for p in (planted_path / "planted").iterdir())
    _, model, train, _, _ = bridged("Caching")
    assert model.network.similar.shape == (60, 60)
    assert not Path(model.network.folder).exists()
    assert sorted(p.name for p in (planted_path / "planted").iterdir()) == before
    assert one_epoch(model, train).requires_grad


# -- training -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PlainBPR", "UserGraph"])
def test_recommends_the_withheld_structure(planted_path, name):
    result = run(planted_path, name, epochs=40, stopping_step=40)
    assert result["model"] == f"mmrec:{name}"
    # a group has 15 items, of which a user took 9; among 60 items 10 at random hold a sixth of what is withheld
    assert result["test_result"]["recall@10"] > 0.5


def test_scores_lead_to_the_users_own_group(planted_path, monkeypatch):
    from recbole.quick_start import load_data_and_model

    result = run(planted_path, epochs=30)
    with pytest.raises(CheckpointError, match="never says which folder to import"):
        load_data_and_model(result["checkpoint"])
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    _, model, _, train, _, _ = load_data_and_model(result["checkpoint"])
    _, _, item_group, user_group = planted()
    data = train._dataset
    items = np.array([int(t[1:]) for t in data.field2id_token["item_id"][1:]])
    users = np.array([int(t[1:]) for t in data.field2id_token["user_id"][1:]])
    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict({"user_id": torch.arange(1, data.user_num)}).view(data.user_num - 1, -1)
    top = item_group[items[scores.topk(10).indices.numpy() - 1]]
    assert (top == user_group[users][:, None]).mean() > 0.9
    assert (scores.topk(10).indices > 0).all()


def test_two_runs_with_one_seed_are_equal(planted_path):
    first, second = (run(planted_path, "UserGraph", epochs=3) for _ in range(2))
    assert first["test_result"] == second["test_result"]
    assert first["best_valid_result"] == second["best_valid_result"]
    weights = [read_checkpoint(r["checkpoint"])["state_dict"] for r in (first, second)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize("name", ["PlainBPR", "UserGraph"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(planted_path, name):
    whole = run(planted_path, name, epochs=4)
    part = run(planted_path, name, epochs=2)
    last = Path(part["checkpoint"]).with_name(Path(part["checkpoint"]).stem + "-last.pth")
    assert read_checkpoint(last)["model"] == f"mmrec:{name}"
    resumed = run(planted_path, name, epochs=4, resume_checkpoint=str(last))
    assert resumed["test_result"] == whole["test_result"]
    assert resumed["best_valid_result"] == whole["best_valid_result"]


def test_state_dict_round_trip(bridged):
    _, model, train, _, _ = bridged("UserGraph")
    one_epoch(model, train)
    assert "network.constant" in model.state_dict()
    assert {"network.result", "network.alias"}.isdisjoint(model.state_dict())
    assert model.other_parameter() == {"epochs_begun": 1}
    users = {model.USER_ID: torch.arange(1, 9)}
    with torch.no_grad():
        scores = model.full_sort_predict(users)
        _, fresh, _, _, _ = bridged("UserGraph")
        for tensor in (*fresh.parameters(), *fresh.buffers()):
            tensor.fill_(0.5)
        fresh.eval()
        assert not torch.allclose(fresh.full_sort_predict(users), scores)
        fresh.load_state_dict(model.state_dict())
        fresh.load_other_parameter(model.other_parameter())
        assert torch.equal(fresh.full_sort_predict(users), scores)
    assert fresh.network.epochs_begun == 1


def test_left_tables_are_brought_up_to_date(bridged):
    _, model, train, _, _ = bridged("UserGraph")
    assert model.source.left_tables == {"result"}
    one_epoch(model, train)
    with torch.no_grad():
        model.network.item.weight.zero_()
        model.train()
        model.eval()
        scores = model.full_sort_predict({model.USER_ID: torch.tensor([1])})
    assert (scores[1:] == 0).all()


@pytest.mark.parametrize("name", ["PlainBPR", "NoNeg", "Caching"])
def test_models_that_compute_their_scores_need_no_extra_pass(name):
    assert open_checkout(STANDIN).model(name).left_tables == frozenset()


def test_hooks_around_the_epochs(bridged, caplog):
    _, model, train, _, _ = bridged("UserGraph")
    with caplog.at_level("INFO"):
        for epoch in range(2):
            one_epoch(model, train, epoch)
            model.eval()
        model.pre_epoch(2)  # no evaluation between this epoch and the next
        model.pre_epoch(3)
    assert model.network.events == ["pre", "post"] * 3 + ["pre"]
    assert "epoch done" in caplog.text


def test_without_negatives(bridged, planted_path):
    _config, model, train, _, _ = bridged("NoNeg")
    losses = model.calculate_loss(next(iter(train)))
    assert model.network.rows == 2
    assert len(losses) == 2
    assert losses[1].item() == 0.0
    assert run(planted_path, "NoNeg", epochs=2)["test_result"]["recall@20"] >= 0


def test_a_model_without_training(planted_path):
    result = run(planted_path, "Untrained")
    assert result["test_result"]["recall@10"] > 0.5


def test_a_model_without_features(bridged, tmp_path):
    pairs, _, _, _ = planted()
    write_dataset(tmp_path / "bare", "bare", pairs, {})
    given = {"dataset": "bare", "data_path": str(tmp_path / "bare"), "modalities": None}
    _, model, train, _, _ = bridged("PlainBPR", is_multimodal_model=False, **given)
    assert model.network.t_feat is None
    one_epoch(model, train)
    with pytest.raises(ConfigurationError, match="needs features of vision or text; the data set 'bare' has no modality"):
        bridged("PlainBPR", **given)


# -- nothing is left behind ---------------------------------------------------------------------------------------------


def test_modules_and_path_are_as_before(bridged, monkeypatch):
    mine = {name: ModuleType(name) for name in ("utils", "common", "utils.helpers")}
    for name, module in mine.items():
        monkeypatch.setitem(sys.modules, name, module)
    path, finders, cuda = list(sys.path), list(sys.meta_path), torch.Tensor.cuda
    _, model, train, _, _ = bridged("Caching")  # imports utils.helpers in the midst of training
    one_epoch(model, train)
    assert all(sys.modules[name] is module for name, module in mine.items())
    assert "models" not in sys.modules
    assert "common.abstract_recommender" not in sys.modules
    assert (sys.path, sys.meta_path) == (path, finders)
    assert torch.Tensor.cuda is cuda


def test_a_package_on_the_path_does_not_win(bridged, tmp_path, monkeypatch):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    monkeypatch.syspath_prepend(str(tmp_path))
    other = copy_of_standin(tmp_path)
    _, model, _, _, _ = bridged("PlainBPR", mmrec_path=str(other))
    assert model.source.file == other / "src" / "models" / "plainbpr.py"


def test_two_checkouts_in_one_process(bridged, tmp_path):
    other = copy_of_standin(tmp_path)
    _, first, _, _, _ = bridged("PlainBPR")
    _, second, _, _, _ = bridged("PlainBPR", mmrec_path=str(other / "src"))
    _, third, _, _, _ = bridged("PlainBPR")
    assert type(first) is type(third) is not type(second)
    assert type(first.network) is not type(second.network)
