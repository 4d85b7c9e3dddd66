"""All benchmarks, one after the other: `python -m benchmarks [--quick] [--device cuda] [--full]`; no downloads."""

import argparse
import time

import torch

from anga.inputs import pick_device
from benchmarks import aligned_step, epochs, kernels, pipeline, prompt_step, retrieval
from benchmarks.peak import print_peak
from benchmarks.timing import machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that all works")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--full", action="store_true", help="on a GPU: train 20 epochs at the paper's sizes, too")
    options = parser.parse_args()
    if options.quick:
        torch.set_num_threads(1)
    device = pick_device(options.device)
    words = ["--quick"] * options.quick + ["--device", options.device]
    start = time.perf_counter()
    print(machine(device))
    peaks = print_peak(device, options.quick)
    print("Medians of interleaved repeats; ratios are taken within each round. MFU: operations of the step's matrix")
    print("products, per second, over the measured peak. Peak memory: what the call adds, in a process of its own.")
    for benchmark in (aligned_step, prompt_step, kernels, retrieval, pipeline):
        benchmark.main(words, peaks)
    epochs.main(words + ["--full"] * options.full)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
