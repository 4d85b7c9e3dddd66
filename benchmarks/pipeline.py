"""Whether batches keep up: samples per second of the batch maker with K neighbours, and of training on its batches."""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from anga.inputs import pick_device
from benchmarks.aligned_step import make_aligned
from benchmarks.models import SIZES, Size, make_batches, make_groups, make_model
from benchmarks.timing import interleave, print_table

STEP = "aligned step, batch at hand"
SAMPLES = {"tiny": 64, "mini-vilt": 4000, "ViLT-B/32": 800}
REPEATS = {"tiny": 2, "mini-vilt": 15, "ViLT-B/32": 3}


def make_variants(size: Size, n_samples: int, folder: Path, device: torch.device) -> dict[str, Callable]:
    """Name -> one call: a step on one batch, making random batches, and steps on those, by where tokens lie."""
    precision = "bfloat16" if device.type == "cuda" else "float32"
    model, n = make_model(size, device), size.batch(device)
    generator, groups = np.random.default_rng(0), make_groups(n)
    variants = {}
    for placement in ("device", "pinned", "mapped") if device.type == "cuda" else ("mapped",):
        make_batch = make_batches(model, size, n_samples, device, folder=folder, placement=placement)

        def draw(make_batch=make_batch):
            return make_batch(generator.choice(n_samples, n, replace=False))

        batch = draw()
        variants.setdefault(STEP, make_aligned(model, lambda batch=batch: batch, groups, precision))
        variants[f"making a batch, tokens {placement}"] = draw
        variants[f"aligned step with its batch, tokens {placement}"] = make_aligned(model, draw, groups, precision)
    return variants


def host_waits(call: Callable[[], object]) -> int:
    """How often a call makes the host wait for the GPU, as torch tells them; its warnings are counted."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # once per place is the default
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in caught if "synchronizing" in str(warning.message)]
    for place in sorted({f"{w.filename}:{w.lineno}" for w in waits}):
        print(f"  the host waits at {place}")
    return len(waits)


def report(name: str, device: torch.device) -> None:
    """Print one size's table."""
    size = SIZES[name]
    n = size.batch(device)
    print(f"\nBatches from {SAMPLES[name]:,} samples, {name} size: {size}, batch {n}")
    with tempfile.TemporaryDirectory() as folder:
        variants = make_variants(size, SAMPLES[name], Path(folder), device)
        seconds = interleave(variants, REPEATS[name], device)
        rates = {call: f"{n / np.median(values):,.0f}" for call, values in seconds.items()}
        print_table(seconds, {"ratio": STEP}, {"samples/s": rates})
        if device.type == "cuda":
            waits = {call: host_waits(run) for call, run in variants.items()}
            print(f"  the host waits for the GPU {sum(waits.values())} times within these calls (wanted: 0)")


def main(arguments: list[str] | None = None, peaks: dict[str, float] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that all works")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    for name in ["tiny"] if options.quick else ["mini-vilt", "ViLT-B/32"]:
        report(name, pick_device(options.device))


if __name__ == "__main__":
    main()
