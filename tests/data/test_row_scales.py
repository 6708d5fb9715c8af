import math

import numpy as np
import pytest

from recbole_ib.data import feature_file
from recbole_ib.data.row_scales import row_scales


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1 << 22, 8])
def test_equals_the_loop_over_all_pairs(monkeypatch, dtype, block):
    monkeypatch.setattr(feature_file, "BLOCK_NUMBERS", block)
    values = (3 + np.random.default_rng(0).standard_normal((12, 4))).astype(dtype)
    values[[0, 5]] = 0
    known = values.any(axis=1)
    rows = values[known].astype(np.float64)
    lengths = [math.sqrt(sum(x * x for x in row)) for row in rows.tolist()]
    cosines = [rows[i] @ rows[j] / (lengths[i] * lengths[j]) for i in range(10) for j in range(10) if i != j]
    found = row_scales(values, known)
    assert found == pytest.approx((np.median(lengths), min(lengths), max(lengths), np.mean(cosines)))


def test_one_row_has_no_pair_and_equal_ones_have_cosine_one():
    values = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], dtype=np.float32)
    found = row_scales(values, np.array([False, True, False]))
    assert found[:3] == (5, 5, 5)
    assert math.isnan(found.cosine)
    assert row_scales(values, np.array([False, True, True])) == pytest.approx((7.5, 5, 10, 1))
