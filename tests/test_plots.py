"""Grids of samples: what is lost is marked or hidden, any text can be drawn, no word is cut; figures of notebook 04."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from anga.missing import MissingTable
from anga.plots import method, training
from anga.plots.pictures import CHARACTERS, Tile, _wrapped, contact_sheet, sample_tile


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def drawn_words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_tile_shows_what_the_missing_table_takes_away(binary_world):
    dataset = binary_world.dataset
    has_text, has_image = np.ones(len(dataset), bool), np.ones(len(dataset), bool)
    has_text[0], has_image[1] = False, False
    table = MissingTable(has_text, has_image)
    assert [sample_tile(dataset, row, table=table).lost for row in range(3)] == ["text", "image", None]
    words = drawn_words(contact_sheet([sample_tile(dataset, row, table=table) for row in range(3)], columns=3))
    assert "image lost" in words
    assert sum("[text" in word for word in words) == 1


@pytest.mark.parametrize("text", ["costs $5 or $6", "r\\_x^{", "", "tab\tand \x9a control", "x" * 300])
def test_any_text_can_be_drawn(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contact_sheet([Tile(Image.new("RGB", (8, 8)), text, text), None], columns=3).canvas.draw()


def test_texts_are_cut_at_words_and_paths_at_slashes():
    lines = _wrapped("a text that is much too long for three lines of twenty characters each", 3).split("\n")
    assert len(lines) == 3 and all(len(line) <= CHARACTERS for line in lines)
    assert lines[-1].endswith("…")
    assert _wrapped("signs_and_symbols/flags", 2) == "signs_and_symbols/\nflags"
    assert _wrapped("short", 3) == "short"


def test_what_is_hidden_cannot_be_read():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))
    tiles = [Tile(picture, "a red hat", lost=lost, hidden=True) for lost in ("text", "image", None)]
    shown = contact_sheet(tiles, columns=3)
    words = [[text.get_text() for text in axes.texts] for axes in shown.axes]
    assert "[text lost]" in words[0] and not any("hat" in word for word in words[0])
    assert "image lost" in words[1] and "a red hat" in words[1]
    drawn = [axes.images[0].get_array() for axes in shown.axes]
    assert len(np.unique(drawn[1])) == 1, "the lost picture shines through"
    assert (drawn[0] == np.asarray(picture)).all() and (drawn[2] == np.asarray(picture)).all()


def test_a_mean_curve_ends_where_its_first_run_does():
    runs = [(0, 0.5), (1, 0.6), (2, 0.7), (3, 0.8)], [(0, 0.3), (1, 0.2)]
    rows = [("full ANGA", run, *point) for run, points in enumerate(runs) for point in points]
    table = pd.DataFrame(rows, columns=["variant", "run", "epoch", "validation"])
    lines = training.learning_curves(table, "AUROC").axes[0].lines
    (mean,) = (line for line in lines if line.get_label() == "full ANGA")
    assert mean.get_xdata().tolist() == [0, 1]
    assert np.allclose(mean.get_ydata(), [0.4, 0.4])
    assert sorted(len(line.get_xdata()) for line in lines if line is not mean) == [2, 4]


@pytest.mark.parametrize(
    ("entropies", "labels"),
    [
        ([0.05064, 0.1312, 0.4449], ["0.051", "0.13", "0.44"]),
        ([0.6912, 0.6921, 0.6931], ["0.691", "0.692", "0.693"]),
        ([0.5, 0.5], ["0.5", "0.5"]),
    ],
)
def test_bins_have_short_labels_that_differ(entropies, labels):
    table = pd.DataFrame({"entropy": entropies, "mean": 1.0, "low": 0.9, "high": 1.1, "n": 5})
    (axes,) = training.entropy_bins(table, 1.0).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == labels


def test_epochs_are_whole_numbers():
    table = pd.DataFrame({"epoch": range(4), "ratio": 0.1, "admitted": 10})
    axes = method.curriculum(table).axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.parametrize("thresholds", [[0.2], [0.2, 0.7], [0.2, 0.5, 0.7, 0.9]])
def test_every_threshold_has_curves_of_its_own_shade(thresholds):
    cosine = np.linspace(-1, 1, 5)
    parts = [pd.DataFrame({"cos_threshold": tau, "cosine": cosine, "cosine_after": tau}) for tau in thresholds]
    table = pd.concat(parts).assign(shrink=0.5, length=1.0)
    left, right = method.shrinking(table).axes
    labels = [line.get_label() for line in left.lines]
    assert labels == [*(f"$\\tau$ = {tau:g}" for tau in thresholds), "unchanged"]
    assert [line.get_ydata()[0] for line in left.lines[:-1]] == thresholds
    assert len(right.lines) == 2 * len(thresholds)
    greys = [np.dot(to_rgb(line.get_color()), [0.299, 0.587, 0.114]) for line in left.lines[:-1]]
    assert (np.diff(greys) > 0.08).all() and greys[-1] < 0.85, "told apart in grey, and from the paper"
