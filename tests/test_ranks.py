"""Ranks: the worked example of Demsar (JMLR 7, 2006, Tables 5 and 6), scipy's tests, and what resampling must keep."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anga.ranks import against, average_ranks, cliques, critical_difference, holm, rank_correlation

# AUC of four variants of C4.5 on 14 data sets; voting's third decimals hide an order that its printed ranks give.
NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
EXAMPLE = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975],
    [0.957, 0.978, 0.946, 0.970],
]
# Critical values of the two-tailed Nemenyi test at 5 %: number of methods -> q (Table 5a).
QUANTILES = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


@pytest.fixture
def example() -> pd.DataFrame:
    return pd.DataFrame(EXAMPLE, columns=NAMES)


def test_average_ranks_of_the_worked_example(example):
    ranks = average_ranks(example)
    assert list(ranks.index) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert ranks[NAMES].to_numpy() == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)


def test_critical_differences_of_the_worked_example():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, level=0.90) == pytest.approx(1.12, abs=5e-3)


@pytest.mark.parametrize("k", QUANTILES)
def test_critical_differences_follow_the_printed_quantiles(k):
    assert critical_difference(k, 10) == pytest.approx(QUANTILES[k] * np.sqrt(k * (k + 1) / 60), rel=3e-4)


def test_two_methods_are_tested_as_by_the_normal_distribution():
    assert critical_difference(2, 100) == pytest.approx(stats.norm.ppf(0.975) * 0.1, rel=1e-6)


def test_average_ranks_carry_friedmans_statistic():
    scores = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 5)), columns=list("abcde"))
    ranks, (n, k) = average_ranks(scores), scores.shape
    statistic = 12 * n / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4)
    assert statistic == pytest.approx(stats.friedmanchisquare(*scores.to_numpy().T).statistic)


def test_groups_hold_neighbours_within_the_difference_and_none_lies_inside_another():
    ranks = pd.Series({"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0, "e": 4.2})
    assert cliques(ranks, 1.0) == [["a", "b"], ["b", "c"], ["d", "e"]]
    assert cliques(ranks, 10.0) == [list("abcde")]
    assert cliques(ranks, 0.1) == []


def test_methods_exactly_one_difference_apart_are_told_apart():
    assert cliques(pd.Series({"a": 1.0, "b": 2.0}), 1.0) == []


def test_holm_is_the_step_down_of_the_worked_example():
    """Sec. 3.2.2 of the paper: p of three comparisons with C4.5, tested at 5 %, 5/2 %, 5/3 %."""
    adjusted = holm([0.019, 0.607, 0.016])
    assert adjusted == pytest.approx([0.048, 0.607, 0.048])
    assert holm([]).shape == (0,)


def test_holm_never_reverses_an_order_and_never_gains():
    p = np.random.default_rng(1).uniform(size=30)
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_comparisons_with_a_control_of_the_worked_example(example):
    """Its z of C4.5 against C4.5+m+cf is (3.143 - 1.964) / 0.488 = 2.416, p 0.016."""
    table = against(average_ranks(example), "C4.5", 14).set_index("method")
    assert table.loc["C4.5+m+cf", ["difference", "p"]].tolist() == pytest.approx([-1.179, 0.016], abs=5e-4)
    assert table["p"].to_numpy() == pytest.approx([0.016, 0.019, 0.607], abs=3e-3)
    assert set(table.index) == set(NAMES) - {"C4.5"}


# --- the published order against runs


def runs_of(means: dict[str, float], masks=(0, 1, 2), trains=(0, 1), noise: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [(m, i, j, mean + generator.normal(0, noise)) for m, mean in means.items() for i in masks for j in trains]
    return pd.DataFrame(rows, columns=["method", "mask_seed", "train_seed", "score"])


PAPER = pd.Series({"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8, "e": 0.9})


@pytest.mark.parametrize("sign", [1, -1])
def test_runs_without_noise_have_a_range_of_width_zero(sign):
    runs = runs_of((sign * PAPER).to_dict())
    assert rank_correlation(PAPER, runs, 20) == pytest.approx((sign, sign, sign))


def test_the_correlation_is_scipys_on_the_means():
    runs = runs_of(PAPER.to_dict(), noise=0.1)
    value, low, high = rank_correlation(PAPER, runs, 200)
    mean = runs.groupby("method")["score"].mean()
    assert value == pytest.approx(stats.spearmanr(PAPER, mean[PAPER.index]).statistic)
    assert low < high and low <= value <= 1


def test_an_effect_of_the_missing_table_that_all_methods_share_changes_nothing():
    runs = runs_of(PAPER.to_dict(), noise=0.05)
    shifted = runs.assign(score=runs["score"] + runs["mask_seed"])
    assert rank_correlation(PAPER, shifted, 50) == pytest.approx(rank_correlation(PAPER, runs, 50))


def test_methods_may_have_different_numbers_of_training_seeds():
    few = runs_of({"a": 0.5, "b": 0.6}, trains=(0,))
    many = runs_of({"c": 0.7, "d": 0.8}, trains=(0, 1, 2))
    assert rank_correlation(PAPER, pd.concat([few, many]), 20)[0] == pytest.approx(1)


def test_one_run_per_method_has_no_range_and_unpublished_methods_do_not_count():
    runs = runs_of({"a": 0.5, "b": 0.4, "new": 0.9}, masks=(0,), trains=(0,))
    value, low, high = rank_correlation(PAPER, runs)
    assert value == pytest.approx(-1) and np.isnan([low, high]).all()
    assert np.isnan(rank_correlation(PAPER, runs_of({"a": 0.5}))[0])
