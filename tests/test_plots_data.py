"""Figures of data and retrieval: every row of the table is drawn, at its place, under its label."""

import warnings
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_hex

from anga.missing import MissingTable
from anga.plots import PALETTE, data


@pytest.fixture(autouse=True)
def strict_and_closed():
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def tick_labels(axis) -> dict[float, str]:
    return {tick: label.get_text() for tick, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)}


def legend(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- 01_data


def bars(axes) -> dict[int, float]:
    return {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}


@pytest.mark.parametrize("longest", [15, 16, 17, 20])
def test_texts_are_counted_by_their_words_and_the_last_bar_says_that_it_is_open(longest):
    words = pd.DataFrame({"words": [1, 1, 2, longest - 1, longest, longest + 1, 90]})
    (axes,) = data.text_lengths(words, longest).axes
    drawn = bars(axes)
    assert list(drawn) == list(range(1, longest + 1)) and sum(drawn.values()) == len(words)
    assert (drawn[1], drawn[2], drawn[3], drawn[longest - 1], drawn[longest]) == (2, 1, 0, 1, 3)
    labels = tick_labels(axes.xaxis)
    assert labels.pop(longest) == f"≥ {longest}"
    assert labels and all(label == str(tick) for tick, label in labels.items())


def test_texts_of_no_words_have_a_bar_where_there_are_any():
    (axes,) = data.text_lengths(pd.DataFrame({"words": [0, 0, 0, 5]})).axes
    assert bars(axes) == {**dict.fromkeys(range(17), 0), 0: 3, 5: 1}
    (axes,) = data.text_lengths(pd.DataFrame({"words": [4, 5]})).axes
    assert list(bars(axes)) == list(range(1, 17))


@pytest.mark.parametrize("n", [3, 8, 30])
def test_the_commonest_and_the_rarest_classes_have_a_bar_each(n):
    counts = pd.DataFrame({"class": [f"class {i}" for i in range(n)], "samples": range(10 * n, 0, -10)})
    (axes,) = data.class_counts(counts, ends=4).axes
    shown = counts if n <= 8 else counts.iloc[[0, 1, 2, 3, -4, -3, -2, -1]]
    assert [label.get_text() for label in axes.get_yticklabels()] == shown["class"].tolist()
    assert [bar.get_width() for bar in axes.patches] == shown["samples"].tolist()
    notes = [text.get_text() for text in axes.texts if "between" in text.get_text()]
    assert notes == ([] if n <= 8 else ["… 22 classes between …"])
    assert axes.yaxis_inverted()


def test_probes_stand_beside_the_answer_that_knows_nothing():
    rows = [("text", 0.6, 0.5, 0.8), ("constant", 0.5, 0.4, 0.6), ("both", 0.9, 0.85, 0.95)]
    scores = pd.DataFrame(rows, columns=["features", "score", "low", "high"])
    figure = data.probe_scores(scores, "AUROC")
    (axes,) = figure.axes
    (points,) = axes.containers
    assert points.lines[0].get_xydata().tolist() == [[0.6, 0], [0.9, 1]]
    ends = [segment[:, 0].tolist() for segment in points.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0.5, 0.8], [0.85, 0.95]])
    assert tick_labels(axes.yaxis) == {0: "text", 1: "both"}
    (line,) = [line for line in axes.lines if line.get_label() == "an answer that knows nothing"]
    assert set(line.get_xdata()) == {0.5}
    assert legend(figure) == ["an answer that knows nothing"]


def test_strips_show_what_each_sample_has():
    tables = {
        "text": MissingTable(np.array([True, False, True, False]), np.ones(4, bool)),
        "both": MissingTable(np.array([True, False, True, True]), np.array([True, True, False, True])),
    }
    figure = data.missing_strips(tables, np.array([3, 1, 2]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["missing_type: text", "missing_type: both"]
    drawn = [axes.collections[0] for axes in figure.axes]
    assert [np.asarray(mesh.get_array()).tolist() for mesh in drawn] == [
        [[0, 0, 1], [2, 2, 2]],
        [[1, 0, 1], [2, 2, 0]],
    ]
    white, text, image = (to_hex(drawn[0].to_rgba(value)) for value in (0, 1, 2))
    assert white == "#ffffff" and same_color(text, PALETTE["text"]) and image not in (white, text)
    assert "3 training samples" in figure.axes[-1].get_xlabel()


def test_complete_samples_have_a_line_per_class_and_a_band_over_the_seeds():
    ranks = ["commonest", "middle", "rarest"]
    rows = [(rate, seed, rank) for rank, rate, seed in product(ranks, (0.1, 0.9), range(3))]
    draws = pd.DataFrame(rows, columns=["missing_rate", "seed", "rank"])
    draws["samples"] = 100 - 30 * draws["rank"].map(ranks.index) + draws["seed"] ** 2
    figure = data.complete_per_class(draws)
    (axes,) = figure.axes
    assert legend(figure) == [f"{rank} class" for rank in ranks]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[101, 101], [71, 71], [41, 41]]
    assert len({line.get_linestyle() for line in axes.lines}) == 3
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
    assert [(band.min(), band.max()) for band in bands] == [(100, 104), (70, 74), (40, 44)]


# --- 02_retrieval


def test_each_kind_of_pair_has_a_curve_where_its_cosines_lie():
    kinds = ["own text", "swapped text", "random text"]
    noise = np.random.default_rng(0).normal(0, 0.02, 50)
    parts = [pd.DataFrame({"kind": kind, "cosine": 0.3 * i + noise}) for i, kind in enumerate(kinds)]
    figure = data.cosines(pd.concat(parts))
    (axes,) = figure.axes
    assert legend(figure) == [f"{kind} (50)" for kind in kinds]
    tops = [line.get_xdata()[line.get_ydata().argmax()] for line in axes.lines]
    np.testing.assert_allclose(tops, [0, 0.3, 0.6], atol=0.03)
    assert len({line.get_linestyle() for line in axes.lines}) == 3


def test_curves_of_errors_rise_at_the_errors_of_their_source():
    points = list(product(("text", "image"), data.SOURCE_STYLES, (0, 1)))
    table = pd.DataFrame(points, columns=["modality", "source", "error"])
    table["error"] += table["source"].map(list(data.SOURCE_STYLES).index) + 10.0 * (table["modality"] == "image")
    figure = data.errors_by_source(table)
    assert [axes.get_title() for axes in figure.axes] == ["lost text", "lost image"]
    assert legend(figure) == list(data.SOURCE_STYLES)
    for first, axes in zip((0, 10), figure.axes, strict=True):
        for i, line in enumerate(axes.lines):
            steps = np.asarray(line.get_xydata())[-2:]
            assert steps.tolist() == [[first + i, 0.5], [first + i + 1, 1]]


def test_maps_show_true_and_made_points():
    places = np.random.default_rng(0).normal(size=(10, 2))
    points = pd.DataFrame(places, columns=["x", "y"])
    points = points.assign(modality=["text"] * 6 + ["image"] * 4, kind=["true", "reconstructed"] * 5)
    figure = data.token_maps(points)
    assert [axes.get_title() for axes in figure.axes] == ["lost text (n = 3)", "lost image (n = 2)"]
    assert legend(figure) == ["true", "reconstructed"]
    for axes, rows in zip(figure.axes, (slice(0, 6), slice(6, 10)), strict=True):
        true, made = (np.asarray(spots.get_offsets()) for spots in axes.collections)
        np.testing.assert_array_equal(true, places[rows][::2])
        np.testing.assert_array_equal(made, places[rows][1::2])


def test_banks_stand_side_by_side_over_the_split_and_the_lost_modality():
    rows = list(product(("observed", "full"), ("train", "test"), ("text", "image")))
    table = pd.DataFrame(rows, columns=["memory_bank", "split", "modality"]).assign(mean=np.linspace(0.7, 1.4, 8))
    figure = data.errors_by_bank(table.assign(low=table["mean"] - 0.1, high=table["mean"] + 0.2))
    (axes,) = figure.axes
    places = [f"{split} split\nlost {modality}" for _, split, modality in rows[:4]]
    assert [label.get_text() for label in axes.get_xticklabels()] == places
    assert legend(figure) == ["observed bank", "full bank"]
    by_bank = table["mean"].to_numpy().reshape(2, 4)
    for container, shift, means in zip(axes.containers, (-0.12, 0.12), by_bank, strict=True):
        np.testing.assert_allclose(container.lines[0].get_xydata().T, [np.arange(4) + shift, means])
        ends = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
        np.testing.assert_allclose(ends, np.stack([means - 0.1, means + 0.2], 1))


def test_curves_over_k_are_filled_where_they_are_retrieved():
    rows = list(product(("text", "image"), ("retrieved", "random"), (1, 10, 50)))
    table = pd.DataFrame(rows, columns=["modality", "source", "top_k"])
    table = table.assign(error=np.linspace(1.5, 0.9, 12), separability=np.linspace(0.5, 1, 12))
    figure = data.errors_by_k(table)
    names = [f"{modality}, {source}" for modality, source in product(("text", "image"), ("retrieved", "random"))]
    assert legend(figure) == names
    for axes, what, reference in zip(figure.axes, ("error", "separability"), (1, 0.5), strict=True):
        curves = [line for line in axes.lines if line.get_label() in names]
        drawn = [line.get_ydata().tolist() for line in curves]
        assert drawn == table[what].to_numpy().reshape(4, 3).tolist()
        assert [to_hex(line.get_markerfacecolor()) == "#ffffff" for line in curves] == [False, True, False, True]
        assert any(set(line.get_ydata()) == {reference} for line in axes.lines if line not in curves)
        assert tick_labels(axes.xaxis) == {1: "1", 10: "10", 50: "50"}
