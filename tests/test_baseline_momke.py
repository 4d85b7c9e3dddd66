"""MoMKE: experts that learn alone, a router that mixes them, and the layer that attention over one token becomes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_world import tiny_config

from anga.baselines.momke import ExpertLayer
from anga.training_state import TrainingState


@pytest.fixture
def state(world) -> TrainingState:
    config = tiny_config(method="momke", method_options={"expert_epochs": 2, "width": 12, "depth": 2})
    return TrainingState(config, world.inputs(config))


def batch_with(state: TrainingState, has_text: bool, has_image: bool):
    table = state.table
    return state.make_batch(np.flatnonzero((table.has_text == has_text) & (table.has_image == has_image))[:6])


def touched(model, loss: torch.Tensor) -> set[str]:
    """Parts of the model that a loss moves."""
    model.zero_grad()
    loss.backward()
    moved = [n for n, p in model.trainable().items() if p.grad is not None and p.grad.abs().sum() > 0]
    return {".".join(name.split(".")[:2]) for name in moved}


def test_router_weights_sum_to_one(state):
    x = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
    for modality in ("text", "image"):
        weights = state.model.weights(x, modality)
        assert weights.shape == (7, 2) and (weights > 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(7))


@pytest.mark.parametrize("favoured", [0, 1])
def test_a_sure_router_gives_its_expert_alone(state, favoured):
    model, batch = state.model, batch_with(state, True, False)
    last = model.routers["text"][-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = 100 * F.one_hot(torch.tensor(favoured), 2).float()
    expert = model.experts[("text", "image")[favoured]]
    said = torch.cat([expert(model.inputs["text"](batch.pooled_text)), torch.zeros(len(batch), 12)], 1)
    torch.testing.assert_close(model.fused(batch), model.out(said + F.relu(model.mix(said))))


def test_a_layer_is_attention_over_a_single_token(state):
    generator = torch.Generator().manual_seed(1)
    layer, x = ExpertLayer(12), torch.randn(5, 12, generator=generator)
    query, key = torch.randn(2, 5, 3, 1, 4, generator=generator)  # three heads of width 4, whatever they hold
    value = layer.value(x).view(5, 3, 1, 4)
    attended = F.scaled_dot_product_attention(query, key, value).reshape(5, 12)
    torch.testing.assert_close(layer(x), x + attended + layer.mlp(attended))


def test_experts_first_learn_from_their_own_modality_alone(state):
    model = state.model
    for other, (modality, has) in {"image": ("text", (True, False)), "text": ("image", (False, True))}.items():
        moved = touched(model, model.losses(batch_with(state, *has), 0).total.mean())
        assert moved == {f"inputs.{modality}", f"experts.{modality}", f"expert_heads.{modality}"}
        assert model.losses(batch_with(state, *has), 0).terms[f"{other}_expert"] == 0


def test_then_a_single_modality_passes_through_all_experts(state):
    model = state.model
    moved = touched(model, model.losses(batch_with(state, True, False), 2).total.mean())
    assert {"inputs.text", "experts.text", "experts.image", "routers.text"} <= moved
    assert not {"inputs.image", "routers.image", "expert_heads.text", "expert_heads.image"} & moved


def test_the_first_stage_is_the_sum_of_the_experts_losses(state):
    model, batch = state.model, batch_with(state, True, True)
    losses = model.losses(batch, 1)
    torch.testing.assert_close(losses.total.mean().detach(), sum(losses.terms.values()))
    single = model.losses(batch_with(state, False, True), 1)
    torch.testing.assert_close(single.total.mean().detach(), single.terms["image_expert"])


def test_what_learns_when(state):
    model = state.model
    first, second = set(model.learned(1)), set(model.learned(2))
    assert first | second == set(model.trainable())
    shared = {name.split(".")[0] for name in first & second}
    assert shared == {"inputs", "experts"}
    assert {name.split(".")[0] for name in first - second} == {"expert_heads"}
