"""Figures of robustness: every method has a look of its own, one run draws as well as many, notes are shown."""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from anga.plots import MARKERS, PALETTE, robustness
from anga.plots.style import LINES

METHODS = ["zero-filled", "retrieval only", "group means", "retrieval + alignment"]
METRICS = {"clipart-pairs": "AUROC", "clipart-keywords": "F1-micro", "clipart-folders": "accuracy"}
ENDS = [np.nan, 0.03]  # a single run has no interval


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def rates_table(half: float) -> pd.DataFrame:
    """A falling line per data set and method, with intervals of the given half width."""
    points = list(product(METRICS, (0.0, 0.1, 0.3, 0.5, 0.7, 0.9), enumerate(METHODS)))
    rows = [(name, rate, method, 0.7 - 0.2 * rate + 0.02 * i * rate) for name, rate, (i, method) in points]
    table = pd.DataFrame(rows, columns=["dataset", "missing_rate", "method", "mean"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def drawn(figure) -> list[str]:
    """All words of a figure."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def test_methods_differ_in_marker_and_all_but_the_two_aligned_ones_in_colour_and_line():
    shown = [*METHODS, "retrieval + adapter", "full ANGA"]
    assert len({MARKERS[method] for method in shown}) == len(shown)
    assert len({PALETTE[method] for method in shown}) == len(shown) - 1
    assert PALETTE["retrieval + alignment"] == PALETTE["full ANGA"]
    assert len({LINES[method] for method in shown}) == len(shown) - 1
    assert LINES["retrieval + alignment"] == LINES["full ANGA"]


@pytest.mark.parametrize("half", ENDS)
def test_scores_over_rates_has_a_panel_per_data_set_and_its_note(half):
    figure = robustness.scores_over_rates(rates_table(half), METRICS, "missing rate", "n = 9 runs per point")
    assert [axes.get_title() for axes in figure.axes] == list(METRICS)
    assert [axes.get_ylabel() for axes in figure.axes] == list(METRICS.values())
    words = drawn(figure)
    assert "missing rate\nn = 9 runs per point" in words
    assert all(words.count(method) == 1 for method in METHODS)


def test_points_that_stand_apart_are_hollow_and_not_joined():
    table = rates_table(0.03).query("dataset == 'clipart-pairs' and method == 'group means'")
    table = table.assign(apart=table["missing_rate"] == 0.9)
    (axes,) = robustness.scores_over_rates(table, METRICS, "rate", "note").axes
    solid, hollow = (container.lines[0] for container in axes.containers)
    assert (len(solid.get_xdata()), solid.get_linestyle()) == (5, "-.")
    assert (len(hollow.get_xdata()), hollow.get_linestyle(), hollow.get_markerfacecolor()) == (1, "None", "white")


@pytest.mark.parametrize("half", ENDS)
def test_degradation_has_a_row_per_measure(half):
    table = pd.concat([rates_table(half).assign(measure=m) for m in ("the score", "what exceeds chance")])
    figure = robustness.degradation(table, "missing rate", "note")
    assert len(figure.axes) == 6
    assert {"lost, of the score", "lost, of what exceeds chance"} <= set(drawn(figure))


def test_rows_of_degradation_share_one_scale_and_ticks_stand_at_the_rates():
    first, second = rates_table(0.03), rates_table(0.03)
    second[["mean", "low", "high"]] *= 3
    table = pd.concat([first.assign(measure="the score"), second.assign(measure="what exceeds chance")])
    figure = robustness.degradation(table, "missing rate", "note")
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert all(list(axes.get_xticks()) == [0.0, 0.1, 0.3, 0.5, 0.7, 0.9] for axes in figure.axes)


def test_maps_name_classes_states_and_numbers():
    generator = np.random.default_rng(0)
    parts = []
    for stage in ("before training", "retrieval only", "retrieval + alignment"):
        part = pd.DataFrame(generator.normal(size=(60, 2)), columns=["x", "y"]).assign(stage=stage)
        parts.append(part.assign(**{"class": list("abcde") * 12, "state": ["complete", "reconstructed"] * 30}))
    points = pd.concat(parts)
    captions = {stage: f"silhouette {i}" for i, stage in enumerate(points["stage"].unique())}
    figure = robustness.embeddings(points, captions, "n = 60")
    assert [axes.get_title() for axes in figure.axes] == [f"{stage}\n{text}" for stage, text in captions.items()]
    assert {*"abcde", "complete", "reconstructed", "n = 60"} <= set(drawn(figure))


@pytest.mark.parametrize("half", ENDS)
def test_separation_draws_every_question_and_stage(half):
    points = product(("classes, all", "complete from\nreconstructed"), ("before training", *METHODS[1:]))
    table = pd.DataFrame(points, columns=["question", "embedding"]).assign(silhouette=0.1)
    table = table.assign(low=table["silhouette"] - half, high=table["silhouette"] + half)
    figure = robustness.separation(table, "note")
    assert {*table["question"], *table["embedding"], "note"} <= set(drawn(figure))


@pytest.mark.parametrize("half", ENDS)
def test_methods_of_one_size_stand_side_by_side(half):
    methods = [*METHODS, "full ANGA"]
    table = pd.DataFrame({"method": methods, "parameters": [66_306] * 4 + [460_000], "mean": 0.6})
    table = table.assign(low=table["mean"] - half, high=table["mean"] + half)
    (axes,) = robustness.size_and_score(table, "AUROC", "note").axes
    x = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert len(set(x)) == 5
    assert np.exp(np.mean(np.log(x[:4]))) == pytest.approx(0.066306)
    assert x[4] == pytest.approx(0.46)
