"""A results table in, a figure out: one message each, readable in grey, drawn from the CSV that lies beside it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; light to dark, so that they differ in grey as well.
PALETTE = {
    "zero-filled": "#999999",
    "retrieval only": "#56B4E9",
    "retrieval + adapter": "#E69F00",
    "full ANGA": "#0072B2",
    "complete": "#009E73",
    "admitted": "#E69F00",
    "remaining": "#CC79A7",
    "reconstructed": "#D55E00",
    "anchor": "#0072B2",
    "all": "#444444",
    "text": "#0072B2",
    "image": "#D55E00",
}
MARKERS = {"zero-filled": "o", "retrieval only": "s", "retrieval + adapter": "^", "full ANGA": "D"}


def set_style() -> None:
    """The look of every figure of the study; call it once in a notebook."""
    sns.set_theme(context="notebook", style="whitegrid", font_scale=0.9)
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )


def save_figure(figure: Figure, data: pd.DataFrame, path: str | Path) -> None:
    """Write a figure as PNG and SVG and the table that it was drawn from as CSV: `path` plus the three suffixes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), bbox_inches="tight")
    data.to_csv(path.with_suffix(".csv"), index=False)


def scores_by_subset(table: pd.DataFrame, metric: str) -> Figure:
    """Means with 95 % intervals of each variant on each subset.

    Args:
        table: columns variant, subset, mean, low, high.
        metric: label of the score axis.
    """
    variants, subsets = list(table["variant"].unique()), list(table["subset"].unique())
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for i, variant in enumerate(variants):
        rows = table[table["variant"] == variant].set_index("subset").loc[subsets]
        x = np.arange(len(subsets)) + (i - (len(variants) - 1) / 2) * 0.16
        draw_interval(axes, x, rows, variant)
    axes.set_xticks(range(len(subsets)), subsets)
    axes.set_xlabel("test samples")
    axes.set_ylabel(metric)
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=len(variants))
    return figure


def draw_interval(axes: Axes, x: np.ndarray, rows: pd.DataFrame, variant: str) -> None:
    """Points with error bars in a variant's colour and marker."""
    error = np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]).clip(min=0)
    colour, marker = PALETTE.get(variant, "#444444"), MARKERS.get(variant, "o")
    axes.errorbar(x, rows["mean"], error, fmt=marker, color=colour, capsize=3, label=variant, markeredgecolor="black")
