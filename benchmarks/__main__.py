"""All benchmarks, one after the other: `python -m benchmarks [--quick] [--device cuda]`."""

import argparse
import time

import torch

from anga.inputs import pick_device
from benchmarks import aligned_step, pipeline, retrieval
from benchmarks.timing import machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that all works")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    options = parser.parse_args()
    if options.quick:
        torch.set_num_threads(1)
    words = ["--quick"] * options.quick + ["--device", options.device]
    start = time.perf_counter()
    print(machine(pick_device(options.device)))
    print("Medians of interleaved repeats; ratios are taken within each round, to the table's first line.")
    print("Peak memory: what the call adds, in a process of its own.")
    for benchmark in (aligned_step, retrieval, pipeline):
        benchmark.main(words)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
