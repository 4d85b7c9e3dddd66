"""CorrKD: what the student sees, who learns when, and each distillation term against a plain reference."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import cosine_similarity
from tiny_world import tiny_config

from anga.baselines.corrkd import contrast, mutual_information, prototype_gap, responses
from anga.training_state import TrainingState


@pytest.fixture
def state(world) -> TrainingState:
    config = tiny_config(method="corrkd", method_options={"teacher_epochs": 2})
    return TrainingState(config, world.inputs(config))


def rows_of(state: TrainingState, complete: bool) -> np.ndarray:
    return np.flatnonzero(state.table.complete == complete)


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_dropped_modality_leaves_what_the_backbone_gives_without_it(state):
    batch = state.make_batch(rows_of(state, complete=False))
    alone = torch.where(batch.has_text[:, None], batch.pooled_text, batch.pooled_image)
    torch.testing.assert_close(batch.pooled, alone)

    batch = state.make_batch(rows_of(state, complete=True))
    view = state.model.partial_view(batch, 2)
    alone = torch.where(view.has_text[:, None], view.pooled_text, view.pooled_image)
    partial = ~(view.has_text & view.has_image)
    assert 0 < partial.sum() < len(partial)
    assert torch.equal(view.pooled[partial], alone[partial])
    assert torch.equal(view.pooled[~partial], batch.pooled[~partial])


def test_the_student_sees_complete_samples_whole_or_in_parts_and_incomplete_ones_as_they_are(state):
    batch = state.make_batch(np.arange(90))
    complete = batch.has_text & batch.has_image
    views = [state.model.partial_view(batch, epoch) for epoch in range(2, 42)]
    whole = torch.stack([view.has_text & view.has_image for view in views])
    assert abs(whole[:, complete].float().mean() - 1 / 3) < 0.05
    assert all(torch.equal(view.pooled[~complete], batch.pooled[~complete]) for view in views)
    assert all((view.has_text | view.has_image).all() for view in views)


def test_teacher_and_student_learn_one_after_the_other(state):
    model, batch = state.model, state.make_batch(rows_of(state, complete=True)[:8])
    first, second = (set(model.learned(epoch)) for epoch in (1, 2))
    assert not first & second and first | second == set(model.trainable())
    for epoch, learned in ((1, first), (2, second)):
        model.zero_grad()
        model.losses(batch, epoch).total.mean().backward()
        assert {name for name, p in model.trainable().items() if p.grad is not None} == learned


def test_distillation_terms_fall_together(state):
    model, batch = state.model, state.make_batch(rows_of(state, complete=True)[:16])
    optimizer = torch.optim.Adam(model.learned(2).values(), lr=0.01)
    sums = []
    for _ in range(60):
        losses = model.losses(batch, 2)
        sums.append(sum(losses.terms[name] for name in ("contrastive", "prototype", "response")))
        optimizer.zero_grad()
        losses.total.mean().backward()
        optimizer.step()
    assert sums[-1] < 0.9 * sums[0]


@pytest.mark.parametrize("n", [1, 5])
def test_without_a_complete_sample_the_task_loss_is_left(state, n):
    model, batch = state.model, state.make_batch(rows_of(state, complete=False)[:n])
    losses = model.losses(batch, 2)
    assert all(losses.terms[name] == 0 for name in ("contrastive", "prototype", "response"))
    torch.testing.assert_close(losses.total.mean(), losses.terms["task"])
    torch.testing.assert_close(losses.logits, model.logits(batch))
    losses.total.sum().backward()
    whole = model.losses(state.make_batch(rows_of(state, complete=True)[:1]), 2)
    assert whole.terms.keys() == losses.terms.keys() and torch.isfinite(whole.total).all()


def test_contrast_equals_a_double_loop():
    student, teacher = vectors(0, 6, 5), vectors(1, 6, 5)
    s, t = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (student, teacher))
    distance = np.array([[np.linalg.norm(a - b) for b in t] for a in s])
    for margin in (0.0, 1.2, 1.9):
        near = np.maximum(0, margin - distance) ** 2
        expected = [distance[i, i] ** 2 + np.delete(near[i], i).mean() for i in range(6)]
        torch.testing.assert_close(contrast(student, teacher, margin), torch.tensor(expected))


def test_contrast_has_a_finite_gradient_where_student_and_teacher_agree():
    same = torch.eye(4, dtype=torch.float64).repeat(2, 1).requires_grad_()
    value = contrast(same, same.detach(), 1.2)
    torch.testing.assert_close(value, torch.full_like(value, 1.2**2 / 7))  # one twin each, all others far enough
    value.sum().backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize("labels", [[0, 2, 2, 0, 3], [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0] * 4]])
def test_prototype_gap_equals_cosines_to_class_means_and_skips_absent_classes(labels):
    student, teacher, labels = vectors(2, 5, 7), vectors(3, 5, 7), torch.tensor(labels)
    members = np.eye(4)[labels] if labels.ndim == 1 else labels.numpy()
    present = members.sum(0) > 0
    assert 0 < present.sum() < 4
    members = members[:, present]
    parts = [cosine_similarity(x, members.T @ x.numpy() / members.sum(0)[:, None]) for x in (student, teacher)]
    expected = torch.from_numpy(np.abs(parts[0] - parts[1]).mean(1))
    labels = labels if labels.ndim == 1 else labels.float()
    torch.testing.assert_close(prototype_gap(student, teacher, labels, 4), expected)
    torch.testing.assert_close(prototype_gap(3 * teacher, teacher, labels, 4), torch.zeros_like(expected))


def test_responses_split_all_probability_into_target_and_others():
    logits, labels = vectors(4, 5, 3), torch.tensor([0, 2, 1, 1, 0])
    target, others = responses(logits, labels)
    torch.testing.assert_close(target[:, 0], logits.softmax(1)[torch.arange(5), labels])
    torch.testing.assert_close(others[1], F.pad(logits.softmax(1)[1, :2], (0, 1)))
    assert not target[:, 1:].any() and torch.allclose(target.sum(1) + others.sum(1), torch.ones(5).double())
    labels = torch.tensor([[1.0, 0, 1]] * 5)
    target, others = responses(logits, labels)
    torch.testing.assert_close(target, (logits.sigmoid() - (1 - labels)).abs())
    torch.testing.assert_close(target + others, torch.ones_like(logits))


def test_mutual_information_equals_a_double_loop_and_keeps_its_bounds():
    student, teacher, weights = vectors(5, 6, 3), vectors(6, 6, 3), vectors(7, 6, 1)
    scores = np.array([[np.concatenate([s, t]) @ weights.numpy()[:, 0] for t in teacher] for s in student])
    joint = -np.log1p(np.exp(-scores.diagonal()))
    marginal = [np.delete(np.log1p(np.exp(scores[i])), i).mean() for i in range(6)]
    found = mutual_information(lambda pairs: pairs @ weights, student, teacher)
    torch.testing.assert_close(found, torch.from_numpy(joint - marginal))
    assert (found <= 0).all()
    blind = mutual_information(lambda pairs: 0 * pairs[..., :1], student, teacher)
    torch.testing.assert_close(blind, torch.full_like(blind, -2 * math.log(2)))

    def perfect(pairs):
        return 100 * ((pairs[..., :3] - pairs[..., 3:]).norm(dim=-1, keepdim=True) < 1e-9) - 50.0

    assert (mutual_information(perfect, student, student) > -1e-9).all()
    assert mutual_information(perfect, student[:1], student[:1]) == 0
