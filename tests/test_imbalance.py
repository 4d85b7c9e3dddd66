"""Imbalance: gaps, what selection explains and who leads a step, against numbers worked out by hand."""

from unittest import mock

import numpy as np
import pandas as pd
import pytest
from tiny_world import make_dataset

from anga.config import Config
from anga.errors import AngaError
from anga.evaluation import score_subsets
from anga.grids import Grid, GridRuns
from anga.imbalance import GAPS, compare, joint_steps, points, quartiles, selection_effects
from anga.missing import MissingTable
from anga.result import Result

N = 400
HISTORY = ["validation", "validation_complete", "validation_reconstructed"]
STEP = ["epoch", "n_complete", "n_remaining", "norm_complete", "norm_remaining", "cosine"]
NONE = pd.DataFrame()


@pytest.fixture(scope="module")
def dataset():
    return make_dataset("binary", n=N)


def finished(dataset, skill: float, mask_seed: int, history=NONE, telemetry=NONE) -> Result:
    """A run that tests all samples with a margin of `skill` times the label plus noise that all runs share."""
    table, rows = MissingTable.draw(dataset, 0.5, "text", mask_seed), np.arange(N)
    margin = skill * dataset.labels + np.random.default_rng(1).standard_normal(N)
    logits = np.stack([0 * margin, margin], 1)
    metrics = {"test": score_subsets("binary", dataset.labels, logits, table, rows)}
    known = {"row": rows, "split": "test", "has_text": table.has_text, "has_image": table.has_image}
    predictions = pd.DataFrame({**known, "logit_0": logits[:, 0], "logit_1": logits[:, 1]})
    return Result(Config(mask_seed=mask_seed), metrics, history, telemetry, predictions, 0.0, 0.0)


def grid_runs(dataset, skills: dict[float, dict[str, float]]) -> GridRuns:
    """Two runs at each rate and training, with the given skill."""
    rows = [(r, t, seed) for r, trainings in skills.items() for t in trainings for seed in (0, 1)]
    table = pd.DataFrame(rows, columns=["missing_rate", "training", "mask_seed"]).assign(train_seed=0)
    axes = {"missing_rate": list(skills), "training": list(next(iter(skills.values())))}
    results = [finished(dataset, skills[r][t], seed) for r, t, seed in rows]
    return GridRuns(Grid("toy", axes, table, [r.config for r in results]), results)


def compared(runs: GridRuns, dataset, pairs=GAPS) -> pd.DataFrame:
    with mock.patch("anga.imbalance.load_config_dataset", return_value=dataset):
        return compare(runs, pairs, n_resamples=50)


def test_a_gap_is_upper_bound_minus_joint_on_the_subset(dataset):
    runs = grid_runs(dataset, {0.3: {"joint": 0.5, "complete only": 2.0}, 0.9: {"joint": 1.0, "complete only": 1.0}})
    gaps = compared(runs, dataset)
    assert list(gaps["subset"]) == ["complete", "complete"], "reconstructed only is no label of this grid"
    for row in gaps.itertuples():
        joint, bound = (
            [r.score("complete") for r in runs.select(missing_rate=row.missing_rate, training=label)]
            for label in ("joint", "complete only")
        )
        assert row.mean == pytest.approx(np.mean(bound) - np.mean(joint))
        assert row.low <= row.mean <= row.high and row.runs == 2
    assert gaps["low"][0] > 0, "a bound with four times the skill lies clearly above"
    assert (gaps["mean"][1], gaps["low"][1], gaps["high"][1]) == (0, 0, 0), "the same predictions: no gap at all"


@pytest.mark.parametrize("seed", ["mask_seed", "train_seed"])
def test_runs_of_different_seeds_are_not_compared(dataset, seed):
    runs = grid_runs(dataset, {0.5: {"joint": 0.5, "complete only": 2.0}})
    last = runs.results[-1]
    last.config = last.config.with_(**{seed: 7})
    with pytest.raises(AngaError, match=seed):
        compared(runs, dataset)
    with pytest.raises(AngaError, match=seed):
        selection_effects(runs)


def test_a_comparison_turned_round_changes_its_sign(dataset):
    runs = grid_runs(dataset, {0.3: {"joint": 0.5, "aligned": 1.0}})
    pairs = [("joint", "aligned", "reconstructed"), ("aligned", "joint", "reconstructed")]
    there, back = compared(runs, dataset, pairs)["mean"]
    assert there == pytest.approx(-back) and there > 0


def test_a_cut_of_its_own_takes_away_what_is_only_a_shift(dataset):
    """Both trainings rank labels alike, but one is less sure of all of them: a gap at 0.5, and none at its own cut."""
    task = make_dataset("multilabel", n=N)
    runs = grid_runs(dataset, {0.5: {"joint": 1.0, "aligned": 1.0}})
    for place, run in enumerate(runs.results):
        table, rows = MissingTable.draw(task, 0.5, "text", run.config.mask_seed), np.arange(N)
        logits = task.labels + np.random.default_rng(run.config.mask_seed).standard_normal(task.labels.shape)
        known = {"row": rows, "split": np.where(rows % 2, "test", "validation")}
        known |= {"has_text": table.has_text, "has_image": table.has_image}
        logits -= 2 if place >= 2 else 0.5
        run.predictions = pd.DataFrame({**known, **{f"logit_{j}": column for j, column in enumerate(logits.T)}})
    pairs = [("joint", "aligned", "complete")]
    with mock.patch("anga.imbalance.load_config_dataset", return_value=task):
        (half,), (own,) = (compare(runs, pairs, n_resamples=20, own_cut=cut).itertuples() for cut in (False, True))
    assert half.high < -0.05 and (own.mean, own.low, own.high) == pytest.approx((0, 0, 0))
    with mock.patch("anga.imbalance.load_config_dataset", return_value=dataset):
        assert compare(runs, pairs, own_cut=True).empty, "a task of one answer has no cut"


def test_one_difference_over_an_axis_is_the_mean_of_its_points(dataset):
    """Here the rates are copies of one another: the mean is then as sure as each of them, and not surer."""
    runs = grid_runs(dataset, {rate: {"joint": 0.5, "complete only": 0.8} for rate in (0.3, 0.4, 0.6)})
    with mock.patch("anga.imbalance.load_config_dataset", return_value=dataset):
        apart = compare(runs, GAPS, n_resamples=50)
        (whole,) = compare(runs, GAPS, n_resamples=50, over="missing_rate").to_dict("records")
    assert "missing_rate" not in whole and whole["runs"] == apart["runs"].sum()
    assert all(whole[name] == pytest.approx(apart[name].mean()) for name in ("mean", "low", "high"))


def test_points_are_all_combinations_of_the_other_axes():
    axes = {"dataset": ["a", "b"], "training": ["joint"], "missing_rate": [0.1, 0.9]}
    runs = GridRuns(Grid("toy", axes, NONE, []), [])
    assert points(runs, "training") == [{"dataset": d, "missing_rate": r} for d in "ab" for r in (0.1, 0.9)]
    assert points(runs, "training", "missing_rate") == [{"dataset": "a"}, {"dataset": "b"}]


def test_selection_explains_what_lies_between_the_kept_and_the_best_epoch(dataset):
    joint = pd.DataFrame([(0.60, 0.80, 0.5), (0.70, 0.65, 0.7), (0.65, 0.75, 0.6)], columns=HISTORY)
    bound = pd.DataFrame([(0.78, 0.78, 0.5), (0.82, 0.82, 0.5)], columns=HISTORY)
    table = pd.DataFrame({"training": ["joint", "complete only"], "mask_seed": 3, "train_seed": 0})
    results = [finished(dataset, 1.0, 3, history) for history in (joint, bound)]
    runs = GridRuns(Grid("toy", {"training": list(table["training"])}, table, []), results)
    (row,) = selection_effects(runs).itertuples()
    # kept: epoch 1 with 0.65 on complete samples; the best there: 0.80; the bound's best: 0.82
    assert (row.as_selected, row.same_selection, row.selection) == pytest.approx((0.17, 0.02, 0.15))
    assert (row.mask_seed, row.train_seed) == (3, 0)


def test_who_leads_a_step(dataset):
    # two complete samples with a mean gradient (3, 0), six others with (-2, 0): pooled (6 - 12, 0) / 8, against g_C
    opposed = (0, 2, 6, 3.0, 2.0, -1.0)
    # the same lengths at a right angle: 6 against 12 of length, never against
    across = (0, 2, 6, 3.0, 2.0, 0.0)
    alone = (1, 0, 8, 0.0, 2.0, 0.0)
    steps = joint_steps([finished(dataset, 1.0, 0, NONE, pd.DataFrame([opposed, across, alone], columns=STEP))])
    assert list(steps["epoch"]) == [0, 0], "a batch without complete samples has no cosine"
    assert steps["samples"].tolist() == [0.75, 0.75]
    assert steps["pull"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert steps["by_chance"].tolist() == pytest.approx([6**0.5 / (2**0.5 + 6**0.5)] * 2)
    assert steps["against"].tolist() == [True, False]
    assert steps["run"].tolist() == [0, 0]


def test_against_agrees_with_the_vectors():
    generator = np.random.default_rng(0)
    rows, truth = [], []
    for n_complete in range(1, 60):
        g_C, g_M = generator.standard_normal((2, 3))
        lengths = np.linalg.norm(g_C), np.linalg.norm(g_M)
        rows.append((0, n_complete, 64 - n_complete, *lengths, g_C @ g_M / np.prod(lengths)))
        truth.append((n_complete * g_C + (64 - n_complete) * g_M) @ g_C < 0)
    result = mock.Mock(telemetry=pd.DataFrame(rows, columns=STEP))
    assert joint_steps([result])["against"].tolist() == truth and 0 < sum(truth) < len(truth)


def test_quartiles_of_known_numbers():
    table = pd.DataFrame({"epoch": [1] * 5 + [0], "cosine": [0.0, 1.0, 2.0, 3.0, 4.0, 9.0]})
    assert quartiles(table, ["epoch"], "cosine").to_numpy().tolist() == [[1, 1, 2, 3], [0, 9, 9, 9]]
