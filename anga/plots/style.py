"""A results table in, a figure out: one message each, readable in grey, drawn from the CSV that lies beside it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; light to dark, so that they differ in grey as well. One
# label has one colour in every notebook. What is aligned is blue, and its marker says whether there is an adapter;
# `pooled` is another name for `retrieval only`.
PALETTE = {
    "zero-filled": "#999999",
    "retrieval only": "#56B4E9",
    "pooled": "#56B4E9",
    "group means": "#CC79A7",
    "retrieval + alignment": "#0072B2",
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
    "observed": "#D55E00",
    "full": "#ffffff",
}
# Colours of equal grey never meet with equal markers.
MARKERS = {
    "zero-filled": "o",
    "retrieval only": "s",
    "pooled": "s",
    "group means": "v",
    "retrieval + alignment": "P",
    "retrieval + adapter": "^",
    "full ANGA": "D",
    "all": "o",
    "complete": "s",
    "reconstructed": "^",
    "observed": "o",
    "full": "D",
}
EDGE = {"markeredgecolor": "black", "markeredgewidth": 0.6}  # thin, so that small markers keep their colours
LINES = {  # of methods alone; each has a colour and a marker, too
    "zero-filled": "--",
    "retrieval only": ":",
    "pooled": ":",
    "group means": "-.",
    "retrieval + alignment": "-",
    "retrieval + adapter": (0, (3, 1, 1, 1, 1, 1)),
    "full ANGA": "-",
}


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


def errors(rows: pd.DataFrame, columns: tuple[str, str, str] = ("low", "mean", "high")) -> np.ndarray:
    """Lengths `[2, n]` of error bars below and above the middle column; NaN, no bar, where a run has no interval."""
    low, middle, high = (rows[name].to_numpy(float) for name in columns)
    return np.stack([middle - low, high - middle]).clip(min=0)


def save_figure(figure: Figure, data: pd.DataFrame, path: str | Path) -> None:
    """Write a figure as PNG and SVG and the table that it was drawn from as CSV: `path` plus the three suffixes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), bbox_inches="tight")
    data.to_csv(path.with_suffix(".csv"), index=False)
