"""The benchmarks run, and compare things that compute the same."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from anga.retriever import MemoryBank, Retriever
from benchmarks.aligned_step import write_out_adapter
from benchmarks.models import SIZES, make_batches, make_groups, make_model
from benchmarks.retrieval import TOP_K, brute_force, embeddings
from benchmarks.timing import interleave, print_table

CPU = torch.device("cpu")


def test_all_benchmarks_run_and_print_their_tables():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--device", "cpu"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for heading in ("One training step", "Neighbours of all", "Batches from"):
        assert heading in done.stdout
    assert re.search(r"aligned step, boundary form +\S+ m?s +\d+\.\d\d ", done.stdout)
    assert re.search(r"plain step .* \d+ MB", done.stdout)


def test_written_out_adapter_computes_the_same_as_the_folded_one():
    model = make_model(SIZES["tiny"], CPU)
    batch = make_batches(model, SIZES["tiny"], 16, CPU)(np.arange(16))
    torch.testing.assert_close(write_out_adapter(model)(batch), model(batch), rtol=1e-5, atol=1e-6)


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
    print_table({"plain": np.array([1.0, 2.0, 4.0]), "aligned": np.array([1.1, 2.4, 4.0])}, "plain", {"plain": 12.0})
    lines = capsys.readouterr().out.splitlines()
    assert "1.10" in lines[2] and "12 MB" in lines[1]
