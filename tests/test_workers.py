"""Many runs: the same results with any number of workers, and no failure stops the others."""

import errno
import multiprocessing
import os
import signal
import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch
from tiny_world import tiny_config

from anga import runs, workers
from anga.baselines import BASELINES
from anga.errors import AngaError
from anga.inputs import INPUT_KNOBS, prepare
from anga.runs import run_folder
from anga.workers import group_by_inputs, run_all, threads_per_run, worker_slots

CHEAP = {"use_adapter": False, "epochs": 1}


@pytest.fixture
def here(binary_world, monkeypatch):
    """Runs, also those of worker processes, read the tiny world while a test uses this."""
    monkeypatch.setattr(workers, "START_METHOD", "fork")  # so that the replacement reaches the workers
    monkeypatch.setattr(workers, "threads_per_run", lambda: 1)  # torch's other threads do not survive a fork
    workers._remembered.clear()
    with binary_world.replaced():
        yield
    workers._remembered.clear()


def quiet(configs, outputs, n: int | None = None):
    return run_all(configs, outputs, progress=False, workers=n)


def test_one_worker_and_two_give_the_same_results_in_the_order_asked_for(here, tmp_path, monkeypatch):
    configs = [
        tiny_config(epochs=1, train_seed=s, use_adapter=a, missing_rate=r)
        for s in (2, 0)
        for a in (True, False)
        for r in (0.5, 0.4)
    ]
    one, two = quiet(configs, tmp_path / "1", 1), quiet(configs, tmp_path / "2", 2)
    assert [result.config.with_(device="cpu") for result in two] == configs
    for a, b in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(a.predictions, b.predictions, check_exact=True)
        pd.testing.assert_frame_equal(a.telemetry, b.telemetry, check_exact=True)


def test_every_training_has_as_many_threads_alone_in_a_pool_and_when_tried_again(here, tmp_path, monkeypatch):
    """They decide the last bits of what a CPU adds up."""
    made = runs.run(tiny_config(**CHEAP), tmp_path / "made", progress=False)

    def unlucky_at_first(config, *_, **__):
        if not (mark := tmp_path / f"tried-{config.missing_rate}").exists():
            mark.touch()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(made, config=config)

    monkeypatch.setattr(runs, "train", unlucky_at_first)
    monkeypatch.setattr(workers, "prepare", lambda *_: None)
    monkeypatch.setattr(workers, "threads_per_run", threads_per_run)
    monkeypatch.setattr(workers, "cores", lambda: 9)
    monkeypatch.setattr(workers, "host_bytes", lambda: 3 * workers.MEMORY_PER_WORKER * 2**30)
    before, configs = torch.get_num_threads(), [tiny_config(**CHEAP, missing_rate=rate) for rate in (0.4, 0.5)]
    for n_workers in (1, 2, 3):
        for tried_once in (0.5, 0.6):
            (tmp_path / f"tried-{tried_once}").touch()
        results = quiet([*configs, tiny_config(**CHEAP, missing_rate=0.6)], tmp_path / str(n_workers), n_workers)
        assert [result.provenance["threads"] for result in results] == [3, 3, 3]
        (tmp_path / "tried-0.4").unlink()
    (one,) = quiet([tiny_config(**CHEAP, missing_rate=0.5)], tmp_path / "alone")
    (asked,) = run_all([tiny_config(**CHEAP, missing_rate=0.5)], tmp_path / "asked", progress=False, threads=2)
    assert (one.provenance["threads"], asked.provenance["threads"]) == (3, 2)
    assert torch.get_num_threads() == before


def test_shared_inputs_change_nothing(here, tmp_path):
    configs = [tiny_config(**CHEAP, train_seed=seed, missing_rate=rate) for rate in (0.4, 0.5) for seed in (0, 1)]
    for config, result in zip(configs, quiet(configs, tmp_path / "shared", 1), strict=True):
        alone = runs.run(config, tmp_path / "alone", progress=False)
        pd.testing.assert_frame_equal(alone.predictions, result.predictions, check_exact=True)


def test_inputs_are_prepared_once_per_group(here, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(workers, "prepare", lambda config, outputs: made.append(config) or prepare(config, outputs))
    configs = [tiny_config(**CHEAP, train_seed=seed, missing_rate=rate) for seed in (0, 1, 2) for rate in (0.4, 0.5)]
    quiet(configs, tmp_path, 1)
    assert [config.missing_rate for config in made] == [0.4, 0.5]


def test_inputs_that_are_done_with_are_gone_before_others_are_made(here, tmp_path, monkeypatch):
    banks, alive = [], []

    def noted(config, outputs):
        alive.append(sum(bank() is not None for bank in banks))
        inputs = prepare(config, outputs)
        banks.append(weakref.ref(inputs.bank))
        return inputs

    monkeypatch.setattr(workers, "prepare", noted)
    quiet([tiny_config(**CHEAP, missing_rate=rate) for rate in (0.4, 0.5, 0.6)], tmp_path, 1)
    assert alive == [0, 0, 0]


@pytest.mark.parametrize("knob", INPUT_KNOBS)
def test_groups_share_every_knob_that_inputs_depend_on(knob):
    base = tiny_config(use_adapter=False, missing_type="text", dataset="clipart-pairs")
    other = {"dataset": "clipart-folders", "root": "there", "unimodal_cue": 0.5, "max_text_length": 12}
    other |= {"backbone": "b", "clip": "c", "device": "meta", "missing_rate": 0.1, "missing_type": "image"}
    other |= {"test_missing_rate": 0.9, "mask_seed": 5, "use_retrieval": False, "top_k": 1, "memory_bank": "full"}
    other |= {"integer_mask": True, "compile_layers": True}
    changed = base.with_(**{knob: other[knob]})
    again = base.with_(train_seed=8, use_alignment=False, train_subset="complete")
    assert group_by_inputs([base, changed, again]) == [[base, again], [changed]]


def test_groups_are_bounded_and_runs_with_an_adapter_stand_alone():
    plain = [tiny_config(use_adapter=False, train_seed=seed) for seed in range(70)]
    slow = [tiny_config(train_seed=seed) for seed in range(2)]
    groups = group_by_inputs(plain + slow)
    assert [len(group) for group in groups] == [32, 32, 6, 1, 1]
    assert [config for group in groups for config in group] == plain + slow


def test_many_runs_on_few_inputs_are_shared_out_so_that_no_worker_idles(here, tmp_path, monkeypatch):
    pool = mock.Mock(side_effect=KeyboardInterrupt)  # what would be trained is all that is asked
    monkeypatch.setattr(workers, "_work_in_pool", pool)
    configs = [tiny_config(**CHEAP, mask_seed=m, train_seed=seed) for m in range(3) for seed in range(26)]
    with pytest.raises(KeyboardInterrupt):
        quiet(configs, tmp_path, 2)
    groups = pool.call_args.args[0]
    assert [config for group in groups for config in group] == configs
    assert all(len({config.mask_seed for config in group}) == 1 for group in groups)
    assert max(map(len, groups)) == 10, "of 39 runs that each worker should train"


def test_only_what_learns_below_the_head_runs_the_backbone_in_every_step(binary_world):
    assert workers.runs_backbone(tiny_config()) and not workers.runs_backbone(tiny_config(use_adapter=False))
    for method, module in BASELINES.items():
        config = tiny_config(method=method)
        reads = module.build(config, binary_world.backbone, 2).reads
        assert workers.runs_backbone(config) == (reads != "pooled"), method


def test_a_compared_method_that_runs_the_backbone_stands_alone_and_counts_as_long():
    fast, slow = ([tiny_config(method=m, train_seed=seed) for seed in (0, 1)] for m in ("vilt", "maps"))
    assert group_by_inputs(fast + slow) == [fast, [slow[0]], [slow[1]]]


def test_the_first_guess_of_a_runs_time_knows_large_methods_and_the_backbone():
    names = {name for name in workers.SECONDS_PER_EPOCH if isinstance(name, str)}
    assert names <= BASELINES.keys()
    vilt, acmae, maps = (workers.guessed_seconds(tiny_config(method=name)) for name in ("vilt", "acmae", "maps"))
    assert 0 < 10 * vilt < min(acmae, maps)
    with pytest.raises(AngaError, match="did you mean vilt"):
        workers.guessed_seconds(tiny_config(method="vil"))


def test_an_unknown_method_is_refused_before_anything_is_trained(here, tmp_path):
    with pytest.raises(AngaError, match="did you mean vilt"):
        quiet([tiny_config(**CHEAP), tiny_config(method="vil")], tmp_path)
    assert not (tmp_path / "runs").exists()


def test_finished_runs_are_only_read(here, tmp_path, monkeypatch):
    configs = [tiny_config(**CHEAP), tiny_config(**CHEAP)]
    quiet(configs, tmp_path, 1)
    monkeypatch.setattr(workers, "run", lambda *_, **__: pytest.fail("trained again"))
    assert len(quiet(configs, tmp_path, 1)) == 2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_poisoned_config_among_many_is_tried_twice_and_reported_at_the_end(here, tmp_path, monkeypatch, n_workers):
    made = runs.run(tiny_config(**CHEAP), tmp_path / "made", progress=False)
    monkeypatch.setattr(runs, "train", lambda config, *_, **__: replace(made, config=config))
    monkeypatch.setattr(runs, "provenance", lambda *_: {})
    attempts = tmp_path / "attempts"

    def noted(config, outputs):
        with open(attempts, "a") as file:
            file.write(f"{config.top_k} ")
        return prepare(config, outputs)

    monkeypatch.setattr(workers, "prepare", noted)
    good = [tiny_config(**CHEAP, train_seed=seed) for seed in range(199)]
    poison = tiny_config(**CHEAP, top_k=50)  # more than the memory bank can lend
    with pytest.raises(AngaError, match="1 of 200 runs failed twice") as caught:
        quiet([*good[:80], poison, *good[80:]], tmp_path, n_workers)
    assert "top_k: 50 neighbours were asked for" in str(caught.value)
    assert attempts.read_text().split().count("50") == 2
    assert all(run_folder(config, tmp_path)[0].exists() for config in good)
    (report,) = (tmp_path / "failed").iterdir()
    assert str(report) in str(caught.value)
    assert "top_k: 50\n" in report.read_text() and "Traceback" in report.read_text()


def test_failures_are_reported_also_where_the_disk_is_too_full_to_keep_them(here, tmp_path, monkeypatch):
    poison, good = tiny_config(**CHEAP, top_k=50), tiny_config(**CHEAP)
    write = Path.write_text

    def full(path, *arguments, **knobs):
        if path.parent.name == "failed":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, *arguments, **knobs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(AngaError, match="1 of 2 runs failed twice") as caught:
        quiet([poison, good], tmp_path, 1)
    assert "(not written: No space left on device): " in str(caught.value)
    assert "top_k: 50 neighbours were asked for" in str(caught.value)
    assert run_folder(good, tmp_path)[0].exists()


def test_a_failure_that_passes_is_retried_and_leaves_no_report(here, tmp_path, monkeypatch):
    calls, train = [], runs.train

    def unlucky(config, *arguments, **knobs):
        calls.append(config)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return train(config, *arguments, **knobs)

    monkeypatch.setattr(runs, "train", unlucky)
    config = tiny_config(**CHEAP)
    stale = tmp_path / "failed" / f"{run_folder(config, tmp_path)[0].name}.txt"
    stale.parent.mkdir()
    stale.touch()
    assert len(quiet([config], tmp_path, 1)) == 1 and len(calls) == 2 and not stale.exists()


def test_a_full_disk_loses_nothing_that_was_finished(here, tmp_path, monkeypatch):
    done, late = tiny_config(**CHEAP), tiny_config(**CHEAP, train_seed=1)
    quiet([done], tmp_path, 1)

    def full(self, folder):
        folder.mkdir()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("anga.result.Result.save", full)
        with pytest.raises(AngaError, match="No space left on device"):
            quiet([done, late], tmp_path, 1)
    assert run_folder(done, tmp_path)[0].exists() and not run_folder(late, tmp_path)[0].exists()
    assert len(quiet([done, late], tmp_path, 1)) == 2


def test_a_worker_that_is_killed_fails_its_run_and_no_other(here, tmp_path, monkeypatch):
    train = runs.train

    def killed(config, *arguments, **knobs):
        if config.train_seed == 3 and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return train(config, *arguments, **knobs)

    monkeypatch.setattr(runs, "train", killed)
    configs = [tiny_config(**CHEAP, train_seed=seed, missing_rate=rate) for seed in range(5) for rate in (0.4, 0.5)]
    with pytest.raises(AngaError, match="2 of 10 runs failed twice") as caught:
        quiet(configs, tmp_path, 2)
    assert "worker process died" in str(caught.value)
    finished = [run_folder(config, tmp_path)[0].exists() for config in configs]
    assert finished == [config.train_seed != 3 for config in configs]


def test_a_worker_s_death_costs_no_try_of_a_run_that_was_not_begun(here, tmp_path, monkeypatch):
    """In a group of two the first kills its worker once, and the second's own first try fails: both end well."""
    train = runs.train

    def unlucky(config, *arguments, **knobs):
        first_time = tmp_path / f"{config.missing_rate} {config.train_seed}"
        if config.missing_rate == 0.4 and config.train_seed in (0, 1) and not first_time.exists():
            first_time.touch()
            if config.train_seed == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return train(config, *arguments, **knobs)

    monkeypatch.setattr(runs, "train", unlucky)
    configs = [tiny_config(**CHEAP, train_seed=seed, missing_rate=rate) for seed in range(5) for rate in (0.4, 0.5)]
    assert len(quiet(configs, tmp_path / "outputs", 2)) == 10
    assert len(list(tmp_path.glob("0.4 *"))) == 2, "both were unlucky"


def test_workers_that_die_before_they_begin_a_run_are_not_started_for_ever(here, tmp_path, monkeypatch):
    def dead(*_):
        os._exit(1)

    monkeypatch.setattr(workers, "_start_worker", dead)
    configs = [tiny_config(**CHEAP, missing_rate=rate) for rate in (0.4, 0.5)]
    with pytest.raises(AngaError, match="2 of 2 runs failed twice"):
        quiet(configs, tmp_path, 2)


def test_a_pool_that_breaks_between_two_runs_loses_neither(here, tmp_path, monkeypatch):
    submit, calls = ProcessPoolExecutor.submit, []

    def broken_at_first(pool, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise BrokenProcessPool("a worker died while the next group was handed over")
        return submit(pool, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", broken_at_first)
    configs = [tiny_config(**CHEAP, missing_rate=rate) for rate in (0.4, 0.5, 0.6)]
    assert [result.config.with_(device="cpu") for result in quiet(configs, tmp_path, 2)] == configs


def test_two_studies_at_once_on_one_folder_train_every_run_once(here, tmp_path, monkeypatch):
    train, log = runs.train, tmp_path / "trained"

    def noted(config, *arguments, **knobs):
        with open(log, "a") as file:
            file.write(f"{config.train_seed} ")
        return train(config, *arguments, **knobs)

    monkeypatch.setattr(runs, "train", noted)
    configs = [tiny_config(**CHEAP, train_seed=seed) for seed in range(6)]
    both = [multiprocessing.get_context("fork").Process(target=quiet, args=(configs, tmp_path, 1)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(log.read_text().split()) == list("012345")


def test_workers_end_when_their_parent_is_killed(here, tmp_path, monkeypatch):
    def slow(*_, **__):
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60)

    monkeypatch.setattr(runs, "train", slow)
    configs = [tiny_config(**CHEAP, missing_rate=rate) for rate in (0.4, 0.5)]
    study = multiprocessing.get_context("fork").Process(target=quiet, args=(configs, tmp_path / "outputs", 2))
    study.start()
    started = wait_for(lambda: [int(path.name) for path in tmp_path.glob("[0-9]*")], lambda pids: len(pids) == 2)
    study.kill()
    study.join()
    assert wait_for(lambda: [pid for pid in started if is_alive(pid)], lambda pids: not pids) == []


def wait_for(look, enough, seconds: float = 30):
    """What `look` returns once it is enough, or at the end of patience."""
    deadline = time.monotonic() + seconds
    while not enough(found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_an_interruption_is_no_failure(here, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        quiet([tiny_config(**CHEAP)], tmp_path, 1)
    assert not (tmp_path / "failed").exists()


def test_slots_follow_cores_memory_jobs_and_gpus(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(workers, "host_bytes", lambda: 64 * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert worker_slots(100) == ["cpu"] * 8
    assert worker_slots(3) == ["cpu"] * 3
    assert worker_slots(100, 2) == ["cpu"] * 2
    monkeypatch.setattr(workers, "host_bytes", lambda: 8 * 2**30)  # of a container on a larger machine
    assert worker_slots(100) == ["cpu"] * 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(workers, "_gpu_memory", lambda number: (150, 16)[number])
    slots = worker_slots(100)
    assert slots == ["cuda:0", "cuda:1", "cuda:0", "cuda:0", "cuda:0"]  # the small one takes a single worker
    assert worker_slots(100, 3) == ["cuda:0", "cuda:1", "cuda:0"]
