"""The paper's numbers beside ours, with all settings that differ."""

from pathlib import Path

import pandas as pd

from anga.config import Config
from anga.grids import Grid
from anga.parameters import ParameterSet
from anga.published import published
from anga.result import Result
from anga.runs import run_folder
from anga.statistics import mean_interval

COLUMNS = ["table", "row", "dataset", "missing_type", "paper", "ours", "low", "high", "difference", "runs", "differs"]
# What Sec. 5.1 states for every experiment, as knobs. It names no CLIP model, number of epochs, bank or seeds.
STATED = {
    "backbone": "dandelin/vilt-b32-mlm",
    "missing_rate": 0.7,
    "lambda_min": 0.1,
    "lambda_max": 0.3,
    "grow_epochs": 5,
    "prompt_layer": 2,
    "cos_threshold": 0.2,
    "learning_rate": 1.0e-3,
    "weight_decay": 1.0e-5,
    "batch_size": 64,
}


def beside_paper(study: ParameterSet, outputs: str | Path) -> pd.DataFrame:
    """Every number of the paper that a study repeats, in %, with ours where runs are finished (NaN elsewhere).

    A grid that names a table of the paper (`paper: Table 1`) repeats the rows that its axis `method` or `part` lists.

    Returns:
        Columns: see COLUMNS; difference is ours minus the paper's; runs are the finished ones behind ours; differs
        lists the settings that are not the paper's ("batch_size 32, not 64").
    """
    grids = [grid for file in study.grids for grid in file.grids.values() if grid.paper]
    rows = [row for grid in grids for row in _grid_rows(grid, outputs)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _grid_rows(grid: Grid, outputs: str | Path) -> list[dict]:
    numbers, rows = published(), []
    axis = "method" if "method" in grid.axes else "part"
    configs = pd.Series(grid.configs, index=grid.table.index)
    for number in numbers[numbers["table"] == grid.paper].itertuples():
        place = configs.map(lambda c, n=number: (c.dataset, c.missing_type) == (n.dataset, n.missing_type))
        chosen = list(configs[place & (grid.table[axis] == number.row)])
        if chosen:
            rows.append(_row(number, chosen, outputs))
    return rows


def _row(number, configs: list[Config], outputs: str | Path) -> dict:
    folders = [run_folder(config, outputs)[0] for config in configs]
    done = [Result.load(folder) for folder in folders if folder.exists()]
    scores, tables = [100 * result.score() for result in done], [result.config.mask_seed for result in done]
    ends = mean_interval(scores, tables) if scores else 3 * [float("nan")]
    ours = dict(zip(("ours", "low", "high"), ends, strict=True))
    known = {"table": number.table, "row": number.row, "dataset": number.dataset, "missing_type": number.missing_type}
    known |= {"paper": number.percent, **ours, "difference": ours["ours"] - number.percent}
    return known | {"runs": len(scores), "differs": ", ".join(_differing(configs))}


def _differing(configs: list[Config]) -> list[str]:
    """Settings that the paper states and some of these configs have otherwise."""
    values = [(name, getattr(config, name)) for name in STATED for config in configs]
    return [f"{name} {value}, not {STATED[name]}" for name, value in dict.fromkeys(values) if value != STATED[name]]
