"""Forgetting runs: like any other where nothing is forgotten, and with fresh running means from then on where it is."""

import sys
from pathlib import Path

import pytest
from tiny_world import tiny_config

from anga.training import finish, train

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import optimizer_memory

CONFIG = tiny_config(use_adapter=False)


@pytest.fixture
def forgetting(world):
    return lambda **how: optimizer_memory.Forgetting(CONFIG, world.inputs(CONFIG), **how)


def test_without_forgetting_it_is_the_usual_training(world, forgetting):
    usual = train(CONFIG, inputs=world.inputs(CONFIG), progress=False)
    result = finish(forgetting(**optimizer_memory.ALL_KEPT), progress=False)
    assert result.predictions.equals(usual.predictions)
    assert all(
        group["betas"] == (0.9, 0.999) for group in forgetting(**optimizer_memory.ALL_KEPT).optimizer.param_groups
    )


@pytest.mark.parametrize("how", [{"beta2": 0.99, "forgets": False}, {"beta2": 0.999, "forgets": True}])
def test_another_memory_changes_the_steps_from_then_on_alone(forgetting, how):
    usual, other = (finish(forgetting(**kind), progress=False).telemetry for kind in (optimizer_memory.ALL_KEPT, how))
    until = optimizer_memory.KEPT_EPOCHS if how["forgets"] else 0
    early = usual["epoch"] < until
    assert usual[early].equals(other[early])
    assert (usual["loss"][~early][1:] != other["loss"][~early][1:]).any()


def test_forgotten_means_are_built_up_anew(forgetting):
    state = forgetting(beta2=0.999, forgets=True)
    finish(state, progress=False)
    steps = {int(kept["step"]) for kept in state.optimizer.state.values()}
    assert steps == {4 * (CONFIG.epochs - optimizer_memory.KEPT_EPOCHS)}
