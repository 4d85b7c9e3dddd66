"""The benchmarks run, compare things that compute the same, and count operations as torch counts them."""

import contextlib
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import anga.layer
from anga.gradients import FORMS
from anga.method import sample_losses
from anga.retriever import MemoryBank, Retriever
from benchmarks import epochs, kernels, pipeline
from benchmarks.aligned_step import WrittenOutModel, padded, rate_columns, skipped_tokens
from benchmarks.flops import forward_flops, step_flops
from benchmarks.models import SIZES, make_backbone, make_batches, make_groups, make_inputs, make_model
from benchmarks.peak import matmul_rate
from benchmarks.retrieval import TOP_K, brute_force, embeddings
from benchmarks.timing import interleave, print_table, with_replaced

CPU, META = torch.device("cpu"), torch.device("meta")


def test_all_benchmarks_run_and_print_their_tables():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--device", "cpu"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for heading in (
        "Measured peak",
        "One training step, tiny",
        "One training step of MAPs",
        "Kernels of",
        "Neighbours of all",
        "Batches from",
        "20 epochs",
    ):
        assert heading in done.stdout
    assert re.search(r"aligned step, boundary form +\S+ m?s +\d+\.\d\d .* \d+%", done.stdout)
    assert re.search(r"plain step, written out .* \d+ MB", done.stdout)
    assert re.search(r"HateMemes +48 +\S+ m?s .* MB", done.stdout)


# --- the written-out form


def test_written_out_model_computes_the_same_as_the_folded_one():
    model = make_model(SIZES["tiny"], CPU)
    batch = make_batches(model, SIZES["tiny"], 16, CPU)(np.arange(16))
    torch.testing.assert_close(WrittenOutModel(model)(batch), model(batch), rtol=1e-5, atol=1e-6)


# --- floating-point operations


@pytest.fixture
def counted(monkeypatch):
    """(size, n) -> a model and a batch that only have shapes; attention is eager, so that torch counts its products."""
    monkeypatch.setattr(anga.layer, "_attend", anga.layer._attend_eager)

    def make(name: str, n: int = 8):
        model = make_model(SIZES[name], META)
        batch = make_batches(model, SIZES[name], n, META)(np.arange(n))
        return model, batch, replace(SIZES[name], n_text=batch.text.shape[1])

    return make


class Everywhere(contextlib.AbstractContextManager):
    """Stands in for the counter's own record of modules, which does not bear `torch.autograd.grad` at a leaf."""

    parents: ClassVar = {"Global"}

    def __exit__(self, *_):
        return None


def count(call) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Everywhere()
    with counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", SIZES)
def test_operations_are_those_that_torch_counts(counted, name):
    model, batch, size = counted(name)
    written_out, n = WrittenOutModel(model), len(batch)

    def plain(model):
        return sample_losses(model(batch), batch.labels).mean().backward()

    def grouped(form):
        return FORMS[form](model, batch, make_groups(n))

    assert count(lambda: plain(model)) == step_flops(size, n)
    assert count(lambda: plain(written_out)) == step_flops(size, n, naive=True)
    assert count(lambda: grouped("boundary")) == count(lambda: grouped("sub_batch")) == step_flops(size, n)
    assert count(lambda: grouped("loop")) == step_flops(size, n, backward_passes=3)
    with torch.no_grad():
        assert count(lambda: model(batch)) == n * forward_flops(size)
        assert count(lambda: written_out(batch)) == n * forward_flops(size, naive=True)


def test_operations_of_a_mini_step_with_numbers_are_the_same(counted, monkeypatch):
    """The shapes above know no values; a step with values does the same."""
    model = make_model(SIZES["mini-vilt"], CPU)
    batch = make_batches(model, SIZES["mini-vilt"], 8, CPU)(np.arange(8))
    size = replace(SIZES["mini-vilt"], n_text=batch.text.shape[1])
    assert count(lambda: FORMS["boundary"](model, batch, make_groups(8))) == step_flops(size, 8)


def test_skipped_tokens_are_not_counted(monkeypatch):
    """Attention is eager so that torch counts its products; the number skipped is the same in all layers."""
    monkeypatch.setattr(anga.layer, "_attend", anga.layer._attend_eager)
    monkeypatch.setattr(anga.layer, "ROUND", 1)
    model = make_model(SIZES["mini-vilt"], CPU)
    batch = make_batches(model, SIZES["mini-vilt"], 8, CPU)(np.arange(8))
    batch.text_mask = torch.arange(batch.text.shape[1]) < torch.arange(1, 9)[:, None]
    size, skipped = replace(SIZES["mini-vilt"], n_text=batch.text.shape[1]), skipped_tokens(batch)
    assert skipped == batch.text.shape[1] - 4.5
    step = lambda: FORMS["loop"](model, batch, np.zeros(8, int))  # noqa: E731
    assert count(step) == step_flops(size, 8, skipped=skipped)
    assert count(padded(step)) == step_flops(size, 8)


def test_a_step_of_64_samples_at_full_size_takes_6_tera_operations():
    assert step_flops(SIZES["ViLT-B/32"], 64) == pytest.approx(6.0e12, rel=0.02)
    assert step_flops(SIZES["ViLT-B/32"], 64, naive=True) == pytest.approx(6.8e12, rel=0.02)


def test_utilisation_is_the_rate_over_the_peak():
    columns = rate_columns({"step": np.array([0.5, 0.25, 2.0])}, {"step": 10**12}, peak=8e12)
    assert columns == {"TFLOP": {"step": "1"}, "TFLOP/s": {"step": "2"}, "MFU": {"step": "25%"}}


def test_matmul_rate_is_positive_in_both_precisions():
    assert all(matmul_rate(CPU, precision, 64) > 0 for precision in ("float32", "bfloat16"))


# --- kernels


def test_a_replaced_kernel_is_used_while_the_step_runs_and_no_longer():
    called, attend = [], anga.layer._attend
    model = make_model(SIZES["tiny"], CPU)
    batch = make_batches(model, SIZES["tiny"], 16, CPU)(np.arange(16))
    run = with_replaced(
        lambda: model(batch), anga.layer, "_attend", lambda *tensors: called.append(1) or attend(*tensors)
    )
    run()
    assert len(called) == 3 and anga.layer._attend is attend


def test_without_a_compiler_one_line_says_so(capsys):
    def fails(*_):
        raise RuntimeError("no compiler found\nand what to do")

    model = make_model(SIZES["tiny"], CPU)
    batch = make_batches(model, SIZES["tiny"], 8, CPU)(np.arange(8))
    assert kernels.compiled(lambda: model(batch), backend=fails) is None
    (line,) = capsys.readouterr().out.splitlines()
    assert "torch.compile" in line and "no compiler found and what to do" in line


def test_compiled_layers_compute_the_same():
    """Traced and run as it is ("eager" needs no compiler): nothing in a layer breaks the graph."""
    found, model = [], make_model(SIZES["tiny"], CPU)
    batch = make_batches(model, SIZES["tiny"], 8, CPU)(np.arange(8))
    run = kernels.compiled(lambda: found.append(model(batch)), backend="eager", fullgraph=True)
    run()
    torch.testing.assert_close(found[-1], model(batch))


# --- host waits, whole trainings


def test_waits_are_counted_and_their_places_named(monkeypatch, capsys):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    assert pipeline.host_waits(step) == 3
    assert capsys.readouterr().out.count("test_benchmarks.py:") == 1
    assert modes == ["warn", "default"]


def test_a_short_training_is_scaled_to_the_whole():
    result = SimpleNamespace(history=pd.DataFrame({"seconds": [9.0, 11.0, 13.0, 15.0]}), seconds=16.0)
    assert epochs.project(result, scale=10, epochs=20) == pytest.approx(10 * (20 * 2 + 1))


def test_short_sets_keep_the_shares_of_their_splits():
    short = epochs.SETS["MM-IMDb"].of_length(3200)
    assert short.splits == {"train": 3200, "validation": 537, "test": 1605} and short.task == "multilabel"


@pytest.mark.parametrize("task, classes", [("binary", 2), ("multilabel", 23), ("multiclass", 101)])
def test_random_data_trains_with_the_package_own_loop(task, classes):
    paper_set = epochs.PaperSet(task, classes, {"train": 40, "validation": 16, "test": 16}, minutes=1)
    result, placement = epochs.time_training(paper_set, SIZES["tiny"], 2, CPU, None)
    assert len(result.history) == 2 and len(result.predictions) == 32 and placement == "mapped"
    assert sum(name.startswith("logit_") for name in result.predictions) == classes


def test_repeated_pictures_fill_large_sets(monkeypatch):
    monkeypatch.setattr("benchmarks.models.DRAWN", 7)
    backbone = make_backbone(SIZES["tiny"], CPU)
    image = make_inputs(backbone, SIZES["tiny"], {"train": 20, "validation": 2, "test": 1}, CPU).bank.image
    assert len(image) == 23 and torch.equal(image[:7], image[7:14]) and torch.equal(image[21:], image[:2])


# --- retrieval, groups, tables


def test_brute_force_finds_what_the_retriever_finds():
    vectors, rows = embeddings(300), np.arange(300)
    expected = brute_force(vectors, rows)
    for backend in ("torch", "auto"):
        retriever = Retriever(vectors, vectors, MemoryBank.full(rows), rows, backend)
        np.testing.assert_array_equal(retriever.search("text", rows, rows, TOP_K)[0], expected)


def test_groups_come_in_the_usual_shares():
    assert np.bincount(make_groups(64)).tolist() == [19, 13, 32]
    assert np.bincount(make_groups(8)).tolist() == [2, 2, 4]


def test_rounds_call_each_variant_once_and_begin_with_another_one():
    called = []
    seconds = interleave({name: lambda name=name: called.append(name) for name in "abc"}, 3, CPU)
    rounds = ["".join(called[i : i + 3]) for i in range(0, 12, 3)]
    assert rounds[1:] == ["abc", "cab", "bca"] or rounds[1:] == ["abc", "bca", "cab"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratios_are_medians_within_rounds(capsys):
    seconds = {"plain": np.array([1.0, 2.0, 4.0]), "aligned": np.array([1.1, 2.4, 4.0])}
    print_table(seconds, {"/ plain": "plain", "/ aligned": "aligned"}, {"peak memory": {"plain": "12 MB"}})
    heading, plain, aligned = capsys.readouterr().out.splitlines()
    assert heading.split() == ["median", "/", "plain", "quartiles", "/", "aligned", "peak", "memory"]
    assert "1.10" in aligned and plain.endswith("12 MB") and "0.91" in plain
