"""MAPs: a sample gets the prompts of its missing state, and no other state's prompts learn from it."""

import numpy as np
import pytest
import torch
from tiny_world import tiny_config

from anga.errors import AngaError
from anga.model import build_model

STATES = {(True, True): 0, (False, True): 1, (True, False): 2}  # (has_text, has_image): complete, no text, no image
every_form = pytest.mark.parametrize("form", ["input", "attention"])


def method_and_inputs(world, **options):
    config = tiny_config(method="maps", method_options=options)
    inputs = world.inputs(config)
    return build_model(config, inputs), inputs


def states_of(table, rows) -> list[int]:
    """Each sample's missing state by the missing table."""
    return [STATES[has] for has in zip(table.has_text[rows].tolist(), table.has_image[rows].tolist(), strict=True)]


@every_form
def test_a_sample_gets_the_prompts_of_its_missing_state(binary_world, form):
    method, inputs = method_and_inputs(binary_world, form=form, prompt_length=4)
    rows = np.arange(40)
    prompts, states = method.prompts(inputs.batch_maker(False)(rows)), states_of(inputs.table, rows)
    assert prompts.form == form and sorted(prompts.by_layer) == [1, 2, 3]
    for i, state in enumerate(states):
        for layer, by_sample in prompts.by_layer.items():
            assert torch.equal(by_sample[i], method.states[state, layer - 1])
    assert set(states) == {0, 1, 2}


@every_form
@pytest.mark.parametrize("occurring", [{0}, {1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}], ids=str)
def test_only_the_prompts_of_states_in_the_batch_learn(binary_world, form, occurring):
    """All of them do, in every prompted layer."""
    method, inputs = method_and_inputs(binary_world, form=form, prompt_length=4)
    rows = np.array([row for row, state in enumerate(states_of(inputs.table, np.arange(90))) if state in occurring])
    method.losses(inputs.batch_maker(False)(rows), 0).total.mean().backward()
    learns = (method.states.grad != 0).any(-1)
    assert learns.shape == (3, 3, 4)
    for state in range(3):
        assert learns[state].all() if state in occurring else not learns[state].any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"form": "deep"}, "form must be input or attention, not 'deep'"),
        ({"form": "attention", "prompt_length": 3}, "even in the attention form, not 3"),
        ({"prompt_length": 0}, "at least 1"),
        ({"prompt_layers": 0}, "at least 1"),
    ],
)
def test_impossible_options(binary_world, options, message):
    with pytest.raises(AngaError, match=f"method_options of maps: .*{message}"):
        method_and_inputs(binary_world, **options)
