"""The parameter files for the paper's data, from small trees to the table beside the paper, with mini checkpoints."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from data_trees import food101, hatememes, mmimdb

from anga.__main__ import main
from anga.beside_paper import beside_paper
from anga.config import Config
from anga.grids import GridFile
from anga.parameters import ParameterSet
from anga.published import NAMES
from anga.result import Result
from anga.workers import run_all, runs_backbone

PAPER = Path(__file__).parents[1] / "params" / "paper"
FILES = sorted(file.stem for file in PAPER.glob("*.yaml"))
TREES = {"hatememes": hatememes, "mmimdb": mmimdb, "food101": food101}
# What is changed so that a run takes a second; precision, text length and the method's own knobs stay as they are.
SMALL = {"backbone": "mini-vilt", "clip": "mini-clip", "epochs": 1, "batch_size": 512, "top_k": 2}
TYPES = {"03_imbalance": "both", "06_sensitivity": "image"}  # the files themselves take away texts
# Runs that are trained besides the first of each grid: file, grid, labels.
ALSO = [
    ("05_ablations", "table2", {"dataset": "mmimdb", "part": "MIR + GA"}),
    ("05_ablations", "table2", {"dataset": "food101", "part": "MIR + GA + SEA"}),
    ("05_ablations", "bank", {"dataset": "mmimdb", "memory_bank": "full", "control": "aligned"}),
    ("07_robustness", "size", {"method": "full ANGA"}),
]


def shrink(values: dict, missing_type: str) -> dict:
    """The grids on the paper's data: small knobs, one pair of seeds, two values of each knob that has a list."""
    grids = {}
    for name, grid in values["grids"].items():
        if set(grid["axes"].get("dataset", [])) <= set(NAMES) and "dataset" in grid["axes"]:
            axes = {a: v if a == "dataset" or isinstance(v, dict) else v[:2] for a, v in grid["axes"].items()}
            grids[name] = grid | {"axes": axes, "mask_seeds": [0]}
    knobs = values["knobs"] | SMALL | {"missing_type": missing_type}
    return {"knobs": knobs, "mask_seeds": [0], "train_seeds": [0], "grids": grids}


def chosen(file: GridFile) -> list[Config]:
    """The first run of each grid (of those without the backbone in every step, if there are any), and ALSO's."""
    configs = [min(grid.configs, key=runs_backbone) for grid in file.grids.values()]
    for name, grid, labels in ALSO:
        if name == file.name:
            table = file[grid].table
            (row,) = np.flatnonzero((table[list(labels)] == pd.Series(labels)).all(axis=1))
            configs.append(file[grid].configs[row])
    return list(dict.fromkeys(configs))


@dataclass
class Study:
    """A small study after training; `content` has the hash of each data set's content."""

    study: ParameterSet
    outputs: Path
    results: list[Result]
    content: dict[str, str]

    def finished(self, config: Config) -> bool:
        return config.identity() in {result.config.identity() for result in self.results}

    def result(self, **labels) -> Result:
        (found,) = (r for r in self.results if all(getattr(r.config, k) == v for k, v in labels.items()))
        return found


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, build in TREES.items():
        build(folder / name, n=60)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small").mkdir()
    for name in FILES:
        values = yaml.safe_load((PAPER / f"{name}.yaml").read_text())
        small = yaml.safe_dump(shrink(values, TYPES.get(name, "text")), sort_keys=False)
        (folder / "small" / f"{name}.yaml").write_text(small)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANGA_DATA", str(data))
        study = ParameterSet.read(folder / "small")
        configs = dict.fromkeys(config for file in study.grids for config in chosen(file))
        results = run_all(list(configs), folder / "outputs", progress=False, workers=1)
    traces = [json.loads(next((data / name / "anga-cache").glob("dataset-*.json")).read_text()) for name in TREES]
    return Study(study, folder / "outputs", results, {t["name"]: t["content_hash"] for t in traces})


def test_every_grid_on_the_papers_data_is_expanded(trained):
    whole = {f"{file.name}: {name}" for file in ParameterSet.read(PAPER).grids for name, grid in file.grids.items()
             if {config.dataset for config in grid.configs} <= set(NAMES)}  # fmt: skip
    jobs = trained.study.jobs()
    assert set(jobs) == whole and len(whole) >= 15
    for job, configs in jobs.items():
        assert any(map(trained.finished, configs)), job


def test_runs_cover_the_ways_to_train(trained):
    configs = [result.config for result in trained.results]
    for knob, values in {
        "dataset": set(NAMES),
        "memory_bank": {"observed", "full"},
        "missing_type": {"text", "image", "both"},
        "use_adapter": {True, False},
        "use_alignment": {True, False},
        "use_retrieval": {True, False},
        "test_missing_rate": {None, 0.9},
        "precision": {"bfloat16"},
        "max_text_length": {128},
    }.items():
        assert {getattr(config, knob) for config in configs} == values, knob


def test_scores_are_those_of_the_whole_test_split(trained):
    for result in trained.results:
        config, test = result.config, result.predictions[result.predictions["split"] == "test"]
        assert result.provenance["data"] == trained.content[config.dataset]
        assert len(test) == result.metrics["test"]["all"]["n"] == 15
        rate = config.missing_rate if config.test_missing_rate is None else config.test_missing_rate
        assert (~test["has_text"] | ~test["has_image"]).sum() == round(len(test) * rate)
        assert 0 <= result.score() <= 1 and np.isfinite(test.filter(like="logit_")).all(axis=None)
        assert np.isfinite(result.telemetry["loss"]).all()


def test_ours_stand_beside_the_papers_numbers(trained, data, monkeypatch):
    monkeypatch.setenv("ANGA_DATA", str(data))
    both = beside_paper(trained.study, trained.outputs)
    assert both["table"].value_counts().to_dict() == {"Table 1": 14 * 6, "Table 2": 15}
    first = both.set_index(["table", "row", "dataset", "missing_type"]).loc["Table 1", "IF-MMIN", "hatememes", "text"]
    ours = 100 * trained.result(method="if_mmin").score()
    assert (first["paper"], first["runs"]) == (57.62, 1) and first["ours"] == pytest.approx(ours)
    table = both[both["table"] == "Table 2"].set_index(["dataset", "row"])
    grid = next(file for file in trained.study.grids if file.name == "05_ablations")["table2"]
    done = [trained.finished(config) for config in grid.configs]
    rows = set(pd.MultiIndex.from_frame(grid.table.loc[done, ["dataset", "part"]]))
    assert len(rows) >= 3 and rows == set(table.index[table["runs"] == 1]) == set(table.index[table["ours"].notna()])
    row = table.loc["food101", "MIR + GA + SEA"]
    ours = 100 * trained.result(dataset="food101", use_adapter=True).score()
    assert row["paper"] == 77.23 and row["ours"] == pytest.approx(ours)
    assert row["difference"] == pytest.approx(ours - 77.23)
    assert row["differs"] == "backbone mini-vilt, not dandelin/vilt-b32-mlm, batch_size 512, not 64"


# --- what would run, with and without the data


def plan(folder: Path, outputs: Path, capsys, *words: str) -> tuple[int, str, str]:
    status = main(["plan", "--params", str(folder), "--outputs", str(outputs), *words])
    return status, *capsys.readouterr()


def test_a_plan_needs_the_data_but_no_checkpoint(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status, printed, errors = plan(PAPER, tmp_path, capsys, "--root", str(data))
    assert status == 0 and "05_ablations: table2" in printed and "0 finished" in printed and "anga:" not in errors


def test_finished_runs_are_known_to_the_plan(trained, data, capsys):
    status, printed, _ = plan(trained.study.folder, trained.outputs, capsys, "--root", str(data))
    assert status == 0 and f"{len(trained.results)} finished" in printed


def test_without_data_one_error_names_the_set_and_the_cure(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ANGA_DATA", raising=False)
    status, printed, errors = plan(PAPER, tmp_path, capsys)
    assert (status, printed) == (1, "") and errors.count("anga: ") == 1 and "Traceback" not in errors
    assert errors.startswith("anga: hatememes: no folder given") and "ANGA_DATA or --root" in errors


def test_one_set_that_is_not_there_is_named(data, tmp_path, capsys):
    (tmp_path / "hatememes").symlink_to(data / "hatememes")
    status, _, errors = plan(PAPER, tmp_path / "outputs", capsys, "--root", str(tmp_path))
    assert status == 1 and f"anga: mmimdb: '{tmp_path / 'mmimdb'}' is no folder" in errors and "split.json" in errors
