"""Grids of runs: a YAML file of knobs, axes and seeds in, one table of finished runs out."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anga.baselines import check_method
from anga.config import Config, read_yaml
from anga.contradictions import check_memory_bank, check_prompt_layer
from anga.errors import AngaError, noting, refuse
from anga.inputs import load_config_dataset
from anga.published import published
from anga.result import Result
from anga.statistics import paired_difference
from anga.workers import run_all

SUBSETS = ("all", "complete", "reconstructed")
SEEDS = ("mask_seeds", "train_seeds")
ROWS = {"method", "part"}  # the axes that can list the rows of a table of the paper
FILE_KEYS = {"knobs", "grids", *SEEDS}
GRID_KEYS = {"knobs", "axes", "paper", *SEEDS}
CHECKS = (check_method, check_memory_bank, check_prompt_layer)  # of a config that is going to be run


@dataclass(frozen=True)
class Grid:
    """The product of some axes and pairs of seeds.

    Attributes:
        name: its key in the file.
        axes: axis -> labels; a label is a knob's value, or the name of a set of knobs.
        table: one row per run: a label per axis, mask_seed, train_seed.
        configs: what each row trains.
        paper: the table of the paper whose rows it repeats ("Table 1"), for the report; None: none.
    """

    name: str
    axes: dict[str, list]
    table: pd.DataFrame
    configs: list[Config]
    paper: str | None = None

    @property
    def seeds(self) -> list[tuple[int, int]]:
        """The pairs of mask_seed and train_seed that every point is run with."""
        return list(self.table[["mask_seed", "train_seed"]].drop_duplicates().itertuples(index=False, name=None))

    @property
    def repeats(self) -> str:
        """In words: "n = 6 runs per point (3 missing tables x 2 training seeds)"."""
        counts = [len(set(values)) for values in zip(*self.seeds, strict=True)]
        if len(self.seeds) > 1 and counts == [len(self.seeds)] * 2:
            return f"n = {counts[0]} runs per point ({counts[0]} missing tables, each with a training seed of its own)"
        runs, tables, seeds = ("s" * (n > 1) for n in (len(self.seeds), *counts))
        return (
            f"n = {len(self.seeds)} run{runs} per point "
            f"({counts[0]} missing table{tables} x {counts[1]} training seed{seeds})"
        )


class GridFile:
    """A parameter file with named grids; every config of every grid is made, and thereby checked, on reading.

        knobs: {epochs: 20}                    # of all grids
        mask_seeds: [0, 1, 2]                  # of the missing tables
        train_seeds: [0, 1, 2]                 # with each of them; or `paired`: the table's own number alone
        grids:
          rates:
            axes:
              missing_rate: [0.1, 0.5, 0.9]    # an axis named like a knob lists its values
              training:                        # any other axis names sets of knobs
                joint: {use_alignment: false}
                full ANGA: {}
            knobs: {use_adapter: false}        # optional, as are seeds of the grid's own
            paper: Table 1                     # optional: its rows are repeated here

    The knobs of a label come before the grid's, and those before the file's; two axes never set the same knob.

    Raises:
        AngaError: all that is wrong in the file, a line each.
    """

    def __init__(self, path: str | Path, values: dict):
        self.path = Path(path)
        complaints = [
            f"unknown key {k}; known keys are {', '.join(sorted(FILE_KEYS))}" for k in values if k not in FILE_KEYS
        ]
        grids = values.get("grids")
        if not isinstance(grids, dict) or not grids:
            complaints, grids = [*complaints, "grids: expected a mapping of at least one name to axes"], {}
        knobs = _knobs("knobs", values.get("knobs", {}), complaints)
        seeds = {key: values[key] for key in SEEDS if key in values}
        self.grids = {name: _expand(name, knobs, seeds, grid, complaints) for name, grid in grids.items()}
        refuse([f"{path}: {complaint.rstrip('.')}." for complaint in complaints])

    @classmethod
    def from_yaml(cls, path: str | Path) -> "GridFile":
        """Read and check a file."""
        return cls(path, read_yaml(path))

    @property
    def name(self) -> str:
        """The file's stem, which is the notebook's: "03_imbalance"."""
        return self.path.stem

    @property
    def place(self) -> str:
        """Where its figures and tables belong under outputs/figures and outputs/tables: "clipart/03_imbalance"."""
        return f"{self.path.parent.name}/{self.name}"

    @property
    def configs(self) -> list[Config]:
        """The configs of all grids, each once, in the order of the file."""
        return list(dict.fromkeys(config for grid in self.grids.values() for config in grid.configs))

    def __getitem__(self, name: str) -> Grid:
        if name not in self.grids:
            raise AngaError(f"{self.path}: has no grid {name}, only {', '.join(self.grids)}.")
        return self.grids[name]

    def run(self, name: str, outputs: str | Path = "outputs", progress: bool = True) -> "GridRuns":
        """The finished runs of a grid; what is missing is trained now."""
        grid = self[name]
        return GridRuns(grid, run_all(grid.configs, outputs, progress, what=f"{self.name}: {name}"))


def _expand(name: str, knobs: dict, seeds: dict, grid: dict, complaints: list[str]) -> Grid:
    """All configs of one grid; what is wrong is noted in `complaints` and left out."""
    grid = grid if isinstance(grid, dict) else {}
    axes = grid.get("axes")
    if not isinstance(axes, dict) or not axes:
        complaints.append(f"{name}: expected axes, a mapping of at least one axis")
        axes = {}
    complaints += [
        f"{name}: unknown key {k}; known keys are {', '.join(sorted(GRID_KEYS))}" for k in grid if k not in GRID_KEYS
    ]
    axes = {axis: _labels(name, axis, values, complaints) for axis, values in axes.items()}
    _check_axes(name, axes, complaints)
    _check_paper(name, grid.get("paper"), axes, complaints)
    pairs = seed_pairs(name, *(grid.get(key, seeds.get(key, [0])) for key in SEEDS), complaints)
    base = knobs | _knobs(f"{name}: knobs", grid.get("knobs", {}), complaints)
    rows, configs, wrong = [], [], {}
    for labels, chosen in _points(axes):
        said = []
        for mask_seed, train_seed in pairs:
            own = {"mask_seed": mask_seed, "train_seed": train_seed}
            with noting(said):
                configs.append(Config.from_dict(base | chosen | own, checks=CHECKS))
                rows.append(labels | own)
        for complaint in dict.fromkeys(said):
            wrong.setdefault(complaint, []).append(f"{name} at {labels}" if labels else name)
    for complaint, points in wrong.items():
        more = f" and {len(points) - 1} more" if len(points) > 1 else ""
        complaints.append(f"{points[0]}{more}: {complaint}")
    labels = {axis: list(labels) for axis, labels in axes.items()}
    return Grid(name, labels, pd.DataFrame(rows), configs, grid.get("paper"))


def _points(axes: dict[str, dict]) -> Iterator[tuple[dict, dict]]:
    """Labels and knobs of every point; an axis without labels is left out, so that the others can be checked."""
    axes = {axis: labels for axis, labels in axes.items() if labels}
    for point in itertools.product(*(labels.items() for labels in axes.values())):
        knobs = {key: value for _, own in point for key, value in own.items()}
        yield dict(zip(axes, (label for label, _ in point), strict=True)), knobs


def _knobs(where: str, knobs, complaints: list[str]) -> dict:
    """The knobs of a file or grid, none if they are no mapping."""
    if not isinstance(knobs, dict):
        complaints.append(f"{where}: expected a mapping of knobs to values such as {{epochs: 20}}, not {knobs!r}")
        return {}
    _refuse_seeds(where, knobs, complaints)
    return knobs


def _refuse_seeds(where: str, knobs: Collection, complaints: list[str]) -> None:
    """A seed is no knob of a grid: the pairs of seeds would replace it."""
    for key in SEEDS:
        if (seed := key.removesuffix("s")) in knobs:
            complaints.append(f"{where}: use {key}: [...] (a list of the grid or the file), not {seed}")


def _check_axes(name: str, axes: dict[str, dict], complaints: list[str]) -> None:
    """No axis sets a seed, or a knob of another axis: that one's label would not say what was trained."""
    knobs = {axis: set().union(*labels.values()) for axis, labels in axes.items()}
    for axis in axes:
        _refuse_seeds(f"{name}: axis {axis}", {axis, *knobs[axis]}, complaints)
    for first, second in itertools.combinations(axes, 2):
        both = ", ".join(sorted(map(str, knobs[first] & knobs[second])))
        if both:
            complaints.append(f"{name}: axes {first} and {second} both set {both}; leave it to one of them")


def _check_paper(name: str, table: str | None, axes: dict, complaints: list[str]) -> None:
    """A grid that repeats a table of the paper names one that is known, lists its rows, and has one point for each."""
    if table is None:
        return
    known = sorted(set(published()["table"]))
    if table not in known:
        complaints.append(f"{name}: paper must be one of {', '.join(known)}, not {table!r}")
    if len(ROWS & axes.keys()) != 1:
        complaints.append(f"{name}: paper needs one axis method or part with the rows of {table}")
    others = [str(axis) for axis in axes if axis not in ROWS | {"dataset", "missing_type"}]
    if others:
        complaints.append(
            f"{name}: paper allows the axes dataset and missing_type beside the rows, not {', '.join(others)}"
        )


def _labels(grid: str, axis: str, values, complaints: list[str]) -> dict:
    """Label -> knobs of one axis."""
    if isinstance(values, list) and values and not any(isinstance(value, list | dict) for value in values):
        return {value: {axis: value} for value in values}
    if isinstance(values, dict) and values and all(isinstance(knobs, dict) for knobs in values.values()):
        return values
    complaints.append(f"{grid}: axis {axis} must be a list of a knob's values, or a mapping of labels to knobs")
    return {}


def seed_pairs(where: str, masks, trains, complaints: list[str]) -> list[tuple[int, int]]:
    """Pairs of mask_seed and train_seed: every one, or each missing table with a training seed of its own."""
    masks = _seeds(where, "mask_seeds", masks, complaints)
    if trains == "paired":
        return [(seed, seed) for seed in masks]
    return list(itertools.product(masks, _seeds(where, "train_seeds", trains, complaints)))


def _seeds(where: str, key: str, values, complaints: list[str]) -> list[int]:
    numbers = isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
    if numbers and values and len(set(values)) == len(values):
        return values
    complaints.append(f"{where}: {key} must be a list of different whole numbers such as [0, 1, 2], not {values!r}")
    return [0]  # so that everything else can be checked


@dataclass(frozen=True)
class GridRuns:
    """The finished runs of a grid, in the order of its table."""

    grid: Grid
    results: list[Result]

    @property
    def table(self) -> pd.DataFrame:
        """One row per run: a label per axis, mask_seed, train_seed; row i belongs to results[i]."""
        return self.grid.table

    def scores(self, subsets=SUBSETS, split: str = "test") -> pd.DataFrame:
        """One row per run and subset: axes, mask_seed, train_seed, subset, score (the task's own metric)."""
        parts = [self.table.assign(subset=s, score=[r.score(s, split) for r in self.results]) for s in subsets]
        return pd.concat(parts, ignore_index=True)

    def select(self, **labels) -> list[Result]:
        """The results at some labels, in the order of axes and seeds."""
        self._known(labels)
        chosen = pd.Series(True, index=self.table.index)
        for axis, label in labels.items():
            chosen &= self.table[axis].isna() if label is None else self.table[axis] == label
        return [self.results[i] for i in self.table.index[chosen]]

    def differences(self, axis: str, minus, subsets=SUBSETS, n_resamples: int = 200) -> pd.DataFrame:
        """Paired differences of every label of an axis to the label `minus`, at each point of the other axes.

        Returns:
            Columns: the other axes, the axis, subset, mean, low, high (see `paired_difference`), runs (pairs).
        """
        self._known({axis: minus})
        others = {name: labels for name, labels in self.grid.axes.items() if name != axis}
        rows = []
        for point in itertools.product(*others.values()):
            at = dict(zip(others, point, strict=True))
            base = self.select(**at, **{axis: minus})
            for label in (label for label in self.grid.axes[axis] if label != minus):
                rows += [
                    {**at, axis: label, **row}
                    for row in self._paired(base, self.select(**at, **{axis: label}), subsets, n_resamples)
                ]
        return pd.DataFrame(rows)

    def _paired(self, first, second, subsets, n_resamples: int) -> list[dict]:
        dataset = load_config_dataset(first[0].config)
        rows = []
        for subset in subsets:
            mean, low, high = paired_difference(first, second, dataset, subset, n_resamples)
            rows.append({"subset": subset, "mean": mean, "low": low, "high": high, "runs": len(first)})
        return rows

    def _known(self, labels: dict) -> None:
        for axis, label in labels.items():
            if axis not in self.grid.axes:
                raise AngaError(f"{self.grid.name}: has no axis {axis}, only {', '.join(self.grid.axes)}.")
            if label not in self.grid.axes[axis]:
                raise AngaError(f"{self.grid.name}: axis {axis} has no {label!r}, only {self.grid.axes[axis]}.")
