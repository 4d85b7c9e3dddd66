"""Figures of runs: telemetry and validation over epochs, entropy against error, what each part of the method adds."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from anga.plots.style import MARKERS, PALETTE, errors

# Light to dark and with hatches: the cases must differ in grey.
CASES = {
    "inside": ("#56B4E9", ""),
    "outside": ("#E69F00", "//"),
    "opposite": ("#8B3A00", ""),
    "no anchor": ("#ffffff", ".."),
    "no remaining": ("#ffffff", "xx"),
}


def case_shares(table: pd.DataFrame) -> Figure:
    """How often each case occurred, per epoch.

    Args:
        table: columns epoch, case, share.
    """
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    wide = table.pivot(index="epoch", columns="case", values="share").fillna(0)
    bottom = np.zeros(len(wide))
    for case in (name for name in CASES if name in wide and wide[name].any()):
        colour, hatch = CASES[case]
        axes.bar(wide.index, wide[case], 0.85, bottom, color=colour, hatch=hatch, edgecolor="black", label=case)
        bottom += wide[case]
    axes.set(xlabel="epoch", ylabel="share of steps", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(False)
    figure.legend(loc="outside upper center", ncols=len(CASES))
    return figure


def cosines_by_epoch(table: pd.DataFrame, cos_threshold: float) -> Figure:
    """Where the cosines lie, per epoch: median, middle half, and the middle nine tenths.

    Args:
        table: columns epoch, q05, q25, q50, q75, q95.
    """
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.axhspan(0, cos_threshold, color="#E69F00", alpha=0.25, linewidth=0, label="outside the cone")
    axes.vlines(table["epoch"], table["q05"], table["q95"], color="black", linewidth=1, label="5 to 95 %")
    axes.vlines(table["epoch"], table["q25"], table["q75"], color=PALETTE["anchor"], linewidth=6, label="25 to 75 %")
    axes.plot(table["epoch"], table["q50"], "o", color="white", markeredgecolor="black", label="median")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="epoch", ylabel="cosine of $g_{M'}$ and $g_A$", ylim=(-1, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def cosine_reference(table: pd.DataFrame, cos_threshold: float) -> Figure:
    """Cosines of the real groups beside those of groups drawn by lot, on the same batches.

    Args:
        table: columns groups (real, by lot), cosine.
    """
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    styles = {"real": (PALETTE["anchor"], "-"), "by lot": ("black", "--")}
    for kind, part in table.groupby("groups", sort=False):
        values = np.sort(part["cosine"])
        colour, line = styles[kind]
        axes.step(values, np.arange(1, len(values) + 1) / len(values), line, color=colour, linewidth=2, label=kind)
    axes.axvspan(0, cos_threshold, color="#E69F00", alpha=0.25, linewidth=0, label="outside the cone")
    low, high = min(table["cosine"].min(), 0), max(table["cosine"].max(), cos_threshold)
    axes.set(xlabel="cosine of $g_M$ and $g_C$", ylabel="share of batches below", ylim=(0, 1.02))
    axes.set_xlim(max(low - 0.1, -1), min(high + 0.1, 1))
    figure.legend(loc="outside upper center", ncols=3, title="groups")
    return figure


def gradient_norms(table: pd.DataFrame) -> Figure:
    """Length of the group gradients over epochs: median and middle half.

    Args:
        table: columns epoch, group, q25, q50, q75.
    """
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    markers = {"complete": "o", "admitted": "s", "remaining": "^", "anchor": "D"}
    for i, group in enumerate(markers):
        part = table[table["group"] == group]
        lengths = errors(part, ("q25", "q50", "q75"))
        style = {"color": PALETTE[group], "marker": markers[group], "markeredgecolor": "black", "capsize": 2}
        axes.errorbar(part["epoch"] + (i - 1.5) * 0.12, part["q50"], lengths, label=group, linewidth=1, **style)
    axes.set(xlabel="epoch", ylabel="gradient norm", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(table["q25"].min() * 0.8, table["q75"].max() * 1.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=len(markers))
    return figure


def learning_curves(table: pd.DataFrame, metric: str) -> Figure:
    """Validation score over epochs: the mean of each variant's runs, thick, over its single runs, thin.

    Weak runs stop earlier than good ones. So a mean ends where the first of its runs does: a mean over those that are
    left would rise although no run got better.

    Args:
        table: columns variant, run, epoch, validation.
    """
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for variant, part in table.groupby("variant", sort=False):
        for _, run in part.groupby("run"):
            axes.plot(run["epoch"], run["validation"], color=PALETTE[variant], linewidth=0.6, alpha=0.6)
        shared = part["epoch"] <= part.groupby("run")["epoch"].max().min()
        mean = part[shared].groupby("epoch")["validation"].mean()
        style = {"color": PALETTE[variant], "marker": MARKERS[variant], "markeredgecolor": "black"}
        axes.plot(mean.index, mean, linewidth=2, label=variant, **style)
    axes.set(xlabel="epoch", ylabel=f"validation {metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def entropy_bins(table: pd.DataFrame, mean_error: float) -> Figure:
    """Mean reconstruction error of test samples in bins of prediction entropy, with 95 % intervals.

    Args:
        table: columns entropy, mean, low, high, n; one row per bin.
        mean_error: over all samples.
    """
    figure, axes = plt.subplots(figsize=(5.4, 3), layout="constrained")
    x = range(len(table))
    axes.errorbar(x, table["mean"], errors(table), fmt="o-", color=PALETTE["reconstructed"], capsize=3)
    axes.axhline(mean_error, color="black", linestyle="--", linewidth=1, label="mean of all")
    axes.set_xticks(x, _short(table["entropy"]))
    axes.set(xlabel="mean prediction entropy of the bin, nats (left: confident)", ylabel="true reconstruction error")
    axes.legend()
    return figure


def _short(values: pd.Series) -> list[str]:
    """Numbers with two digits, or as many as are needed to tell them apart (five at most)."""
    written = ([f"{value:.{digits}g}" for value in values] for digits in range(2, 6))
    return next((labels for labels in written if len(set(labels)) == len(labels)), [f"{value:.5g}" for value in values])


def differences(table: pd.DataFrame, metric: str) -> Figure:
    """What each part of the method adds, by subset: paired differences with 95 % intervals around zero.

    Args:
        table: columns step, subset, mean, low, high.
    """
    steps, subsets = list(table["step"].unique()), list(table["subset"].unique())
    figure, axes = plt.subplots(figsize=(6.4, 3), layout="constrained")
    shades = {"all": ("#222222", "o"), "complete": (PALETTE["complete"], "s"), "reconstructed": ("#D55E00", "^")}
    for i, subset in enumerate(subsets):
        rows = table[table["subset"] == subset].set_index("step").loc[steps]
        y = np.arange(len(steps)) + (i - 1) * 0.2
        colour, marker = shades[subset]
        style = {"color": colour, "fmt": marker, "markeredgecolor": "black", "capsize": 3}
        axes.errorbar(rows["mean"], y, xerr=errors(rows), label=subset, **style)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(steps)), steps)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"difference in {metric}")
    figure.legend(loc="outside upper center", ncols=3, title="test samples")
    return figure


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
    colour, marker = PALETTE.get(variant, "#444444"), MARKERS.get(variant, "o")
    style = {"fmt": marker, "color": colour, "markeredgecolor": "black", "capsize": 3}
    axes.errorbar(x, rows["mean"], errors(rows), label=variant, **style)
