"""How long a training takes at the sizes of the paper's three data sets: 20 epochs, ranking and validation included.

Tokens and labels are random, the model is a ViLT-B/32 with random weights. Projected: the time of a short training,
times the ratio of sizes. Measured (--full): all epochs at full size.
"""

import argparse
import gc
from dataclasses import dataclass, replace

import numpy as np
import torch

from anga.inputs import pick_device
from anga.result import Result
from anga.training import train
from benchmarks.models import SIZES, Size, make_backbone, make_config, make_inputs
from benchmarks.timing import duration, print_columns

EPOCHS = 20
SHORT_EPOCHS = 3  # the first is warm-up
SHORT_STEPS = 50


@dataclass(frozen=True)
class PaperSet:
    """Task, classes, samples by split, and the time wanted on an H200-class GPU."""

    task: str
    n_classes: int
    splits: dict[str, int]
    minutes: float

    def of_length(self, n_train: int) -> "PaperSet":
        """The same shares of splits with another number of training samples."""
        scale = n_train / self.splits["train"]
        return replace(self, splits={split: max(2, round(n * scale)) for split, n in self.splits.items()})


SETS = {
    "HateMemes": PaperSet("binary", 2, {"train": 8_500, "validation": 500, "test": 1_000}, minutes=2),
    "MM-IMDb": PaperSet("multilabel", 23, {"train": 15_552, "validation": 2_608, "test": 7_799}, minutes=4),
    "Food-101": PaperSet("multiclass", 101, {"train": 61_127, "validation": 6_845, "test": 22_716}, minutes=12),
}


def time_training(paper_set: PaperSet, size: Size, epochs: int, device: torch.device, placement: str | None):
    """Train with the package's own loop; its Result, and where the image tokens lay."""
    size = replace(size, n_classes=paper_set.n_classes)
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()  # or what the last training left counts as taken when this one places its tokens
        torch.cuda.reset_peak_memory_stats(device)
    backbone = make_backbone(size, device)
    inputs = make_inputs(backbone, size, paper_set.splits, device, paper_set.task, placement=placement)
    config = make_config(
        epochs=epochs,
        patience=epochs,
        batch_size=size.batch(device),
        precision="bfloat16" if device.type == "cuda" else "float32",
        device=str(device),
    )
    return train(config, inputs=inputs, progress=False), inputs.bank.placement


def project(result: Result, scale: float, epochs: int) -> float:
    """Seconds of `epochs` epochs and the final scoring on `scale` times the data, from a short training."""
    ends = result.history["seconds"].to_numpy()
    return float(scale * (epochs * np.median(np.diff(ends)) + result.seconds - ends[-1]))


def report(sets: dict[str, PaperSet], size: Size, device: torch.device, full: bool, placement: str | None) -> None:
    """Print one line per data set."""
    columns: dict[str, dict[str, str]] = {}
    for name, paper_set in sets.items():
        short = paper_set.of_length(min(SHORT_STEPS * size.batch(device), paper_set.splits["train"]))
        result, _ = time_training(short, size, SHORT_EPOCHS, device, placement)
        cells = {"training samples": f"{paper_set.splits['train']:,}"}
        scale = paper_set.splits["train"] / short.splits["train"]
        cells["projected"] = duration(project(result, scale, EPOCHS))
        if full:
            result, placed = time_training(paper_set, size, EPOCHS, device, placement)
            cells |= {"measured": duration(result.seconds), "tokens": placed}
        cells |= {"wanted": f"< {paper_set.minutes:g} min", "peak memory": f"{result.peak_memory_mb:,.0f} MB"}
        for heading, cell in cells.items():
            columns.setdefault(heading, {})[name] = cell
    print_columns(list(sets), columns)


def main(arguments: list[str] | None = None, peaks: dict[str, float] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model and tiny sets, to see that all works")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--full", action="store_true", help="measure all epochs at full size, too")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--placement", choices=("device", "pinned", "mapped"), help="of image tokens; default: by size")
    options = parser.parse_args(arguments)
    device, sets = pick_device(options.device), {name: SETS[name] for name in options.sets}
    if device.type == "cpu" and not options.quick:
        print(f"\n{EPOCHS} epochs at the paper's sizes: left out, on a CPU they take days; use --device cuda.")
        return
    size = SIZES["tiny" if options.quick else "ViLT-B/32"]
    if options.quick:
        sets = {name: paper_set.of_length(48) for name, paper_set in sets.items()}
    print(f"\n{EPOCHS} epochs with ranking and validation: {size}, batch {size.batch(device)}, tokens at hand")
    report(sets, size, device, options.full, options.placement)


if __name__ == "__main__":
    main()
