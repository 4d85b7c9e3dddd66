"""Pictures of the method itself, drawn from toys: the cone, the curriculum, two parameters and two kinds of samples."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from matplotlib.ticker import MaxNLocator

from anga.plots.style import PALETTE, errors

# Grey and line style tell the rules apart where colour is lost. Pooled is grey: it is nobody's side.
RULES = {
    "pooled": {"color": PALETTE["all"], "linestyle": "--", "marker": "s"},
    "group_means": {"color": PALETTE["remaining"], "linestyle": ":", "marker": "^"},
    "cone": {"color": PALETTE["full ANGA"], "linestyle": "-", "marker": "D"},
}


def toy_paths(grid: pd.DataFrame, paths: pd.DataFrame) -> Figure:
    """Ways of gradient descent over the losses of both kinds of samples.

    Args:
        grid: columns w_text, w_image, complete, reconstructed: the two mean losses on a square grid of weights.
        paths: columns rule, step, w_text, w_image.
    """
    figure, axes = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    for kind, style in (("complete", "-"), ("reconstructed", "--")):
        wide = grid.pivot(index="w_image", columns="w_text", values=kind)
        levels = wide.to_numpy().min() + np.array([0.003, 0.03, 0.08])
        axes.contour(wide.columns, wide.index, wide, levels, colors=PALETTE[kind], linestyles=style, linewidths=1)
        image, text = wide.stack().idxmin()
        axes.text(text, image + 0.44, f"best for\n{kind}", ha="center", va="bottom", color=PALETTE[kind])
    for rule, path in paths.groupby("rule", sort=False):
        axes.plot(path["w_text"], path["w_image"], label=rule, markevery=3, markersize=5, **RULES[rule])
        axes.plot(*path[["w_text", "w_image"]].iloc[-1], "*", color="black", markersize=13, zorder=5)
    axes.annotate("start", paths[["w_text", "w_image"]].iloc[0], xytext=(8, -4), textcoords="offset points")
    axes.set(xlabel="weight of the text", ylabel="weight of the image")
    figure.legend(loc="outside upper center", ncols=len(RULES))
    return figure


def curriculum(table: pd.DataFrame) -> Figure:
    """How many reconstructed samples are admitted in each epoch.

    Args:
        table: columns epoch, ratio (lambda), admitted (samples).
    """
    figure, axes = plt.subplots(figsize=(5.2, 2.6), layout="constrained")
    axes.bar(table["epoch"], table["admitted"], color=PALETTE["admitted"], edgecolor="black")
    axes.set(xlabel="epoch z", ylabel="admitted samples")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    right = axes.secondary_yaxis("right", functions=_scales(table))
    right.set_ylabel("anchor ratio $\\lambda(z)$")
    return figure


def _scales(table: pd.DataFrame):
    """Samples to ratio and back."""
    per_ratio = max(table["admitted"].max(), 1) / max(table["ratio"].max(), 1e-9)
    return (lambda n: n / per_ratio), (lambda ratio: ratio * per_ratio)


def cone(table: pd.DataFrame, cos_threshold: float) -> Figure:
    """The three cases in the plane: the remaining gradient before and after, and the cone around the anchor.

    Args:
        table: columns case, vector (anchor, before, after), x, y: one arrow each.
        cos_threshold: tau; the half-angle of the cone is its arc cosine.
    """
    cases = list(table["case"].unique())
    figure, panels = plt.subplots(1, len(cases), figsize=(7.6, 2.9), layout="constrained", sharex=True, sharey=True)
    half = np.degrees(np.arccos(cos_threshold))
    for axes, case in zip(panels, cases, strict=True):
        axes.add_patch(Wedge((0, 0), 0.9, 90 - half, 90 + half, color="#dddddd", zorder=0))
        for row in table[table["case"] == case].itertuples():
            _arrow(axes, row.vector, row.x, row.y)
        axes.set(title=case, xlim=(-1.05, 1.05), ylim=(-0.75, 1.3), aspect="equal")
        axes.axis("off")
    styles = [plt.Line2D([], [], **STYLES[name]) for name in STYLES]
    figure.legend(styles, LABELS, loc="outside lower center", ncols=3)
    return figure


STYLES = {
    "anchor": {"color": "#666666", "linestyle": "-", "linewidth": 1.5},
    "before": {"color": PALETTE["reconstructed"], "linestyle": ":", "linewidth": 2},
    "after": {"color": PALETTE["full ANGA"], "linestyle": "-", "linewidth": 3},
}
LABELS = ["anchor gradient $g_A$", "remaining gradient $g_{M'}$", "after alignment $\\tilde{g}_{M'}$"]


def _arrow(axes: Axes, vector: str, x: float, y: float) -> None:
    """An arrow from the origin; a suppressed gradient is a dot."""
    style = STYLES[vector]
    if np.hypot(x, y) < 1e-9:
        axes.plot(0, 0, "o", color=style["color"], markersize=9)
        return
    arrow = {"arrowstyle": "-|>", "color": style["color"], "lw": style["linewidth"], "linestyle": style["linestyle"]}
    axes.annotate("", (x, y), (0, 0), arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})


def shrinking(table: pd.DataFrame) -> Figure:
    """What alignment does to a gradient's direction and length, against its cosine with the anchor.

    Args:
        table: columns cos_threshold, cosine, cosine_after, shrink, length (after / before).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
    parts = table.groupby("cos_threshold")
    shades = sns.light_palette(PALETTE["full ANGA"], len(parts) + 1, reverse=True)[:-1]  # the last is nearly white
    for (tau, part), colour in zip(parts, shades, strict=True):
        kept = part[part["length"] > 0]
        left.plot(kept["cosine"], kept["cosine_after"], color=colour, linewidth=2, label=f"$\\tau$ = {tau:g}")
        right.plot(part["cosine"], part["length"], color=colour, linewidth=2, label=f"length, $\\tau$ = {tau:g}")
        right.plot(part["cosine"], part["shrink"], "--", color=colour, label=f"$\\alpha$, $\\tau$ = {tau:g}")
    left.plot([-1, 1], [-1, 1], ":", color="black", linewidth=1, label="unchanged")
    left.set(xlabel="cosine before", ylabel="cosine after", title="direction")
    right.set(xlabel="cosine before", ylabel="after / before", title="length")
    left.legend()
    right.legend()
    return figure


def printed_projection(table: pd.DataFrame, cos_threshold: float) -> Figure:
    """The cosine that alignment ends at, with Eq. 10 as printed and squared, for anchors of several lengths.

    Args:
        table: columns form (printed, squared), anchor_norm, cosine, cosine_after.
    """
    figure, axes = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    printed = table[table["form"] == "printed"]
    shades = sns.color_palette("flare", printed["anchor_norm"].nunique())
    dashes = ["-", "--", "-.", ":", (0, (6, 2))]
    for i, (norm, part) in enumerate(printed.groupby("anchor_norm")):
        style = {"color": shades[i], "linestyle": dashes[i % len(dashes)]}
        axes.plot(part["cosine"], part["cosine_after"], label=f"printed, $|g_A|$ = {norm:g}", **style)
    squared = table[table["form"] == "squared"]
    label = "squared, every $|g_A|$"
    axes.plot(squared["cosine"], squared["cosine_after"], color="black", linewidth=3, label=label)
    axes.set(xlabel="cosine before", ylabel="cosine after", xlim=(0, cos_threshold), ylim=(-1.05, 1.05))
    figure.legend(loc="outside right center")
    return figure


def toy_scores(table: pd.DataFrame) -> Figure:
    """Accuracy of toy networks under each update rule, apart for complete and reconstructed test samples.

    Args:
        table: columns task, rule, subset, mean, low, high.
    """
    tasks, subsets = list(table["task"].unique()), list(table["subset"].unique())
    figure, panels = plt.subplots(1, len(tasks), figsize=(7.2, 3), layout="constrained", sharey=True)
    for axes, task in zip(panels, tasks, strict=True):
        for i, (rule, part) in enumerate(table[table["task"] == task].groupby("rule", sort=False)):
            rows = part.set_index("subset").loc[subsets]
            x = np.arange(len(subsets)) + (i - 1) * 0.18
            style = {"color": RULES[rule]["color"], "fmt": RULES[rule]["marker"], "markeredgecolor": "black"}
            axes.errorbar(x, rows["mean"], errors(rows), capsize=3, label=rule, **style)
        axes.set_xticks(range(len(subsets)), subsets)
        axes.set(title=task, xlabel="test samples", xlim=(-0.5, len(subsets) - 0.5))
        axes.grid(axis="x", visible=False)
    panels[0].set_ylabel("accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(RULES))
    return figure
