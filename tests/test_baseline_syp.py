"""SyP: factors follow the observed input, prompts are dynamic plus static, layers hand them on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_world import tiny_config

from anga.baselines.syp import observed_mean
from anga.errors import AngaError
from anga.model import build_model


def method_and_batch(world, rows=range(40), **options):
    config = tiny_config(method="syp", method_options={"prompt_length": 6, "reduction": 2, **options})
    inputs = world.inputs(config)
    return build_model(config, inputs), inputs.batch_maker(False)(np.array(rows))


def test_observed_mean_equals_numpys():
    generator = np.random.default_rng(0)
    tokens, mask = generator.standard_normal((6, 5, 4)), generator.random((6, 5)) < 0.6
    has = np.array([True, True, True, True, False, False])
    mask[0], mask[3] = True, False
    found = observed_mean(*(torch.from_numpy(array) for array in (tokens, mask, has)))
    for i in range(6):
        seen = tokens[i, mask[i]] if has[i] else tokens[i, :0]
        expected = seen.mean(0) if len(seen) else np.zeros(4)
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


def test_factors_written_out(binary_world):
    """S_d = sigmoid(W_2 ReLU(W_1 X_C + b_1) + b_2), with zeros for what is missing."""
    method, batch = method_and_batch(binary_world)
    scales = method.scales(batch)
    first, second = method.adapter[0], method.adapter[2]
    for i, (has_text, has_image) in enumerate(zip(batch.has_text.tolist(), batch.has_image.tolist(), strict=True)):
        image = batch.image[i].mean(0) if has_image else torch.zeros(16)
        text = batch.text[i, batch.text_mask[i]].mean(0) if has_text else torch.zeros(16)
        hidden = (first.weight @ torch.cat([image, text]) + first.bias).clamp(min=0)
        expected = 1 / (1 + torch.exp(-(second.weight @ hidden + second.bias)))
        torch.testing.assert_close(scales[i].ravel(), expected, rtol=1e-5, atol=1e-6)
    assert (scales > 0).all() and (scales < 1).all() and scales.std(0).max() > 1e-3


def test_factors_follow_what_is_observed_alone(binary_world):
    method, batch = method_and_batch(binary_world)
    before = method.scales(batch)
    for name in ("text", "image"):
        has, tokens = getattr(batch, f"has_{name}"), getattr(batch, name)
        assert (~has).any()
        noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
        after = method.scales(replace(batch, **{name: noise}))
        assert torch.equal(after[~has], before[~has])
        assert ((after - before)[has].abs().amax((1, 2)) > 1e-4).all()


@pytest.mark.parametrize("bias, factor", [(-200.0, 0.0), (0.0, 0.5), (200.0, 1.0)])
def test_prompts_are_scaled_base_plus_shared_static(binary_world, bias, factor):
    method, batch = method_and_batch(binary_world)
    method.adapter[2].weight.data.zero_()
    method.adapter[2].bias.data.fill_(bias)
    found = method.first_prompts(batch)
    for modality in range(2):
        static = method.static @ method.projections[modality].weight.T + method.projections[modality].bias
        expected = (factor * method.base[modality] + static).expand(40, 3, 16)
        torch.testing.assert_close(found[:, modality], expected, rtol=0, atol=1e-6)


def test_layers_hand_their_prompts_on(binary_world):
    """P_i = LN(FC(GELU(FC(P_{i-1})))), each modality by itself."""
    method, batch = method_and_batch(binary_world)
    prompts = method.prompts(batch)
    assert prompts.form == "deep" and sorted(prompts.by_layer) == [1, 2, 3]
    halves = {i: p.unflatten(1, (2, 3)) for i, p in prompts.by_layer.items()}
    assert torch.equal(halves[1], method.first_prompts(batch))
    for layer in (2, 3):
        for modality, steps in enumerate((method.image_steps, method.text_steps)):
            narrow, _, wide, norm = steps[layer - 2]
            hidden = F.gelu(halves[layer - 1][:, modality] @ narrow.weight.T + narrow.bias)
            expected = F.layer_norm(hidden @ wide.weight.T + wide.bias, (16,), norm.weight, norm.bias)
            torch.testing.assert_close(halves[layer][:, modality], expected, rtol=0, atol=1e-5)


def test_published_number_of_prompts_in_no_more_layers_than_there_are(binary_world):
    method, batch = method_and_batch(binary_world, prompt_length=36)
    assert {i: p.shape[1] for i, p in method.prompts(batch).by_layer.items()} == {1: 36, 2: 36, 3: 36}
    method, batch = method_and_batch(binary_world, prompt_layers=1)
    assert sorted(method.prompts(batch).by_layer) == [1] and torch.isfinite(method(batch)).all()


def test_padding_and_neighbours_in_the_batch_change_nothing(binary_world):
    method, batch = method_and_batch(binary_world)
    together = method(batch)
    for i in range(0, 40, 4):
        _, alone = method_and_batch(binary_world, [i])
        torch.testing.assert_close(method(alone)[0], together[i], rtol=0, atol=1e-5)


def test_everything_learns(world):
    method, batch = method_and_batch(world)
    learned = method.learned(0)
    grads = torch.autograd.grad(method.losses(batch, 0).total.mean(), list(learned.values()))
    assert {name for name, grad in zip(learned, grads, strict=True) if not grad.abs().max() > 1e-9} == set()


@pytest.mark.parametrize("reduction, wide, narrow", [(4, 8, 4), (16, 2, 1), (100, 1, 1)])
def test_number_of_learnable_parameters(binary_world, reduction, wide, narrow):
    method, _ = method_and_batch(binary_world, prompt_layers=2, reduction=reduction)
    d, k, n, layers = 16, 2, 3, 2
    adapter, projections = 4 * d * wide + wide + 2 * d, 2 * (d + 1) * d
    steps = 2 * (layers - 1) * (2 * d * narrow + narrow + 3 * d)
    expected = 3 * n * d + adapter + projections + steps + (d + k) * (d + 1)
    assert sum(p.numel() for p in method.trainable().values()) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prompt_length": 5}, "even and at least 2, not 5"),
        ({"prompt_length": 0}, "even and at least 2, not 0"),
        ({"prompt_layers": 0}, "at least 1"),
        ({"reduction": 0}, "at least 1"),
    ],
)
def test_impossible_options(binary_world, options, message):
    with pytest.raises(AngaError, match=f"method_options of syp: .*{message}"):
        method_and_batch(binary_world, **options)
