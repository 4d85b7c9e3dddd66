"""Figures of learning imbalance: joint training against upper bounds, over rates, cues and training."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from anga.plots.style import PALETTE, errors

# Label -> colour, marker, line; light to dark and by marker, so that they differ in grey.
STYLES = {
    "joint": ("#999999", "o", "-"),
    "upper bound": ("#000000", "D", "-"),
    "complete": (PALETTE["complete"], "o", "-"),
    "reconstructed": (PALETTE["reconstructed"], "^", "--"),
    "by chance": ("#999999", "o", "--"),
    "from one half": ("#999999", "o", "-"),
    "from the prior": ("#000000", "D", "--"),
    "as selected": ("#999999", "o", "-"),
    "same selection": ("#000000", "D", "--"),
    "as many steps": ("#000000", "D", "-"),
    "fewer steps": ("#999999", "o", "--"),
    "usual length": ("#999999", "o", "-"),
    "three times as long": ("#000000", "D", "--"),
    "with stand-ins": ("#999999", "o", "-"),
    "without stand-ins": ("#000000", "D", "--"),
    "joint, with stand-ins": ("#000000", "D", "-"),
    "group means": (PALETTE["group means"], "^", "--"),
    "aligned": (PALETTE["full ANGA"], "s", "--"),
    "text": (PALETTE["text"], "o", "-"),
    "image": (PALETTE["image"], "^", "--"),
}


def upper_bounds(table: pd.DataFrame) -> Figure:
    """Joint training beside each subset's upper bound, as the paper's Fig. 1c; one panel per task.

    Args:
        table: columns dataset, metric, subset, training (joint or upper bound), mean, low, high.
    """
    figure, panels = _panels(list(table["dataset"].unique()))
    for name, axes in panels.items():
        part = table[table["dataset"] == name]
        subsets = list(part["subset"].unique())
        for i, (training, rows) in enumerate(part.groupby("training", sort=False)):
            _draw(axes, np.arange(len(subsets)) + (i - 0.5) * 0.25, rows.set_index("subset").loc[subsets], training, "")
        axes.set_xticks(range(len(subsets)), subsets, fontsize=9)
        axes.set(title=name, ylabel=f"test {part['metric'].iloc[0]}", xlim=(-0.6, len(subsets) - 0.4))
        axes.grid(axis="x", visible=False)
    _legend(figure, panels)
    return figure


def over_rates(table: pd.DataFrame, line: str, ylabel: str) -> Figure:
    """Differences with 95 % intervals over the missing rate; one panel per task.

    Args:
        table: columns dataset, metric, missing_rate, `line`, mean, low, high.
        line: the column that tells the lines apart.
        ylabel: what the difference is.
    """
    figure, panels = _panels(list(table["dataset"].unique()))
    for name, axes in panels.items():
        part = table[table["dataset"] == name]
        for i, (label, rows) in enumerate(part.groupby(line, sort=False)):
            _draw(axes, rows["missing_rate"] + (i - 0.5) * 0.02, rows, label)
        axes.axhline(0, color="black", linewidth=1)
        title = f"{name}, {part['metric'].iloc[0]}"
        axes.set(title=title, xlabel="missing rate", xticks=sorted(part["missing_rate"].unique()))
    next(iter(panels.values())).set_ylabel(ylabel)
    _legend(figure, panels)
    return figure


def over_epochs(table: pd.DataFrame, line: str, ylabel: str, **settings) -> Figure:
    """Median (line) and middle half (band) of a step's quantity over epochs; one panel per task.

    Args:
        table: columns dataset, epoch, `line`, q25, q50, q75.
        line: the column that tells the lines apart.
        ylabel: the quantity.
        settings: of the axes, such as yscale.
    """
    figure, panels = _panels(list(table["dataset"].unique()))
    for name, axes in panels.items():
        for label, rows in table[table["dataset"] == name].groupby(line, sort=False):
            colour, marker, dash = STYLES[label]
            axes.fill_between(rows["epoch"], rows["q25"], rows["q75"], color=colour, alpha=0.25, linewidth=0)
            style = {"color": colour, "marker": marker, "markersize": 4, "markerfacecolor": _filling(label)}
            axes.plot(rows["epoch"], rows["q50"], dash, label=label, **style)
        axes.set(title=name, xlabel="epoch", **settings)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if axes.get_yscale() == "log":
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.axhline(0, color="black", linewidth=1)
    next(iter(panels.values())).set_ylabel(ylabel)
    _legend(figure, panels)
    return figure


def defect(table: pd.DataFrame) -> Figure:
    """Imbalance gap on complete samples with sound and with defective inputs, against which bound; one panel per task.

    Args:
        table: columns dataset, metric, measure, mean, low, high.
    """
    figure, panels = _panels(list(table["dataset"].unique()), height=2.6)
    measures = list(table["measure"].unique())
    for i, (name, axes) in enumerate(panels.items()):
        rows = table[table["dataset"] == name].set_index("measure").loc[measures]
        title = f"{name}, {rows['metric'].iloc[0]}"
        style = {"color": PALETTE["complete"], "markeredgecolor": "black", "capsize": 3}
        axes.errorbar(rows["mean"], range(len(measures)), xerr=errors(rows), fmt="o", **style)
        axes.axvline(0, color="black", linewidth=1)
        axes.set_yticks(range(len(measures)), measures if i == 0 else [""] * len(measures))
        axes.set(title=title, xlabel="imbalance gap", ylim=(len(measures) - 0.5, -0.5))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", visible=False)
    return figure


def maps(panels: dict[str, pd.DataFrame], what: str) -> Figure:
    """Differences over strength of the cue and missing rate; a star where the 95 % interval excludes zero.

    Args:
        panels: title -> table with columns unimodal_cue, missing_rate, mean, low, high.
        what: what the differences are of, for the colour bar that all panels share.
    """
    size = (3.7 * len(panels) + 0.8, 3.2)
    figure, row = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    limit = max(*(np.nanmax(np.abs(table["mean"])) for table in panels.values()), 1e-9)
    for i, (axes, (title, table)) in enumerate(zip(row[0], panels.items(), strict=True)):
        wide = table.pivot(index="unimodal_cue", columns="missing_rate")
        mean, low, high = wide["mean"], wide["low"], wide["high"]
        image = axes.imshow(mean, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit, origin="lower", aspect="auto")
        for y, x in np.ndindex(mean.shape):
            star = "*" if low.iat[y, x] > 0 or high.iat[y, x] < 0 else ""
            axes.text(x, y, f"{mean.iat[y, x]:+.3f}{star}", ha="center", va="center", fontsize=10)
        axes.set_xticks(range(mean.shape[1]), mean.columns)
        axes.set_yticks(range(mean.shape[0]), mean.index)
        axes.set(title=title, xlabel="missing rate", ylabel="unimodal cue (in the text)" if i == 0 else "")
        axes.grid(False)
    bar = figure.colorbar(image, ax=row[0], label=what)
    bar.ax.set_ylim(-limit, limit)
    bar.outline.set_visible(False)
    return figure


def over_cues(panels: dict[str, pd.DataFrame]) -> Figure:
    """Differences over the strength of the cue, where its modality is missing (text) and where it stays (image).

    Args:
        panels: title -> table with columns missing_type, unimodal_cue, mean, low, high.
    """
    figure, row = plt.subplots(1, len(panels), figsize=(3.7 * len(panels), 3), layout="constrained", squeeze=False)
    for axes, (title, table) in zip(row[0], panels.items(), strict=True):
        for i, (kind, rows) in enumerate(table.groupby("missing_type", sort=False)):
            _draw(axes, rows["unimodal_cue"] + (i - 0.5) * 0.02, rows, kind)
        axes.axhline(0, color="black", linewidth=1)
        axes.set(title=title, xlabel="unimodal cue (in the text)", xticks=sorted(table["unimodal_cue"].unique()))
    handles, labels = row[0][0].get_legend_handles_labels()
    figure.legend(handles, [f"{label} missing" for label in labels], loc="outside upper center", ncols=2)
    return figure


def _panels(names: list[str], height: float = 3.1) -> tuple[Figure, dict[str, Axes]]:
    """One panel per name, side by side."""
    size = (max(2.7 * len(names), 4), height)
    figure, row = plt.subplots(1, len(names), figsize=size, layout="constrained", squeeze=False)
    return figure, dict(zip(names, row[0], strict=True))


def _draw(axes: Axes, x, rows: pd.DataFrame, label: str, dash: str | None = None) -> None:
    """Points with intervals in a label's colour, marker and line (`dash=""`: no line)."""
    colour, marker, line = STYLES[label]
    style = {"color": colour, "marker": marker, "linestyle": line if dash is None else dash, "capsize": 3}
    style |= {"markerfacecolor": _filling(label), "markeredgecolor": "black"}
    axes.errorbar(x, rows["mean"], errors(rows), label=label, **style)


def _filling(label: str) -> str:
    """Markers of dashed lines are open: colours of equal grey must not meet with equal markers."""
    colour, _, line = STYLES[label]
    return "white" if line == "--" else colour


def _legend(figure: Figure, panels: dict[str, Axes]) -> None:
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
