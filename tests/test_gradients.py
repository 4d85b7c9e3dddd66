"""The three forms of the group gradients against one plain backward pass per sample."""

import copy
import itertools

import numpy as np
import pytest
import torch
from tiny_world import in_double, tiny_config
from torch import nn

from anga.gradients import FORMS, Group, group_positions, loop_gradients
from anga.method import sample_losses
from anga.model import build_model

# Which groups a batch holds: every combination but none at all.
PRESENT = [present for size in (1, 2, 3) for present in itertools.combinations(Group, size)]
N = 11  # samples of the batch


def codes(present) -> np.ndarray:
    """A group code per sample, mixed, each of the given groups of another size."""
    shares = np.repeat(present, [6, 3, 2][: len(present)])
    return np.random.default_rng(1).permutation(np.resize(shares, N))


@pytest.fixture(scope="module", params=[True, False], ids=["adapter", "no-adapter"])
def use_adapter(request):
    return request.param


@pytest.fixture(scope="module", params=["linear", "pooler"])
def case(request, world, use_adapter):
    """Model and batch in double precision, with each sample's own loss, logits and gradient by plain autograd."""
    config = tiny_config(use_adapter=use_adapter, classifier=request.param)
    inputs = world.inputs(config)
    inputs.backbone = copy.deepcopy(inputs.backbone)
    model = build_model(config, inputs).double()
    rows = np.concatenate([np.flatnonzero(lost)[:4] for lost in (~inputs.table.has_text, ~inputs.table.has_image)])
    rows = np.concatenate([rows, np.flatnonzero(inputs.table.complete)[: N - len(rows)]])
    batch = in_double(inputs.batch_maker(with_pools=use_adapter)(np.random.default_rng(0).permutation(rows)))
    return model, batch, [one_sample(model, batch, i) for i in range(N)]


def one_sample(model, batch, i):
    """Logits, loss and flat gradient of one sample that is alone in its batch."""
    batch = batch.select(torch.tensor([i]))
    logits = model(batch)
    loss = sample_losses(logits, batch.labels).sum()
    grads = torch.autograd.grad(loss, list(model.trainable().values()))
    return logits[0].detach(), loss.detach(), torch.cat([g.flatten() for g in grads])


def group_means(alone, group) -> torch.Tensor:
    """Eqs. 4 and 8 by definition: per group the mean of its samples' gradients, zero without samples."""
    rows = torch.stack([gradient for _, _, gradient in alone])
    means = [rows[group == g].mean(0) if (group == g).any() else torch.zeros_like(rows[0]) for g in Group]
    return torch.stack(means)


@pytest.mark.parametrize("present", PRESENT, ids=lambda groups: "-".join(g.name.lower() for g in groups))
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_mean_of_its_samples_gradients(case, form, present):
    model, batch, alone = case
    found = FORMS[form](model, batch, codes(present))
    expected = group_means(alone, codes(present))
    torch.testing.assert_close(found.vectors, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    assert found.counts == tuple(int((codes(present) == g).sum()) for g in Group)
    torch.testing.assert_close(found.logits, torch.stack([logits for logits, _, _ in alone]), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.losses, torch.stack([loss for _, loss, _ in alone]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_single_precision_agrees_to_its_own_rounding(case, form):
    model, batch, alone = case
    expected = group_means(alone, codes(Group)).float()
    singles = {name: v.float() if v is not None and v.is_floating_point() else v for name, v in vars(batch).items()}
    found = FORMS[form](copy.deepcopy(model).float(), type(batch)(**singles), codes(Group))
    assert found.vectors.dtype == torch.float32
    torch.testing.assert_close(found.vectors, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_behind_in_the_parameters(case, form):
    model, batch, _ = case
    FORMS[form](model, batch, codes(Group))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_keeps_the_direction_in_every_form(world, form):
    config = tiny_config(precision="bfloat16")
    inputs = world.inputs(config)
    model = build_model(config, inputs)
    batch = inputs.batch_maker(with_pools=True)(inputs.dataset.rows("train")[:N])
    exact = FORMS["loop"](model, batch, codes(Group)).vectors
    with torch.autocast("cpu", torch.bfloat16):
        rough, loop = (FORMS[name](model, batch, codes(Group)) for name in (form, "loop"))
    assert rough.vectors.dtype == rough.losses.dtype == torch.float32
    assert float((rough.vectors - exact).norm() / exact.norm()) < 0.1
    assert float((rough.vectors - loop.vectors).norm() / exact.norm()) < 0.01


def test_loop_gradients_serve_any_network_with_unused_parameters():
    torch.manual_seed(0)
    model, unused = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), nn.Parameter(torch.ones(2, 2))
    losses = model(torch.randn(6, 4))[:, 0] ** 2
    positions = group_positions(np.array([2, 0, 0, 2, 2, 0]))
    assert [index.tolist() for index in positions] == [[1, 2, 5], [], [0, 3, 4]]
    found = loop_gradients(losses, positions, [unused, *model.parameters()])
    for index, vector in zip(positions, found, strict=True):
        if len(index):
            plain = torch.autograd.grad(losses[index].mean(), list(model.parameters()), retain_graph=True)
            torch.testing.assert_close(vector[4:], torch.cat([g.flatten() for g in plain]))
    assert not found[1].any() and not found[:, :4].any()
