"""Learning imbalance: what joint training loses against an upper bound, what selection explains, who leads the step.

A subset's upper bound is the same model trained, and its best epoch selected, on that subset alone, in as many steps as
joint training makes (`epoch_steps: all`). The imbalance gap is the upper bound minus the joint score, on the subset's
own test samples. The word "bound" is a promise: with few samples the subset alone may teach less than everything
together, and the gap is then negative.

With `head_bias: prior` a bound is not quite on its own: its classifier starts at how frequent labels are among all
training samples, as that of joint training does. What is trained and selected from there is the subset's alone.
"""

import itertools

import numpy as np
import pandas as pd

from anga.evaluation import METRIC_NAMES
from anga.grids import GridRuns
from anga.inputs import load_config_dataset
from anga.result import Result
from anga.statistics import check_pairs, difference_interval, resampled_scores

UPPER_BOUND = {"complete": "complete only", "reconstructed": "reconstructed only"}  # subset -> label of its training
GAPS = [("joint", bound, subset) for subset, bound in UPPER_BOUND.items()]


def compare(
    runs: GridRuns,
    pairs: list[tuple[str, str, str]],
    axis: str = "training",
    n_resamples: int = 200,
    own_cut: bool = False,
    over: str | None = None,
) -> pd.DataFrame:
    """Paired differences on the test split at each point of the other axes.

    Args:
        runs: a grid with the axis.
        pairs: (first, second, subset); pairs with a label that the grid lacks are left out.
        own_cut: whether each run is cut where it is best on the subset's validation samples (`Result.recut`); then
            only multi-label tasks are compared.
        over: an axis to average over ("missing_rate"): one difference for all its labels together.

    Returns:
        Columns: the other axes, metric, first, second, subset, mean (second minus first), low, high (95 %, see
        `difference_interval`), runs (pairs of runs behind them). With `GAPS`, mean is the imbalance gap.

    Raises:
        AngaError: runs that are to be compared are no pairs (`check_pairs`).
    """
    labels = runs.grid.axes[axis]
    pairs = [pair for pair in pairs if pair[0] in labels and pair[1] in labels]
    inner = [{}] if over is None else [{over: label} for label in runs.grid.axes[over]]
    rows = []
    for at in points(runs, axis, over):
        dataset = load_config_dataset(runs.select(**at)[0].config)
        if own_cut and dataset.task != "multilabel":
            continue
        for first, second, subset in pairs:
            paired = [[runs.select(**at, **place, **{axis: label}) for place in inner] for label in (first, second)]
            for both in zip(*paired, strict=True):
                check_pairs(*both)
            sides = []
            for chosen in paired:
                if own_cut:
                    chosen = [[result.recut(dataset, subset) for result in part] for part in chosen]
                drawn = [resampled_scores(part, dataset, subset, n_resamples) for part in chosen]
                sides.append([np.mean(part, axis=0) for part in zip(*drawn, strict=True)])
            mean, low, high = difference_interval(*sides, [result.config.mask_seed for result in chosen[0]])
            compared = {"first": first, "second": second, "subset": subset}
            ends = {"mean": mean, "low": low, "high": high, "runs": sum(map(len, chosen))}
            rows.append({**at, "metric": METRIC_NAMES[dataset.metric], **compared, **ends})
    return pd.DataFrame(rows)


def points(runs: GridRuns, *without: str | None) -> list[dict]:
    """Every combination of the labels of all axes but some."""
    others = {name: labels for name, labels in runs.grid.axes.items() if name not in without}
    return [dict(zip(others, point, strict=True)) for point in itertools.product(*others.values())]


def selection_effects(runs: GridRuns, subset: str = "complete") -> pd.DataFrame:
    """How much of a subset's gap comes from the epoch that is kept, on the validation split.

    A joint run keeps the epoch that is best on all validation samples, a bound the one that is best on its subset.
    Here the joint run may choose by the subset as well; both scores are then the best of their epochs.

    Returns:
        One row per pair of runs: the axes but training, mask_seed, train_seed, as_selected (bound's best epoch minus
        the joint run's kept one, scored on the subset), same_selection (minus the joint run's best epoch on the
        subset), selection (the first minus the second, never negative).
    """
    column, rows = f"validation_{subset}", []
    for at in points(runs, "training"):
        joint, bound = (runs.select(**at, training=label) for label in ("joint", UPPER_BOUND[subset]))
        check_pairs(joint, bound)
        for ours, alone in zip(joint, bound, strict=True):
            kept = ours.history.loc[ours.history["validation"].idxmax(), column]
            best, limit = ours.history[column].max(), alone.history[column].max()
            seeds = {"mask_seed": ours.config.mask_seed, "train_seed": ours.config.train_seed}
            parts = {"as_selected": limit - kept, "same_selection": limit - best, "selection": best - kept}
            rows.append({**at, **seeds, **parts})
    return pd.DataFrame(rows)


def joint_steps(results: list[Result]) -> pd.DataFrame:
    """One row per step of joint runs: who leads the pooled update.

    The pooled gradient is (n_C g_C + n_M g_M) / n, so group means are weighted with counts.

    Returns:
        Columns: run, epoch; samples, the share of reconstructed ones; pull, their share of n_C |g_C| + n_M |g_M|;
        by_chance, the pull that equally strong samples without any common direction would have (noise adds up with
        the root of a group's size); norm_complete, norm_reconstructed; cosine of g_C and g_M; against, whether the
        update has a negative inner product with g_C, so that to first order it raises the complete samples' loss.
        Batches without both groups are left out: they have no cosine.
    """
    parts = []
    for number, result in enumerate(results):
        steps = result.telemetry
        steps = steps[(steps["n_complete"] > 0) & (steps["n_remaining"] > 0)]
        complete = steps["n_complete"] * steps["norm_complete"]
        reconstructed = steps["n_remaining"] * steps["norm_remaining"]
        columns = {"run": number, "epoch": steps["epoch"]}
        columns["samples"] = _share(steps["n_remaining"], steps["n_complete"])
        columns["pull"] = _share(reconstructed, complete)
        columns["by_chance"] = _share(np.sqrt(steps["n_remaining"]), np.sqrt(steps["n_complete"]))
        columns |= {"norm_complete": steps["norm_complete"], "norm_reconstructed": steps["norm_remaining"]}
        columns |= {"cosine": steps["cosine"], "against": complete + reconstructed * steps["cosine"] < 0}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _share(part: pd.Series, rest: pd.Series) -> pd.Series:
    """A part's share of the whole; NaN where both are zero."""
    return part / (part + rest).replace(0, np.nan)


def quartiles(steps: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Median and middle half of a column within groups of steps: by, q25, q50, q75."""
    table = steps.groupby(by, sort=False)[column].quantile([0.25, 0.5, 0.75]).unstack()
    table.columns = ["q25", "q50", "q75"]
    return table.reset_index()
