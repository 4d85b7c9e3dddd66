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

import numpy as np
import torch

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


def _time(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def print_table(seconds: Seconds, baseline: str, memory: dict[str, float] | None = None, scale: float = 1.0) -> None:
    """One line per variant: median time, median and quartiles of its ratio to the baseline, peak memory in MB.

    Ratios are taken within each round. `scale` multiplies the times shown (a part was timed for the whole).
    """
    width = max(map(len, seconds))
    print(f"  {'':{width}}  {'median':>10}  {'ratio':>6}  {'quartiles':^14}" + ("  peak memory" if memory else ""))
    for name, values in seconds.items():
        ratios = values / seconds[baseline]
        line = f"  {name:{width}}  {_duration(np.median(values) * scale):>10}  {np.median(ratios):6.2f}"
        line += f"  {np.quantile(ratios, 0.25):5.2f} .. {np.quantile(ratios, 0.75):5.2f}"
        print(line + (f"  {memory[name]:8.0f} MB" if memory and name in memory else ""), flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def machine(device: torch.device) -> str:
    """One line: processor, cores, GPU, versions, threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ", no GPU used"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{_processor()}, {cores} cores{gpu}; {versions}; {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
