"""The comparison: intervals are those of `paired_difference`, marks follow from them, numbers are the paper's."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score
from tiny_world import make_dataset, tiny_config

from anga import comparison
from anga.comparison import Comparison, both_ways, learnable_parameters, orders, standings, table1
from anga.errors import AngaError
from anga.evaluation import best_cut, score_subsets
from anga.grids import Grid, GridRuns
from anga.missing import MissingTable
from anga.result import Result
from anga.statistics import paired_difference, summarise

N = 200
CELL = {"dataset": "clipart-pairs", "missing_type": "text"}


@pytest.fixture(scope="module")
def data():
    return {task: make_dataset(task, n=N) for task in ("binary", "multiclass", "multilabel")}


def result(dataset, skill: float, mask: int = 0, train: int = 0) -> Result:
    """A run whose logits are `skill` times the label plus noise of its training seed."""
    table, rows = MissingTable.draw(dataset, 0.5, "both", mask), np.arange(N)
    split = np.where(rows % 4 == 0, "validation", "test")
    wide = dataset.labels if dataset.labels.ndim == 2 else np.eye(len(dataset.classes))[dataset.labels]
    logits = skill * (wide - 0.5) + np.random.default_rng(train).standard_normal(wide.shape)
    metrics = {
        "test": score_subsets(
            dataset.task, dataset.labels[split == "test"], logits[split == "test"], table, rows[split == "test"]
        )
    }
    predictions = {
        "row": rows,
        "id": dataset.ids,
        "split": split,
        "has_text": table.has_text,
        "has_image": table.has_image,
    }
    predictions |= {f"logit_{j}": column for j, column in enumerate(logits.T)}
    config, empty = tiny_config(mask_seed=mask, train_seed=train), pd.DataFrame()
    return Result(config, metrics, empty, empty, pd.DataFrame(predictions).sample(frac=1, random_state=3), 0.0, 0.0)


def grid_runs(dataset, skills: dict[str, float], masks=(0, 1), trains=(0,), missing_type="text") -> GridRuns:
    points = [(method, i, j) for method in skills for i in masks for j in trains]
    rows = [{**CELL, "missing_type": missing_type, "method": m, "mask_seed": i, "train_seed": j} for m, i, j in points]
    axes = {"dataset": ["clipart-pairs"], "missing_type": [missing_type], "method": list(skills)}
    grid = Grid("g", axes, pd.DataFrame(rows), [])
    return GridRuns(grid, [result(dataset, skills[m], i, j) for m, i, j in points])


@pytest.fixture
def compare(data, monkeypatch):
    """A comparison of binary runs, whose data set is the tiny one."""
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: data["binary"])
    return lambda *parts, **grid: Comparison.of(*(grid_runs(data["binary"], skills, **grid) for skills in parts))


def test_pairs_are_all_pairs_on_the_seeds_that_both_have(data, monkeypatch):
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: data["binary"])
    many = grid_runs(data["binary"], {"a": 0.5, "b": 0.9}, trains=(0, 1))
    few = grid_runs(data["binary"], {"c": 0.7}, trains=(1,))
    pairs = Comparison.of(many, few).pairs(20).set_index(["first", "second"])
    assert pairs["runs"].to_dict() == {("a", "b"): 4, ("a", "c"): 2, ("b", "c"): 2}
    shared = [[result(data["binary"], skill, mask, 1) for mask in (0, 1)] for skill in (0.7, 0.5)]
    expected = paired_difference(*shared, data["binary"], "all", 20)
    assert pairs.loc[("a", "c"), ["mean", "low", "high"]].tolist() == pytest.approx(expected, abs=1e-12)


def test_runs_that_do_not_have_the_seeds_they_stand_under_are_no_pair(data, monkeypatch):
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: data["binary"])
    ours = Comparison.of(grid_runs(data["binary"], {"a": 0.5, "b": 0.9, "c": 0.7}))
    ours.results[-1].config = ours.results[-1].config.with_(train_seed=7)
    with pytest.raises(AngaError, match="train_seed"):
        ours.pairs(5)


def test_methods_without_a_common_seed_have_no_pair(data, monkeypatch):
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: data["binary"])
    parts = [grid_runs(data["binary"], {name: 0.5}, masks=(i,)) for i, name in enumerate("ab")]
    assert Comparison.of(*parts).pairs(5).empty


def test_a_summary_has_a_row_per_cell_and_method_and_is_that_of_summarise(compare, data):
    ours = compare({"a": 0.5, "b": 0.9})
    table = ours.summary().set_index("method")
    runs = list(ours.at("clipart-pairs", "text", "a").values())
    expected = summarise(runs, data["binary"], ["all"]).iloc[0]
    assert (
        table.loc["a", ["mean", "low", "high", "runs"]].tolist() == expected[["mean", "low", "high", "runs"]].tolist()
    )
    assert list(table.index) == ours.methods == ["a", "b"] and ours.cells == [("clipart-pairs", "text")]


def test_grids_of_other_axes_or_with_the_same_runs_are_refused(compare, data):
    with pytest.raises(AngaError, match="name each method in one grid alone"):
        compare({"a": 0.5}, {"a": 0.5})
    runs = grid_runs(data["binary"], {"a": 0.5})
    other = GridRuns(Grid("odd", {"dataset": [], "method": []}, runs.table, []), runs.results)
    with pytest.raises(AngaError, match="odd: the axes must be dataset, missing_type, method"):
        Comparison.of(other)


# --- another cut


@pytest.mark.parametrize("subset", ["all", "complete", "reconstructed"])
def test_recut_runs_differ_only_in_where_they_cut(data, monkeypatch, subset):
    dataset = data["multilabel"]
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: dataset)
    runs = grid_runs(dataset, {"a": 0.9, "b": 0.5})
    ours = Comparison.of(runs)
    assert ours.multilabel().table.equals(ours.table) and ours.recut(subset).table.equals(ours.table)
    for before, after in zip(runs.results, ours.recut(subset).results, strict=True):
        labels, logits = chosen(before, dataset, "validation", subset)
        cut, at_half = best_cut(labels, logits), f1_score(labels, logits > 0, average="micro")
        assert abs(cut) > 0.05 and after.score(subset, "validation") > at_half
        for split in ("validation", "test"):
            labels, logits = chosen(before, dataset, split, subset)
            assert chosen(after, dataset, split, subset)[1] == pytest.approx(logits - cut)
            assert after.score(subset, split) == pytest.approx(f1_score(labels, logits > cut, average="micro"))


def chosen(run: Result, dataset, split: str, subset: str):
    """Labels and logits of one subset of a split."""
    part = run.predictions[run.predictions["split"] == split]
    complete = part["has_text"] & part["has_image"]
    part = part[{"all": complete | True, "complete": complete, "reconstructed": ~complete}[subset]]
    return dataset.labels[part["row"]], part.filter(regex="^logit_").to_numpy()


def test_what_is_added_is_the_paired_difference_to_the_method_without_it(data, monkeypatch):
    dataset = data["binary"]
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: dataset)
    skills = {"a": 0.5, "a + GA": 0.9, "a + group means": 0.7, "b + GA": 0.3}
    added = Comparison.of(grid_runs(dataset, skills)).additions("complete")
    assert added[["method", "minus"]].to_numpy().tolist() == [
        ["a + GA", "a"],
        ["a + GA", "a + group means"],
        ["a + group means", "a"],
    ]
    for row in added.itertuples():
        sides = [[result(dataset, skills[name], mask) for mask in (0, 1)] for name in (row.minus, row.method)]
        assert (row.mean, row.low, row.high) == pytest.approx(paired_difference(*sides, dataset, "complete"))
        assert (row.subset, row.runs) == ("complete", 2)


def test_tasks_of_one_answer_have_no_cut(compare):
    ours = compare({"a": 0.5})
    assert ours.multilabel().results == []
    with pytest.raises(AngaError, match="only multi-label tasks"):
        ours.recut()


def test_sureness_counts_predicted_labels_and_ranks_without_a_cut(data, monkeypatch):
    dataset = data["multilabel"]
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: dataset)
    ours = Comparison.of(grid_runs(dataset, {"a": 0.9}, masks=(0,)))
    first, moved = (runs.sureness().set_index("subset") for runs in (ours, ours.recut()))
    assert list(first.index) == ["all", "complete", "reconstructed"] and set(first["method"]) == {"a"}
    for subset in first.index:
        labels, logits = chosen(ours.results[0], dataset, "test", subset)
        assert first.loc[subset, "predicted"] == pytest.approx((logits > 0).sum() / len(logits))
        hits = [labels.ravel()[logits.ravel() >= value].mean() for value in logits[labels > 0]]
        assert first.loc[subset, "average_precision"] == pytest.approx(np.mean(hits)), "precision at each true label"
    assert first["predicted"].nunique() == first["average_precision"].nunique() == 3
    assert moved["average_precision"].tolist() == pytest.approx(first["average_precision"].tolist())
    assert (moved["predicted"] != first["predicted"]).all()


def test_sureness_of_nobody_is_unknown(data, monkeypatch):
    dataset = data["multilabel"]
    monkeypatch.setattr(comparison, "load_config_dataset", lambda config: dataset)
    ours = Comparison.of(grid_runs(dataset, {"a": 0.9}, masks=(0,)))
    ours.results[0].predictions[["has_text", "has_image"]] = True
    found = ours.sureness().set_index("subset")[["predicted", "average_precision"]]
    assert found.loc[["all", "complete"]].notna().all(axis=None) and found.loc["reconstructed"].isna().all()


# --- who stands out


def pair(first: str, second: str, low: float, high: float) -> dict:
    return {**CELL, "first": first, "second": second, "mean": (low + high) / 2, "low": low, "high": high, "runs": 3}


def standing(means: dict[str, float], *pairs: dict) -> pd.DataFrame:
    summary = pd.DataFrame([{**CELL, "method": m, "mean": mean} for m, mean in means.items()])
    return standings(summary, pd.DataFrame(pairs)).set_index("method")


def test_best_and_second_are_marked_where_all_intervals_exclude_zero():
    table = standing(
        {"a": 0.6, "b": 0.9, "c": 0.8},
        pair("a", "b", -0.4, -0.2),
        pair("a", "c", -0.3, -0.1),
        pair("b", "c", 0.01, 0.2),
    )
    assert table["mark"].to_dict() == {"a": "", "b": "best", "c": "second"}
    assert table["behind"].to_dict() == {"a": True, "b": False, "c": True}


def test_where_the_leader_cannot_be_told_from_one_other_nobody_is_marked():
    table = standing(
        {"a": 0.6, "b": 0.9, "c": 0.8},
        pair("a", "b", -0.4, -0.2),
        pair("a", "c", -0.3, -0.1),
        pair("b", "c", -0.01, 0.2),
    )
    assert set(table["mark"]) == {""}
    assert table["behind"].to_dict() == {"a": True, "b": False, "c": False}


def test_second_stays_empty_where_two_share_the_place():
    table = standing(
        {"a": 0.6, "b": 0.9, "c": 0.61},
        pair("a", "b", -0.4, -0.2),
        pair("a", "c", -0.1, 0.1),
        pair("b", "c", 0.2, 0.4),
    )
    assert table["mark"].to_dict() == {"a": "", "b": "best", "c": ""}


def test_a_method_alone_is_not_the_best_of_anything(compare):
    ours = compare({"a": 0.5})
    pairs = pd.DataFrame(columns=list(pair("a", "b", 0, 1)))
    assert standings(ours.summary(), pairs)["mark"].tolist() == [""]


def test_every_pair_has_two_sides():
    both = both_ways(pd.DataFrame([pair("a", "b", -0.1, 0.3)]))
    assert both[["first", "second", "low", "high"]].to_numpy().tolist() == [
        ["a", "b", -0.1, 0.3],
        ["b", "a", -0.3, 0.1],
    ]


# --- the paper's numbers


def test_the_papers_table_1_has_fractions_by_the_names_of_its_data():
    table = table1()
    best = table.loc[table.groupby(["data", "missing_type"])["score"].idxmax()]
    assert set(best["method"]) == {"ANGA"}
    anga = table.set_index(["method", "data", "missing_type"])["score"]
    assert anga["RAGPT", "HateMemes", "text"] == pytest.approx(0.6410)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.2, "holds"), (-0.1, 0.2, "open"), (-0.2, -0.1, "reversed")]
)
def test_a_published_order_holds_is_open_or_is_reversed(low, high, verdict):
    for listed in (pair("ANGA", "RAGPT", low, high), pair("RAGPT", "ANGA", -high, -low)):
        (row,) = orders(pd.DataFrame([listed, pair("ANGA", "ANGA + GA", 0.1, 0.2)])).itertuples()
        assert (row.better, row.worse, row.verdict) == ("ANGA", "RAGPT", verdict)
        assert (row.low, row.high) == (low, high) and row.margin == pytest.approx(0.6854 - 0.6410)


def test_our_rows_stand_beside_the_papers_of_the_same_kind_and_only_the_same_data_is_comparable():
    names = ["clipart-keywords", "mmimdb", "clipart-pairs", "clipart-keywords", "elsewhere"]
    methods = ["MAPs", "MAPs", "MAPs", "MAPs + GA", "MAPs"]
    table = pd.DataFrame({"dataset": names, "missing_type": "image", "method": methods, "mean": 0.5})
    rows = comparison.beside_published(table).set_index("dataset")
    assert rows["paper"].to_dict() == pytest.approx(
        {"clipart-keywords": 0.4486, "mmimdb": 0.4486, "clipart-pairs": 0.6016}
    )
    assert rows["comparable"].to_dict() == {"clipart-keywords": False, "mmimdb": True, "clipart-pairs": False}
    assert rows.loc["clipart-pairs", "data"] == "HateMemes"


@pytest.mark.parametrize("knobs", [{}, {"use_adapter": False}, {"method": "vilt", "use_retrieval": False}])
def test_learnable_parameters_are_those_that_a_model_trains(binary_world, knobs):
    d = binary_world.backbone.dim
    head = d * (d + 1) + 2 * (d + 1)
    before = torch.get_rng_state()
    count = learnable_parameters(tiny_config(**knobs), binary_world.backbone, 2)
    assert torch.equal(torch.get_rng_state(), before), "counting draws nothing from the global generator"
    adapter = 2 * (3 * d * d + 2 * d) if not knobs else 0  # f_Q, f_K (no bias) and f_V of either modality
    assert count == head + adapter
