"""DCP: correlated prompts mix the modalities layer by layer, common ones follow the state, dynamic ones the input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import in_double, tiny_config
from torch import nn

from anga.errors import AngaError
from anga.model import build_model

COMPLETE, TEXT_MISSING, IMAGE_MISSING = range(3)


def method_and_batch(world, rows=range(40), **options):
    config = tiny_config(method="dcp", method_options={"prompt_length": 12, **options})
    inputs = world.inputs(config)
    return build_model(config, inputs), inputs.batch_maker(False)(np.array(rows))


def states_of(batch) -> list[int]:
    pairs = zip(batch.has_text.tolist(), batch.has_image.tolist(), strict=True)
    return [{(True, True): 0, (False, True): 1, (True, False): 2}[pair] for pair in pairs]


def test_all_prompts_written_out(binary_world):
    """The published equations, for each sample and modality by itself; attention by torch's own."""
    method, batch = method_and_batch(binary_world)
    for module in (method.image_steps, method.text_steps, method.image_common, method.text_common, method.dynamic):
        module.double()
    for name in ("image_seed", "text_seed", "common"):
        getattr(method, name).data = getattr(method, name).double()
    batch = in_double(batch)
    found = method.prompts(batch)
    attention = torch_attention(method.dynamic)
    assert found.form == "deep" and sorted(found.by_layer) == [1, 2, 3] and len(set(states_of(batch))) == 3
    for i, state in enumerate(states_of(batch)):
        image, text = method.image_seed[int(state == IMAGE_MISSING)], method.text_seed[int(state == TEXT_MISSING)]
        common = [method.image_common(method.common[state]), method.text_common(method.common[state])]
        observed = torch.cat([batch.text[i, batch.text_mask[i]], batch.image[i, batch.image_mask[i]]])
        dynamic, _ = attention(method.dynamic.prompts[state], observed, observed)
        for layer, prompts in found.by_layer.items():
            both = torch.cat([image, text], dim=1)
            image, text = method.image_steps[layer - 1](both), method.text_steps[layer - 1](both)
            expected = torch.cat([image, text, *common, dynamic])
            torch.testing.assert_close(prompts[i], expected, rtol=0, atol=1e-12)


def torch_attention(dynamic) -> nn.MultiheadAttention:
    """One-headed attention of torch's own with the same weights."""
    attention = nn.MultiheadAttention(16, 1, dtype=torch.float64)
    projections = dynamic.query, dynamic.key, dynamic.value
    attention.in_proj_weight.data = torch.cat([p.weight.data for p in projections])
    attention.in_proj_bias.data = torch.cat([p.bias.data for p in projections])
    attention.out_proj.load_state_dict(dynamic.out.state_dict())
    return attention


@pytest.mark.parametrize("seed, moved", [("image_seed", IMAGE_MISSING), ("text_seed", TEXT_MISSING)])
def test_a_missing_modalitys_seed_moves_both_modalities_prompts_in_its_state_alone(binary_world, seed, moved):
    method, _ = method_and_batch(binary_world)
    before = [layer.clone() for layer in method.correlated()]
    getattr(method, seed).data[1] += torch.linspace(-1, 1, 16)
    for old, new in zip(before, method.correlated(), strict=True):
        assert old.shape == (3, 4, 16)
        for state in range(3):
            changed = [not torch.allclose(old[state, part], new[state, part]) for part in (slice(0, 2), slice(2, 4))]
            assert changed == [state == moved] * 2


def test_each_layer_is_made_from_the_one_before(binary_world):
    """A change of one layer's step reaches this layer and those above, in both modalities."""
    method, _ = method_and_batch(binary_world)
    before = [layer.clone() for layer in method.correlated()]
    method.image_steps[1][-1].weight.data += torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    after = method.correlated()
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1][:, 2:], after[1][:, 2:]) and not torch.allclose(before[1][:, :2], after[1][:, :2])
    assert not torch.allclose(before[2][:, 2:], after[2][:, 2:])


def test_only_dynamic_prompts_follow_the_sample(binary_world):
    method, batch = method_and_batch(binary_world)
    by_layer = method.prompts(batch).by_layer
    for state in range(3):
        same = torch.tensor([i for i, other in enumerate(states_of(batch)) if other == state])
        for prompts in by_layer.values():
            static, dynamic = prompts[same, :8], prompts[same, 8:]
            assert torch.equal(static, static[:1].expand_as(static))
            assert not torch.allclose(dynamic[0], dynamic[1])


def test_dynamic_prompts_see_observed_tokens_alone(binary_world):
    method, batch = method_and_batch(binary_world)
    before = method.prompts(batch).by_layer[1]
    for name in ("text", "image"):
        tokens, mask = getattr(batch, name), getattr(batch, f"{name}_mask")[..., None]
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
        assert (~mask).any()
        hidden = replace(batch, **{name: torch.where(mask, tokens, 100 * noise)})
        assert torch.equal(method.prompts(hidden).by_layer[1], before)
        seen = replace(batch, **{name: torch.where(mask, noise, tokens)})
        assert not torch.allclose(method.prompts(seen).by_layer[1], before)


def test_padding_and_neighbours_in_the_batch_change_nothing(binary_world):
    method, batch = method_and_batch(binary_world)
    together = method(batch)
    for i in range(0, 40, 4):
        _, alone = method_and_batch(binary_world, [i])
        torch.testing.assert_close(method(alone)[0], together[i], rtol=0, atol=1e-5)


def test_published_number_of_prompts_in_no_more_layers_than_there_are(binary_world):
    method, batch = method_and_batch(binary_world, prompt_length=36)
    assert {i: p.shape[1] for i, p in method.prompts(batch).by_layer.items()} == {1: 36, 2: 36, 3: 36}
    method, batch = method_and_batch(binary_world, prompt_layers=2)
    assert sorted(method.prompts(batch).by_layer) == [1, 2]


def test_everything_learns(world):
    method, batch = method_and_batch(world)
    learned = method.learned(0)
    grads = torch.autograd.grad(method.losses(batch, 0).total.mean(), list(learned.values()))
    still = {name for name, grad in zip(learned, grads, strict=True) if not grad.abs().max() > 1e-9}
    assert still <= {"dynamic.key.bias"}, "the same for all tokens, which a softmax does not notice"


@pytest.mark.parametrize("reduction, wide, narrow", [(4, 8, 4), (16, 2, 1), (100, 1, 1)])
def test_number_of_learnable_parameters(binary_world, reduction, wide, narrow):
    method, _ = method_and_batch(binary_world, prompt_length=18, prompt_layers=2, reduction=reduction)
    d, k, n, layers = 16, 2, 3, 2
    steps = 2 * layers * (3 * d * wide + wide + 5 * d)
    projections = 2 * (2 * d * narrow + narrow + d) + 4 * (d + 1) * d
    expected = 13 * n * d + steps + projections + (d + k) * (d + 1)
    assert sum(p.numel() for p in method.trainable().values()) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prompt_length": 16}, "multiple of 6, not 16"),
        ({"prompt_length": 0}, "multiple of 6, not 0"),
        ({"prompt_layers": 0}, "at least 1"),
        ({"reduction": 0}, "at least 1"),
    ],
)
def test_impossible_options(binary_world, options, message):
    with pytest.raises(AngaError, match=f"method_options of dcp: .*{message}"):
        method_and_batch(binary_world, **options)
