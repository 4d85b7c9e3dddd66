"""Command line: python -m anga {demo, plan, reproduce, run}."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import yaml

from anga.config import Config, read_yaml
from anga.errors import AngaError, noting, refuse
from anga.grids import CHECKS, SEEDS
from anga.parameters import ParameterSet, take_seeds
from anga.runs import run
from anga.study import demo, headline, plan, reproduce

DEMO_TASKS = ("clipart-pairs", "clipart-keywords")
STUDY = [f"params/{name}" for name in ("clipart", "comparison", "comparison_both", "comparison_more", "prior")]


def main(arguments: list[str] | None = None) -> int:
    """Entry point; 0 when all went well, 1 after an error the user can put right."""
    options = parser().parse_args(arguments)
    try:
        with _data_folder(options.root):
            options.command(options)
    except AngaError as error:
        if options.debug:
            raise
        print(f"anga: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("anga: interrupted; call it again to go on where it stopped.", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    root = argparse.ArgumentParser(prog="python -m anga", description="The ANGA study from the command line.")
    commands = root.add_subparsers(required=True, metavar="command")
    one = commands.add_parser("run", help="train one config, or read its stored result, and print its scores")
    one.add_argument("params", nargs="?", help="YAML file of knobs; default: the paper's values on clipart-pairs")
    one.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="change one knob (repeatable)")
    one.set_defaults(command=_run)
    short = commands.add_parser("demo", help="train the variants, execute notebooks 01, 02 and 04, print one table")
    short.set_defaults(command=_demo)
    whole = commands.add_parser("reproduce", help="train every run of a study and execute all its notebooks")
    whole.add_argument("--workers", type=int, help="number of worker processes; default: what the machine allows")
    whole.set_defaults(command=_reproduce)
    dry = commands.add_parser("plan", help="list what `reproduce` would do, what is finished and the time left")
    dry.set_defaults(command=_plan)
    short.add_argument("--params", default="params/quick", help="folder of parameter files (%(default)s)")
    for command in (whole, dry):
        words = {"default": STUDY, "help": f"folders of parameter files (default: {' '.join(STUDY)})"}
        command.add_argument("--params", nargs="+", metavar="FOLDER", **words)
        command.add_argument("--only", nargs="+", metavar="NAME", help="some of their files, such as 03_imbalance")
    for command in (short, whole, dry):
        command.add_argument("--notebooks", default="notebooks", help="folder of notebooks (%(default)s)")
    for command in (one, short, whole, dry):
        command.add_argument("--outputs", default="outputs", help="folder for everything that is made (%(default)s)")
        data = {"default": os.environ.get("ANGA_DATA"), "help": "folder of data sets, each under its name (ANGA_DATA)"}
        command.add_argument("--root", metavar="FOLDER", **data)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return root


@contextmanager
def _data_folder(root: str | None) -> Iterator[None]:
    """`ANGA_DATA` for the time of one command, seen by worker processes and notebooks too."""
    if root is None:
        yield
        return
    if not Path(root).is_dir():
        raise AngaError(f"--root {root}: is no folder; give the one that holds the data sets, each under its name.")
    before = os.environ.get("ANGA_DATA")
    os.environ["ANGA_DATA"] = str(Path(root).resolve())
    try:
        yield
    finally:
        os.environ.pop("ANGA_DATA")
        if before is not None:
            os.environ["ANGA_DATA"] = before


def _run(options: argparse.Namespace) -> None:
    config = _config(options)
    result = run(config, options.outputs)
    scores = pd.DataFrame(result.metrics["test"]).T
    print(scores.to_string(float_format="{:.3f}".format))
    print(
        f"{result.seconds:.0f} s, {result.peak_memory_mb:.0f} MB, best epoch {_best_epoch(result)} of {config.epochs}"
    )


def _config(options: argparse.Namespace) -> Config:
    """A file of knobs, or the first pair of seeds of a parameter file, changed by --set.

    The knobs are put together before a config is made of them: what a method decides is then decided by the last one.
    """
    knobs, complaints = {}, []
    with noting(complaints):
        knobs = read_yaml(options.params) if options.params else {}
    if set(SEEDS) & set(knobs):
        mask_seed, train_seed = take_seeds(options.params, knobs, complaints)[0]
        knobs |= {"mask_seed": mask_seed, "train_seed": train_seed}
    source = " and ".join(filter(None, [options.params, options.set and "--set"]))
    with noting(complaints):
        config = Config.from_dict({**knobs, **_knobs(options.set, complaints)}, source, CHECKS)
    refuse(complaints)
    return config


def _best_epoch(result) -> int:
    """Counted from 1 after a first stage, whose epochs are not validated."""
    validation = result.history["validation"]
    return int(validation.idxmax()) + 1 - int(validation.isna().sum())


def _knobs(pairs: list[str], complaints: list[str]) -> dict:
    """`KNOB=VALUE` words as a mapping; values are read as YAML."""
    knobs = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            complaints.append(f"--set {pair}: expected KNOB=VALUE, for example --set missing_rate=0.5.")
            continue
        try:
            knobs[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            complaints.append(f"--set {pair}: the value is no valid YAML ({' '.join(str(error).split())}).")
    return knobs


def _demo(options: argparse.Namespace) -> None:
    table = demo(options.params, options.outputs, options.notebooks)
    shown = table[table["dataset"].isin(DEMO_TASKS)]
    folder = Path(options.outputs)
    print("\nTest scores with 95 % intervals over " + " and ".join(sorted(shown["over"].unique())) + "\n")
    for task, part in headline(shown).T.groupby(level=0, sort=False):
        print(f"{task}\n{part.droplevel(0).T.to_string()}\n")
    print("executed notebooks:")
    for path in sorted((folder / "notebooks" / Path(options.params).name).glob("*/*.ipynb")):
        print(f"  {path}")
    print(f"figures (PNG, SVG, CSV): {folder / 'figures' / Path(options.params).name}")


def _studies(options: argparse.Namespace) -> list[ParameterSet]:
    """The sets of parameter files that are asked for, without those of which --only leaves nothing."""
    studies, complaints = [], []
    for folder in options.params:
        with noting(complaints):
            studies.append(ParameterSet.read(folder))
    refuse(complaints)
    if options.only is None:
        return studies
    known = sorted({name for study in studies for name in study.files})
    where = f"{' '.join(options.params)} have no such file, only {', '.join(known)}."
    refuse([f"--only {name}: {where}" for name in options.only if name not in known])
    return [study for study in (study.only(options.only) for study in studies) if study.files]


def _reproduce(options: argparse.Namespace) -> None:
    if options.workers is not None and options.workers < 1:
        raise AngaError(f"--workers: must be at least 1, not {options.workers}.")
    complaints = []
    for study in _studies(options):  # all are checked before the first begins
        try:
            print(f"report: {reproduce(study, options.outputs, options.notebooks, options.workers)}")
        except AngaError as error:
            complaints.append(str(error))
    if complaints:
        raise AngaError("\n".join(complaints))


def _plan(options: argparse.Namespace) -> None:
    table = plan(_studies(options), options.outputs, options.notebooks)
    print(table.to_string(index=False, float_format="{:.0f}".format))
    total = table.groupby("what")[["number", "finished", "minutes"]].sum()
    runs, notebooks = total.loc["runs"], total.loc["notebook"]
    print(f"\n{runs['number']:.0f} runs, {runs['finished']:.0f} finished; training takes about", end=" ")
    print(f"{runs['minutes']:.0f} more minutes on this machine. A run that several jobs share stands in the first.")
    print(f"{notebooks['number']:.0f} notebooks, {notebooks['finished']:.0f} up to date;", end=" ")
    print(f"executing the others takes about {notebooks['minutes']:.0f} more minutes.")


if __name__ == "__main__":
    sys.exit(main())
