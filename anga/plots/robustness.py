"""Figures of robustness: scores over missing rates, training below the test's rate, embeddings, size against score."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from anga.plots.style import EDGE, LINES, MARKERS, PALETTE, errors

CLASS_MARKERS = "osD^v"
CLASS_COLOURS = ("#0072B2", "#E69F00", "#000000", "#CC79A7", "#009E73")
DODGE = 0.012  # of the missing rate, so that intervals of neighbouring methods do not cover one another


def scores_over_rates(table: pd.DataFrame, metrics: dict[str, str], xlabel: str, note: str) -> Figure:
    """One panel per data set: mean and 95 % interval of each method over the missing rate.

    Args:
        table: columns dataset, missing_rate, method, mean, low, high; optional `apart` (bool): such points stand
            for themselves, hollow and not joined by a line.
        metrics: data set -> label of its score axis.
        note: what stands under the figure.
    """
    figure, panels = _panels(table["dataset"].unique(), height=3.4)
    for axes, (dataset, part) in zip(panels, table.groupby("dataset", sort=False), strict=True):
        _method_lines(axes, part)
        axes.set(title=dataset, ylabel=metrics[dataset])
    return _finished(figure, panels, table["missing_rate"].unique(), xlabel, note)


def degradation(table: pd.DataFrame, xlabel: str, note: str) -> Figure:
    """Share of the score that is lost, one row of panels per way to measure it, one column per data set, one scale.

    Args:
        table: columns dataset, missing_rate, method, measure, mean, low, high (shares, 0 to 1).
        note: what stands under the figure.
    """
    datasets, measures = table["dataset"].unique(), table["measure"].unique()
    shape = len(measures), len(datasets)
    style = {"figsize": (2.2 + 2.4 * shape[1], 1.2 + 2.6 * shape[0]), "layout": "constrained", "squeeze": False}
    figure, grid = plt.subplots(*shape, sharex=True, sharey=True, **style)
    for row, measure in zip(grid, measures, strict=True):
        for axes, dataset in zip(row, datasets, strict=True):
            _method_lines(axes, table[(table["measure"] == measure) & (table["dataset"] == dataset)])
            axes.axhline(0, color="black", linewidth=0.8)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        row[0].set_ylabel(f"lost, of {measure}")
    for axes, dataset in zip(grid[0], datasets, strict=True):
        axes.set_title(dataset)
    return _finished(figure, grid.ravel(), table["missing_rate"].unique(), xlabel, note)


def embeddings(points: pd.DataFrame, captions: dict[str, str], note: str) -> Figure:
    """One t-SNE map per stage of training: colour and marker by class, filled if complete, hollow if reconstructed.

    Args:
        points: columns stage, x, y, class, state.
        captions: stage -> line under its title.
        note: what stands under the figure.
    """
    classes, n = list(points["class"].unique()), points["stage"].nunique()
    figure, panels = plt.subplots(1, n, figsize=(3 * n, 4), layout="constrained", squeeze=False)
    looks = dict(zip(classes, zip(CLASS_COLOURS, CLASS_MARKERS, strict=True), strict=False))
    for axes, (stage, part) in zip(panels[0], points.groupby("stage", sort=False), strict=True):
        for (name, state), group in part.groupby(["class", "state"], sort=False):
            colour, marker = looks[name]
            face = colour if state == "complete" else "none"
            axes.scatter(group["x"], group["y"], 20, marker=marker, facecolors=face, edgecolors=colour, linewidths=1)
        axes.set(title=f"{stage}\n{captions[stage]}", xticks=[], yticks=[])
        axes.title.set_fontsize("medium")
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, (c, m) in looks.items()]
    handles += [Line2D([], [], color="#444444", marker="o", linestyle="", label="complete")]
    handles += [
        Line2D([], [], color="#444444", marker="o", markerfacecolor="none", linestyle="", label="reconstructed")
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    figure.supxlabel(note, fontsize="small")
    return figure


def separation(table: pd.DataFrame, note: str) -> Figure:
    """Silhouettes with 95 % intervals: one row per question, one marker per stage of training.

    Args:
        table: columns question, embedding, silhouette, low, high.
        note: what stands under the figure.
    """
    questions, stages = list(table["question"].unique()), list(table["embedding"].unique())
    figure, axes = plt.subplots(figsize=(6.6, 1.5 + 0.6 * len(questions)), layout="constrained")
    looks = {"before training": ("#ffffff", "o")} | {name: (PALETTE[name], MARKERS[name]) for name in MARKERS}
    for i, stage in enumerate(stages):
        rows = table[table["embedding"] == stage].set_index("question").loc[questions]
        lengths = errors(rows, ("low", "silhouette", "high"))
        y = np.arange(len(questions)) + (i - (len(stages) - 1) / 2) * 0.22
        colour, marker = looks[stage]
        style = {"fmt": marker, "markerfacecolor": colour, "ecolor": "black", "capsize": 3, **EDGE}
        axes.errorbar(rows["silhouette"], y, xerr=lengths, label=stage, **style)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(questions)), questions)
    axes.set_ylim(len(questions) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("silhouette (0: not apart, 1: far apart)")
    figure.legend(loc="outside upper center", ncols=len(stages))
    figure.supxlabel(note, fontsize="small")
    return figure


def size_and_score(table: pd.DataFrame, metric: str, note: str) -> Figure:
    """Score with 95 % interval over the number of learnable parameters; methods of one size stand side by side.

    Args:
        table: columns method, parameters, mean, low, high.
        metric: label of the score axis.
        note: what stands under the figure.
    """
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    rank = table.groupby("parameters").cumcount() - (table.groupby("parameters")["method"].transform("size") - 1) / 2
    x = table["parameters"] / 1e6 * 1.09**rank
    for position, row, ends in zip(x, table.itertuples(), errors(table).T, strict=True):
        style = {"color": PALETTE[row.method], "fmt": MARKERS[row.method], "capsize": 3, **EDGE}
        axes.errorbar([position], [row.mean], ends[:, None], label=row.method, markersize=8, **style)
    axes.set(xscale="log", xlabel="learnable parameters, millions (log scale)", ylabel=metric)
    axes.set_xlim(x.min() / 1.5, x.max() * 1.5)
    sizes = sorted(table["parameters"].unique())
    axes.set_xticks([size / 1e6 for size in sizes], [f"{size / 1e6:.3f}" for size in sizes])
    axes.minorticks_off()
    figure.legend(loc="outside upper center", ncols=3)
    figure.supxlabel(note, fontsize="small")
    return figure


def _panels(names, height: float) -> tuple[Figure, np.ndarray]:
    width = 2.2 + 2.4 * len(names)
    figure, panels = plt.subplots(1, len(names), figsize=(width, height), layout="constrained", squeeze=False)
    return figure, panels[0]


def _method_lines(axes: Axes, table: pd.DataFrame) -> None:
    """One line with intervals per method; points that stand apart are hollow and not joined."""
    methods = list(table["method"].unique())
    axes.set_xlim(table["missing_rate"].min() - 0.06, table["missing_rate"].max() + 0.06)
    apart = table["apart"] if "apart" in table else pd.Series(False, index=table.index)
    for i, method in enumerate(methods):
        for hollow, rows in table[table["method"] == method].groupby(apart):
            x = rows["missing_rate"] + (i - (len(methods) - 1) / 2) * DODGE
            face = "white" if hollow else PALETTE[method]
            style = {"color": PALETTE[method], "marker": MARKERS[method], "markerfacecolor": face, "capsize": 2}
            line = "" if hollow else LINES[method]
            label = None if hollow else method
            axes.errorbar(x, rows["mean"], errors(rows), linestyle=line, label=label, **style, **EDGE)


def _finished(figure: Figure, panels, rates, xlabel: str, note: str) -> Figure:
    """Ticks at the rates, one legend for all panels, and under them what the axis and the intervals mean."""
    for axes in panels:
        axes.set_xticks(rates, [f"{rate:.0%}" if rate else "0" for rate in rates])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.supxlabel(f"{xlabel}\n{note}", fontsize="small")
    return figure
