"""Figures of ablations and sweeps: intervals in rows (forest plots), scores over a knob, spread against spread."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anga.plots.style import EDGE, LINES, MARKERS, PALETTE, errors

# Of labels that the style does not know: told apart by shape and by lightness, in the order in which they come.
OTHERS = [("#000000", "o"), ("#E69F00", "s"), ("#ffffff", "^"), ("#0072B2", "D")]
TITLES = {"minus": "compared with", "memory_bank": "memory bank"}  # of legends, where a column's name is none
ROUND = [1, 2, 3, 4, 5, 10]  # distances of ticks in narrow panels, where labels like -0.075 would touch


def forest(table: pd.DataFrame, row: str, hue: str | None, xlabel: str, zero: bool = True) -> Figure:
    """Means with 95 % intervals, one line of the figure per label; one panel per task.

    Args:
        table: columns dataset, `row`, `hue`, mean, low, high; an interval that is NaN is not drawn.
        row: the column whose labels are the lines, in order of appearance.
        hue: the column whose labels share a line; None for one point per line.
        xlabel: of all panels; may use the name of a task's metric as "{metric}" if there is a column metric.
        zero: whether to mark zero, which a difference is read against.
    """
    lines = list(table[row].unique())
    hues = [None] if hue is None else list(table[hue].unique())
    figure, panels = _panels(table, (2.0, 0.9 + 0.13 * len(lines) * (1 + len(hues))), sharey=True)
    for name, axes in panels.items():
        part = table[table["dataset"] == name]
        for i, label in enumerate(hues):
            rows = part if label is None else part[part[hue] == label]
            y = rows[row].map(lines.index) + (i - (len(hues) - 1) / 2) * 0.72 / len(hues)
            colour, marker = PALETTE.get(label, OTHERS[i][0]), MARKERS.get(label, OTHERS[i][1])
            style = {"color": "black", "markerfacecolor": colour, "fmt": marker, "markersize": 6, "capsize": 2, **EDGE}
            axes.errorbar(rows["mean"], y, xerr=errors(rows), linewidth=1.2, label=label, **style)
        if zero:
            axes.axvline(0, color="black", linewidth=1)
        axes.set(title=name, xlabel=xlabel.format(metric=_metric(part)))
        axes.set_yticks(range(len(lines)), lines)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=ROUND))
    first = next(iter(panels.values()))
    first.set_ylim(len(lines) - 0.5, -0.5)
    _stripes(panels, len(lines))
    _legend(figure, first, title=TITLES.get(hue, hue))
    return figure


def over_knob(table: pd.DataFrame, references: pd.DataFrame, knob: str, default=None) -> Figure:
    """Scores with 95 % intervals over the values of a knob, against dashed references; one panel per task.

    Args:
        table: columns dataset, metric, value, method, mean, low, high; values are drawn at equal distances.
        references: columns dataset, method, mean: what does not depend on the knob; may be empty.
        knob: label of the x axis.
        default: the value to mark.
    """
    values = list(table["value"].unique())
    figure, panels = _panels(table, (2.9, 3.1), sharey=False)
    for name, axes in panels.items():
        part = table[table["dataset"] == name]
        methods = list(part["method"].unique())
        for i, method in enumerate(methods):
            rows = part[part["method"] == method]
            x = rows["value"].map(values.index) + 0.12 * (i - (len(methods) - 1) / 2)
            style = {"color": PALETTE[method], "marker": MARKERS[method], "linestyle": LINES[method]}
            axes.errorbar(x, rows["mean"], errors(rows), label=method, capsize=3, linewidth=1.5, **style, **EDGE)
        for reference in references[references["dataset"] == name].itertuples():
            style = {"color": PALETTE[reference.method], "linestyle": LINES[reference.method], "linewidth": 2}
            axes.axhline(reference.mean, label=reference.method, **style)
        axes.set_xticks(range(len(values)), values)
        if default in values:
            axes.get_xticklabels()[values.index(default)].set_fontweight("bold")
        axes.set(title=name, xlabel=knob, ylabel=f"test {_metric(part)}")
        axes.grid(axis="x", visible=False)
    _legend(figure, next(iter(panels.values())))
    return figure


def spreads(table: pd.DataFrame) -> Figure:
    """How far a knob moves the score, beside how far the draws of a run do; one panel per task.

    Args:
        table: columns dataset, metric, knob, spread_over, spread (a standard deviation; NaN is not drawn).
    """
    knobs, kinds = list(table["knob"].unique()), list(table["spread_over"].unique())
    figure, panels = _panels(table, (2.5, 1.2 + 0.42 * len(knobs)), sharey=True)
    for name, axes in panels.items():
        part = table[table["dataset"] == name]
        for i, kind in enumerate(kinds):
            rows = part[part["spread_over"] == kind]
            y = rows["knob"].map(knobs.index) + (i - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
            style = {"color": ["#0072B2", "#ffffff", "#bbbbbb"][i], "hatch": ["", "///", ""][i], "edgecolor": "black"}
            axes.barh(y, rows["spread"], 0.8 / len(kinds), label=kind, **style)
        axes.set(title=name, xlabel=f"standard deviation, {_metric(part)}")
        axes.set_yticks(range(len(knobs)), knobs)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    first = next(iter(panels.values()))
    first.set_ylim(len(knobs) - 0.5, -0.5)
    _legend(figure, first)
    return figure


def _panels(table: pd.DataFrame, panel: tuple[float, float], sharey: bool) -> tuple[Figure, dict[str, Axes]]:
    """One panel per task, side by side; `panel`: its width and height in inches, labels of a shared axis apart."""
    names = list(table["dataset"].unique())
    size = (panel[0] * len(names) + (2.2 if sharey else 0.4), panel[1] + 0.6)
    figure, axes = plt.subplots(1, len(names), figsize=size, layout="constrained", squeeze=False, sharey=sharey)
    return figure, dict(zip(names, axes[0], strict=True))


def _metric(part: pd.DataFrame) -> str:
    return part["metric"].iloc[0] if "metric" in part else ""


def _stripes(panels: dict[str, Axes], n_lines: int) -> None:
    """Every other line of a forest plot on grey, so that the eye finds a point's label."""
    for axes in panels.values():
        for i in range(0, n_lines, 2):
            axes.axhspan(i - 0.5, i + 0.5, color="#f0f0f0", zorder=0, linewidth=0)
        axes.grid(axis="y", visible=False)


def _legend(figure: Figure, axes: Axes, title: str | None = None) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        ncols = 2 if len(labels) == 4 else min(3, len(labels))
        figure.legend(handles, labels, loc="outside upper center", ncols=ncols, title=title)
