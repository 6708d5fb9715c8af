"""None"""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_ib import list_models
from recbole_ib.analysis.decompose import TrainedModel, decompose, shares
from recbole_ib.analysis.interventions import Removed
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.training.checkpoint import read_checkpoint, write_checkpoint
from tests.support.commands import command
from tests.support.datasets import planted, write_dataset
from tests.support.decomposition import train
from tests.support.training import STAGES as INVRL_STAGES

STAGES = INVRL_STAGES["InvRL"]
#: settings in which the data reach a model in another way than in its defaults
VARIANTS = [
    ("LATTICE", {"item_graph": "frozen"}),
    ("LATTICE", {"raw_features": "frozen"}),
    ("MGCN", {"raw_features": "frozen"}),
    ("SGFD", {"backbone": "VBPR"}),
    ("InvRL", {"backbone": "MGCN", **STAGES}),
]
TRAINED = {"epochs": 25, "learning_rate": 0.01, "reg_weight": 1e-3}


@pytest.fixture(scope="module")
def trained(planted_path, tmp_path_factory):
    """VBPR, trained until it tells the groups by their text."""
    return train(planted_path, checkpoint_dir=str(tmp_path_factory.mktemp("saved")), **TRAINED)


@pytest.fixture(scope="module")
def report(trained):
    return decompose(trained["checkpoint"], repeats=3)


# -- the shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alone", "others", "everything", "nothing", "expected"),
    [
        # redundant, unique, unique of the rest, synergistic
        (0.30, 0.20, 0.40, 0.10, (0.10, 0.10, 0.00, 0.10)),
        (0.25, 0.25, 0.25, 0.05, (0.20, 0.00, 0.00, 0.00)),
        (0.10, 0.10, 0.50, 0.10, (0.00, 0.00, 0.00, 0.40)),
        (0.10, 0.30, 0.30, 0.10, (0.00, 0.00, 0.20, 0.00)),
        # both together rank worse than the better one; the worse one ranks worse than none
        (0.40, 0.05, 0.30, 0.10, (-0.05, 0.35, 0.00, -0.10)),
    ],
)
def test_shares_equal_those_computed_by_hand(alone, others, everything, nothing, expected):
    found = shares("text", ["visual"], alone, others, everything, nothing)
    assert (found.redundant, found.unique, found.unique_rest, found.synergistic) == pytest.approx(expected, abs=1e-12)


def test_shares_sum_to_the_gain_and_no_unique_part_is_negative():
    rng = np.random.default_rng(0)
    for alone, others, everything, nothing in rng.random((500, 4)):
        found = shares("a", ["b", "c"], alone, others, everything, nothing)
        assert found.total == pytest.approx(everything - nothing, abs=1e-12)
        assert min(found.unique, found.unique_rest) > -1e-12
        # what one modality gives is what it shares and what it has alone
        assert found.redundant + found.unique == pytest.approx(alone - nothing, abs=1e-12)
        assert found.redundant + found.unique_rest == pytest.approx(others - nothing, abs=1e-12)


def test_modalities_may_change_places():
    one, other = shares("a", ["b"], 0.3, 0.2, 0.5, 0.1), shares("b", ["a"], 0.2, 0.3, 0.5, 0.1)
    assert (one.unique, one.unique_rest, one.redundant, one.synergistic) == pytest.approx(
        (other.unique_rest, other.unique, other.redundant, other.synergistic)
    )


# -- every model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in list_models()), *VARIANTS])
def test_every_model_is_read_as_its_run_tested_it(planted_path, name, settings):
    result = train(
        planted_path, name, **(STAGES if name == "InvRL" else {}), **{k: v for k, v in settings.items() if k not in STAGES}
    )
    found = decompose(result["checkpoint"], repeats=1)
    assert found.row("all").values == result["test_result"]
    assert [(r.condition, r.modality) for r in found.rows] == [
        ("all", None),
        ("alone", "text"),
        ("alone", "visual"),
        ("removed", "text"),
        ("removed", "visual"),
        ("none", None),
        ("shuffled", "text"),
        ("shuffled", "visual"),
    ]
    assert all(math.isfinite(x) for row in found.rows for x in row.values.values())
    assert bool(found.shares) != bool(found.reason)
    # the figures of few users may not move: the scores must
    model = TrainedModel(result["checkpoint"], "test")
    known = model.dataset.has_feature
    with torch.no_grad():
        networks = [model.network(c).eval() for c in ({}, *({m: Removed(known[m])} for m in known))]
        scores = [torch.cat(network.forward()) for network in networks]
    reads = networks[0].latents_in_score or networks[0].item_graph({}) is not None
    assert all(torch.isfinite(x).all() for x in scores)
    assert [not torch.equal(scores[0], x) for x in scores[1:]] == [reads, reads]


# -- what a report says -----------------------------------------------------------------------------------------------


def test_the_modality_that_tells_the_groups_is_the_one_that_counts(report):
    recall = {(r.condition, r.modality): r.values["recall@20"] for r in report.rows}
    everything = recall["all", None]
    assert recall["shuffled", "text"] < 0.8 * everything
    assert recall["shuffled", "visual"] > 0.95 * everything
    assert recall["alone", "text"] == recall["removed", "visual"]
    assert recall["alone", "text"] > recall["alone", "visual"] + 0.1
    (found,) = report.shares
    assert found.total == pytest.approx(everything - recall["none", None])
    assert found.unique > 0.8 * found.total


def test_the_validation_part_gives_the_result_of_the_best_epoch(trained):
    found = decompose(trained["checkpoint"], part="valid", repeats=1, metric="ndcg@10")
    assert found.row("all").values == trained["best_valid_result"]
    assert found.metric == "ndcg@10"


def test_a_report_repeats_itself_and_follows_its_seed(trained, report):
    before = torch.get_rng_state()
    again = decompose(trained["checkpoint"], repeats=3)
    assert again == report
    assert torch.equal(before, torch.get_rng_state())
    other = decompose(trained["checkpoint"], repeats=3, seed=1)
    assert other.rows[:6] == report.rows[:6]
    assert other.row("shuffled", "text") != report.row("shuffled", "text")


def test_sampled_negatives_are_the_same_for_all_conditions(planted_path):
    settings = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "uni20"}}
    checkpoint = train(planted_path, "BM3", **settings)["checkpoint"]
    # BM3 ranks without its features: any difference would be the negatives'
    assert len({tuple(row.values.items()) for row in decompose(checkpoint, repeats=1).rows}) == 1


def test_nothing_is_written_beside_the_checkpoint(trained, tmp_path):
    before = sorted(Path(trained["checkpoint"]).parent.iterdir())
    decompose(trained["checkpoint"], repeats=1)
    assert sorted(Path(trained["checkpoint"]).parent.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_the_text_names_conditions_shares_and_limits(report):
    text = report.text()
    for part in ("all, as trained", "text alone", "visual removed", "none, all removed", "text shuffled", "+-", "redundant"):
        assert part in text
    for limit in (
        "ONE trained model",
        "not trained again",
        "redundancy is the largest",
        "has not seen",
        "Id embeddings",
        "draws",
    ):
        assert limit in text


def test_interference_is_said(report):
    (found,) = report.shares
    values = {"synergistic": -0.01, "redundant": -0.02}
    worse = type(report)(**{**vars(report), "shares": [type(found)(**{**vars(found), **values})]})
    assert "interference" in worse.text()
    assert "redundancy is negative" in worse.text()


def test_the_csv_holds_every_number(report, tmp_path):
    report.to_csv(tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 * 6 + 4
    by_key = {(r["quantity"], r["modality"], r["metric"]): r for r in lines}
    assert float(by_key["alone", "text", "recall@20"]["value"]) == report.row("alone", "text").values["recall@20"]
    assert float(by_key["shuffled", "text", "recall@20"]["sd"]) == report.row("shuffled", "text").sd["recall@20"]
    assert sum(float(by_key[q, "text", "recall@20"]["share"]) for q in ("redundant", "unique", "unique_rest", "synergistic")) == (
        pytest.approx(1.0)
    )
    with pytest.raises(ConfigurationError, match="cannot write"):
        report.to_csv(tmp_path / "nowhere" / "out.csv")


def test_features_that_act_in_the_loss_alone_have_no_shares(planted_path):
    found = decompose(train(planted_path, "BM3")["checkpoint"], repeats=1)
    assert len({tuple(row.values.items()) for row in found.rows}) == 1
    assert found.shares == []
    assert "does not use its modalities" in found.text()


def test_one_modality_has_performances_and_no_shares(planted_path):
    result = train(planted_path, use_modalities=["text"])
    found = decompose(result["checkpoint"], repeats=1)
    assert found.row("alone", "text").values == found.row("all").values == result["test_result"]
    assert found.row("removed", "text").values == found.row("none").values
    assert "shares need two" in found.text()


def test_three_modalities_are_split_one_against_the_others(tmp_path):
    pairs, modalities, _, _ = planted()
    modalities["sound"] = modalities["text"][:, ::-1]
    path = write_dataset(tmp_path / "data", "three", pairs, modalities)
    found = decompose(train(path, dataset="three", **TRAINED)["checkpoint"], repeats=1)
    assert [(s.modality, s.rest) for s in found.shares] == [
        ("sound", ("text", "visual")),
        ("text", ("sound", "visual")),
        ("visual", ("sound", "text")),
    ]
    gain = found.row("all").values["recall@20"] - found.row("none").values["recall@20"]
    assert all(s.total == pytest.approx(gain) for s in found.shares)
    assert found.row("removed", "text").values != found.row("alone", "visual").values


# -- the command and its errors ---------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(trained, tmp_path, capsys):
    assert command("decompose")([trained["checkpoint"], "--metric=NDCG@10", "--repeats=1", f"--out={tmp_path / 'out.csv'}"]) == 0
    printed = capsys.readouterr().out
    assert "ndcg@10: " in printed
    assert "one draw" in printed
    assert (tmp_path / "out.csv").is_file()
    assert command("decompose")([trained["checkpoint"], "--part=training"]) == 2
    assert command("decompose")(["--help"]) == 0
    with pytest.raises(ConfigurationError, match="no folder"):
        command("decompose")([trained["checkpoint"], "--out=nowhere/out.csv"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "recal@20"}, r"does not compute the metric 'recal@20'. Did you mean recall@20.*Computed: recall@10"),
        ({"part": "train"}, "allowed: test, valid"),
        ({"repeats": 0}, "repeats must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_wrong_arguments_are_named(trained, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        decompose(trained["checkpoint"], **{"repeats": 1, **settings})


def test_a_metric_that_should_be_small_is_refused(planted_path):
    result = train(planted_path, metrics=["Recall", "GiniIndex"])
    with pytest.raises(ConfigurationError, match="better the smaller"):
        decompose(result["checkpoint"], metric="GiniIndex@10")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_no_checkpoint_of_ours_are_named(tmp_path, planted_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        decompose(tmp_path / "none.pth")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        decompose(tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="RecBole's own models"):
        decompose(train(planted_path, "BPR")["checkpoint"])


def test_recboles_own_model_in_a_file_of_our_form_is_refused(trained, tmp_path):
    state = read_checkpoint(trained["checkpoint"])
    write_checkpoint({**state, "config": {**state["config"], "model": "BPR"}}, tmp_path / "bpr.pth")
    with pytest.raises(ConfigurationError, match="RecBole's own"):
        decompose(tmp_path / "bpr.pth")


def test_a_model_of_another_toolkit_is_refused(planted_path):
    checkout = Path(__file__).parents[1] / "bridge" / "standin"
    result = train(planted_path, "mmrec:PlainBPR", mmrec_path=str(checkout))
    with pytest.raises(ConfigurationError, match="another toolkit"):
        decompose(result["checkpoint"])


def test_a_data_set_that_is_gone_is_named(trained, tmp_path):
    state = read_checkpoint(trained["checkpoint"])
    write_checkpoint({**state, "config": {**state["config"], "data_path": str(tmp_path)}}, tmp_path / "moved.pth")
    with pytest.raises(ConfigurationError, match="no data set 'planted'"):
        decompose(tmp_path / "moved.pth")


def test_data_that_changed_since_are_refused(tmp_path):
    pairs, modalities, _, _ = planted(30, 20)
    path = write_dataset(tmp_path / "data", "other", pairs, modalities)
    result = train(path, dataset="other")
    np.save(path / "other" / "visual.npy", -modalities["visual"].astype(np.float32))
    with pytest.raises(CheckpointError, match="are not those that"):
        decompose(result["checkpoint"], repeats=1)


def test_weights_that_do_not_fit_are_named(trained, tmp_path):
    state = read_checkpoint(trained["checkpoint"])
    state["state_dict"].pop("item_embedding.weight")
    write_checkpoint(state, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="does not fit VBPR"):
        decompose(tmp_path / "part.pth", repeats=1)
