"""Intervals: their formulas, how often they hold the truth, and what pairing gains."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr, t
from tiny_world import TASKS, make_dataset

from anga.config import Config
from anga.errors import AngaError
from anga.evaluation import score_subsets
from anga.missing import MissingTable
from anga.result import Result
from anga.statistics import (
    bootstrap_interval,
    difference_interval,
    in_words,
    mean_interval,
    mean_intervals,
    paired_difference,
    spearman_interval,
    summarise,
    verdict,
)

# 97.5 % quantiles of Student's t, from a printed table: degrees of freedom -> quantile.
QUANTILES = {1: 12.706, 2: 4.303, 4: 2.776, 8: 2.306}
N = 600


@pytest.fixture(scope="module")
def dataset():
    return make_dataset("binary", n=N)


def scores(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.7, 0.02, n)


def result(dataset, skill: float, seed: int = 0, noise: int = 0, rate: float = 0.4, train_seed: int = 0) -> Result:
    """A run whose logit margin is `skill` times the label plus noise; runs with one `noise` share theirs."""
    table, rows = MissingTable.draw(dataset, rate, "both", seed), np.arange(N)
    split = np.where(np.arange(N) % 5 == 0, "validation", "test")
    margin = skill * dataset.labels + np.random.default_rng(noise).standard_normal(N)
    logits = np.stack([0 * margin, margin], 1)
    test = split == "test"
    metrics = {"test": score_subsets("binary", dataset.labels[test], logits[test], table, rows[test])}
    predictions = {"row": rows, "id": dataset.ids, "split": split}
    predictions |= {"has_text": table.has_text, "has_image": table.has_image}
    predictions |= {"logit_0": logits[:, 0], "logit_1": logits[:, 1]}
    empty = pd.DataFrame()
    config = Config(mask_seed=seed, train_seed=train_seed)
    return Result(config, metrics, empty, empty, pd.DataFrame(predictions), 0.0, 0.0)


def accuracy(dataset):
    """The same data as a task of two classes, which is scored by accuracy."""
    return dataclasses.replace(dataset, task="multiclass")


def hits_of(run, dataset) -> np.ndarray:
    """1 where the label of a test sample is found, by row."""
    test = run.predictions[run.predictions["split"] == "test"]
    return ((test["logit_1"] > test["logit_0"]) == dataset.labels[test["row"]]).to_numpy(float)


@pytest.mark.parametrize("freedom", QUANTILES)
def test_interval_of_a_mean_is_students(freedom):
    values = scores(freedom + 1)
    half = QUANTILES[freedom] * np.std(values, ddof=1) / np.sqrt(freedom + 1)
    assert mean_interval(values) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), rel=1e-3)


def test_interval_of_a_mean_holds_the_truth_in_95_of_100_cases():
    found = [mean_interval(scores(3, seed)) for seed in range(3000)]
    assert np.mean([low <= 0.7 <= high for _, low, high in found]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.filterwarnings("error")
def test_a_single_run_has_no_interval_over_seeds():
    mean, low, high = mean_interval([0.7])
    assert mean == 0.7 and np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("task", TASKS)
def test_bootstrap_is_reproducible_and_holds_the_score(task, dataset):
    data = make_dataset(task, n=200)
    labels = data.labels if data.labels.ndim == 2 else np.eye(len(data.classes))[data.labels]
    logits = labels - 0.5 + np.random.default_rng(0).standard_normal(labels.shape)
    low, high = bootstrap_interval(task, data.labels, logits)
    assert (low, high) == bootstrap_interval(task, data.labels, logits)
    assert (low, high) != bootstrap_interval(task, data.labels, logits, seed=1)
    assert 0 <= low < high <= 1


def test_bootstrap_of_an_accuracy_is_as_wide_as_the_binomial_says():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 900)
    logits = np.eye(3)[np.where(generator.random(900) < 0.8, labels, (labels + 1) % 3)]
    low, high = bootstrap_interval("multiclass", labels, logits, n_resamples=2000)
    share = (logits.argmax(1) == labels).mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 900)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.003)


def test_summary_of_several_runs_is_over_their_missing_tables(dataset):
    runs = [result(dataset, skill=1, seed=seed, noise=seed) for seed in range(3)]
    table = summarise(runs, dataset).set_index("subset")
    assert list(table.index) == ["all", "complete", "reconstructed"]
    for subset, row in table.iterrows():
        assert (row["mean"], row["low"], row["high"]) == mean_interval([run.score(subset) for run in runs])
    assert set(table["runs"]) == {3} and set(table["over"]) == {"missing tables"}
    assert set(summarise(2 * runs[:1], dataset)["over"]) == {"seeds"}, "of one table"


@pytest.mark.parametrize("subset", ["all", "complete", "reconstructed", "text_missing", "image_missing"])
def test_summary_of_one_run_is_over_the_subsets_own_test_samples(dataset, subset):
    run = result(dataset, skill=1)
    (row,) = summarise([run], dataset, (subset,)).to_dict("records")
    has_text, has_image = run.predictions["has_text"], run.predictions["has_image"]
    mask = {"all": True, "complete": has_text & has_image, "reconstructed": ~(has_text & has_image)}
    mask |= {"text_missing": ~has_text, "image_missing": ~has_image}
    mine = run.predictions[mask[subset] & (run.predictions["split"] == "test")]
    logits = mine[["logit_0", "logit_1"]].to_numpy()
    assert (row["low"], row["high"]) == bootstrap_interval("binary", dataset.labels[mine["row"]], logits)
    assert row["low"] < row["mean"] < row["high"]
    assert (row["runs"], row["over"]) == (1, "test samples")


@pytest.mark.filterwarnings("error")
def test_summary_of_a_subset_without_samples_is_undefined(dataset):
    (row,) = summarise([result(dataset, skill=1, rate=0.0)], dataset, ("reconstructed",)).to_dict("records")
    assert np.isnan([row["mean"], row["low"], row["high"]]).all()


@pytest.mark.parametrize("subset", ["all", "complete", "reconstructed"])
def test_paired_difference_is_the_mean_difference_of_scores(dataset, subset):
    first, second = ([result(dataset, skill, s, noise=s) for s in range(3)] for skill in (0.5, 1.0))
    mean, low, high = paired_difference(first, second, dataset, subset)
    expected = np.mean([b.score(subset) - a.score(subset) for a, b in zip(first, second, strict=True)])
    assert mean == pytest.approx(expected) and low < mean < high
    assert paired_difference(second, first, dataset, subset) == pytest.approx((-mean, -high, -low), abs=1e-3)
    assert paired_difference(first, first, dataset, subset) == (0, 0, 0)


def test_a_single_pair_has_the_interval_of_its_test_samples(dataset):
    """The standard error of the difference of two accuracies on the same samples, by the formula."""
    first, second = result(dataset, 0.5, noise=1), result(dataset, 1.0, noise=2)
    mean, low, high = paired_difference([first], [second], accuracy(dataset), n_resamples=4000)
    hits = [hits_of(run, dataset) for run in (first, second)]
    error = np.std(hits[1] - hits[0]) / np.sqrt(len(hits[0]))
    assert mean == pytest.approx((hits[1] - hits[0]).mean())
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.003)


def test_test_samples_are_the_same_for_all_runs(dataset):
    """Repeating a pair of runs on its missing table must not make its test samples any more certain."""
    first, second = result(dataset, 0.5, noise=1), result(dataset, 1.0, noise=2)
    once = paired_difference([first], [second], dataset)
    assert paired_difference(9 * [first], 9 * [second], dataset) == pytest.approx(once)


def test_missing_tables_count_and_not_the_runs_on_them():
    """Three tables with three equal runs each are three values: Student's interval with two degrees of freedom."""
    values, tables = np.repeat([0.1, 0.2, 0.4], 3), np.repeat([0, 1, 2], 3)
    expected = mean_interval([0.1, 0.2, 0.4])
    assert mean_interval(values, tables) == pytest.approx(expected)
    steady = np.zeros(9), np.zeros((50, 9))  # test samples without any effect
    assert difference_interval(steady, (values, np.tile(values, (50, 1))), list(tables)) == pytest.approx(expected)
    alone = mean_interval(values[:6], [0] * 6)
    assert alone == pytest.approx(mean_interval(values[:6])), "seeds on one table can only be repeats"


def drawn_of(values, tables, draws: int = 80):
    """Scores `[n]`, and what they are over draws of test samples, which move each table's runs together."""
    generator = np.random.default_rng(1)
    moved = generator.normal(0, 0.03, (draws, max(tables) + 1))[:, tables] + generator.normal(0, 0.02, (draws, 1))
    return np.array(values), np.array(values) + moved


def test_a_table_with_more_runs_than_others_does_not_weigh_more():
    """Neither in the mean nor in what the test samples say: repeating a table's run changes nothing."""
    values = [0.1, 0.2, 0.4]
    first, second = drawn_of([0.0, 0.0, 0.0], [0, 0, 0]), drawn_of(values, [0, 1, 2])
    once = difference_interval(first, second, [0, 1, 2])
    rows = [0, 1, 1, 1, 1, 2]
    repeated = [(scores[rows], draws[:, rows]) for scores, draws in (first, second)]
    assert difference_interval(*repeated, rows) == pytest.approx(once)


@pytest.mark.parametrize("tables", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5], [0] * 6])
def test_where_tables_have_equally_many_runs_every_run_weighs_the_same(tables):
    """The interval by the formula, whose V_s is the variance of the plain mean over all runs."""
    values = scores(6) - 0.7
    none, second = drawn_of(np.zeros(6), [0] * 6), drawn_of(values, tables)
    of_samples = (second[1] - none[1]).mean(axis=1).var()
    apart = [values[np.array(tables) == table].mean() for table in set(tables)]
    means = apart if len(apart) > 1 else values  # seeds, where there is one table
    of_tables = np.var(means, ddof=1) / len(means)
    freedom = (len(means) - 1) * ((of_samples + of_tables) / of_tables) ** 2
    half = t.ppf(0.975, freedom) * np.sqrt(of_samples + of_tables)
    expected = values.mean(), values.mean() - half, values.mean() + half
    assert difference_interval(none, second, tables) == pytest.approx(expected)


@pytest.mark.parametrize(("tables", "seeds"), [(3, 3), (9, 1), (3, 1)])
@pytest.mark.parametrize("of_tables", [0.0, 0.02, 0.1])
def test_the_interval_of_a_difference_holds_the_truth_in_95_of_100_cases(tables, seeds, of_tables):
    """Whatever dominates: what the test samples say of all runs alike, or what a missing table says of its own.

    With three tables Satterthwaite's rule is a little bold (92 of 100) where these are the larger part.
    """
    held, generator = 0, np.random.default_rng(0)
    for _ in range(2000):
        common, drawn = generator.normal(0, 0.02), generator.normal(0, 0.02, 200)
        runs = generator.normal(0, of_tables, tables).repeat(seeds) + generator.normal(0, 0.01, tables * seeds)
        second = common + runs, common + runs + drawn[:, None]
        none = np.zeros(tables * seeds), np.zeros((200, tables * seeds))
        _, low, high = difference_interval(none, second, list(np.arange(tables).repeat(seeds)))
        held += low <= 0 <= high
    assert (0.94 if tables == 9 else 0.91) <= held / 2000 <= 0.965


def test_pairing_sees_through_the_noise_that_both_runs_share(dataset):
    first = [result(dataset, 0.5, s, noise=s) for s in range(2)]
    paired = [result(dataset, 0.6, s, noise=s) for s in range(2)]
    apart = [result(dataset, 0.6, s, noise=s + 10) for s in range(2)]
    widths = [high - low for _, low, high in (paired_difference(first, other, dataset) for other in (paired, apart))]
    assert widths[0] < widths[1] / 3


@pytest.mark.parametrize("subset", ["all", "complete", "reconstructed"])
def test_runs_on_different_missing_tables_are_no_pair(dataset, subset):
    with pytest.raises(AngaError, match="mask_seed"):
        paired_difference([result(dataset, 1, seed=0)], [result(dataset, 1, seed=1)], dataset, subset)


def test_runs_of_different_training_seeds_are_no_pair(dataset):
    """They were tested on the same samples, so that only the seeds can tell."""
    first = [result(dataset, 1, train_seed=seed) for seed in (0, 1)]
    with pytest.raises(AngaError, match="train_seed"):
        paired_difference(first, first[::-1], dataset)
    with pytest.raises(AngaError, match="no partner"):
        paired_difference(first, first[:1], dataset)


def test_runs_of_one_seed_at_different_missing_rates_are_no_pair(dataset):
    with pytest.raises(AngaError, match="missing tables"):
        paired_difference([result(dataset, 1, rate=0.3)], [result(dataset, 1, rate=0.6)], dataset)


@pytest.mark.filterwarnings("error")
def test_paired_difference_without_samples_is_undefined(dataset):
    runs = [result(dataset, skill=1, rate=0.0)]
    assert np.isnan(paired_difference(runs, runs, dataset, "reconstructed")).all()


def test_rank_correlation_is_spearmans_with_an_interval_around_it():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 9, 200)  # with ties
    y = x + 6 * generator.standard_normal(200)
    value, low, high = spearman_interval(x, y)
    assert value == pytest.approx(spearmanr(x, y).statistic) and -1 <= low < value < high <= 1
    turned = spearman_interval(x, -y)
    assert turned == pytest.approx((-value, -high, -low))
    drawn = [spearmanr(x[i], y[i]).statistic for i in (generator.integers(0, 200, 200) for _ in range(500))]
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)
    assert spearman_interval(x, 3 * x + 1) == pytest.approx((1, 1, 1))


def test_intervals_by_group_are_those_of_each_group_in_order_of_appearance():
    table = pd.DataFrame({"rule": ["b"] * 3 + ["a"] * 2, "seed": [0, 1, 2, 0, 1], "score": scores(5)})
    found = mean_intervals(table, ["rule"], "score")
    assert found["rule"].tolist() == ["b", "a"]
    for (_, row), part in zip(found.iterrows(), (scores(5)[:3], scores(5)[3:]), strict=True):
        assert (row["mean"], row["low"], row["high"]) == mean_interval(part)


@pytest.mark.parametrize(
    ("low", "high", "said", "effect"),
    [
        (0.001, 0.0234, "+0.012 [+0.001, +0.023]", "helps"),
        (-0.03, -0.002, "+0.012 [-0.030, -0.002]", "hurts"),
        (-0.03, 0.054, "+0.012 [-0.030, +0.054]", "makes no clear difference"),
        (0.0, 0.024, "+0.012 [+0.000, +0.024]", "makes no clear difference"),
        (np.nan, np.nan, "+0.012 (no interval)", "makes no clear difference"),
    ],
)
def test_a_difference_in_words_has_its_interval_and_which_side_of_zero_it_is_on(low, high, said, effect):
    (row,) = pd.DataFrame({"mean": [0.012], "low": [low], "high": [high]}).itertuples()
    assert in_words(row) == said
    assert verdict(row) == effect


@pytest.mark.parametrize(
    ("mean", "runs", "said"),
    [
        (0.012, 1, "+0.012 (one run: no interval)"),
        (0.012, 3, "+0.012 (no interval)"),
        (np.nan, 1, "undefined (no interval)"),
        (np.nan, 9, "undefined (no interval)"),
    ],
)
def test_a_difference_without_an_interval_says_why_only_where_that_is_known(mean, runs, said):
    (row,) = pd.DataFrame({"mean": [mean], "low": [np.nan], "high": [np.nan], "runs": [runs]}).itertuples()
    assert in_words(row) == said
