"""Figures of ablations and sweeps: all rows and values are drawn, references are lines, one run needs no interval."""

import warnings
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from anga.plots import MARKERS, PALETTE
from anga.plots.sweeps import forest, over_knob, spreads

TASKS = ["clipart-pairs", "clipart-keywords"]
METHODS = ["retrieval + alignment", "retrieval only"]
NO_REFERENCE = pd.DataFrame(columns=["dataset", "method", "mean"])


@pytest.fixture(autouse=True)
def strict_and_closed():
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def table(half: float = 0.1, **axes) -> pd.DataFrame:
    """One row per combination of labels; intervals of the given half width, or none (NaN)."""
    rows = pd.DataFrame(list(product(*axes.values())), columns=list(axes))
    mean = np.linspace(-0.2, 0.3, len(rows))
    return rows.assign(mean=mean, low=mean - half, high=mean + half, metric="AUROC")


def legend(figure) -> list[str]:
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def points(axes) -> int:
    """Markers drawn in a panel, whatever line they belong to."""
    return sum(len(line.get_xdata()) for container in axes.containers for line in container.lines[:1])


@pytest.mark.parametrize("half", [0.1, float("nan")])
def test_a_forest_has_a_panel_per_task_and_a_line_per_label(half):
    labels = ["aligned", "random admission", "group means"]
    figure = forest(table(half, dataset=TASKS, control=labels, minus=["pooled", "group means"]), "control", "minus", "")
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes] == TASKS
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == labels
    assert legend(figure) == ["pooled", "group means"]
    assert [points(axes) for axes in figure.axes] == [6, 6]


def test_the_first_line_of_a_forest_is_on_top_and_points_stay_on_their_line():
    rows = table(dataset=TASKS[:1], control=["first", "second"], minus=["a", "b", "c"])
    axes = forest(rows, "control", "minus", "").axes[0]
    assert axes.yaxis_inverted()
    drawn = np.concatenate([container.lines[0].get_ydata() for container in axes.containers])
    assert sorted(drawn.astype(float).round()) == [0, 0, 0, 1, 1, 1]


def test_a_row_that_one_hue_lacks_is_left_out():
    rows = table(dataset=TASKS, control=["aligned", "group means"], minus=["pooled", "group means"])
    figure = forest(rows[rows["control"] != rows["minus"]], "control", "minus", "difference in {metric}")
    assert [points(axes) for axes in figure.axes] == [3, 3]
    assert figure.axes[1].get_xlabel() == "difference in AUROC"


@pytest.mark.parametrize(
    ("hue", "labels", "title"),
    [
        ("subset", ["all", "complete", "reconstructed"], "subset"),
        ("minus", ["pooled", "group means"], "compared with"),
        ("memory_bank", ["observed", "full"], "memory bank"),
    ],
)
def test_a_label_has_the_colour_and_marker_of_the_style_wherever_it_stands(hue, labels, title):
    assert len({MARKERS[label] for label in labels}) == len(labels)
    for order in (labels, labels[::-1]):
        figure = forest(table(dataset=TASKS[:1], control=["aligned"], **{hue: order}), "control", hue, "")
        assert figure.legends[0].get_title().get_text() == title
        for container, label in zip(figure.axes[0].containers, order, strict=True):
            point = container.lines[0]
            assert same_color(point.get_markerfacecolor(), PALETTE[label]) and point.get_marker() == MARKERS[label]


@pytest.mark.parametrize("half", [0.1, float("nan")])
def test_a_knob_has_a_curve_per_method_a_line_per_reference_and_its_default_in_bold(half):
    rows = table(half, dataset=TASKS, value=[0.0, 0.2, 0.99], method=METHODS)
    references = table(dataset=TASKS, method=["group means", "zero-filled"])
    figure = over_knob(rows, references, "τ", default=0.2)
    figure.canvas.draw()
    assert sorted(legend(figure)) == sorted([*METHODS, "group means", "zero-filled"])
    assert [points(axes) for axes in figure.axes] == [6, 6]
    ticks = {text.get_text(): text.get_fontweight() for text in figure.axes[0].get_xticklabels()}
    assert ticks["0.2"] == "bold" and ticks["0.0"] != "bold"


def test_a_knob_needs_neither_references_nor_its_default_among_the_values():
    rows = table(dataset=TASKS[:1], value=[1, 3], method=["full ANGA"])
    assert legend(over_knob(rows, NO_REFERENCE, "b", default=2)) == ["full ANGA"]


def test_a_spread_that_is_unknown_is_not_drawn():
    rows = table(dataset=TASKS, knob=["top_k", "lambda_max"], spread_over=["values", "draws"])
    rows["spread"] = rows["mean"].abs().where(rows["spread_over"] == "values")
    figure = spreads(rows)
    figure.canvas.draw()
    widths = [np.array([bar.get_width() for bar in container]) for container in figure.axes[0].containers]
    assert np.isfinite(widths[0]).all() and np.isnan(widths[1]).all()
