"""The paper's numbers, and ours beside them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from anga.beside_paper import beside_paper
from anga.config import Config
from anga.errors import AngaError
from anga.grids import GridFile
from anga.parameters import ParameterSet
from anga.published import COUNTERPARTS, NAMES, published
from anga.report import write_report
from anga.runs import run

ROOT = Path(__file__).parents[1]
TINY = {"backbone": "tiny", "clip": "tiny", "max_text_length": 9, "batch_size": 16, "epochs": 1, "device": "cpu"}
PARTS = {"none": {"use_retrieval": False, "use_alignment": False}, "MIR": {"use_alignment": False}}


@pytest.fixture
def study(tmp_path):
    """A parameter set whose only grid repeats two rows of Table 2 on one data set, with two seeds."""
    grid = {"paper": "Table 2", "axes": {"dataset": ["hatememes"], "part": PARTS}}
    values = {"knobs": {**TINY, "use_adapter": False}, "mask_seeds": [0, 1], "grids": {"table2": grid}}
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "05_ablations.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return ParameterSet.read(tmp_path / "params")


def test_both_tables_are_whole_and_some_numbers_are_as_printed():
    numbers = published().set_index(["table", "row", "dataset", "missing_type"])["percent"]
    assert len(numbers) == 14 * 9 + 5 * 3 and numbers.between(30, 90).all() and numbers.index.is_unique
    assert numbers["Table 1", "ANGA", "hatememes", "both"] == 65.12
    assert numbers["Table 1", "ShaSpec", "food101", "image"] == 74.87
    assert numbers["Table 2", "MIR + SEA", "mmimdb", "text"] == 55.74
    full = [numbers["Table 2", "MIR + GA + SEA", name, "text"] for name in NAMES]
    assert full == [numbers["Table 1", "ANGA", name, "text"] for name in NAMES]
    assert set(COUNTERPARTS.values()) == set(NAMES)


def test_ours_stand_beside_the_papers_as_far_as_runs_are_finished(study, binary_world, tmp_path):
    with binary_world.replaced():
        empty = beside_paper(study, tmp_path)
        results = [run(config, tmp_path, progress=False) for config in study.grids[0]["table2"].configs[:2]]
        table = beside_paper(study, tmp_path).set_index("row")
    assert list(empty["row"]) == ["none", "MIR"] and empty["ours"].isna().all() and not empty["runs"].any()
    scores = 100 * np.array([result.score() for result in results])
    none = table.loc["none"]
    assert (none["paper"], none["runs"]) == (59.38, 2) and none["ours"] == pytest.approx(scores.mean())
    low, high = stats.t.interval(0.95, 1, scores.mean(), stats.sem(scores))
    assert (none["low"], none["high"]) == (pytest.approx(low), pytest.approx(high))
    assert none["difference"] == pytest.approx(scores.mean() - 59.38)
    assert np.isnan(table.loc["MIR", "ours"]) and table.loc["MIR", "runs"] == 0
    assert "batch_size 16, not 64" in none["differs"] and "learning_rate" not in none["differs"]


def test_the_report_prints_them(study, binary_world, tmp_path):
    with binary_world.replaced():
        index = write_report(study, [], tmp_path, tmp_path / "report").read_text()
    assert "Beside the paper" in index and "59.38" in index and "not run" in index
    written = pd.read_csv(tmp_path / "report" / "tables" / "05_ablations" / "beside_paper.csv")
    assert list(written["paper"]) == [59.38, 64.63]


def test_settings_of_all_runs_behind_a_row_are_compared(study, binary_world, tmp_path):
    (path,) = (tmp_path / "params").iterdir()
    values = yaml.safe_load(path.read_text())
    both = {"whole": {"dataset": "hatememes"}, "fewer": {"dataset": "hatememes", "missing_rate": 0.1}}
    values["grids"]["table2"]["axes"]["dataset"] = both
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with binary_world.replaced():
        table = beside_paper(ParameterSet.read(path.parent), tmp_path)
    differs = "backbone tiny, not dandelin/vilt-b32-mlm, missing_rate 0.1, not 0.7, batch_size 16, not 64"
    assert list(table["differs"]) == [differs] * 2


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"paper": "Table 3", "axes": {"part": PARTS}}, "Table 1, Table 2"),
        ({"paper": ["Table 1"], "axes": {"part": PARTS}}, r"Table 1, Table 2, not \['Table 1'\]"),
        ({"paper": "Table 2", "axes": {"top_k": [1]}}, "one axis method or part"),
        ({"paper": "Table 2", "axes": {"part": PARTS, "method": {"ANGA": {}}}}, "one axis method or part"),
        (
            {"paper": "Table 2", "axes": {"part": PARTS, "missing_rate": [0.7, 0.1], "top_k": [1]}},
            "table: paper allows the axes dataset and missing_type beside the rows, not missing_rate, top_k",
        ),
    ],
)
def test_a_grid_that_repeats_no_known_table_is_refused_on_reading(grid, said):
    with pytest.raises(AngaError, match=said):
        GridFile("x.yaml", {"knobs": {"use_adapter": False}, "grids": {"table": grid}})


def test_the_papers_set_has_the_papers_settings():
    study = ParameterSet.read(ROOT / "params" / "paper")
    on_papers_data = [config for config in study.configs() if config.dataset in NAMES]
    assert {config.dataset for config in on_papers_data} == set(NAMES)
    for knob in ("learning_rate", "weight_decay", "batch_size", "backbone"):
        stated = {"backbone": "dandelin/vilt-b32-mlm"}.get(knob, getattr(Config(), knob))
        assert {getattr(config, knob) for config in on_papers_data} == {stated}
    assert {config.max_text_length for config in on_papers_data} == {128}
