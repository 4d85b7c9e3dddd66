"""Means, paired differences, and their intervals at 95 %.

Runs are no independent repeats. Those on one missing table, with several training seeds, resemble one another, and all
runs are scored on the same test samples. So intervals count missing tables, not runs, and the test samples are drawn
once for all runs together: to draw them anew for each would be to pretend that each run had a test split of its own.
"""

import numpy as np
import pandas as pd
from scipy import stats

from anga.datasets import Dataset
from anga.errors import AngaError
from anga.evaluation import selecting_score, subsets
from anga.missing import MissingTable
from anga.result import Result

LEVEL = 0.95


def mean_interval(values, tables=None) -> tuple[float, float, float]:
    """Mean over runs and its t-interval at 95 %: what other missing tables and seeds would give, on this test split.

    Args:
        values: `[n]`, n >= 1.
        tables: `[n]`, the missing table of each (its mask_seed): the mean is then that of the tables' means, and so is
            the interval. None, or one table alone: every value counts for itself.

    Both ends are NaN for a single value.
    """
    values = _independent(values, tables)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values)
    return mean, mean - float(half), mean + float(half)


def _independent(values, tables) -> np.ndarray:
    """The values `[..., n]`, or where they belong to several missing tables, the mean of each table."""
    values = np.asarray(values, float)
    if tables is None or len(set(tables)) == 1:
        return values
    tables = np.asarray(tables)
    return np.stack([values[..., tables == table].mean(axis=-1) for table in dict.fromkeys(tables)], axis=-1)


def mean_intervals(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """`mean_interval` of a column within each group of rows, groups in order of appearance: by, mean, low, high.

    Where the table has a column mask_seed, it tells which missing table a row belongs to.
    """
    rows = []
    for key, part in table.groupby(by, sort=False):
        rows.append((*key, *mean_interval(part[column], part.get("mask_seed"))))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high"])


def in_words(row) -> str:
    """A difference and its interval, from a row with mean, low and high: "+0.012 [+0.001, +0.023]".

    Without an interval it says why where that is known: the mean is NaN (a subset without samples, a score that is not
    defined), or the row has a column runs with one alone.
    """
    if np.isnan(row.mean):
        return "undefined (no interval)"
    alone = "(one run: no interval)" if getattr(row, "runs", None) == 1 else "(no interval)"
    ends = alone if np.isnan(row.low) else f"[{row.low:+.3f}, {row.high:+.3f}]"
    return f"{row.mean:+.3f} {ends}"


def verdict(row, up: str = "helps", down: str = "hurts", unclear: str = "makes no clear difference") -> str:
    """`up` where the interval of a row (low, high) lies above zero, `down` where below, `unclear` elsewhere."""
    return up if row.low > 0 else down if row.high < 0 else unclear


def bootstrap_interval(task: str, labels: np.ndarray, logits: np.ndarray, n_resamples: int = 200, seed: int = 0):
    """Percentile interval at 95 % of one run's score over resampled test samples (seeded)."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(labels), (n_resamples, len(labels)))
    scores = [selecting_score(task, labels[rows], logits[rows]) for rows in draws]
    low, high = np.nanpercentile(scores, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def summarise(
    results: list[Result], dataset: Dataset, subset_names=("all", "complete", "reconstructed")
) -> pd.DataFrame:
    """One row per subset of the test split: mean, low, high, runs, and what the interval is over.

    Args:
        results: runs of one method that differ in their seeds only.
        dataset: theirs; its labels are needed to resample a single run.
    """
    rows = []
    for name in subset_names:
        tables = [result.config.mask_seed for result in results]
        mean, low, high = mean_interval([result.score(name) for result in results], tables)
        if len(results) == 1:
            low, high = _single_run_interval(results[0], dataset, name)
        over = "missing tables" if len(set(tables)) > 1 else "seeds" if len(results) > 1 else "test samples"
        rows.append({"subset": name, "mean": mean, "low": low, "high": high, "runs": len(results), "over": over})
    return pd.DataFrame(rows)


def _single_run_interval(result: Result, dataset: Dataset, subset: str) -> tuple[float, float]:
    test = _test_part(result, subset)
    if test.empty:
        return float("nan"), float("nan")
    return bootstrap_interval(dataset.task, dataset.labels[test["row"].to_numpy()], _logits(test))


def paired_difference(
    first: list[Result], second: list[Result], dataset: Dataset, subset: str = "all", n_resamples: int = 200, seed=0
) -> tuple[float, float, float]:
    """Test score of `second` minus that of `first`, and its interval at 95 % (`difference_interval`).

    NaN without samples.

    Raises:
        AngaError: the i-th runs of both lists are no pair (`check_pairs`).
    """
    check_pairs(first, second)
    sides = [resampled_scores(side, dataset, subset, n_resamples, seed) for side in (first, second)]
    return difference_interval(*sides, [result.config.mask_seed for result in first])


def check_pairs(first: list[Result], second: list[Result]) -> None:
    """Whether the i-th runs of both lists share their seeds and what they were tested on.

    Raises:
        AngaError: there are more of one, or a pair has other seeds or another missing table of the test split.
    """
    seeds = [[(run.config.mask_seed, run.config.train_seed) for run in side] for side in (first, second)]
    if seeds[0] != seeds[1]:
        raise AngaError(
            "paired runs: a pair has different seeds (or no partner); pair runs of one mask_seed and train_seed, found "
            f"{seeds[0]} and {seeds[1]}."
        )
    for pair in zip(first, second, strict=True):
        one, other = (_test_part(result, "all")[["row", "has_text", "has_image"]].to_numpy() for result in pair)
        if not np.array_equal(one, other):
            raise AngaError(
                "paired runs: a pair was tested on different missing tables; pair runs whose test split lacks the same."
            )


def resampled_scores(
    results: list[Result], dataset: Dataset, subset: str = "all", n_resamples: int = 200, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Test scores of some runs `[n]`, and the same `[n_resamples, n]` over draws of test samples.

    A draw is of the whole test split and the same for all runs, also for those of other calls with the same seed: each
    run is scored on those of the drawn samples that belong to the subset under its own missing table.
    """
    test = _test_part(results[0], "all")["row"].to_numpy()
    times = np.random.default_rng(seed).multinomial(len(test), np.full(len(test), 1 / len(test)), n_resamples)
    scores, drawn = [], []
    for result in results:
        part = _test_part(result, subset)
        rows, logits = part["row"].to_numpy(), _logits(part)
        labels, at = dataset.labels[rows], np.searchsorted(test, rows)
        scores.append(_score(dataset.task, labels, logits))
        picks = (np.repeat(np.arange(len(rows)), counts[at]) for counts in times)
        drawn.append([_score(dataset.task, labels[pick], logits[pick]) for pick in picks])
    return np.array(scores), np.array(drawn).T


def _score(task: str, labels: np.ndarray, logits: np.ndarray) -> float:
    return selecting_score(task, labels, logits) if len(labels) else float("nan")


def difference_interval(first, second, tables: list[int]) -> tuple[float, float, float]:
    """Mean difference of two methods' `resampled_scores`, second minus first, and its interval at 95 %.

    Of several tables each counts once, however many its runs. Two errors add up: V_s, the variance over draws of test
    samples, and V_t, that of a mean over missing tables (over seeds where there is one table), which has few degrees of
    freedom nu. The interval is mean +- t sqrt(V_s + V_t), t of nu ((V_s + V_t) / V_t)^2 degrees of freedom
    (Satterthwaite, Biometrics Bulletin 1946). It holds the truth in 95 of 100 cases, and with three tables, where V_t
    is the larger part, in 92. With a single run V_t is unknown and left out: the interval then speaks of that run.

    Args:
        first, second: scores `[n]` and drawn scores `[n_resamples, n]`, of the same runs and draws.
        tables: the missing table of each run.
    """
    differences = _independent(second[0] - first[0], tables)
    mean = float(differences.mean())
    if np.isnan(mean):
        return mean, mean, mean
    drawn = _independent(second[1] - first[1], tables)
    of_samples = np.nanmean(drawn[np.isfinite(drawn).any(axis=1)], axis=1).var()
    of_tables = differences.var(ddof=1) / len(differences) if len(differences) > 1 else 0.0
    freedom = (len(differences) - 1) * ((of_samples + of_tables) / of_tables) ** 2 if of_tables > 0 else np.inf
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(of_samples + of_tables))
    return mean, mean - half, mean + half


def _test_part(result: Result, subset: str) -> pd.DataFrame:
    """Predictions for one subset of the test split, by row."""
    test = result.predictions[result.predictions["split"] == "test"].sort_values("row")
    table = MissingTable(test["has_text"].to_numpy(), test["has_image"].to_numpy())
    return test[subsets(table, np.arange(len(test)))[subset]]


def _logits(predictions: pd.DataFrame) -> np.ndarray:
    return predictions.filter(regex=r"^logit_\d+$").to_numpy()


def spearman_interval(x, y, n_resamples: int = 500, seed: int = 0) -> tuple[float, float, float]:
    """Spearman's rank correlation of two samples `[n]`, and its percentile bootstrap interval at 95 %."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    draws = np.random.default_rng(seed).integers(0, len(x), (n_resamples, len(x)))
    ranks = stats.rankdata(x[draws], axis=1), stats.rankdata(y[draws], axis=1)
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    norm = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    drawn = np.divide((centred[0] * centred[1]).sum(1), norm, out=np.full(n_resamples, np.nan), where=norm > 0)
    low, high = np.nanpercentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(stats.spearmanr(x, y).statistic), float(low), float(high)
