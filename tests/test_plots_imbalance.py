"""Figures of learning imbalance: they draw every row, mark what is clear, and take a single run without interval."""

import warnings
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from anga.plots.imbalance import defect, maps, over_cues, over_epochs, over_rates, upper_bounds

TASKS = ["clipart-pairs", "clipart-keywords"]


@pytest.fixture(autouse=True)
def strict_and_closed():
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def table(half: float = 0.1, **axes) -> pd.DataFrame:
    """One row per combination of labels; intervals of the given half width, or none (NaN)."""
    rows = pd.DataFrame(list(product(*axes.values())), columns=list(axes))
    mean = np.linspace(-0.2, 0.3, len(rows))
    return rows.assign(mean=mean, low=mean - half, high=mean + half)


def drawn(figure) -> tuple[list[float], list[list[float]]]:
    """Of all points of all panels: their means, and the ends of their intervals where these are drawn."""
    containers = [container for axes in figure.axes for container in axes.containers]
    means, ends = [], []
    for one in containers:
        axis = 0 if one.has_xerr else 1
        means += one.lines[0].get_xydata()[:, axis].tolist()
        ends += [part[:, axis].tolist() for part in one.lines[2][0].get_segments() if len(part)]  # no NaN among them
    return sorted(means), sorted(ends)


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("half", [0.1, float("nan")])
def test_points_with_and_without_intervals(half):
    trainings = {"training": ["joint", "upper bound"], "subset": ["complete", "reconstructed"]}
    bounds = table(half, dataset=TASKS, **trainings).assign(metric="AUROC")
    rates = table(half, dataset=TASKS, missing_rate=[0.1, 0.9], subset=["complete", "reconstructed"])
    rates = rates.assign(metric="AUROC")
    measures = table(half, dataset=TASKS, measure=["sound", "defect, own bound"]).assign(metric="AUROC")
    cues = table(half, missing_type=["text", "image"], unimodal_cue=[0.0, 1.0])
    for rows, figure in (
        (bounds, upper_bounds(bounds)),
        (rates, over_rates(rates, "subset", "imbalance gap")),
        (measures, defect(measures)),
        (cues, over_cues({"gap": cues})),
    ):
        figure.canvas.draw()
        means, ends = drawn(figure)
        np.testing.assert_allclose(means, rows["mean"])
        np.testing.assert_allclose(np.reshape(ends, (-1, 2)), rows[["low", "high"]].dropna())


def test_each_task_has_a_panel_and_each_subset_a_line():
    rates = table(dataset=TASKS, missing_rate=[0.1], subset=["complete", "reconstructed"])
    figure = over_rates(rates.assign(metric=2 * ["AUROC"] + 2 * ["F1-micro"]), "subset", "gap")
    assert [axes.get_title() for axes in figure.axes] == ["clipart-pairs, AUROC", "clipart-keywords, F1-micro"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["complete", "reconstructed"]


def test_stars_mark_cells_whose_interval_excludes_zero():
    cells = table(0.1, unimodal_cue=[0.0, 1.0], missing_rate=[0.3, 0.5, 0.9])
    drawn = words(maps({"imbalance gap": cells}, "AUROC"))
    assert drawn == [f"{m:+.3f}" + "*" * bool(abs(m) > 0.1) for m in cells["mean"]]
    assert 0 < sum("*" in word for word in drawn) < len(drawn)
    assert not any("*" in word for word in words(maps({"one run": cells.assign(low=np.nan, high=np.nan)}, "AUROC")))


def test_cells_stand_at_their_cue_and_rate():
    cells = table(0.1, unimodal_cue=[0.0, 1.0], missing_rate=[0.3, 0.9]).sample(frac=1, random_state=0)
    axes = maps({"gap": cells}, "AUROC").axes[0]
    for text in axes.texts:
        x, y = (int(value) for value in text.get_position())
        at = cells[(cells["missing_rate"] == [0.3, 0.9][x]) & (cells["unimodal_cue"] == [0.0, 1.0][y])]
        assert text.get_text().startswith(f"{at['mean'].item():+.3f}")


def test_panels_of_a_map_share_their_colours():
    cells = table(0.1, unimodal_cue=[0.0, 1.0], missing_rate=[0.3, 0.9])
    figure = maps({"gap": cells, "a tenth of it": cells.assign(mean=cells["mean"] / 10)}, "difference in AUROC")
    first, second = (axes.images[0].get_clim() for axes in figure.axes[:2])
    assert first == second and figure.axes[2].get_ylabel() == "difference in AUROC"
    assert figure.axes[2].get_ylim() == pytest.approx((-0.3, 0.3))


def test_a_single_epoch_can_be_drawn():
    rows = table(dataset=["clipart-pairs"], training=["joint", "aligned"], epoch=[0])
    rows = rows.rename(columns={"low": "q25", "mean": "q50", "high": "q75"})
    over_epochs(rows, "training", "cosine").canvas.draw()
