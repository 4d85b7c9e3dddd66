"""Figures of what goes into a run: data, missing tables, retrieval. As in `style`: a table in, a figure out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from anga.missing import MissingTable
from anga.plots.style import PALETTE, errors

# Each source of tokens has one colour, one marker and one line, so that they differ in grey as well.
SOURCE_STYLES = {
    "nearest by the truth": ("#009E73", "v", ":"),
    "retrieved": (PALETTE["reconstructed"], "o", "-"),
    "random donors": ("#555555", "s", "--"),
    "one random donor": ("#999999", "x", "-."),
    "bank mean": ("#000000", "|", (0, (1, 3))),
}
KIND_STYLES = {"own text": ("#0072B2", "-"), "swapped text": ("#D55E00", "--"), "random text": ("#777777", ":")}


# --- 01_data


def text_lengths(table: pd.DataFrame, longest: int = 16) -> Figure:
    """Samples per number of words; texts of `longest` words or more share the last bar. Table: column words."""
    words = table["words"].clip(upper=longest)
    fewest = min(1, words.min())  # a place for texts of no words only where there are any
    counts = words.value_counts().reindex(range(fewest, longest + 1), fill_value=0)
    figure, axes = plt.subplots(figsize=(5.6, 2.8), layout="constrained")
    axes.bar(counts.index, counts, color=PALETTE["text"])
    ticks = range(longest, fewest - 1, -3)
    axes.set_xticks(ticks, [f"≥ {longest}", *map(str, ticks[1:])])
    axes.set(xlabel="words in the text", ylabel="samples")
    axes.grid(axis="x", visible=False)
    return figure


def class_counts(table: pd.DataFrame, ends: int = 10) -> Figure:
    """Training samples of the commonest and the rarest classes. Table: class, samples; sorted, commonest first."""
    few = len(table) <= 2 * ends
    shown = table if few else pd.concat([table.head(ends), table.tail(ends)])
    gap = 0 if few else 1.5  # between the two ends of the list
    y = np.arange(len(shown)) + gap * (np.arange(len(shown)) >= ends)
    figure, axes = plt.subplots(figsize=(5.6, 0.9 + 0.2 * len(shown)), layout="constrained")
    bars = axes.barh(y, shown["samples"], color=PALETTE["text"])
    axes.bar_label(bars, padding=2, fontsize=8)
    axes.set_yticks(y, shown["class"], fontsize=8)
    axes.invert_yaxis()
    if not few:
        axes.text(0, ends + 0.25, f"… {len(table) - 2 * ends} classes between …", va="center", fontsize=8)
    axes.set_xlabel("training samples")
    axes.grid(axis="y", visible=False)
    return figure


def probe_scores(table: pd.DataFrame, metric: str) -> Figure:
    """Test scores with 95 % intervals per kind of features. Table: features, score, low, high; a row `constant`."""
    scores = table.set_index("features")
    constant, points = scores.loc["constant", "score"], scores.drop("constant")
    figure, axes = plt.subplots(figsize=(5.6, 1.0 + 0.35 * len(points)), layout="constrained")
    style = {"fmt": "o", "markersize": 7, "color": PALETTE["text"], "markeredgecolor": "black", "capsize": 3}
    lengths = errors(points, ("low", "score", "high"))
    axes.errorbar(points["score"], np.arange(len(points)), xerr=lengths, **style)
    axes.axvline(constant, color="black", linestyle="--", label="an answer that knows nothing")
    axes.set_yticks(range(len(points)), points.index)
    axes.set(xlabel=f"{metric} on the test split (95 % over samples)", xlim=(0, 1), ylim=(len(points) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center")
    return figure


def missing_strips(tables: dict[str, MissingTable], rows: np.ndarray) -> Figure:
    """Who has what, for some samples in a row: filled is observed, white is lost; one strip pair per missing type."""
    figure, panels = plt.subplots(len(tables), 1, figsize=(6.4, 0.85 * len(tables) + 0.6), layout="constrained")
    for axes, (name, table) in zip(np.atleast_1d(panels), tables.items(), strict=True):
        has = np.stack([table.has_text[rows], 2 * table.has_image[rows]])
        colours = ListedColormap(["white", PALETTE["text"], "#E69F00"])
        axes.pcolormesh(has, cmap=colours, vmin=0, vmax=2, edgecolors="#bbbbbb", linewidth=0.3)
        axes.set_yticks([0.5, 1.5], ["text", "image"], fontsize=8)
        axes.set_title(f"missing_type: {name}", loc="left", fontsize=9)
        axes.set_xticks([])
        axes.invert_yaxis()
    axes.set_xlabel(f"{len(rows)} training samples, one column each (filled: observed, white: lost)")
    return figure


def complete_per_class(table: pd.DataFrame) -> Figure:
    """Complete training samples of the commonest, middle and rarest class against the missing rate.

    Table: missing_rate, seed, rank ("commonest" | "middle" | "rarest"), samples. Bands span the seeds.
    """
    figure, axes = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    for (rank, rows), line in zip(table.groupby("rank", sort=False), ("-", "--", ":"), strict=False):
        seeds = rows.groupby("missing_rate")["samples"].agg(["median", "min", "max"])
        axes.plot(seeds.index, seeds["median"], line, color="black", label=f"{rank} class")
        axes.fill_between(seeds.index, seeds["min"], seeds["max"], color=PALETTE["text"], alpha=0.3, linewidth=0)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    axes.set_ylim(bottom=min(0.8 * table["samples"].min(), 50) - 0.1)
    axes.set(xlabel="missing_rate", ylabel="complete training samples")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


# --- 02_retrieval


def cosines(table: pd.DataFrame) -> Figure:
    """Distribution of image-text cosines per kind of pair. Table: kind, cosine."""
    figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
    for kind, rows in table.groupby("kind", sort=False):
        colour, line = KIND_STYLES[kind]
        sns.kdeplot(x=rows["cosine"], ax=axes, color=colour, linestyle=line, linewidth=2, label=f"{kind} ({len(rows)})")
    axes.set(xlabel="cosine of image and text embedding", ylabel="density")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def errors_by_source(table: pd.DataFrame) -> Figure:
    """Share of samples whose tokens lie within a distance, per source. Table: modality, source, error."""
    figure, panels = plt.subplots(1, 2, figsize=(6.8, 3.2), sharey=True, layout="constrained")
    for axes, modality in zip(panels, ("text", "image"), strict=True):
        for source, (colour, _, line) in SOURCE_STYLES.items():
            distances = table.query("modality == @modality and source == @source")["error"]
            sns.ecdfplot(x=distances, ax=axes, color=colour, linestyle=line, linewidth=1.8, label=source)
        axes.set(title=f"lost {modality}", xlabel="relative error", ylabel="share of samples below")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    _one_legend(figure, panels[0], columns=3)
    return figure


def token_maps(table: pd.DataFrame) -> Figure:
    """t-SNE of true and reconstructed tokens, as in Fig. 6a-b. Table: modality, kind, x, y."""
    figure, panels = plt.subplots(1, 2, figsize=(6.8, 3.6), layout="constrained")
    for axes, (modality, points) in zip(panels, table.groupby("modality", sort=False), strict=True):
        for kind, marker, colour in (("true", "o", "#0072B2"), ("reconstructed", "^", "#E69F00")):
            spots = points[points["kind"] == kind]
            style = {"s": 14, "marker": marker, "c": colour, "edgecolors": "black", "linewidths": 0.25}
            axes.scatter(spots["x"], spots["y"], label=kind, alpha=0.85, **style)
        axes.set(title=f"lost {modality} (n = {len(points) // 2})", xticks=[], yticks=[], xlabel="", ylabel="")
        axes.set_aspect("equal", adjustable="datalim")
    _one_legend(figure, panels[0], columns=2)
    return figure


def errors_by_bank(table: pd.DataFrame) -> Figure:
    """Mean error with 95 % intervals, per memory bank. Table: split, modality, memory_bank, mean, low, high."""
    figure, axes = plt.subplots(figsize=(5.6, 3.0), layout="constrained")
    places = table[["split", "modality"]].drop_duplicates().apply(" split\nlost ".join, axis=1).tolist()
    for shift, (bank, rows) in zip((-0.12, 0.12), table.groupby("memory_bank", sort=False), strict=True):
        colour, marker = {"observed": (PALETTE["reconstructed"], "o"), "full": ("white", "D")}[bank]
        style = {"color": "black", "markerfacecolor": colour, "markersize": 7, "capsize": 3, "fmt": marker}
        axes.errorbar(np.arange(len(rows)) + shift, rows["mean"], errors(rows), label=f"{bank} bank", **style)
    axes.set_xticks(range(len(places)), places)
    axes.set_ylabel("relative error")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def errors_by_k(table: pd.DataFrame) -> Figure:
    """Error and separability against K. Table: modality, source, top_k, error, separability."""
    figure, panels = plt.subplots(1, 2, figsize=(6.8, 3.2), layout="constrained")
    for (modality, source), rows in table.groupby(["modality", "source"], sort=False):
        colour, fill = PALETTE[modality], PALETTE[modality] if source == "retrieved" else "white"
        line, marker = "-" if source == "retrieved" else "--", "o" if modality == "text" else "s"
        for axes, what in zip(panels, ("error", "separability"), strict=True):
            style = {"color": colour, "marker": marker, "markerfacecolor": fill, "linestyle": line}
            axes.plot(rows["top_k"], rows[what], label=f"{modality}, {source}", **style)
    panels[0].axhline(1, color="black", linewidth=0.8)
    panels[1].axhline(0.5, color="black", linewidth=0.8)
    for axes, name in zip(panels, ("mean relative error", "AUROC, made against true"), strict=True):
        axes.set_xscale("log")
        axes.set_xticks(ticks := sorted(table["top_k"].unique()), [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set(xlabel="top_k", ylabel=name)
        axes.yaxis.set_major_locator(MaxNLocator(6))
    _one_legend(figure, panels[0], columns=2)
    return figure


def _one_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of one panel, for the whole figure, above it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)
