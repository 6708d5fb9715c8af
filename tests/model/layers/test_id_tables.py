"""How the tables of ids start."""

import math

import pytest
import torch
from torch import nn

from recbole_ib.model.layers.id_tables import lengthen, reset_tables


def drawn(rows, **how):
    table = nn.Embedding(rows, 16)
    torch.manual_seed(4)
    reset_tables(table, **how)
    return table


@pytest.mark.parametrize(("rows", "least"), [(300, 0.02), (40_000, 0.02), (40_000, 0.0)])
def test_the_ids_start_no_shorter_than_the_least_and_other_columns_as_drawn(rows, least):
    xavier = math.sqrt(2 / (rows + 16))
    before, table = drawn(rows).weight.detach(), drawn(rows)
    lengthen(table, 10, least)
    after = table.weight.detach()
    assert torch.equal(after[:, 10:], before[:, 10:])
    torch.testing.assert_close(after[:, :10], before[:, :10] * max(1.0, least / xavier))
    assert float(after[:, :10].std()) == pytest.approx(max(least, xavier), rel=0.03)


def test_a_chosen_standard_deviation():
    assert float(drawn(40_000, std=0.1).weight.detach().std()) == pytest.approx(0.1, rel=0.03)


def test_the_ids_of_a_large_set_are_longer_than_vbprs_penalty_closes(build):
    """A row's gradient is reg_weight / (B sqrt(B)) of the penalty, and the length of the rows it meets over B of BPR."""
    config, model, *_ = build("VBPR", train_batch_size=2048, reg_weight=1.0)
    assert config["least_init_std"] == model.least_std
    large = nn.Embedding(200_000, model.embedding_size)
    reset_tables(large)
    assert float(large.weight.detach().norm(dim=1).median()) < 1.0 / math.sqrt(2048) * 1.2
    lengthen(large, model.embedding_size, model.least_std)
    assert float(large.weight.detach().norm(dim=1).median()) > 3 / math.sqrt(2048)
