"""What alignment costs a method with prompts in every layer (MAPs), whose missing texts are masked."""

import argparse
from collections.abc import Callable

import numpy as np
import torch

from anga.aligner import GradientAligner
from anga.baselines import build_baseline
from anga.gradients import crossing_form, plain_form, sub_batch_form
from anga.inputs import pick_device
from benchmarks.aligned_step import REPEATS, autocast, padded
from benchmarks.models import SIZES, Size, make_backbone, make_config, make_groups, make_inputs
from benchmarks.timing import interleave, print_table

PLAIN = "plain step"


def make_variants(size: Size, device: torch.device, precision: str) -> dict[str, Callable[[], None]]:
    """Name -> one step, from tokens to updated weights, all on the same model and batch."""
    n, backbone = size.batch(device), make_backbone(size, device)
    inputs = make_inputs(backbone, size, {"train": n, "validation": 0, "test": 0}, device)
    inputs.neighbours = None  # missing texts are absent
    batch, group = inputs.batch_maker(with_pools=False)(np.arange(n)), make_groups(n)
    torch.manual_seed(0)
    model = build_baseline(make_config(method="maps"), backbone, size.n_classes).to(device).eval()
    learned = list(model.trainable().values())
    optimizer = torch.optim.AdamW(learned, lr=1e-5, fused=True)

    def make(form: Callable, rule: str) -> Callable[[], None]:
        aligner = GradientAligner(learned, rule=rule)

        def step() -> None:
            optimizer.zero_grad()
            with autocast(precision, device):
                gradients = form(model, batch, group)
            aligner.apply(gradients.vectors, gradients.counts)
            optimizer.step()

        return step

    return {
        PLAIN: make(plain_form, "pooled"),
        "plain step, masked tokens computed": padded(make(plain_form, "pooled")),
        "aligned step, one crossing": make(crossing_form, "cone"),
        "aligned step, sub-batches": make(sub_batch_form, "cone"),
    }


def main(arguments: list[str] | None = None, peaks: dict[str, float] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that all works")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    for name in ["tiny"] if options.quick else ["mini-vilt", "ViLT-B/32"]:
        size, precision = SIZES[name], "bfloat16" if device.type == "cuda" else "float32"
        print(f"\nOne training step of MAPs, texts missing, {name} size, batch {size.batch(device)}, {precision}")
        print_table(interleave(make_variants(size, device, precision), REPEATS[name], device), {"/ plain": PLAIN})


if __name__ == "__main__":
    main()
