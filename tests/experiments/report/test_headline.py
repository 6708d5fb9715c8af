"""The first sentences claim what the tests found, and no more."""

import numpy as np
import pytest

from recbole_ib.experiments.report.headline import headline
from recbole_ib.experiments.report.tables import main_table
from recbole_ib.experiments.results import read_results
from recbole_ib.experiments.statistics.pairwise import compare_pairs
from tests.support.made_runs import Made, comparison_of, make_entry, plain_entry


def sentences(entries, **more):
    results = read_results(comparison_of(entries, **more))
    return headline(results, main_table(results), compare_pairs(results))


def values(mean, size=200, seed=0, spread=0.1):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, spread, size)
    return list(mean + numbers - numbers.mean())


def test_a_clear_winner_is_named_with_its_lead_its_tests_and_its_effect(tmp_path):
    levels = {"VBPR": 0.3, "Pop": 0.1, "IBMRec": 0.4}
    entries = [plain_entry(tmp_path, n, {s: values(m, seed=s + i) for s in (0, 9)}) for i, (n, m) in enumerate(levels.items())]
    first, second, third = sentences(entries, baseline="Pop")
    assert first.startswith("IBMRec has the best test Recall@20, 0.4000 ± 0.0000 (mean ± standard deviation over 2 seeds): ")
    assert "33.3 % above VBPR, the second, and 300.0 % above Pop, the baseline." in first
    assert second == (
        "Its lead over VBPR and Pop is significant (paired t-test and Wilcoxon test over 200 users, Holm's correction over 3 pairs, "
        "p < .05 in both)."
    )
    assert third.startswith("User by user, the difference from VBPR is large (Cohen's d_z +")
    assert ", that from Pop is large" in third


def test_a_lead_that_is_not_significant_is_not_claimed(tmp_path):
    entries = [plain_entry(tmp_path, n, {0: values(0.3 + 0.001 * i, seed=i)}) for i, n in enumerate("AB")]
    first, second, third = sentences(entries)
    assert first.startswith(
        "B has the best test Recall@20, 0.3010 (one seed, no spread): 0.3 % above A, the second and the baseline."
    )
    assert second.startswith("None of its leads is significant (paired t-test")
    assert second.endswith("this comparison does not establish that B is better than A.")
    assert "Holm" not in second
    assert "very small" in third


def test_some_leads_hold_and_others_not(tmp_path):
    levels = {"A": 0.3, "B": 0.299, "C": 0.1}
    entries = [plain_entry(tmp_path, n, {0: values(m, seed=i)}) for i, (n, m) in enumerate(levels.items())]
    first, second, _ = sentences(entries)
    assert "above B, the second, and it is the baseline itself." in first
    assert second.startswith("Its lead over C is significant (")
    assert second.endswith("; over B it is not established.")


def test_models_that_share_the_best_place(tmp_path):
    same = values(0.3)
    (only,) = sentences([plain_entry(tmp_path, n, {0: same}) for n in "AB"])
    assert only == "A and B share the best test Recall@20: 0.3000 (one seed, no spread)."


def test_what_lies_behind_a_shared_first_place_is_said_of_one_by_name(tmp_path):
    entries = [plain_entry(tmp_path, n, {0: values(0.3)}) for n in "AB"] + [plain_entry(tmp_path, "C", {0: values(0.1, seed=5)})]
    first, second, _ = sentences(entries)
    assert first.startswith("A and B share the best")
    assert second.startswith("A's lead over C is significant")
    assert "B" not in second


def test_one_model_is_not_compared(tmp_path):
    (only,) = sentences([plain_entry(tmp_path, "A", {0: [0.1, 0.2], 1: [0.1, 0.3]})])
    assert only.startswith("A reached a test Recall@20 of 0.1750 ± 0.0354")
    assert only.endswith("with one model there is nothing to compare.")


def test_what_was_not_tested_is_said(tmp_path):
    entries = [plain_entry(tmp_path, n, {0: values(0.2 + 0.1 * i, seed=i)}) for i, n in enumerate("AB")]
    entries.append(plain_entry(tmp_path, "C", {7: values(0.1, seed=5)}))
    assert sentences(entries)[1].endswith("Not tested against C.")


@pytest.mark.parametrize("skill", [0.0, 0.35])
def test_an_answer_on_recall_like_numbers(tmp_path, skill):
    found = sentences([make_entry(tmp_path, made, [0, 1, 2], 300) for made in (Made("A"), Made("B", skill))])
    claimed = found[1].startswith("Its lead over A is significant")
    assert claimed == (skill > 0)
