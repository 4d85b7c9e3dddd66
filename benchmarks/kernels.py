"""What pays in a layer: attention fused or eager, masked tokens skipped or not, layers compiled or not; on the aligned
training step."""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import anga.backbone
import anga.layer
from anga.inputs import pick_device
from benchmarks.aligned_step import REPEATS, Step, make_aligned, padded, rate_columns, skipped_tokens
from benchmarks.flops import step_flops
from benchmarks.models import SIZES, Size, make_batches, make_groups, make_model
from benchmarks.peak import matmul_rate
from benchmarks.timing import interleave, print_table, with_replaced

SHIPPED, COMPILED = "as shipped", "compiled layers"


def make_variants(size: Size, device: torch.device, precision: str) -> dict[str, Step]:
    """Name -> the same aligned step, computed in other ways."""
    model, n = make_model(size, device), size.batch(device)
    batch = make_batches(model, size, n, device)(np.arange(n))
    step = make_aligned(model, lambda: batch, make_groups(n), precision)
    size = replace(size, n_text=batch.text.shape[1])
    every, fewer = step_flops(size, n), step_flops(size, n, skipped=skipped_tokens(batch))
    return {
        SHIPPED: Step(step, fewer),
        "fused attention": Step(with_replaced(step, anga.layer, "_attend", anga.layer._attend_fused), fewer),
        "eager attention": Step(with_replaced(step, anga.layer, "_attend", anga.layer._attend_eager), fewer),
        "masked tokens computed": Step(padded(step), every),
    }


def compiled(step: Callable[[], None], **options) -> Callable[[], None] | None:
    """The step with compiled layers, compiled already; None, and one line that says why, where that does not work.

    `dynamic`, since batches differ in length. Options go to torch.compile.
    """
    layer = torch.compile(anga.layer.apply_layer, **{"dynamic": True, **options})
    run = with_replaced(step, anga.backbone, "apply_layer", layer)
    try:
        run()
    except Exception as error:  # no compiler, no headers, a wrong Triton: each raises something else
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"  torch.compile does not work here, left out: {reason[:200]}")
        return None
    return run


def report(name: str, device: torch.device, precision: str, peak: float) -> None:
    """Print one size's table."""
    size = SIZES[name]
    print(f"\nKernels of one aligned step, {name} size, batch {size.batch(device)}, {precision}")
    variants = make_variants(size, device, precision)
    if name != "tiny":  # compiling takes longer than a smoke test may
        torch._dynamo.reset()  # or what an earlier table compiled counts against the limit of recompilations
        step = compiled(variants[SHIPPED].run)
        variants |= {COMPILED: Step(step, variants[SHIPPED].flops)} if step else {}
    seconds = interleave({v: step.run for v, step in variants.items()}, REPEATS[name], device)
    print_table(seconds, {"ratio": SHIPPED}, rate_columns(seconds, {v: s.flops for v, s in variants.items()}, peak))


def main(arguments: list[str] | None = None, peaks: dict[str, float] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that all works")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    for name in ["tiny"] if options.quick else ["mini-vilt", "ViLT-B/32"]:
        for precision in ("float32", "bfloat16"):
            report(name, device, precision, peaks[precision] if peaks else matmul_rate(device, precision))


if __name__ == "__main__":
    main()
