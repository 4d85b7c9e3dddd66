"""What all figures share: every method has its looks, and a bar is drawn exactly where there is an interval."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from anga.parameters import VARIANTS
from anga.plots import data, imbalance, method, robustness, sweeps, training
from anga.plots.style import LINES, MARKERS, PALETTE, errors

NO_METHODS = {"all", "complete", "reconstructed", "observed", "full"}  # subsets and memory banks
METHODS = sorted(MARKERS.keys() - NO_METHODS)


@pytest.fixture(autouse=True)
def strict_and_closed():
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def bars(axes: Axes) -> int:
    """Error bars drawn in a panel; each must end in two caps."""
    found = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    segments = [part for one in found for lines in one.lines[2] for part in lines.get_segments()]
    caps = [np.isfinite(cap.get_xydata()).all(1).sum() for one in found for cap in one.lines[1]]
    n = sum(len(segment) == 2 for segment in segments)  # matplotlib takes the NaN ends out
    assert sum(caps) == 2 * n
    return n


# --- looks


def test_every_method_has_a_colour_a_marker_and_a_line():
    assert VARIANTS.keys() | {"pooled", "group means", "retrieval + alignment"} <= set(METHODS)
    assert set(METHODS) == LINES.keys()
    assert set(METHODS) <= PALETTE.keys()


def test_methods_are_told_apart_without_colours():
    apart = [name for name in METHODS if name != "pooled"]  # another name of retrieval only
    assert len({MARKERS[name] for name in apart}) == len(apart)
    drawn = [name for name in apart if name != "full ANGA"]  # aligned, as retrieval + alignment: the marker tells
    assert len({LINES[name] for name in drawn}) == len(drawn)
    for looks in (PALETTE, MARKERS, LINES):
        assert looks["pooled"] == looks["retrieval only"]


def test_every_method_can_be_drawn_over_a_knob_and_over_rates():
    table = pd.DataFrame({"dataset": "task", "metric": "AUROC", "method": METHODS, "value": 1, "missing_rate": 0.5})
    table = table.assign(mean=0.6, low=0.5, high=0.7)
    curves = sweeps.over_knob(table, table, "K")
    curves.canvas.draw()
    assert bars(curves.axes[0]) == len(METHODS)
    rates = robustness.scores_over_rates(table, {"task": "AUROC"}, "missing rate", "")
    rates.canvas.draw()
    assert bars(rates.axes[0]) == len(METHODS)


# --- error bars


def test_error_bars_reach_from_the_middle_to_both_ends():
    rows = pd.DataFrame({"low": [0.1, np.nan, 0.31], "mean": [0.3, 0.2, 0.3], "high": [0.4, np.nan, 0.5]})
    np.testing.assert_allclose(errors(rows), [[0.2, np.nan, 0], [0.1, np.nan, 0.2]])  # a length is never negative
    named = rows.rename(columns={"low": "q25", "mean": "q50", "high": "q75"})
    np.testing.assert_array_equal(errors(named, ("q25", "q50", "q75")), errors(rows))


def table(mean: str = "mean", **columns) -> pd.DataFrame:
    """Two rows or more, of which the second has no interval."""
    rows = pd.DataFrame({"dataset": "task", "metric": "AUROC", **columns})
    middle = np.linspace(0.3, 0.6, len(rows))
    rows = rows.assign(**{mean: middle}, low=middle - 0.1, high=middle + 0.1)
    rows.loc[1, ["low", "high"]] = np.nan
    return rows


PAIR = ["complete", "reconstructed"]
METRIC = {"task": "AUROC"}
NO_REFERENCE = pd.DataFrame(columns=["dataset", "method", "mean"])
FIGURES = {
    "probe_scores": lambda: data.probe_scores(table("score", features=["text", "image", "constant"]), "AUROC"),
    "errors_by_bank": lambda: data.errors_by_bank(
        table(split="test", modality=["text", "image"] * 2, memory_bank=["observed"] * 2 + ["full"] * 2)
    ),
    "upper_bounds": lambda: imbalance.upper_bounds(table(subset=PAIR, training="joint")),
    "over_rates": lambda: imbalance.over_rates(table(missing_rate=[0.1, 0.9], subset="complete"), "subset", "gap"),
    "defect": lambda: imbalance.defect(table(measure=["sound", "defective"])),
    "over_cues": lambda: imbalance.over_cues({"gap": table(missing_type="text", unimodal_cue=[0.0, 1.0])}),
    "toy_scores": lambda: method.toy_scores(table(task=["xor"] * 2 + ["sum"] * 2, rule="cone", subset=PAIR * 2)),
    "scores_over_rates": lambda: robustness.scores_over_rates(
        table(missing_rate=[0.1, 0.9], method="pooled"), METRIC, "rate", ""
    ),
    "degradation": lambda: robustness.degradation(
        table(missing_rate=[0.1, 0.9], method="pooled", measure="score"), "rate", ""
    ),
    "separation": lambda: robustness.separation(table("silhouette", question=["a", "b"], embedding="full ANGA"), ""),
    "size_and_score": lambda: robustness.size_and_score(
        table(method=["full ANGA", "pooled"], parameters=[1000, 2000]), "AUROC", ""
    ),
    "forest": lambda: sweeps.forest(table(control=["a", "b"]), "control", None, "difference"),
    "over_knob": lambda: sweeps.over_knob(table(value=[1, 2], method="pooled"), NO_REFERENCE, "K"),
    "entropy_bins": lambda: training.entropy_bins(table(entropy=[0.1, 0.2], n=5), 1.0),
    "differences": lambda: training.differences(table(step=["retrieval", "alignment"], subset="all"), "AUROC"),
    "scores_by_subset": lambda: training.scores_by_subset(table(variant="full ANGA", subset=PAIR), "AUROC"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_row_without_an_interval_has_a_point_and_no_bar(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    axes = figure.axes[0]
    points = [container.lines[0].get_xydata() for container in axes.containers]
    n = sum(len(part) for part in points)
    assert n >= 2 and all(np.isfinite(part.astype(float)).all() for part in points)
    assert bars(axes) == n - 1


def test_gradient_norms_have_bars_from_quartile_to_quartile():
    groups = ["complete", "admitted", "remaining", "anchor"]
    rows = pd.DataFrame({"epoch": 1, "group": groups, "q25": 1.0, "q50": 2.0, "q75": 4.0})
    (axes,) = training.gradient_norms(rows).axes
    ends = [segment[:, 1].tolist() for one in axes.containers for segment in one.lines[2][0].get_segments()]
    assert ends == [[1, 4]] * 4
