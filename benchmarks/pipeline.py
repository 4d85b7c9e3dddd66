"""Whether batches keep up: samples per second of the batch maker with K neighbours against the training step."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from anga.aligner import GradientAligner
from anga.gradients import FORMS
from anga.inputs import pick_device
from benchmarks.models import SIZES, Size, make_batches, make_groups, make_model
from benchmarks.timing import interleave, print_table

STEP, BATCH = "aligned step", "making its batch"
SAMPLES = {"tiny": 64, "mini-vilt": 4000, "ViLT-B/32": 800}
REPEATS = {"tiny": 2, "mini-vilt": 15, "ViLT-B/32": 3}


def make_variants(size: Size, n_samples: int, folder: Path, device: torch.device) -> dict:
    """Name -> one call; every call makes, or trains on, another random batch of memory-mapped tokens."""
    model, n = make_model(size, device), size.batch(device)
    make_batch = make_batches(model, size, n_samples, device, folder)
    generator, groups = np.random.default_rng(0), make_groups(n)
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=1e-5)
    aligner, batch = GradientAligner(model.trainable().values()), make_batch(np.arange(n))

    def step() -> None:
        optimizer.zero_grad()
        gradients = FORMS["boundary"](model, batch, groups)
        aligner.apply(gradients.vectors, gradients.counts)
        optimizer.step()

    return {STEP: step, BATCH: lambda: make_batch(generator.choice(n_samples, n, replace=False))}


def report(name: str, device: torch.device) -> None:
    """Print one size's table."""
    size = SIZES[name]
    n = size.batch(device)
    print(f"\nBatches from {SAMPLES[name]:,} samples, {name} size: {size}, batch {n}")
    with tempfile.TemporaryDirectory() as folder:
        seconds = interleave(make_variants(size, SAMPLES[name], Path(folder), device), REPEATS[name], device)
    print_table(seconds, STEP)
    rates = {call: n / np.median(values) for call, values in seconds.items()}
    print(f"  samples per second: {rates[BATCH]:,.0f} batched, {rates[STEP]:,.0f} trained on")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that all works")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    for name in ["tiny"] if options.quick else ["mini-vilt", "ViLT-B/32"]:
        report(name, pick_device(options.device))


if __name__ == "__main__":
    main()
