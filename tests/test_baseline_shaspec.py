"""ShaSpec: what stands in for a missing modality, and what its two own losses count."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_world import in_double, tiny_config

from anga.baselines.shaspec import shared_distance
from anga.errors import AngaError
from anga.method import sample_losses
from anga.model import build_model
from anga.training import train
from anga.training_state import TrainingState


@pytest.fixture
def state(world) -> TrainingState:
    config = tiny_config(method="shaspec")
    return TrainingState(config, world.inputs(config))


@pytest.fixture
def batch(state):
    """All samples of the world: complete ones, some without text, some without image."""
    return state.make_batch(np.arange(90))


def test_the_shared_feature_of_the_other_stands_in_for_a_missing_modality(state, batch):
    features = state.model.features(batch)
    for lost, other in ((0, 1), (1, 0)):
        where = ~features.has[:, lost]
        assert where.any()
        assert torch.equal(features.fused[where, lost], features.shared[where, other])
        assert not features.shared[where, lost].any() and not features.specific[where, lost].any()


def test_what_is_there_is_fused_by_a_residual(state, batch):
    model, features = state.model, state.model.features(batch)
    outputs = (batch.pooled_text, batch.pooled_image)
    for j, output in enumerate(outputs):
        shared, specific = model.shared(output), model.specific[j](output)
        wanted = shared + model.project(torch.cat([shared, specific], 1))
        there = features.has[:, j]
        assert torch.allclose(features.fused[there, j], wanted[there], atol=1e-6)


def test_the_shared_distance_is_over_complete_samples(state, batch):
    features = state.model.features(batch)
    distance, complete = shared_distance(features), features.has.all(1)
    wanted = F.l1_loss(features.shared[complete, 0], features.shared[complete, 1])
    assert torch.isclose(distance[complete].mean(), wanted) and not distance[~complete].any()


def test_a_modality_that_is_missing_is_not_classified(state, batch):
    model, features = state.model, state.model.features(batch)
    loss, logits = model._modality_loss(features), model.tell_modality(features.specific)
    for j, lost in enumerate(~features.has.T):
        single = F.cross_entropy(logits[lost, 1 - j], torch.full((int(lost.sum()),), 1 - j), reduction="none")
        assert torch.allclose(loss[lost], single)


def test_the_total_is_the_published_sum(state, batch):
    model, features = state.model, state.model.features(batch)
    out = model.losses(batch, 0)
    wanted = sample_losses(model.logits(batch), batch.labels)
    wanted = wanted + 0.1 * shared_distance(features) + 0.02 * model._modality_loss(features)
    assert torch.allclose(out.total, wanted) and out.terms.keys() == {"shared", "specific"}


def test_a_samples_loss_is_its_own_whatever_the_batch(state, batch):
    model, batch = deepcopy(state.model).double(), in_double(batch)
    alone = [model.losses(batch.select(torch.tensor([i])), 0).total for i in range(20)]
    assert not model.couples_samples and torch.allclose(model.losses(batch, 0).total[:20], torch.cat(alone), rtol=1e-12)


def test_specific_features_come_to_tell_their_modality(binary_world):
    config = tiny_config(method="shaspec", epochs=10)
    told = train(config, inputs=binary_world.inputs(config)).telemetry["term_specific"]
    assert told.iloc[-4:].mean() < 0.5 * told.iloc[:4].mean()


def test_alignment_brings_shared_features_together(binary_world):
    def distance(weight: float) -> float:
        config = tiny_config(method="shaspec", epochs=10, method_options={"alignment_weight": weight})
        return train(config, inputs=binary_world.inputs(config)).telemetry["term_shared"].iloc[-4:].mean()

    assert distance(1.0) < 0.5 * distance(0.0)


@pytest.mark.parametrize("name", ["alignment_weight", "modality_weight"])
def test_negative_weights_are_named(binary_world, name):
    config = tiny_config(method="shaspec", method_options={name: -1.0})
    with pytest.raises(AngaError, match=f"shaspec.*{name}"):
        build_model(config, binary_world.inputs(config))
