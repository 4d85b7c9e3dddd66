"""MSPs: prompts add up over what is observed, and the two sets drift apart."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from tiny_world import tiny_config

from anga.errors import AngaError
from anga.gradients import loop_form
from anga.method import sample_losses
from anga.model import build_model


def method_and_batch(world, rows=range(40), **options):
    config = tiny_config(method="msps", method_options=options)
    inputs = world.inputs(config)
    return build_model(config, inputs), inputs.batch_maker(False)(np.array(rows))


def test_prompts_add_up_over_the_observed_modalities(binary_world):
    method, batch = method_and_batch(binary_world, prompt_length=4)
    by_layer = method.prompts(batch).by_layer
    assert sorted(by_layer) == [1, 2, 3]
    cases = {(True, True): (1, 1), (True, False): (1, 0), (False, True): (0, 1)}
    seen = set()
    for i, state in enumerate(zip(batch.has_text.tolist(), batch.has_image.tolist(), strict=True)):
        text, image = cases[state]
        seen.add(state)
        for layer, prompts in by_layer.items():
            expected = text * method.text_prompts[layer - 1] + image * method.image_prompts[layer - 1]
            assert torch.equal(prompts[i], expected)
    assert seen == set(cases)


@pytest.mark.parametrize("form", ["input", "attention"])
def test_both_forms_are_at_hand(binary_world, form):
    method, batch = method_and_batch(binary_world, form=form)
    assert method.prompts(batch).form == form
    assert torch.isfinite(method(batch)).all()


def test_orthogonality_loss_is_the_mean_absolute_cosine(binary_world):
    method, _ = method_and_batch(binary_world, prompt_length=5, prompt_layers=2)
    text, image = (p.detach().double().numpy() for p in (method.text_prompts, method.image_prompts))
    cosines = [1 - cosine(text[i, j], image[i, j]) for i in range(2) for j in range(5)]
    assert min(cosines) < 0 < max(cosines)
    assert method.orthogonality_loss().item() == pytest.approx(np.abs(cosines).mean(), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_orthogonality_loss_at_its_ends_and_at_every_scale(binary_world, scale):
    method, _ = method_and_batch(binary_world, prompt_length=4)
    basis = torch.eye(16)[:4].expand(3, 4, 16)
    for image, expected in ((-basis, 1.0), (basis.roll(1, -1), 0.0), (basis + 3**0.5 * basis.roll(4, -1), 0.5)):
        method.text_prompts.data, method.image_prompts.data = scale * basis, image.clone()
        assert method.orthogonality_loss().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_loss_is_the_task_and_the_weighted_orthogonality(world, weight):
    method, batch = method_and_batch(world, orthogonality=weight)
    losses = method.losses(batch, 0)
    overlap = method.orthogonality_loss()
    torch.testing.assert_close(losses.total, sample_losses(losses.logits, batch.labels) + weight * overlap)
    assert torch.equal(losses.logits, method(batch)) and list(losses.terms) == ["orthogonality"]
    assert torch.equal(losses.terms["orthogonality"], overlap) and not losses.terms["orthogonality"].requires_grad


def test_orthogonality_loss_falls_while_learning(binary_world):
    ends = {}
    for weight in (0.0, 1.0):
        method, batch = method_and_batch(binary_world, orthogonality=weight, prompt_length=4)
        method.image_prompts.data = method.text_prompts.data + 0.002 * torch.randn_like(method.text_prompts.data)
        assert method.orthogonality_loss() > 0.9
        optimizer = torch.optim.Adam(method.learned(0).values(), lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            method.losses(batch, 0).total.mean().backward()
            optimizer.step()
        ends[weight] = method.orthogonality_loss().item()
    assert ends[1.0] < 0.2 and ends[1.0] < ends[0.0] - 0.2


def test_every_groups_gradient_holds_the_orthogonality_once(binary_world):
    (without, batch), (method, _) = (method_and_batch(binary_world, orthogonality=weight) for weight in (0.0, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(without.kept().values(), method.kept().values(), strict=True))
    parameters = list(method.learned(0).values())
    grads = torch.autograd.grad(method.orthogonality_loss(), parameters, allow_unused=True)
    alone = torch.cat(
        [torch.zeros(p.numel()) if g is None else g.ravel() for g, p in zip(grads, parameters, strict=True)]
    )
    group = np.arange(len(batch)) % 3
    difference = loop_form(method, batch, group).vectors - loop_form(without, batch, group).vectors
    torch.testing.assert_close(difference, alone.expand(3, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"form": "deep"}, "form must be input or attention"),
        ({"form": "attention", "prompt_length": 3}, "even in the attention form, not 3"),
        ({"prompt_length": 0}, "at least 1"),
        ({"prompt_layers": 0}, "at least 1"),
        ({"orthogonality": -1.0}, "orthogonality must be at least 0, not -1.0"),
        ({"orthogonality": float("nan")}, "orthogonality must be at least 0"),
    ],
)
def test_impossible_options(binary_world, options, message):
    with pytest.raises(AngaError, match=f"method_options of msps: .*{message}"):
        method_and_batch(binary_world, **options)
