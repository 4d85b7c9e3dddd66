"""Means and 95 % intervals: over seeds where there are several, over test samples where there is one run."""

import numpy as np
import pandas as pd
from scipy import stats

from anga.datasets import Dataset
from anga.errors import AngaError
from anga.evaluation import selecting_score, subsets
from anga.missing import MissingTable
from anga.result import Result

LEVEL = 0.95


def mean_interval(values) -> tuple[float, float, float]:
    """Mean of n >= 1 runs and its t-interval at 95 %; both ends are NaN for a single run."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values)
    return mean, mean - float(half), mean + float(half)


def mean_intervals(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """`mean_interval` of a column within each group of rows, groups in order of appearance: by, mean, low, high."""
    groups = table.groupby(by, sort=False)[column]
    return pd.DataFrame([(*key, *mean_interval(part)) for key, part in groups], columns=[*by, "mean", "low", "high"])


def in_words(row) -> str:
    """A difference and its interval, from a row with mean, low and high: "+0.012 [+0.001, +0.023]"."""
    ends = "(one run: no interval)" if np.isnan(row.low) else f"[{row.low:+.3f}, {row.high:+.3f}]"
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
        mean, low, high = mean_interval([result.score(name) for result in results])
        if len(results) == 1:
            low, high = _single_run_interval(results[0], dataset, name)
        over = "test samples" if len(results) == 1 else "seeds"
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
    """Test score of `second` minus that of `first`, and its percentile interval at 95 %; NaN without samples.

    Runs are paired: the i-th of both lists share their missing table and their seeds. A resample draws pairs of runs
    and, for each, test samples; both methods are scored on the same ones. With few seeds the interval is too narrow.
    """
    pairs = [_paired_parts(a, b, dataset, subset) for a, b in zip(first, second, strict=True)]
    if any(not len(labels) for labels, _, _ in pairs):
        return float("nan"), float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_resamples):
        chosen = [pairs[i] for i in generator.integers(0, len(pairs), len(pairs))]
        rows = [generator.integers(0, len(labels), len(labels)) for labels, _, _ in chosen]
        drawn.append(np.nanmean([_difference(dataset.task, p, r) for p, r in zip(chosen, rows, strict=True)]))
    low, high = np.nanpercentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(np.mean([_difference(dataset.task, p) for p in pairs])), float(low), float(high)


def _paired_parts(first: Result, second: Result, dataset: Dataset, subset: str):
    """Labels of a subset's test samples and both runs' logits for them."""
    parts = [_test_part(result, subset).sort_values("row") for result in (first, second)]
    rows, other = (part["row"].to_numpy() for part in parts)
    if not np.array_equal(rows, other):
        raise AngaError("paired_difference: a pair of runs has different missing tables; pair runs of one mask_seed.")
    return dataset.labels[rows], *(_logits(part) for part in parts)


def _difference(task: str, pair, rows=slice(None)) -> float:
    labels, *logits = pair
    first, second = (selecting_score(task, labels[rows], one[rows]) for one in logits)
    return second - first


def _test_part(result: Result, subset: str) -> pd.DataFrame:
    """Predictions for one subset of the test split."""
    test = result.predictions[result.predictions["split"] == "test"]
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
