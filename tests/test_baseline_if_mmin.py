"""IF-MMIN: two stages, central moments, and what an incomplete sample may not add."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from tiny_world import in_double, tiny_config

from anga.baselines.if_mmin import central_moment_discrepancy
from anga.errors import AngaError
from anga.method import sample_losses
from anga.model import build_model
from anga.training import train
from anga.training_state import TrainingState

TEACHER_EPOCHS = 2


def config_of(**knobs):
    return tiny_config(method="if_mmin", method_options={"teacher_epochs": TEACHER_EPOCHS}, **knobs)


def state_of(world, **knobs) -> TrainingState:
    config = config_of(**knobs)
    return TrainingState(config, world.inputs(config))


@pytest.fixture
def state(world) -> TrainingState:
    return state_of(world)


def test_each_complete_sample_loses_one_modality_at_most_and_each_state_is_as_frequent(state):
    batch = state.make_batch(np.arange(90))
    complete = batch.has_text & batch.has_image
    lost = torch.stack([state.model._draw_lost(batch, epoch) for epoch in range(40)])
    assert not lost[:, ~complete].any() and not lost.all(-1).any()
    shares = lost[:, complete].float().mean((0, 1))
    assert torch.allclose(shares, torch.tensor([1 / 3, 1 / 3]), atol=0.04)


def test_the_stages_share_no_parameter_and_leave_none_out(state):
    model = state.model
    first, second = model.learned(TEACHER_EPOCHS - 1), model.learned(TEACHER_EPOCHS)
    assert not first.keys() & second.keys() and first.keys() | second.keys() == model.trainable().keys()
    batch = state.make_batch(state.train_rows[state.table.complete[state.train_rows]])
    for epoch, learned in ((0, first), (TEACHER_EPOCHS, second)):
        used = torch.autograd.grad(
            model.losses(batch, epoch).total.mean(), list(model.trainable().values()), allow_unused=True
        )
        names = {name for name, grad in zip(model.trainable(), used, strict=True) if grad is not None}
        assert names == learned.keys()


def test_the_student_starts_from_the_teacher_which_then_stays_as_it_is(state):
    model, batch = state.model, state.make_batch(state.train_rows)
    text, image, has = batch.pooled_text, batch.pooled_image, torch.stack([batch.has_text, batch.has_image], 1)
    assert torch.allclose(model._student(batch)[2], model.teacher.embedding(text, image, has)[1])
    optimizer = torch.optim.SGD(model.learned(TEACHER_EPOCHS).values(), lr=0.1)
    before = {name: p.clone() for name, p in model.teacher.named_parameters()}
    model.losses(batch, TEACHER_EPOCHS).total.mean().backward()
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in model.teacher.named_parameters())
    assert not torch.allclose(model._student(batch)[2], model.teacher.embedding(text, image, has)[1])


def test_incomplete_samples_only_classify(state):
    rows = np.flatnonzero(~state.table.complete)[:8]
    batch = state.make_batch(rows)
    out = state.model.losses(batch, TEACHER_EPOCHS)
    assert torch.allclose(out.total, sample_losses(state.model.logits(batch), batch.labels), rtol=1e-6)
    assert all(value == 0 for value in out.terms.values())


def test_a_students_loss_is_its_own_whatever_the_batch(state):
    model, rows = deepcopy(state.model).double(), state.train_rows[:10]
    batch = in_double(state.make_batch(rows))
    together = model.losses(batch, TEACHER_EPOCHS).total
    alone = [model.losses(batch.select(torch.tensor([i])), TEACHER_EPOCHS).total for i in range(10)]
    assert not model.couples_samples and torch.allclose(together, torch.cat(alone), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 3.0])
def test_central_moments_against_numpy(scale):
    x, y = (scale * np.random.default_rng(seed).standard_normal((n, 6)) for seed, n in ((0, 40), (1, 25)))
    wanted = np.linalg.norm(x.mean(0) - y.mean(0))
    for k in range(2, 6):
        wanted += np.linalg.norm(((x - x.mean(0)) ** k).mean(0) - ((y - y.mean(0)) ** k).mean(0))
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    assert torch.isclose(central_moment_discrepancy(x, y), torch.tensor(wanted), rtol=1e-12)
    assert central_moment_discrepancy(x, y) == central_moment_discrepancy(y, x)
    assert central_moment_discrepancy(x, x[torch.randperm(len(x))]) < 1e-12 * max(1, scale**5)


def test_a_teacher_of_one_sample_has_a_finite_gradient(state):
    row = state.train_rows[state.table.complete[state.train_rows]][:1]
    state.model.losses(state.make_batch(row), 0).total.mean().backward()
    grads = [p.grad for p in state.model.learned(0).values()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)


def test_training_brings_imagination_and_invariance_nearer(binary_world):
    config = config_of(epochs=6)
    telemetry = train(config, inputs=binary_world.inputs(config)).telemetry.groupby("epoch").mean()
    for name in ("term_imagination", "term_invariance"):
        values = telemetry[name].dropna()
        assert len(values) == 6 and values.iloc[-2:].mean() < 0.8 * values.iloc[:2].mean()
    assert telemetry["term_cmd"].notna().sum() == TEACHER_EPOCHS


def test_without_a_complete_sample_there_is_no_teacher(binary_world):
    with pytest.raises(AngaError, match="no training sample is complete"):
        state_of(binary_world, missing_rate=1.0)


@pytest.mark.parametrize("options", [{"embedding": 3}, {"teacher_epochs": 0}, {"invariance_weight": -1.0}])
def test_impossible_options_are_named(binary_world, options):
    config = tiny_config(method="if_mmin", method_options=options)
    with pytest.raises(AngaError, match=f"if_mmin.*{next(iter(options))}"):
        build_model(config, binary_world.inputs(config))
