"""What a notebook leaves behind lies where its parameter file says, each figure beside its table."""

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from pandas.testing import assert_frame_equal

from anga.parameters import Params
from anga.products import Products

TABLE = pd.DataFrame({"rate": [0.1, 0.9], "score": [0.5, 0.25]}, index=[7, 3])


def test_a_figure_is_kept_twice_beside_its_table(tmp_path):
    Products(tmp_path, "quick/06_knobs", "06_knobs").figure(Figure(), TABLE, "top_k")
    folder = tmp_path / "figures" / "quick" / "06_knobs"
    assert sorted(path.name for path in folder.iterdir()) == [f"06_knobs_top_k.{s}" for s in ("csv", "png", "svg")]
    assert_frame_equal(pd.read_csv(folder / "06_knobs_top_k.csv"), TABLE.reset_index(drop=True))


@pytest.mark.parametrize("width", [4, 8])
def test_a_note_stands_under_its_figure_and_within_it(tmp_path, width):
    figure = Figure(figsize=(width, 3), layout="constrained")
    figure.subplots().set(xlabel="K")
    note = "n = 9 runs per point (9 missing tables, each with a training seed of its own), 95 % intervals over both"
    Products(tmp_path, "quick/06_knobs", "06_knobs").figure(figure, TABLE, "top_k", note)
    (text,) = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().startswith("n = 9"))
    box, axes = (artist.get_window_extent(FigureCanvasAgg(figure).get_renderer()) for artist in (text, figure.axes[0]))
    assert text.get_text().split() == note.split()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 < axes.y0


def test_a_table_is_kept_under_its_name_and_replaced_by_a_second_one(tmp_path):
    products = Products(str(tmp_path), "quick/06_knobs", "06_knobs")
    for table in (TABLE.iloc[:1], TABLE):
        products.table(table, "spreads")
    assert_frame_equal(pd.read_csv(tmp_path / "tables/quick/06_knobs/spreads.csv"), TABLE.reset_index(drop=True))


def test_a_parameter_file_names_the_place_of_its_products(tmp_path):
    path = tmp_path / "quick" / "clipart-pairs.yaml"
    path.parent.mkdir()
    path.write_text("epochs: 3\n")
    assert Params.from_yaml(path).place == "quick/clipart-pairs"
