"""Interleaved medians, peak memory of a child process, and the table that shows them."""

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from anga.runs import processor

ROOT = Path(__file__).parents[1]
Seconds = dict[str, np.ndarray]


def interleave(variants: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> Seconds:
    """Seconds `[repeats]` of each variant, after one unmeasured round.

    Every round calls each variant once, beginning with another one each time: whatever else the machine does then
    falls on all of them alike, and ratios within a round stay fair.
    """
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, repeats):
        for name in np.roll(names, -turn).tolist():
            elapsed = _time(variants[name], device)
            if turn >= 0:
                seconds[name].append(elapsed)
    return {name: np.array(values) for name, values in seconds.items()}


def with_replaced(step: Callable[[], None], module, name: str, function: Callable) -> Callable[[], None]:
    """The step with one function of a module replaced while it runs."""

    def run() -> None:
        with mock.patch.object(module, name, function):
            step()

    return run


def _time(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def print_table(
    seconds: Seconds, baselines: dict[str, str], columns: dict[str, dict[str, str]] | None = None, scale: float = 1.0
) -> None:
    """One line per variant: median time, median ratio to each baseline, quartiles of the first, further columns.

    Args:
        seconds: of each variant.
        baselines: heading -> variant that the others are divided by, round by round.
        columns: heading -> variant -> what to print.
        scale: the times shown are multiplied by it (a part was timed for the whole).
    """
    table = {"median": {name: duration(np.median(values) * scale) for name, values in seconds.items()}}
    for heading, baseline in baselines.items():
        ratios = {name: values / seconds[baseline] for name, values in seconds.items()}
        table[heading] = {name: f"{np.median(values):.2f}" for name, values in ratios.items()}
        if len(table) == 2:
            table["quartiles"] = {name: _quartiles(values) for name, values in ratios.items()}
    print_columns(list(seconds), table | (columns or {}))


def print_columns(rows: list[str], columns: dict[str, dict[str, str]]) -> None:
    """A table from heading -> row -> cell; a column is as wide as its widest cell."""
    lines = [["", *columns], *([row, *(cells.get(row, "") for cells in columns.values())] for row in rows)]
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    for name, *cells in lines:
        row = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"  {name:{first}}{row}".rstrip(), flush=True)


def _quartiles(values: np.ndarray) -> str:
    return " .. ".join(f"{np.quantile(values, q):.2f}" for q in (0.25, 0.75))


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def machine(device: torch.device) -> str:
    """One line: processor, cores, GPU, versions, threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ", no GPU used"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{processor()}, {cores} cores{gpu}; {versions}; {torch.get_num_threads()} threads"


# --- memory: measured in a child process, since a process gives back little of what it once took


def peak_in_child(module: str, *words: str) -> float:
    """Run `python -m module --measure words...`, which ends with `report_peak`, and return what it reported in MB."""
    command = [sys.executable, "-m", module, "--measure", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def report_peak(call: Callable[[], object], device: torch.device) -> None:
    """Print how many MB the process (or the GPU's allocator) took at most, beyond what it held before the call."""
    before = _start_peak(device)
    call()
    print(json.dumps({"peak_mb": _peak_mb(device) - before}))


def _start_peak(device: torch.device) -> float:
    """Forget earlier peaks; the MB held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):  # not Linux: the peak so far counts as what is held
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_mb(device)


def _peak_mb(device: torch.device) -> float:
    """Peak in MB. On Linux not from getrusage, which in a child also counts what its parent held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
