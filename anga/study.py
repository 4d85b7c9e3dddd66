"""A study: parameter files in, runs, executed notebooks and one table out."""

import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from anga.config import Config, read_yaml
from anga.errors import AngaError
from anga.evaluation import METRIC_NAMES
from anga.inputs import load_config_dataset
from anga.result import Result
from anga.runs import is_finished, run
from anga.statistics import summarise

# The rows of the headline table; each adds one part of the method (Table 2 of the paper).
VARIANTS: dict[str, dict] = {
    "zero-filled": {"use_retrieval": False, "use_alignment": False, "use_adapter": False},
    "retrieval only": {"use_retrieval": True, "use_alignment": False, "use_adapter": False},
    "retrieval + adapter": {"use_retrieval": True, "use_alignment": False, "use_adapter": True},
    "full ANGA": {"use_retrieval": True, "use_alignment": True, "use_adapter": True},
}
SUBSETS = ("all", "complete", "reconstructed")


@dataclass(frozen=True)
class Params:
    """A parameter file: knobs, and the seeds to repeat them with.

    Attributes:
        path: the file.
        config: the knobs, with the paper's defaults for those that the file leaves out.
        mask_seeds, train_seeds: every pair of them is one run.
    """

    path: Path
    config: Config
    mask_seeds: tuple[int, ...]
    train_seeds: tuple[int, ...]

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Params":
        """Read a parameter file; unknown keys and bad values raise before anything runs."""
        values = read_yaml(path)
        seeds = {name: _seeds(path, name, values.pop(name, [0])) for name in ("mask_seeds", "train_seeds")}
        for name in ("mask_seed", "train_seed"):
            if name in values:
                raise AngaError(f"{path}: use {name}s: [{values[name]}] (a list) in a parameter file, not {name}.")
        return cls(Path(path), Config.from_dict(values, source=str(path)), **seeds)

    def configs(self, **knobs) -> list[Config]:
        """One config per pair of seeds, with some knobs changed."""
        pairs = itertools.product(self.mask_seeds, self.train_seeds)
        return [self.config.with_(**knobs, mask_seed=mask, train_seed=train) for mask, train in pairs]


def _seeds(path, name: str, values) -> tuple[int, ...]:
    if not isinstance(values, list) or not values or not all(type(v) is int and v >= 0 for v in values):
        raise AngaError(f"{path}: {name} must be a list of whole numbers such as [0, 1, 2], not {values!r}.")
    return tuple(values)


def parameter_files(folder: str | Path) -> list[Params]:
    """All parameter files of a folder, in alphabetical order, each checked."""
    paths = sorted(Path(folder).glob("*.yaml"))
    if not paths:
        raise AngaError(f"{folder}: holds no parameter file (*.yaml); name a folder such as params/quick.")
    return [Params.from_yaml(path) for path in paths]


def run_variants(params: Params, outputs: str | Path, progress: bool = True) -> dict[str, list[Result]]:
    """Results of every variant and pair of seeds; finished runs are read, the others are trained now."""
    jobs = [(name, config) for name, knobs in VARIANTS.items() for config in params.configs(**knobs)]
    results: dict[str, list[Result]] = {name: [] for name in VARIANTS}
    todo = sum(not is_finished(config, outputs) for _, config in jobs)
    what = f"{params.path.stem}: {todo} of {len(jobs)} runs to train"
    bar = tqdm(jobs, desc=what, unit="run", disable=not (progress and todo))
    for name, config in bar:
        results[name].append(run(config, outputs, progress=progress))
    return results


def variants_table(params: Params, outputs: str | Path, progress: bool = True) -> pd.DataFrame:
    """One row per variant and subset: dataset, metric, mean, low, high, runs, over."""
    dataset = load_config_dataset(params.config)
    results = run_variants(params, outputs, progress)
    parts = [summarise(runs, dataset, SUBSETS).assign(variant=name) for name, runs in results.items()]
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "dataset", dataset.name)
    return table.assign(metric=METRIC_NAMES[dataset.metric])


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Rows: variants; columns: (task and metric, subset); cells: mean [low, high]."""
    cell = table.apply(lambda r: f"{r['mean']:.3f} [{r['low']:.3f}, {r['high']:.3f}]", axis=1)
    table = table.assign(cell=cell, task=table["dataset"] + ", " + table["metric"])
    wide = table.pivot(index="variant", columns=["task", "subset"], values="cell")
    return wide.loc[list(VARIANTS), [c for task in table["task"].unique() for c in wide if c[0] == task]]


# --- notebooks


def execute(notebook: Path, params: Params, outputs: str | Path) -> Path:
    """Execute a notebook with papermill over a parameter file; a finished one with the same sources is left alone.

    Returns the executed notebook, `outputs/notebooks/<set>/<task>/<notebook>`.

    Raises:
        AngaError: the notebook is absent, or a cell failed (the output, up to that cell, is kept and named).
    """
    import papermill

    if not notebook.exists():
        raise AngaError(f"{notebook}: not found; run this from the project's root folder.")
    target = Path(outputs) / "notebooks" / params.path.parent.name / params.path.stem / notebook.name
    stamp, sources = target.with_suffix(".sources"), _sources_hash(notebook, params.path)
    if target.exists() and stamp.exists() and stamp.read_text() == sources:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    values = {"params": os.path.abspath(params.path), "outputs": os.path.abspath(outputs)}
    try:
        papermill.execute_notebook(notebook, target, values, cwd=notebook.parent, kernel_name="python3")
    except papermill.PapermillExecutionError as error:
        raise AngaError(
            f"{target}: cell {error.exec_count} failed with {error.ename}: {error.evalue}; open it to see where."
        ) from error
    stamp.write_text(sources)
    return target


def _sources_hash(notebook: Path, params: Path) -> str:
    """Hash of what an executed notebook was made from: itself, its parameters and the package."""
    package = sorted(Path(__file__).parent.rglob("*.py"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (notebook, params, *package)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def demo(params_folder: str | Path, outputs: str | Path, notebooks: list[Path]) -> pd.DataFrame:
    """Train what is missing, execute the notebooks, and return the long table of all variants."""
    files = parameter_files(params_folder)
    tables = [variants_table(params, outputs) for params in files]
    jobs = [(notebook, params) for params in files for notebook in notebooks]
    for notebook, params in tqdm(jobs, desc="notebooks", unit="notebook"):
        execute(notebook, params, outputs)
    return pd.concat(tables, ignore_index=True)
