"""Many runs on one machine: worker processes on cores or GPUs, failures retried once and reported at the end."""

import gc
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from anga.baselines import BASELINES, check_method
from anga.config import Config
from anga.errors import AngaError
from anga.inputs import INPUT_KNOBS, Inputs, inputs_key, prepare
from anga.placement import host_bytes
from anga.result import Result
from anga.runs import run, run_folder

START_METHOD = "spawn"  # a forked process cannot use a GPU that its parent has touched
MEMORY_PER_WORKER = 3.5  # GB: runs of the clipart study with an adapter peaked at 3.2, those without at 2.1
WORKERS_PER_GPU = 4  # small models leave most of a GPU idle
GPU_MEMORY_PER_WORKER = 24  # GB: what a full-size backbone takes at batch 64, with its token bank
LARGEST_GROUP = 32  # runs that one worker trains on shared inputs before it asks for more
GROUPS_PER_WORKER = 4  # at least, where runs are few: the last one to finish lets the others idle
# A first guess of what an epoch takes on one core: of methods whose own modules are large, and of others by whether
# they run the backbone. First stages count, spread over the config's epochs.
SECONDS_PER_EPOCH = {"acmae": 8.0, "dicmor": 5.0, "momke": 3.0, "drfuse": 2.5, "if_mmin": 1.0, True: 11.0, False: 0.3}
SECONDS_PER_INPUTS = 8.0  # the frozen outputs that runs with the same inputs share, on one core
WORTH_A_POOL = 60  # seconds; starting workers costs about ten

Failures = dict[Config, str]  # what did not train -> its traceback
_remembered: dict[tuple[Config, str], Inputs] = {}  # the inputs made last in this process, or none


def run_all(
    configs: list[Config],
    outputs: str | Path = "outputs",
    progress: bool = True,
    workers: int | None = None,
    what: str = "runs",
    threads: int | None = None,
) -> list[Result]:
    """The results of many configs, in their order; finished ones are read, the others trained by worker processes.

    The number of threads decides the last bits of a training on a CPU, so it is the same for all, whatever the number
    of workers, and for what is tried again; the caller's own is set again in the end.

    Args:
        configs: may hold duplicates.
        workers: number of processes; 1: this process itself; None: as many as cores or GPUs, memory and jobs allow,
            or this process where the runs take less than a minute.
        what: the progress bar's title.
        threads: of torch, for each training; None: `threads_per_run()`.

    Raises:
        AngaError: some runs failed twice. The others were trained; `outputs/failed` holds configs and tracebacks.
    """
    folders = {config: run_folder(config, outputs)[0] for config in dict.fromkeys(configs)}
    todo = [config for config, folder in folders.items() if not folder.exists()]
    if todo:
        calm = {"smoothing": 0.05, "mininterval": 0.5 if sys.stderr.isatty() else 10}  # notebooks keep every line
        with tqdm(total=len(todo), desc=what, unit="run", disable=not progress, **calm) as bar:

            def report() -> None:
                bar.update(sum(folders[config].exists() for config in todo) - bar.n)

            failures = _train_all(todo, outputs, workers, threads or threads_per_run(), report)
        _report_failures(failures, len(todo), {c: Path(outputs) / "failed" / f"{folders[c].name}.txt" for c in todo})
    return [Result.load(folders[config]) for config in configs]


def _train_all(configs: list[Config], outputs, workers: int | None, threads: int, report: Callable) -> Failures:
    """Train all, and what fails once more, each run alone, so that no run pays for another. What failed twice."""
    short = sum(config.epochs * guessed_seconds(config) for config in configs) < WORTH_A_POOL
    slots = worker_slots(len(configs), 1 if workers is None and short else workers)
    groups = group_by_inputs(configs, -(-len(configs) // (GROUPS_PER_WORKER * len(slots))))
    if len(slots) == 1:
        with _torch_threads(threads):
            failures = _work_here(groups, outputs, slots[0], report)
            return _work_here([[config] for config in failures], outputs, slots[0], report)
    failures = _work_in_pool(groups, outputs, slots, threads, report)
    return _work_in_pool([[config] for config in failures], outputs, slots[:1], threads, report)


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def group_by_inputs(configs: list[Config], largest: int = LARGEST_GROUP) -> list[list[Config]]:
    """Groups that share their inputs, each for one worker. A run through the backbone is long: a group of its own."""
    largest = min(largest, LARGEST_GROUP)
    together: dict[tuple, list[Config]] = {}
    for number, config in enumerate(configs):
        together.setdefault((number if runs_backbone(config) else None, *inputs_key(config)), []).append(config)
    return [part[i : i + largest] for part in together.values() for i in range(0, len(part), largest)]


def runs_backbone(config: Config) -> bool:
    """Whether every training step runs the frozen backbone, which takes nearly all the time of one that does.

    Raises:
        AngaError: the method is unknown or does not fit the config.
    """
    check_method(config)
    return config.use_adapter if config.method == "anga" else BASELINES[config.method].build.reads != "pooled"


def guessed_seconds(config: Config) -> float:
    """What an epoch may take on one core, as long as no run of its kind has told."""
    return SECONDS_PER_EPOCH.get(config.method, SECONDS_PER_EPOCH[runs_backbone(config)])


def worker_slots(n_runs: int, workers: int | None = None) -> list[str]:
    """The device of each worker: every GPU several times, or "cpu" as often as cores and memory allow."""
    slots = _all_slots()
    if workers is not None:
        slots = [slots[i % len(slots)] for i in range(workers)]
    return slots[: max(1, min(len(slots), n_runs))]


def threads_per_run() -> int:
    """Threads of torch for a training: its share of the cores, if as many train as the machine allows."""
    return max(1, cores() // len(_all_slots()))


def _all_slots() -> list[str]:
    return _gpu_slots() or ["cpu"] * max(1, min(cores(), int(_memory() / MEMORY_PER_WORKER)))


def _gpu_slots() -> list[str]:
    """Each GPU as often as workers fit its memory, in turns."""
    fit = [
        max(1, min(WORKERS_PER_GPU, _gpu_memory(i) // GPU_MEMORY_PER_WORKER)) for i in range(torch.cuda.device_count())
    ]
    return [f"cuda:{i}" for turn in range(WORKERS_PER_GPU) for i, n in enumerate(fit) if turn < n]


def _gpu_memory(number: int) -> int:
    """Memory of a GPU in GB."""
    return torch.cuda.get_device_properties(number).total_memory // 10**9


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> float:
    """Memory of the machine, or of the container that this runs in, in GB."""
    return host_bytes() / 2**30


def _work_here(groups: list[list[Config]], outputs, device: str, report: Callable[[], None]) -> Failures:
    failures: Failures = {}
    for group in groups:
        for config in group:
            failures |= train_group([config], outputs, device)
            report()
    return failures


def _work_in_pool(groups: list[list[Config]], outputs, slots: list[str], threads: int, report: Callable) -> Failures:
    """Train groups on one worker process per slot.

    Where a worker dies, all workers end. What they had begun counts as failed; the rest of their groups waits again.
    """
    failures, waiting = {}, list(groups)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch takes large pages, where Linux lends them: 5-15 % faster
    while waiting:
        context = multiprocessing.get_context(START_METHOD)
        running, free = {}, list(slots)
        with ProcessPoolExecutor(len(slots), context, _start_worker, (threads,)) as pool:
            try:
                while waiting or running:
                    while waiting and free:
                        future = pool.submit(train_group, waiting[0], outputs, free[-1])  # raises if a worker died
                        running[future] = (waiting.pop(0), free.pop())
                    done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                    for future in done:
                        failures |= future.result()
                        free.append(running.pop(future)[1])
                    report()
            except BrokenProcessPool:
                under_way = [group for group, _ in running.values()]
                begun, rest = _split_begun(under_way, outputs)
                failures |= dict.fromkeys(begun, "The worker process died: killed, or out of memory?\n")
                waiting = rest + waiting
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return failures


def _split_begun(groups: list[list[Config]], outputs) -> tuple[list[Config], list[list[Config]]]:
    """Of dead workers' groups: the runs that were begun and not finished, and what is left of each group.

    If none was begun, all were: whatever kills workers that soon would do so for ever.
    """
    folders = {config: run_folder(config, outputs)[0] for group in groups for config in group}
    left = [config for config, folder in folders.items() if not folder.exists()]
    begun = [config for config in left if folders[config].with_suffix(".partial").exists()] or left
    rest = [[config for config in group if config in left and config not in begun] for group in groups]
    return begun, [group for group in rest if group]


def _start_worker(threads: int) -> None:
    """Set torch's threads, and end with the parent, however that ends: a worker would otherwise wait for ever."""
    torch.set_num_threads(threads)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def train_group(configs: list[Config], outputs: str | Path, device: str) -> Failures:
    """Train configs one after the other on a device, unless they name one themselves; what went wrong with which."""
    failures = {}
    for config in configs:
        placed = config.with_(device=device) if config.device == "auto" else config
        try:
            run(placed, outputs, progress=False, make_inputs=_shared_inputs)
        except Exception:  # whatever it is, the other runs go on; it is reported when all are through
            failures[config] = traceback.format_exc()
    return failures


def _shared_inputs(config: Config, outputs: str | Path) -> Inputs:
    """`prepare`, remembering the last inputs made in this process."""
    knobs = dict(zip(INPUT_KNOBS, inputs_key(config), strict=True))
    key = Config(use_adapter=False, **knobs), str(outputs)
    if key not in _remembered:
        if _remembered:  # let go of the old ones first, or two token banks would be in memory at once
            _remembered.clear()
            gc.collect()  # a run's state refers to itself, and to its inputs
        _remembered[key] = prepare(*key)
    return _remembered[key]


def _report_failures(failures: Failures, n_runs: int, files: dict[Config, Path]) -> None:
    """Write each failure's config and traceback to its file, where that can be, and raise one error that lists them."""
    for config in files.keys() - failures.keys():
        files[config].unlink(missing_ok=True)
    if not failures:
        return
    lines = [
        f"{len(failures)} of {n_runs} runs failed twice; the others are finished. Mend the cause and call it again."
    ]
    for config, text in failures.items():
        kept = _keep(files[config], yaml.safe_dump(config.to_dict(), sort_keys=False) + f"\n{text}")
        lines.append(f"  {kept}: {text.strip().splitlines()[-1]}")
    raise AngaError("\n".join(lines))


def _keep(path: Path, text: str) -> str:
    """Write a file, and say which; on a full disk, say why it is not there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        return f"{path} (not written: {error.strerror or error})"
    return str(path)
