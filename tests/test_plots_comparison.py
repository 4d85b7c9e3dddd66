"""Figures of the comparison: all methods and tasks are drawn, marks are visible, one run needs no interval."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from anga.plots import comparison

METHODS = {"IF-MMIN": "invariant", "MAPs": "vlp", "RAGPT": "reconstruction", "ANGA": "reconstruction"}
TASKS = ["clipart-pairs", "clipart-keywords"]
ENDS = [np.nan, 0.02]  # a single run may have no interval


@pytest.fixture(autouse=True)
def strict_and_closed():
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def table(half: float = 0.02, tasks=TASKS, methods=METHODS) -> pd.DataFrame:
    rows = [(t, m, f, 0.6 + 0.01 * i) for t in tasks for i, (m, f) in enumerate(methods.items())]
    table = pd.DataFrame(rows, columns=["dataset", "method", "family", "mean"])
    ends = {"low": table["mean"] - half, "high": table["mean"] + half}
    return table.assign(**ends, metric="AUROC", mark="", behind=False)


def words(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def markers(axes) -> list:
    return [line for line in axes.lines if line.get_marker() not in ("None", "", None)]


@pytest.mark.parametrize("half", ENDS)
@pytest.mark.parametrize("tasks", [TASKS, TASKS[:1]])
def test_scores_have_a_panel_per_task_and_a_line_per_method(half, tasks):
    figure = comparison.scores(table(half, tasks), "n = 9 runs")
    assert [axes.get_title() for axes in figure.axes] == tasks
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(METHODS)
    assert all(len(markers(axes)) == len(METHODS) for axes in figure.axes)
    assert "n = 9 runs" in words(figure) and figure.axes[0].yaxis_inverted()


def test_who_is_clearly_behind_is_hollow_and_the_best_is_ringed():
    rows = table(tasks=TASKS[:1])
    rows["behind"], rows["mark"] = rows["method"] != "ANGA", np.where(rows["method"] == "ANGA", "best", "")
    figure = comparison.scores(rows, "")
    faces = [to_hex(line.get_markerfacecolor()) for line in markers(figure.axes[0])]
    assert faces[:3] == ["#ffffff"] * 3 and faces[3] != "#ffffff"
    (ring,) = figure.axes[0].collections
    assert ring.get_offsets().tolist() == [[pytest.approx(0.63), 3]]
    assert "ringed: best" in words(figure)
    assert "ringed: best" not in words(comparison.scores(table(), ""))


def test_families_differ_by_marker():
    looks = list(comparison.FAMILIES.values())
    assert len({marker for _, marker, _ in looks}) == len(looks)
    everybody = METHODS | {"ViLT": "reference"}
    drawn = {line.get_marker() for line in markers(comparison.scores(table(methods=everybody), "").axes[0])}
    assert drawn == {marker for _, marker, _ in looks}


@pytest.mark.parametrize("half", ENDS)
def test_costs_are_sorted_and_methods_of_one_cost_keep_lines_of_their_own(half):
    rows = table(half, TASKS[:1]).assign(seconds=[30.0, 2.0, 200.0, 2.0])
    left, right = comparison.costs(rows, "seconds", "seconds", "AUROC", "note").axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["MAPs", "ANGA", "IF-MMIN", "RAGPT"]
    assert [line.get_xdata()[0] for line in markers(left)] == [2, 2, 30, 200] and left.get_xscale() == "log"
    assert [line.get_xdata()[0] for line in markers(right)] == pytest.approx([0.61, 0.63, 0.6, 0.62])


@pytest.mark.parametrize("n", [2, 5, 19])
def test_a_rank_diagram_names_every_method_and_bars_join_groups(n):
    ranks = pd.Series(np.linspace(1.2, n - 0.2, n), [f"m{i}" for i in range(n)])
    groups = [list(ranks.index[:2])]
    figure = comparison.critical_differences(ranks, groups, 1.5, "nine comparisons")
    shown = words(figure)
    assert all(any(text.strip().startswith(f"{name} (") for text in shown) for name in ranks.index)
    assert "critical difference 1.50" in shown and "nine comparisons" in shown
    (bar,) = [line for line in figure.axes[0].lines if line.get_linewidth() == 3.5]
    assert bar.get_xdata()[0] < ranks.iloc[0] < ranks.iloc[1] < bar.get_xdata()[1]


def test_labels_of_a_rank_diagram_do_not_cover_one_another():
    ranks = pd.Series(np.linspace(3, 12, 17), [f"method number {i}" for i in range(17)])
    figure = comparison.critical_differences(ranks, [], 4.0, "")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if "method" in text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_places_join_both_sides_of_a_method():
    rows = pd.DataFrame({"method": METHODS.keys(), "family": METHODS.values()})
    figure = comparison.places(rows.assign(first=[1, 2, 3, 4], second=[4, 3, 2, 1]), ("paper", "ours"), "")
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[1, 4], [2, 3], [3, 2], [4, 1]]
    assert {"paper", "ours", "MAPs  2", "3  MAPs"} <= set(words(figure))


def test_bars_of_orders_are_as_long_as_their_counts():
    rows = pd.DataFrame({"method": ["ANGA", "ViLT"], "holds": [3, 0], "open": [1, 2], "reversed": [0, 2]})
    axes = comparison.published_orders(rows, "").axes[0]
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert widths == [[3, 0], [1, 2], [0, 2]]
    assert [bar.get_x() for bar in axes.containers[2]] == [4, 2]
    assert len({hatch for _, hatch in comparison.VERDICTS.values()}) == 2
