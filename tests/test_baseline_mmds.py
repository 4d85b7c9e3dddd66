"""MMDS: who lends to whom, what the samples put together cost, and the branches' own classifiers."""

import numpy as np
import pytest
import torch
from tiny_world import tiny_config

from anga.baselines.mmds import alike, draw_lenders
from anga.method import sample_losses
from anga.tokens import Batch
from anga.training_state import TrainingState


def make_state(world, **knobs) -> TrainingState:
    config = tiny_config(method="mmds", **knobs)
    return TrainingState(config, world.inputs(config))


def bare_batch(labels, has_text, has_image) -> Batch:
    """A batch of which only labels and masks are known."""
    has = {"has_text": torch.tensor(has_text), "has_image": torch.tensor(has_image)}
    return Batch(rows=torch.arange(len(has_text)), labels=torch.tensor(labels), **has)


@pytest.mark.parametrize("missing_type", ["text", "image", "both"])
def test_lenders_have_what_is_lacking_and_a_label_in_common(world, missing_type):
    state = make_state(world, missing_type=missing_type)
    batch = state.make_batch(np.arange(90))
    draws = torch.rand(90, generator=torch.Generator().manual_seed(0))
    lender, found = draw_lenders(batch, draws)
    complete = batch.has_text & batch.has_image
    assert found.any() and not found[complete].any()
    borrower, lender = found.nonzero()[:, 0], lender[found]
    assert (batch.has_text[borrower] | batch.has_text[lender]).all()
    assert (batch.has_image[borrower] | batch.has_image[lender]).all()
    mine, theirs = batch.labels[borrower], batch.labels[lender]
    in_common = mine == theirs if mine.ndim == 1 else (mine * theirs).amax(1) > 0
    assert in_common.all()


def test_all_lenders_are_equally_likely_and_every_draw_finds_one():
    batch = bare_batch([1, 1, 1, 0, 1], [False, True, True, True, False], [True, True, False, True, True])
    draws = torch.linspace(0, 1, 3001)[:-1]
    chosen = torch.stack([draw_lenders(batch, draw.expand(5))[0] for draw in draws])
    assert torch.bincount(chosen[:, 0], minlength=5).tolist() == [0, 1500, 1500, 0, 0]
    almost_one = torch.full((5,), float(np.nextafter(np.float32(1), np.float32(0))))
    lender, found = draw_lenders(batch, almost_one)
    assert found.tolist() == [True, False, True, False, True]
    assert lender[0] == 2 and lender[2] == 4


def test_labels_without_anything_in_common_are_not_alike():
    assert alike(torch.tensor([0, 1, 0])).tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    labels = torch.tensor([[1.0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]])
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert torch.equal(alike(labels), torch.tensor(expected).bool())


def test_a_sample_put_together_costs_what_the_complete_one_would(world):
    """Each mixed sample made by hand: its own parts, the lender's part, the mean of both losses."""
    state = make_state(world)
    model, batch = state.model, state.make_batch(np.arange(90))
    lender, found = draw_lenders(batch, model.draws(batch.rows, 3, 1)[:, 0])
    expected = torch.zeros(90)
    for i in found.nonzero()[:, 0].tolist():
        both = batch.select(torch.tensor([i, int(lender[i])]))
        text = both.pooled_text[:1] if both.has_text[0] else both.pooled_text[1:]
        image = both.pooled_image[:1] if both.has_image[0] else both.pooled_image[1:]
        yes = torch.tensor([True])
        parts = {"pooled_text": text, "pooled_image": image, "has_text": yes, "has_image": yes}
        made = Batch(rows=both.rows[:1], labels=both.labels[:1], pooled=both.pooled[:1], **parts)
        expected[i] = sample_losses(model.logits(made).expand(2, -1), both.labels).mean().detach()
    losses = model.losses(batch, 3)
    torch.testing.assert_close(losses.terms["mixup"], expected.mean())
    without = make_state(world, method_options={"mixup_weight": 0.0}).model
    without.load_state_dict(model.state_dict())
    torch.testing.assert_close((losses.total - without.losses(batch, 3).total).detach(), expected, atol=1e-5, rtol=0)


def test_lone_and_complete_samples_are_not_mixed(world):
    state = make_state(world)
    complete = state.make_batch(np.flatnonzero(state.table.complete)[:8])
    lone = state.make_batch(np.flatnonzero(~state.table.complete)[:1])
    for batch in (complete, lone):
        losses = state.model.losses(batch, 0)
        assert losses.terms["mixup"] == 0
        torch.testing.assert_close(losses.total.mean().detach(), losses.terms["task"] + losses.terms["supervision"])


def test_branches_are_supervised_by_what_is_there(world):
    state = make_state(world)
    model = state.model
    batch = state.make_batch(np.flatnonzero(state.table.has_text & ~state.table.has_image)[:1])
    model.losses(batch, 0).total.sum().backward()
    assert model.text.classifier.weight.grad.abs().sum() > 0
    assert model.image.classifier.weight.grad.abs().sum() == 0
    assert model.image.encoder[0].weight.grad.abs().sum() == 0


def test_the_branches_classifiers_do_not_predict(world):
    state = make_state(world)
    batch = state.make_batch(np.arange(10))
    before = state.model.logits(batch)
    for branch in (state.model.text, state.model.image):
        torch.nn.init.zeros_(branch.classifier.weight)
    assert torch.equal(state.model.logits(batch), before)
