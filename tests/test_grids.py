"""Grid files: every point with every pair of seeds, all mistakes at once, and runs found by their labels."""

import itertools

import pytest
import yaml
from tiny_world import tiny_config

from anga import workers
from anga.config import Config
from anga.errors import AngaError
from anga.grids import SUBSETS, GridFile
from anga.statistics import paired_difference

AXES = {
    "missing_rate": [0.3, 0.6],
    "training": {"joint": {"use_alignment": False}, "full ANGA": {}, "bound": {"train_subset": "complete"}},
}
PLAIN = {"knobs": {"epochs": 3}, "mask_seeds": [0, 4], "train_seeds": [1], "grids": {"rates": {"axes": AXES}}}


@pytest.fixture
def write(tmp_path):
    """Write a grid file and return its path."""

    def write(values: dict):
        path = tmp_path / "set" / "03_question.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


def test_a_grid_is_the_product_of_its_axes_and_seeds(write):
    file = GridFile.from_yaml(write(PLAIN))
    grid = file["rates"]
    assert (file.name, file.place) == ("03_question", "set/03_question")
    assert grid.axes == {"missing_rate": [0.3, 0.6], "training": ["joint", "full ANGA", "bound"]}
    points = list(itertools.product([0.3, 0.6], AXES["training"], [0, 4]))
    assert list(grid.table[["missing_rate", "training", "mask_seed"]].itertuples(index=False, name=None)) == points
    for (rate, training, mask_seed), config in zip(points, grid.configs, strict=True):
        knobs = {"missing_rate": rate, **AXES["training"][training], "mask_seed": mask_seed, "train_seed": 1}
        assert config == Config(epochs=3, **knobs)


def test_a_grids_own_knobs_and_seeds_come_before_the_files_and_an_axis_before_both(write):
    grid = {"axes": {"top_k": [2]}, "knobs": {"epochs": 7, "top_k": 9}, "mask_seeds": [5]}
    (config,) = GridFile.from_yaml(write({**PLAIN, "grids": {"other": grid}}))["other"].configs
    assert (config.epochs, config.top_k, config.mask_seed, config.train_seed) == (7, 2, 5, 1)


@pytest.mark.parametrize(
    ("masks", "seeds", "words"),
    [
        ([0], [3], "n = 1 run per point (1 missing table x 1 training seed)"),
        ([0, 4], [1], "n = 2 runs per point (2 missing tables x 1 training seed)"),
        ([0, 1, 2], [0, 1], "n = 6 runs per point (3 missing tables x 2 training seeds)"),
    ],
)
def test_a_grid_says_how_many_runs_stand_behind_a_point(write, masks, seeds, words):
    grid = GridFile.from_yaml(write({**PLAIN, "mask_seeds": masks, "train_seeds": seeds}))["rates"]
    assert grid.seeds == list(itertools.product(masks, seeds))
    assert grid.repeats == words


def test_paired_seeds_give_each_missing_table_a_training_seed_of_its_own(write):
    grid = GridFile.from_yaml(write({**PLAIN, "mask_seeds": [0, 4], "train_seeds": "paired"}))["rates"]
    assert grid.seeds == [(0, 0), (4, 4)]
    assert grid.repeats == "n = 2 runs per point (2 missing tables, each with a training seed of its own)"


@pytest.mark.parametrize("seeds", [{"mask_seeds": [1, 1]}, {"train_seeds": [0, 2, 0]}, {"train_seeds": "all"}])
def test_repeated_seeds_are_no_repeats(write, seeds):
    with pytest.raises(AngaError, match=f"rates: {next(iter(seeds))} must be a list of different whole numbers"):
        GridFile.from_yaml(write({**PLAIN, **seeds}))


def test_configs_of_several_grids_are_listed_once(write):
    values = {**PLAIN, "grids": {"one": {"axes": AXES}, "same": {"axes": AXES}}}
    assert len(GridFile.from_yaml(write(values)).configs) == 12


def test_all_mistakes_are_listed_at_once(write):
    bad = {"axes": {"top_k": [0, 5], "epochs": {"few": {"epocs": 2}}, "memory_bank": "full"}, "seeds": [1]}
    path = write({**PLAIN, "mask_seeds": 3, "size": 1, "grids": {"bad": bad, "empty": {}}})
    with pytest.raises(AngaError) as caught:
        GridFile.from_yaml(path)
    message = str(caught.value)
    for complaint in (
        "unknown key size",
        "bad: unknown key seeds",
        "bad: axis memory_bank must be a list",
        "bad: mask_seeds must be a list",
        "bad at {'top_k': 0, 'epochs': 'few'} and 1 more: unknown key epocs (did you mean epochs?)",
        "bad at {'top_k': 0, 'epochs': 'few'}: top_k: must be at least 1",
        "empty: expected axes",
        "empty: mask_seeds must be a list",
    ):
        assert message.count(f"{path}: {complaint}") == 1
    assert len(message.splitlines()) == 8


@pytest.mark.parametrize("values", [3, [], {}, [[1]], {"a": 1}])
def test_an_axis_that_is_neither_list_nor_mapping_of_knobs_is_named(write, values):
    with pytest.raises(AngaError, match="rates: axis top_k must be a list"):
        GridFile.from_yaml(write({"grids": {"rates": {"axes": {"top_k": values}}}}))


@pytest.mark.parametrize("grids", [None, {}, [1]])
def test_a_file_without_grids_is_refused(write, grids):
    with pytest.raises(AngaError, match="grids: expected a mapping"):
        GridFile.from_yaml(write({"grids": grids}))


def complaints(values: dict) -> str:
    """All that is said about a file with these values."""
    with pytest.raises(AngaError) as caught:
        GridFile("set/03_question.yaml", values)
    return str(caught.value)


@pytest.mark.parametrize("seed", ["mask_seed", "train_seed"])
def test_a_seed_among_knobs_or_axes_is_pointed_to_the_list(seed):
    axes = {seed: [1, 2], "training": {"joint": {seed: 4}, "aligned": {}}}
    said = complaints({"knobs": {seed: 3}, "grids": {"rates": {"axes": axes, "knobs": {seed: 5}}}})
    for where in ("set/03_question.yaml: knobs", "rates: knobs", f"rates: axis {seed}", "rates: axis training"):
        assert f"{where}: use {seed}s: [...] (a list of the grid or the file), not {seed}" in said
    assert f"axes {seed} and training both set {seed}" in said
    assert f"axis {seed}: use" in complaints({"grids": {"g": {"axes": {seed: {"low": {"top_k": 1}}}}}})


def test_two_axes_that_set_the_same_knob_are_named():
    axes = {"missing_rate": [0.1], "training": {"a": {}, "b": {"missing_rate": 0.5, "top_k": 2}}, "top_k": [3]}
    said = complaints({"grids": {"rates": {"axes": axes}, "fine": {"axes": AXES}}})
    assert "rates: axes missing_rate and training both set missing_rate;" in said
    assert "rates: axes training and top_k both set top_k;" in said
    assert "missing_rate and top_k" not in said and "fine" not in said


@pytest.mark.parametrize("knobs", [None, [1], 3, "top_k"])
def test_knobs_that_are_no_mapping_are_named_with_all_other_mistakes(knobs):
    said = complaints({"knobs": knobs, "grids": {"rates": {"axes": AXES, "knobs": knobs, "size": 1}}})
    for where in ("set/03_question.yaml: knobs", "rates: knobs"):
        assert f"{where}: expected a mapping of knobs to values such as {{epochs: 20}}, not {knobs!r}" in said
    assert "rates: unknown key size" in said


@pytest.mark.parametrize(
    "knobs",
    [
        *({"top_k": 0}, {"topk": 1}, {"method": "none"}),
        *({"missing_rate": 1}, {"missing_rate": 1, "method": "if_mmin"}, {"device": "gpu"}),
    ],
)
def test_a_points_mistake_is_said_once(knobs):
    said = complaints({"mask_seeds": [0, 1], "grids": {"rates": {"axes": {"training": {"x": knobs}}}}})
    assert said.startswith("set/03_question.yaml: rates at {'training': 'x'}: ")
    assert said.count("rates at") == said.count("question.yaml") == 1 and "\n" not in said


def test_a_mistake_of_many_points_is_said_once_for_a_grid():
    axes = {"epochs": [0], "top_k": [0], "dataset": ["nosuch", "clipart-pairs"], "train": {"a": {}, "b": {"foo": 1}}}
    knobs = {"cos_threshold": 1.5, "lambda_min": 0.9}
    lines = complaints({"knobs": knobs, "mask_seeds": [0, 1], "grids": {"g": {"axes": axes}}}).splitlines()
    first = "set/03_question.yaml: g at {'epochs': 0, 'top_k': 0, 'dataset': 'nosuch', 'train': 'a'}"
    shared = {line.split(": ")[-2] for line in lines if line.startswith(f"{first[:-1]}}} and 3 more: ")}
    assert shared == {"epochs", "top_k", "cos_threshold", "lambda_min"}
    others = [line for line in lines if " and 3 more: " not in line]
    assert others[0].startswith(f"{first} and 1 more: dataset: must be one of ") and len(others) == 2
    assert "'train': 'b'} and 1 more: unknown key foo" in others[1]


@pytest.fixture
def runs(binary_world, write, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "START_METHOD", "fork")  # so that workers read the tiny world too
    workers._remembered.clear()
    knobs = {name: value for name, value in tiny_config(epochs=1).to_dict().items() if not name.endswith("_seed")}
    with binary_world.replaced():
        yield GridFile.from_yaml(write({**PLAIN, "knobs": knobs})).run("rates", tmp_path, progress=False)


def test_runs_are_found_by_their_labels(runs):
    chosen = runs.select(missing_rate=0.6, training="bound")
    assert [result.config.mask_seed for result in chosen] == [0, 4]
    assert all(r.config.train_subset == "complete" and r.config.missing_rate == 0.6 for r in chosen)
    assert [r.config for r in runs.results] == runs.grid.configs
    with pytest.raises(AngaError, match="axis training has no 'none'"):
        runs.select(training="none")
    with pytest.raises(AngaError, match="has no axis rate"):
        runs.select(rate=0.6)


def test_scores_are_those_of_the_results(runs):
    table = runs.scores()
    assert len(table) == len(runs.results) * len(SUBSETS)
    for row in table.itertuples():
        (result,) = [
            r
            for r in runs.select(missing_rate=row.missing_rate, training=row.training)
            if r.config.mask_seed == row.mask_seed
        ]
        assert row.score == result.score(row.subset)


def test_differences_are_paired_at_every_point_of_the_other_axes(runs, binary_world):
    table = runs.differences("training", minus="joint", subsets=("complete",), n_resamples=20)
    assert table[["missing_rate", "training"]].to_numpy().tolist() == [
        [0.3, "full ANGA"],
        [0.3, "bound"],
        [0.6, "full ANGA"],
        [0.6, "bound"],
    ]
    pair = runs.select(missing_rate=0.6, training="joint"), runs.select(missing_rate=0.6, training="bound")
    expected = paired_difference(*pair, binary_world.dataset, "complete", 20)
    assert tuple(table.iloc[3][["mean", "low", "high"]]) == expected
    assert (table["runs"] == 2).all()
