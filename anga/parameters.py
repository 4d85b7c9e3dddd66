"""Parameter files: one per task, or one per notebook that compares many runs; and the variants that all share."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from anga.config import Config, read_yaml
from anga.errors import AngaError, noting, refuse
from anga.grids import CHECKS, SEEDS, GridFile, seed_pairs

# The rows of the headline table; each adds one part of the method (Table 2 of the paper).
VARIANTS: dict[str, dict] = {
    "zero-filled": {"use_retrieval": False, "use_alignment": False, "use_adapter": False},
    "retrieval only": {"use_retrieval": True, "use_alignment": False, "use_adapter": False},
    "retrieval + adapter": {"use_retrieval": True, "use_alignment": False, "use_adapter": True},
    "full ANGA": {"use_retrieval": True, "use_alignment": True, "use_adapter": True},
}
TASK_NOTEBOOKS = ("01_data", "02_retrieval", "04_anga")  # run once per task; the others once, on their grid file


@dataclass(frozen=True)
class Params:
    """A parameter file: knobs, and the seeds to repeat them with.

    Attributes:
        path: the file.
        config: the knobs, with the paper's defaults for those that the file leaves out.
        seeds: pairs of mask_seed and train_seed, a run each.
    """

    path: Path
    config: Config
    seeds: tuple[tuple[int, int], ...]

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Params":
        """Read a parameter file; unknown keys and bad values raise before anything runs, a line each."""
        values, complaints = read_yaml(path), []
        seeds = take_seeds(str(path), values, complaints)
        with noting(complaints):
            config = Config.from_dict(values, str(path), CHECKS)
        refuse(complaints)
        return cls(Path(path), config, tuple(seeds))

    @property
    def place(self) -> str:
        """Where its figures and tables belong under outputs/figures and outputs/tables: "quick/clipart-pairs"."""
        return f"{self.path.parent.name}/{self.path.stem}"

    def configs(self, **knobs) -> list[Config]:
        """One config per pair of seeds, with some knobs changed."""
        return [self.config.with_(**knobs, mask_seed=mask, train_seed=train) for mask, train in self.seeds]


@dataclass(frozen=True)
class ParameterSet:
    """A folder of parameter files, all of them checked.

    Attributes:
        folder: such as params/clipart.
        tasks: one file per task, for notebooks 01, 02 and 04.
        grids: one file per notebook that compares many runs, named like it.
        whole: whether these are all files of the folder.
    """

    folder: Path
    tasks: list[Params]
    grids: list[GridFile]
    whole: bool = True

    @classmethod
    def read(cls, folder: str | Path) -> "ParameterSet":
        """Read a folder.

        Raises:
            AngaError: it holds no parameter file, or all that is wrong in any of them or their variants, a line each.
        """
        paths = sorted(Path(folder).glob("*.yaml"))
        if not paths:
            raise AngaError(f"{folder}: holds no parameter file (*.yaml); name a folder such as params/quick.")
        read, complaints = [], []
        for path in paths:
            with noting(complaints):
                read.append(GridFile.from_yaml(path) if "grids" in read_yaml(path) else Params.from_yaml(path))
        for file in (file for file in read if isinstance(file, Params)):
            _check_variants(file, complaints)
        refuse(complaints)
        kinds = [[file for file in read if isinstance(file, kind)] for kind in (Params, GridFile)]
        return cls(Path(folder), *kinds)

    @property
    def files(self) -> dict[str, Params | GridFile]:
        """Every file by its name: "clipart-pairs", "03_imbalance"."""
        return {file.path.stem: file for file in (*self.tasks, *self.grids)}

    def only(self, names: Collection[str]) -> "ParameterSet":
        """Those of its files that have one of these names, maybe none."""
        tasks, grids = ([file for file in part if file.path.stem in names] for part in (self.tasks, self.grids))
        return ParameterSet(self.folder, tasks, grids, whole=self.files.keys() <= set(names))

    def jobs(self) -> dict[str, list[Config]]:
        """All configs by where they come from: "clipart-pairs", "03_imbalance: rates"."""
        tasks = {file.path.stem: variant_configs(file) for file in self.tasks}
        return tasks | {
            f"{file.name}: {name}": grid.configs for file in self.grids for name, grid in file.grids.items()
        }

    def configs(self) -> list[Config]:
        """Every config, each once."""
        return list(dict.fromkeys(config for configs in self.jobs().values() for config in configs))


def take_seeds(path: str, values: dict, complaints: list[str]) -> list[tuple[int, int]]:
    """Take the lists of seeds out of a parameter file's values: their pairs."""
    wrong: list[str] = []
    pairs = seed_pairs(path, *(values.pop(name, [0]) for name in SEEDS), wrong)
    complaints += [f"{complaint}." for complaint in wrong]
    complaints += [
        f"{path}: use {name}s: [{values[name]}] (a list) in a parameter file, not {name}."
        for name in ("mask_seed", "train_seed")
        if name in values
    ]
    return pairs


def _check_variants(params: Params, complaints: list[str]) -> None:
    """A task is run as every variant of anga, whose knobs replace the file's."""
    if params.config.method != "anga":
        said = f"a task's variants are those of anga, not {params.config.method}; compare methods in a file of grids."
        complaints.append(f"{params.path}: method: {said}")
        return
    for name, knobs in VARIANTS.items():
        with noting(complaints, f"{params.path}: as {name}: "):
            for check in CHECKS:
                check(params.config.with_(**knobs))


def variant_configs(params: Params) -> list[Config]:
    """Every variant with every pair of seeds."""
    return [config for knobs in VARIANTS.values() for config in params.configs(**knobs)]
