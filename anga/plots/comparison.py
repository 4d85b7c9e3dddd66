"""Figures of the comparison: scores of many methods, ranks with their critical difference, published orders."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

# Family -> name in legends, marker, colour; the marker alone tells them apart.
FAMILIES = {
    "reference": ("nothing is done", "X", "#999999"),
    "invariant": ("modality-invariant", "o", "#0072B2"),
    "vlp": ("prompts", "^", "#009E73"),
    "reconstruction": ("reconstruction", "s", "#D55E00"),
}
VERDICTS = {"holds": ("#333333", ""), "open": ("#ffffff", ""), "reversed": ("#E69F00", "///")}


def scores(table: pd.DataFrame, note: str) -> Figure:
    """Means with 95 % intervals, a line per method, a panel per task.

    Args:
        table: columns dataset, metric, method, family, mean, low, high, mark, behind; an interval that is NaN is not
            drawn. Filled: not clearly behind the highest mean; a ring: marked as best.
        note: what stands under the figure.
    """
    methods, names = list(table["method"].unique()), list(table["dataset"].unique())
    size = (2.3 + 2.1 * len(names), 1.6 + 0.24 * len(methods))
    one = table["metric"].nunique() == 1  # then panels are read against each other
    style = {"layout": "constrained", "squeeze": False, "sharey": True, "sharex": one}
    figure, panels = plt.subplots(1, len(names), figsize=size, **style)
    for axes, name in zip(panels[0], names, strict=True):
        part = table[table["dataset"] == name]
        for row in part.itertuples():
            _point(axes, row, methods.index(row.method), filled=not row.behind)
        best = part[part["mark"] == "best"]
        ring = {"s": 150, "facecolors": "none", "edgecolors": "black", "linewidths": 1.3, "zorder": 4}
        axes.scatter(best["mean"], best["method"].map(methods.index), **ring)
        axes.set(title=name, xlabel=f"test {part['metric'].iloc[0]}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    _lines(panels[0], methods)
    kinds = [("not clearly behind the leader", "D", "#444444"), ("clearly behind", "D", "white")]
    handles = _family_handles(table["family"]) + [_handle(marker, colour, name) for name, marker, colour in kinds]
    if (table["mark"] == "best").any():
        handles.append(_handle("o", "none", "ringed: best", markersize=11))
    _legend(figure, handles, note, columns=3)
    return figure


def costs(table: pd.DataFrame, cost: str, label: str, metric: str, note: str) -> Figure:
    """What each method costs beside its score, sorted by cost.

    Args:
        table: columns method, family, mean, low, high and `cost`.
        cost: the column on the left panel's axis, which is logarithmic.
        label: of that axis.
        metric: label of the score axis.
        note: what stands under the figure.
    """
    table = table.sort_values([cost, "mean"], kind="stable")
    methods = list(table["method"])
    size = (7.2, 1.6 + 0.24 * len(methods))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    for i, row in enumerate(table.itertuples()):
        _, marker, colour = FAMILIES[row.family]
        value = getattr(row, cost)
        left.plot([table[cost].min() / 2, value], [i, i], color="#999999", linewidth=1.5, zorder=1)
        left.plot(value, i, marker, color=colour, markeredgecolor="black", markersize=7)
        _point(right, row, i)
    left.set(xscale="log", xlabel=label, xlim=(table[cost].min() / 2, table[cost].max() * 2))
    right.set_xlabel(f"test {metric}")
    right.xaxis.set_major_locator(MaxNLocator(5))
    _lines((left, right), methods)
    _legend(figure, _family_handles(table["family"]), note)
    return figure


def critical_differences(ranks: pd.Series, groups: list[list[str]], difference: float, note: str) -> Figure:
    """Average ranks on one axis, best on the left; a bar joins methods that cannot be told apart.

    Args:
        ranks: average rank by method, sorted.
        groups: methods under one bar each (`anga.ranks.cliques`).
        difference: the critical one, drawn as a ruler.
        note: what stands under the figure.
    """
    half = (len(ranks) + 1) // 2
    floor = 1.0 + 0.42 * len(groups)
    figure, axes = plt.subplots(figsize=(8.2, 1.5 + 0.3 * (half + floor)), layout="constrained")
    low, high = 1, max(len(ranks), 1 + difference)
    margin = 0.06 * (high - low)
    axes.plot([low, high], [0, 0], color="black", linewidth=1.2)
    for tick in range(1, int(high) + 1, 1 + int(high // 12)):
        axes.plot([tick, tick], [0, -0.25], color="black", linewidth=1)
        axes.text(tick, -0.4, tick, ha="center", va="bottom", fontsize="small")
    axes.plot([low, low + difference], [-2.1, -2.1], color="black", linewidth=2, marker="|", markersize=9)
    axes.text(low + difference / 2, -2.3, f"critical difference {difference:.2f}", ha="center", fontsize="small")
    for i, (method, rank) in enumerate(ranks.items()):
        y, edge, side = (
            (floor + i, low - margin, "right") if i < half else (floor + len(ranks) - 1 - i, high + margin, "left")
        )
        axes.plot([rank, rank, edge], [0, y, y], color="#777777", linewidth=0.9, zorder=1)
        axes.text(edge, y, f" {method} ({rank:.1f}) ", ha=side, va="center")
    for i, group in enumerate(groups):
        ends = ranks[group].iloc[[0, -1]] + np.array([-0.08, 0.08])
        axes.plot(ends, [0.55 + 0.42 * i] * 2, color="black", linewidth=3.5, solid_capstyle="butt")
    axes.set(ylim=(floor + half, -3.3), xlim=(low - margin, high + margin))
    axes.axis("off")
    figure.supxlabel(note, fontsize="small")
    return figure


def places(table: pd.DataFrame, sides: tuple[str, str], note: str) -> Figure:
    """Places of methods in two orders, joined by lines; parallel lines are agreement.

    Args:
        table: columns method, family, first, second: places, 1 for the best, no two alike.
        sides: what stands above the two columns.
        note: what stands under the figure.
    """
    figure, axes = plt.subplots(figsize=(6, 1.4 + 0.3 * len(table)), layout="constrained")
    for row in table.itertuples():
        _, marker, colour = FAMILIES[row.family]
        style = {"marker": marker, "markersize": 8, "markeredgecolor": "black", "linewidth": 1.6}
        axes.plot([0, 1], [row.first, row.second], color=colour, **style)
        axes.text(-0.06, row.first, f"{row.method}  {row.first:.0f}", ha="right", va="center")
        axes.text(1.06, row.second, f"{row.second:.0f}  {row.method}", ha="left", va="center")
    for x, side in enumerate(sides):
        axes.text(x, 0.2, side, ha="center", fontweight="bold")
    axes.set(ylim=(len(table) + 0.6, -0.2), xlim=(-0.75, 1.75))
    axes.axis("off")
    _legend(figure, _family_handles(table["family"]), note)
    return figure


def published_orders(table: pd.DataFrame, note: str) -> Figure:
    """For each method, how many of the published orders with others hold, are open or are reversed.

    Args:
        table: columns method, holds, open, reversed (counts), in the order of the lines.
        note: what stands under the figure.
    """
    figure, axes = plt.subplots(figsize=(6.4, 1.7 + 0.26 * len(table)), layout="constrained")
    left = np.zeros(len(table))
    for verdict, (colour, hatch) in VERDICTS.items():
        style = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.8}
        axes.barh(range(len(table)), table[verdict], 0.72, left, **style)
        left += table[verdict].to_numpy()
    axes.set_yticks(range(len(table)), table["method"])
    axes.set(ylim=(len(table) - 0.4, -0.6), xlabel="published orders with the other methods")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", visible=False)
    looks = VERDICTS.items()
    _legend(figure, [Patch(facecolor=c, hatch=h, edgecolor="black", label=name) for name, (c, h) in looks], note)
    return figure


def _point(axes: Axes, row, y: float, filled: bool = True) -> None:
    """One method's mean and interval; grey line and marker of its family."""
    _, marker, colour = FAMILIES[row.family]
    if np.isfinite(row.low):
        axes.plot([row.low, row.high], [y, y], color="#555555", linewidth=1.3, zorder=2)
    face = colour if filled else "white"
    axes.plot(row.mean, y, marker, markerfacecolor=face, markeredgecolor="black", markersize=6.5, zorder=3)


def _lines(panels, methods: list[str]) -> None:
    """A line per method, the first on top, every other one on grey."""
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    for axes in panels:
        for i in range(0, len(methods), 2):
            axes.axhspan(i - 0.5, i + 0.5, color="#f0f0f0", zorder=0, linewidth=0)
        axes.grid(axis="y", visible=False)


def _family_handles(families: pd.Series) -> list[Line2D]:
    shown = [look for family, look in FAMILIES.items() if family in set(families)]
    return [_handle(marker, colour, name) for name, marker, colour in shown]


def _handle(marker: str, face: str, label: str, **more) -> Line2D:
    style = {"markerfacecolor": face, "markeredgecolor": "black", "linestyle": "", **more}
    return Line2D([], [], marker=marker, label=label, **style)


def _legend(figure: Figure, handles: list, note: str, columns: int | None = None) -> None:
    figure.legend(handles=handles, loc="outside upper center", ncols=columns or len(handles))
    figure.supxlabel(note, fontsize="small")
