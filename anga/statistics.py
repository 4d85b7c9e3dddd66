"""Means and 95 % intervals: over seeds where there are several, over test samples where there is one run."""

import numpy as np
import pandas as pd
from scipy import stats

from anga.datasets import Dataset
from anga.evaluation import score
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


def bootstrap_interval(task: str, labels: np.ndarray, logits: np.ndarray, n_resamples: int = 200, seed: int = 0):
    """Percentile interval at 95 % of one run's score over resampled test samples (seeded)."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(labels), (n_resamples, len(labels)))
    scores = [next(iter(score(task, labels[rows], logits[rows]).values())) for rows in draws]
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
    test = result.predictions[result.predictions["split"] == "test"]
    complete = test["has_text"] & test["has_image"]
    test = test[{"all": complete | True, "complete": complete, "reconstructed": ~complete}[subset]]
    if test.empty:
        return float("nan"), float("nan")
    logits = test.filter(regex=r"^logit_\d+$").to_numpy()
    return bootstrap_interval(dataset.task, dataset.labels[test["row"].to_numpy()], logits)
