"""How the tables of ids start."""

import math

import pytest
import torch
from torch import nn

from recbole_ib.model.layers.id_tables import reset_tables


def drawn(rows, **how):
    torch.manual_seed(3)
    table = nn.Embedding(rows, 16)
    torch.manual_seed(4)
    reset_tables(table, **how)
    return table.weight.detach()


@pytest.mark.parametrize(
    ("rows", "least", "std"), [(300, 0.02, math.sqrt(2 / 316)), (40_000, 0.02, 0.02), (40_000, 0.0, math.sqrt(2 / 40_016))]
)
def test_xavier_is_the_standard_deviation_but_none_below_the_least(rows, least, std):
    assert float(drawn(rows, least_std=least).std()) == pytest.approx(std, rel=0.03)


def test_a_small_table_starts_as_it_did():
    assert torch.equal(drawn(300, least_std=0.02), drawn(300))
    assert float(drawn(40_000, std=0.1).std()) == pytest.approx(0.1, rel=0.03)


def test_the_ids_of_a_large_set_are_longer_than_vbprs_penalty_closes(build):
    """On the way to 0 a row's gradient of the penalty, reg_weight / sqrt(B) of BPR's scale, must be the smaller one."""
    config, model, *_ = build("VBPR", train_batch_size=2048, reg_weight=1.0)
    reset_tables(large := nn.Embedding(200_000, model.embedding_size), least_std=model.least_std)
    assert config["least_init_std"] == model.least_std
    assert float(large.weight.detach().norm(dim=1).median()) > 3 * 1.0 / math.sqrt(2048)
