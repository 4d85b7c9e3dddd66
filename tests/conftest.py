"""Fixtures that the tests of the method share."""

import functools
import os
from pathlib import Path

import pytest
import torch
from tiny_world import TASKS, World, make_world


@pytest.fixture(scope="session")
def world_of(tmp_path_factory):
    """The tiny world of a task, made once per session."""
    return functools.cache(lambda task: make_world(task, tmp_path_factory.mktemp(f"world-{task}")))


@pytest.fixture(params=TASKS, scope="session")
def world(request, world_of) -> World:
    """One after the other the worlds of all tasks."""
    return world_of(request.param)


@pytest.fixture(scope="session")
def binary_world(world_of) -> World:
    return world_of("binary")


@pytest.fixture(scope="session")
def outputs(tmp_path_factory) -> Path:
    """One folder for the notebooks and solutions of all test processes: embeddings and tokens are made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "outputs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Splitting tensors as small as those of tests costs more than it saves, ten times as much on a busy machine.

    Notebooks' kernels and other processes that a test starts inherit it.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
