"""run(): once per config, whole or not at all, on disk as it was in memory."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_training import assert_same
from tiny_world import tiny_config

from anga import Config, load_dataset, runs
from anga.baselines import BASELINES
from anga.errors import AngaError
from anga.result import Result
from anga.runs import run, run_folder
from anga.training_state import TrainingState

CONFIG = tiny_config(epochs=2)
PINNED_DEFAULTS = "650371291ed387ea"  # of all defaults that no key holds


@pytest.fixture
def here(binary_world):
    """Runs read the tiny world while a test uses this."""
    with binary_world.replaced():
        yield


@pytest.fixture
def trained(here, monkeypatch) -> list:
    """The configs that `run` had to train."""
    configs, train = [], runs.train

    def counted(config, *arguments, **knobs):
        configs.append(config)
        return train(config, *arguments, **knobs)

    monkeypatch.setattr(runs, "train", counted)
    return configs


def quiet(config, outputs):
    return run(config, outputs, progress=False)


def test_a_second_call_reads_what_the_first_one_trained(trained, tmp_path):
    first = quiet(CONFIG, tmp_path)
    second = quiet(CONFIG, tmp_path)
    assert trained == [CONFIG]
    assert_same(first, second)
    assert second.config == CONFIG and second.provenance == first.provenance
    assert (second.seconds, second.peak_memory_mb) == (first.seconds, first.peak_memory_mb)
    assert second.history["seconds"].tolist() == first.history["seconds"].tolist()


def test_undefined_scores_survive_the_disk(trained, tmp_path):
    config = CONFIG.with_(missing_rate=0.0)
    first, second = quiet(config, tmp_path), quiet(config, tmp_path)
    assert np.isnan(first.score("reconstructed")) and np.isnan(second.score("reconstructed"))


def test_another_config_is_another_run_but_another_device_is_not(trained, tmp_path):
    quiet(CONFIG, tmp_path)
    quiet(CONFIG.with_(train_seed=1), tmp_path)
    quiet(CONFIG.with_(device="auto"), tmp_path)
    assert [config.train_seed for config in trained] == [0, 1]


def test_automatic_precision_is_another_run_where_it_means_float32(here, monkeypatch, tmp_path):
    """The word is the same on every machine; a key that stood for both would hand one machine the other's numbers."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {}
    for units in ("with", "without"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=units == "with": {"amx_bf16": has})
        for precision in ("auto", "float32", "bfloat16"):
            configs = [CONFIG.with_(precision=precision, device=device) for device in ("auto", "cpu")]
            (found[units, precision],) = {run_folder(config, tmp_path)[0] for config in configs}
    assert found["with", "auto"] != found["without", "auto"]
    assert all(found["with", name] == found["without", name] for name in ("float32", "bfloat16"))
    assert len(set(found.values())) == 4


def test_where_automatic_precision_means_bfloat16_keys_are_those_of_stored_results(here, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    for precision in ("auto", "float32"):
        folder, data_hash = run_folder(config := CONFIG.with_(precision=precision), tmp_path)
        key = json.dumps([runs.RESULT_VERSION, config.identity(), data_hash, "tiny", "tiny"])
        assert folder.name == hashlib.sha256(key.encode()).hexdigest()[:16]


def test_workers_on_gpus_and_a_plan_agree_on_automatic_precision(here, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(runs, "pick_device", lambda name: torch.device("cuda" if name == "auto" else name))
    configs = [CONFIG.with_(precision="auto", device=device) for device in ("auto", "cuda:0", "cuda:1")]
    assert len({run_folder(config, tmp_path) for config in configs}) == 1


def test_defaults_that_no_key_holds_are_pinned():
    """A knob of identity "changed" and a method's option are in no key while they have their default."""
    knobs = {knob.name: knob.default for knob in fields(Config) if knob.metadata["identity"] == "changed"}
    options = {name: {o.name: o.default for o in fields(module.Options)} for name, module in BASELINES.items()}
    defaults = json.dumps([runs.RESULT_VERSION, knobs, options], sort_keys=True)
    assert hashlib.sha256(defaults.encode()).hexdigest()[:16] == PINNED_DEFAULTS, (
        "raise RESULT_VERSION when a default changes, then update the hash (for a new knob or option, the hash alone): "
        "stored results would else be read as those of the new default"
    )


@pytest.mark.parametrize("changed", ["texts", "labels", "split"])
def test_other_data_under_the_same_name_is_another_run(binary_world, changed, tmp_path):
    with binary_world.replaced():
        before = run_folder(CONFIG, tmp_path)
    turned = {changed: getattr(binary_world.dataset, changed)[::-1].copy(), "content_hash": ""}
    other = replace(binary_world, dataset=replace(binary_world.dataset, **turned))
    with other.replaced():
        after = run_folder(CONFIG, tmp_path)
    assert before[0] != after[0] and before[1] != after[1]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "clip.pt", "preprocessor_config.json", "vocab.txt"]
)
def test_other_files_of_a_checkpoint_under_the_same_name_are_another_run(here, tmp_path, name):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    found = set()
    for content in (b"old", b"new"):
        (folder / name).write_bytes(content)
        found |= {
            run_folder(CONFIG.with_(backbone=str(folder)), tmp_path),
            run_folder(CONFIG.with_(clip=str(folder)), tmp_path),
        }
    assert len(found) == 4


def test_the_folder_holds_all_that_a_reader_needs(trained, binary_world, tmp_path):
    result = quiet(CONFIG, tmp_path)
    folder, data_hash = run_folder(CONFIG, tmp_path)
    names = [
        "config.yaml",
        "history.csv",
        "metrics.json",
        "predictions.parquet",
        "provenance.json",
        "telemetry.parquet",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["data"] == data_hash == binary_world.dataset.content_hash
    assert facts["config"] == CONFIG.identity() and facts["device"] == "cpu"
    assert facts["torch"] == torch.__version__.split("+")[0] and {"commit", "python", "numpy", "finished"} <= set(facts)
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["test"]["all"]["n"] == 15
    predictions = pd.read_parquet(folder / "predictions.parquet")
    pd.testing.assert_frame_equal(predictions, result.predictions)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name], "no scratch is left"


def test_provenance_names_the_processor(monkeypatch):
    cpuinfo = {"text": "processor\t: 0\nmodel name\t: Some CPU: 2.5 GHz\nprocessor\t: 1\nmodel name\t: Other\n"}
    assert runs.provenance()["processor"] == runs.processor() != ""
    monkeypatch.setattr(Path, "read_text", lambda path: cpuinfo["text"])
    assert runs.processor() == "Some CPU: 2.5 GHz"
    cpuinfo["text"] = "Hardware\t: of another kind\n"
    for said, expected in (("arm", "arm"), ("", "arm64")):
        monkeypatch.setattr(runs.platform, "processor", lambda said=said: said)
        monkeypatch.setattr(runs.platform, "machine", lambda: "arm64")
        assert runs.processor() == expected


def test_the_embedded_checkpoints_serve_a_run_from_pictures_to_scores(monkeypatch, tmp_path):
    """Every step on the real path, on forty training and twenty other drawings."""
    pairs = load_dataset("clipart-pairs")
    rows = np.concatenate([pairs.rows(split)[:n] for split, n in (("train", 40), ("validation", 10), ("test", 10))])
    names = ("ids", "texts", "labels", "split")
    few = {name: getattr(pairs, name)[rows] for name in names}
    images = [pairs.images[number] for number in pairs.image_rows[rows]]
    few = replace(pairs, images=images, image_rows=np.arange(60), content_hash="", **few)
    for module in ("anga.inputs", "anga.runs"):
        monkeypatch.setattr(f"{module}.load_config_dataset", lambda config: few)
    config = Config(missing_type="both", missing_rate=0.5, epochs=2, batch_size=8, top_k=3, device="cpu")
    first = quiet(config, tmp_path)
    assert_same(quiet(config, tmp_path), first)
    assert first.history["loss"][1] < first.history["loss"][0] and 0 <= first.score() <= 1


# --- interrupted


def killed(*_, **__):
    raise KeyboardInterrupt


def finish(config, outputs, expected) -> None:
    """A further call makes the run whole and gives what an undisturbed one gives."""
    folder = run_folder(config, outputs)[0]
    assert not folder.exists()
    assert_same(quiet(config, outputs), expected)
    assert folder.exists()


@pytest.mark.parametrize(
    ("where", "steps_left"),
    [((TrainingState, "log_step"), 8), ((TrainingState, "result"), 0), ((Result, "save"), 0), ((runs.os, "rename"), 0)],
    ids=["in the first epoch", "before testing", "while saving", "before renaming"],
)
def test_a_killed_run_leaves_nothing_that_looks_finished(here, where, steps_left, tmp_path, monkeypatch):
    expected = quiet(CONFIG, tmp_path / "undisturbed")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(*where, killed)
        quiet(CONFIG, tmp_path)
    steps, log_step = [], TrainingState.log_step
    monkeypatch.setattr(TrainingState, "log_step", lambda *a: (steps.append(1), log_step(*a)))
    finish(CONFIG, tmp_path, expected)
    assert len(steps) == steps_left, "what was done before is taken up"


def test_a_half_written_result_is_not_taken_for_a_result(here, tmp_path, monkeypatch):
    expected = quiet(CONFIG, tmp_path / "undisturbed")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pd.DataFrame, "to_parquet", killed)  # config and metrics are written by then
        quiet(CONFIG, tmp_path)
    assert list(tmp_path.glob("runs/*/metrics.json"))
    finish(CONFIG, tmp_path, expected)


def test_a_diverging_run_leaves_no_result(here, tmp_path):
    config = CONFIG.with_(learning_rate=1e30)
    with pytest.raises(AngaError, match="not finite"):
        quiet(config, tmp_path)
    assert not run_folder(config, tmp_path)[0].exists()


def test_two_processes_that_ask_for_the_same_run_do_it_once(here, tmp_path):
    quiet(CONFIG, tmp_path / "made")
    program = textwrap.dedent(f"""
        import os, pathlib, time
        from anga import Config, load_dataset, runs
        from anga.config import Config

        def train(*_, **__):
            with open({str(tmp_path / "trained")!r}, "a") as file:
                file.write("once ")
            deadline = time.time() + 60
            while time.time() < deadline and len(list(pathlib.Path({str(tmp_path)!r}).glob("here-*"))) < 2:
                time.sleep(0.01)
            time.sleep(0.3)  # the other one is at the lock by now
            return runs.Result.load(made)

        runs.load_config_dataset = lambda config: type("Data", (), {{"content_hash": "0"}})
        config = Config(backbone="tiny", clip="tiny", device="cpu")
        made = {str(run_folder(CONFIG, tmp_path / "made")[0])!r}
        runs.train = train
        pathlib.Path({str(tmp_path)!r}, f"here-{{os.getpid()}}").touch()
        print(runs.run(config, {str(tmp_path)!r}).score())
    """)
    root = str(Path(__file__).parents[1])
    start = {"cwd": root, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", program], **start) for _ in range(2)]
    scores = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert scores[0] == scores[1] != "" and (tmp_path / "trained").read_text() == "once "


# --- what cannot be read or written


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b"{"),
        ("metrics.json", b"[]"),
        ("metrics.json", b"{}"),
        ("provenance.json", b"\xff\xfe"),
        ("config.yaml", b"epochs: many"),
        ("history.csv", b""),
        ("telemetry.parquet", b"PAR1"),
        ("predictions.parquet", None),
    ],
)
def test_a_damaged_result_is_named_with_the_cure(here, tmp_path, name, content):
    quiet(CONFIG, tmp_path)
    folder, _ = run_folder(CONFIG, tmp_path)
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(
        AngaError, match=rf"{folder.name}: the stored result cannot be read .*delete this folder"
    ) as caught:
        quiet(CONFIG, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_named_and_costs_no_epoch(trained, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = quiet(CONFIG, tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(AngaError, match=r"runs/\w+: could not be made \(No space left on device\); make room"):
            quiet(CONFIG, tmp_path)
    monkeypatch.setattr(TrainingState, "log_step", lambda *_: pytest.fail("an epoch was done again"))
    finish(CONFIG, tmp_path, expected)


def test_outputs_inside_a_file_are_refused_before_training(trained, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AngaError, match="choose another outputs folder"):
        quiet(CONFIG, tmp_path / "file")
    assert not trained


def test_outputs_without_write_permission_are_refused_before_training(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the super-user may write anywhere
    with pytest.raises(AngaError, match="runs: cannot be written; choose another outputs folder"):
        quiet(CONFIG, tmp_path)
    assert not trained


def test_finished_runs_are_read_from_a_folder_that_cannot_be_written(trained, tmp_path, monkeypatch):
    first = quiet(CONFIG, tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_same(quiet(CONFIG, tmp_path), first)
