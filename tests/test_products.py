"""What a notebook leaves behind lies where its parameter file says, each figure beside its table."""

import pandas as pd
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal

from anga.parameters import Params
from anga.products import Products

TABLE = pd.DataFrame({"rate": [0.1, 0.9], "score": [0.5, 0.25]}, index=[7, 3])


def test_a_figure_is_kept_twice_beside_its_table(tmp_path):
    Products(tmp_path, "quick/06_knobs", "06_knobs").figure(Figure(), TABLE, "top_k")
    folder = tmp_path / "figures" / "quick" / "06_knobs"
    assert sorted(path.name for path in folder.iterdir()) == [f"06_knobs_top_k.{s}" for s in ("csv", "png", "svg")]
    assert_frame_equal(pd.read_csv(folder / "06_knobs_top_k.csv"), TABLE.reset_index(drop=True))


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
