"""A study: a folder of parameter files in; runs, executed notebooks and tables out."""

import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock
from tqdm import tqdm

from anga.config import Config
from anga.errors import AngaError, noting, refuse
from anga.evaluation import METRIC_NAMES
from anga.grids import SUBSETS, GridFile
from anga.inputs import inputs_key, load_config_dataset
from anga.parameters import TASK_NOTEBOOKS, VARIANTS, ParameterSet, Params, variant_configs
from anga.replacing import named_if_not_made
from anga.report import write_overview, write_report
from anga.result import Result
from anga.runs import run_folder
from anga.statistics import summarise
from anga.workers import SECONDS_PER_INPUTS, guessed_seconds, run_all, runs_backbone, worker_slots

PACKAGE = Path(__file__).parent
UNREAD = ("report.py", "replacing.py")  # in it; how things are written: no notebook shows it
# A first guess of what executing a notebook takes: to begin with, and for every run that it reads.
SECONDS_PER_NOTEBOOK = 30.0
SECONDS_PER_RUN_READ = 0.33


def run_variants(params: Params, outputs: str | Path, progress: bool = True) -> dict[str, list[Result]]:
    """Results of every variant and pair of seeds; finished runs are read, the others are trained now."""
    results = iter(run_all(variant_configs(params), outputs, progress, what=params.path.stem))
    return {name: [next(results) for _ in params.configs()] for name in VARIANTS}


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


def execute(notebook: Path, params: Params | GridFile, outputs: str | Path) -> Path:
    """Execute a notebook with papermill over a parameter file; a finished one with the same sources is left alone.

    A lock makes two processes that ask for the same one execute it once.

    Returns the executed notebook, `outputs/notebooks/<set>/<parameter file>/<notebook>`.

    Raises:
        AngaError: the notebook is absent, a cell failed (the output, up to that cell, is kept and named), or the disk
            is full.
    """
    if not notebook.exists():
        raise AngaError(f"{notebook}: not found; run this from the project's root folder.")
    target = _target(notebook, params, outputs)
    sources = _sources_hash(notebook, params, [run_folder(config, outputs)[0] for config in _configs(params)])
    if _made_from(target) == sources:
        return target
    with named_if_not_made(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if _made_from(target) != sources:  # another process may just have executed it
                _stamp(target).unlink(missing_ok=True)
                _execute(notebook, target, params.path, outputs)
                _stamp(target).write_text(sources)
    return target


def _target(notebook: Path, params: Params | GridFile, outputs: str | Path) -> Path:
    return Path(outputs) / "notebooks" / params.path.parent.name / params.path.stem / notebook.name


def _configs(params: Params | GridFile) -> list[Config]:
    """Of the runs that a parameter file's notebooks read."""
    return params.configs if isinstance(params, GridFile) else variant_configs(params)


def _stamp(target: Path) -> Path:
    return target.with_suffix(".sources")


def _made_from(target: Path) -> str | None:
    """The hash of what an executed notebook was made from; None where there is none, or not all of it."""
    try:
        return _stamp(target).read_text() if target.exists() else None
    except FileNotFoundError:
        return None


def _execute(notebook: Path, target: Path, params: Path, outputs: str | Path) -> None:
    import papermill

    # relative, as a reader of the executed notebook would write them
    values = {name: os.path.relpath(path, notebook.parent) for name, path in (("params", params), ("outputs", outputs))}
    try:
        papermill.execute_notebook(notebook, target, values, cwd=notebook.parent, kernel_name="python3")
    except papermill.PapermillExecutionError as error:
        raise AngaError(
            f"{target}: cell {error.exec_count} failed with {error.ename}: {error.evalue}; open it to see where."
        ) from error
    except RuntimeError as error:
        raise AngaError(f"{target}: its kernel died ({error}): killed, or out of memory? Call it again.") from error


def _sources_hash(notebook: Path, params: Params | GridFile, runs: list[Path]) -> str:
    """Hash of what an executed notebook was made from: itself, its parameters, the package (but for `UNREAD`), and its
    runs, whose folders' names stand for their data and checkpoints."""
    package = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / name for name in UNREAD})
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (notebook, params.path, *package)]
    return hashlib.sha256("".join([*digests, *(run.name for run in runs)]).encode()).hexdigest()


def _notebooks(study: ParameterSet, folder: str | Path) -> list[tuple[Path, Params | GridFile]]:
    """The notebooks of a study, each with its parameter file."""
    jobs = [(Path(folder) / f"{name}.ipynb", params) for params in study.tasks for name in TASK_NOTEBOOKS]
    return jobs + [(Path(folder) / f"{file.name}.ipynb", file) for file in study.grids]


def demo(folder: str | Path, outputs: str | Path, notebooks: str | Path) -> pd.DataFrame:
    """Train the variants of all tasks, execute notebooks 01, 02 and 04, and return the long table of all variants.

    One process trains, so that 4 GB of memory are enough, with all of torch's threads, so that no core idles. Where
    `reproduce` gives a run fewer of them, the same run may differ there in its last bits; its provenance says how many.
    """
    files = ParameterSet.read(folder).tasks
    configs = [config for params in files for config in variant_configs(params)]
    run_all(configs, outputs, workers=1, what="training", threads=torch.get_num_threads())
    jobs = [(Path(notebooks) / f"{name}.ipynb", params) for params in files for name in TASK_NOTEBOOKS]
    for notebook, params in tqdm(jobs, desc="notebooks", unit="notebook"):
        execute(notebook, params, outputs)
    return pd.concat([variants_table(params, outputs) for params in files], ignore_index=True)


def plan(studies: list[ParameterSet], outputs: str | Path, notebooks: str | Path = "notebooks") -> pd.DataFrame:
    """What studies comprise: training runs by where they come from, then the notebooks to be executed, set after set.

    Columns: job (of several studies: set/job), what ("runs" or "notebook"), number, finished, minutes (left, on this
    machine; workers share the runs, notebooks come one after the other) and "time from", what the minutes follow. A run
    that several jobs share counts, and takes time, in the first of them only.
    """
    folders = {config: run_folder(config, outputs)[0] for study in studies for config in study.configs()}
    per_epoch, seen, rows = _seconds_per_epoch(folders), set(), []
    for study in studies:
        own = _plan_runs(study, folders, per_epoch, seen)
        own += [_plan_notebook(*job, folders, outputs) for job in _notebooks(study, notebooks)]
        prefix = f"{study.folder.name}/" if len(studies) > 1 else ""  # sets may have jobs of the same name
        rows += [row | {"job": f"{prefix}{row['job']}"} for row in own]
    return pd.DataFrame(rows)


def _plan_runs(study: ParameterSet, folders: dict[Config, Path], per_epoch: dict[tuple, float], seen: set) -> list:
    """A row per job, of those of its runs that were not seen before."""
    rows, n_left = [], 0
    for job, configs in study.jobs().items():
        new = [config for config in dict.fromkeys(configs) if config not in seen]
        seen.update(new)
        todo = [config for config in new if not folders[config].exists()]
        n_left += len(todo)
        left = sum(config.epochs * per_epoch.get(_kind(config), guessed_seconds(config)) for config in todo)
        left += SECONDS_PER_INPUTS * len({inputs_key(config) for config in todo if not runs_backbone(config)})
        sources = {"finished runs" if _kind(config) in per_epoch else "a first guess" for config in todo}
        row = {"job": job, "what": "runs", "number": len(new), "finished": len(new) - len(todo), "minutes": left / 60}
        rows.append(row | {"time from": " and ".join(sorted(sources, reverse=True))})
    workers = len(worker_slots(n_left))  # finished runs keep no worker busy
    return [row | {"minutes": row["minutes"] / workers} for row in rows]


def _plan_notebook(notebook: Path, params: Params | GridFile, folders: dict[Config, Path], outputs) -> dict:
    """A notebook's row: finished if `execute` would leave it alone."""
    target, runs = _target(notebook, params, outputs), [folders[config] for config in _configs(params)]
    row = {"job": f"{params.path.stem}/{notebook.name}", "what": "notebook", "number": 1}
    if notebook.exists() and _made_from(target) == _sources_hash(notebook, params, runs):
        return row | {"finished": 1, "minutes": 0.0, "time from": ""}
    seconds, source = _last_duration(target), "its last execution"
    if seconds is None:
        seconds, source = SECONDS_PER_NOTEBOOK + SECONDS_PER_RUN_READ * len(runs), "a first guess"
    return row | {"finished": 0, "minutes": seconds / 60, "time from": source}


def _last_duration(target: Path) -> float | None:
    """Seconds that a notebook's last execution took; None if there was none, or it ended early."""
    try:
        facts = json.loads(target.read_text(encoding="utf-8"))["metadata"]["papermill"]
        return None if facts["exception"] else facts["duration"]
    except (OSError, ValueError, KeyError):
        return None


def _seconds_per_epoch(folders: dict[Config, Path]) -> dict[tuple, float]:
    """What an epoch of a run takes, by kind of run: the mean over finished ones."""
    known = defaultdict(list)
    for config, folder in folders.items():
        if folder.exists():
            seconds = json.loads((folder / "metrics.json").read_text())["seconds"]
            known[_kind(config)].append(seconds / config.epochs)
    return {kind: sum(own) / len(own) for kind, own in known.items()}


def _kind(config: Config) -> tuple:
    """Equal for runs whose epochs take about as long."""
    return config.method, config.use_alignment, runs_backbone(config)


def reproduce(study: ParameterSet, outputs: str | Path, notebooks: str | Path, workers: int | None = None) -> Path:
    """Train every run of a study, execute its notebooks and write its report; what is finished is left alone.

    Returns the report's index.

    Raises:
        AngaError: some runs, notebooks or pages failed; everything else is done by then.
    """
    complaints: list[str] = []
    with noting(complaints), named_if_not_made(Path(outputs) / "runs"):
        run_all(study.configs(), outputs, workers=workers, what=f"training {study.folder.name}")
    executed = []
    for notebook, file in tqdm(_notebooks(study, notebooks), desc="notebooks", unit="notebook"):
        with noting(complaints):
            executed.append(execute(notebook, file, outputs))
    reports = Path(outputs) / "report"
    with noting(complaints):
        write_report(study, executed, outputs, reports / study.folder.name)
        write_overview(reports)
    refuse(complaints)
    return reports / study.folder.name / "index.html"
