"""DrFuse: logit pooling, divergence, shared against distinct features, and attention by class."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from tiny_world import in_double, tiny_config

from anga.baselines.drfuse import class_losses, pool_logits, ranking_loss, shared_divergence
from anga.errors import AngaError
from anga.method import sample_losses
from anga.model import build_model
from anga.training import train
from anga.training_state import TrainingState


@pytest.fixture
def state(world) -> TrainingState:
    config = tiny_config(method="drfuse")
    return TrainingState(config, world.inputs(config))


@pytest.fixture
def batch(state):
    """All samples of the world: complete ones, some without text, some without image."""
    return state.make_batch(np.arange(90))


def random_logits(scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = scale * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    return a, b


@pytest.mark.parametrize("scale", [0.1, 3.0, 10.0])
def test_pooled_logits_have_the_mean_probability(scale):
    a, b = random_logits(scale)
    pooled = pool_logits(a, b)
    assert torch.allclose(pooled.sigmoid(), (a.sigmoid() + b.sigmoid()) / 2, rtol=1e-12)
    printed = ((2 * (a + b).exp() + a.exp() + b.exp()) / (2 + a.exp() + b.exp())).log()
    assert torch.allclose(pooled, printed, rtol=1e-9)
    assert torch.allclose(pool_logits(a, a), a) and torch.equal(pooled, pool_logits(b, a))


def test_extreme_logits_pool_without_overflow():
    a, b = torch.tensor([200.0, 200.0, -200.0]), torch.tensor([200.0, -200.0, -200.0])
    assert torch.allclose(pool_logits(a, b), torch.tensor([200.0, 0.0, -200.0]))


def test_divergence_against_scipy():
    a, b = random_logits()
    p, q = (np.stack([x.sigmoid(), 1 - x.sigmoid()]) for x in (a, b))
    wanted = torch.from_numpy(jensenshannon(p, q, axis=0) ** 2).sum(1)
    assert torch.allclose(shared_divergence(a, b), wanted, rtol=1e-9)
    assert torch.allclose(shared_divergence(a, a), torch.zeros(5, dtype=a.dtype), atol=1e-12)


def test_shared_features_are_pooled_where_both_are_there_and_taken_over_where_not(state, batch):
    features = state.model.features(batch)
    (a, b), fused = features.shared.unbind(1), features.all[:, 1]
    both = batch.has_text & batch.has_image
    assert torch.equal(fused[both], pool_logits(a, b)[both])
    assert torch.equal(fused[~batch.has_image], a[~batch.has_image])
    assert torch.equal(fused[~batch.has_text], b[~batch.has_text])


def test_attention_sums_to_one_for_each_class_and_is_zero_on_what_is_missing(state, batch):
    features = state.model.features(batch)
    weights, attended = state.model.attention(features)
    assert weights.shape == (90, state.model.n_classes, 3) and attended.shape[:2] == weights.shape[:2]
    assert torch.allclose(weights.sum(2), torch.ones(weights.shape[:2]))
    assert torch.equal(weights > 0, features.has[:, None].expand_as(weights))
    assert not torch.allclose(weights[:, 0], weights[:, 1])


def test_attention_equals_that_of_keys_written_out(state, batch):
    model, batch = deepcopy(state.model).double(), in_double(batch)
    features = model.features(batch)
    weights, attended = model.attention(features)
    query, value = model.attend(features.all).chunk(2, -1)
    for i in range(10):
        has = features.has[i]
        asked = query[i][has].mean(0)
        for c, key in enumerate(model.key.weight.unflatten(0, (model.n_classes, -1)).mT):
            scores = features.all[i][has] @ key.T @ asked / len(asked) ** 0.5
            assert torch.allclose(weights[i, c][has], scores.softmax(0))
            assert torch.allclose(attended[i, c], scores.softmax(0) @ value[i][has])


def test_a_class_reads_its_own_representation_alone(state, batch):
    model = state.model
    attended = model.attention(model.features(batch))[1]
    logits = model._classify(batch, attended)
    for c in range(model.n_classes):
        only = torch.zeros_like(attended)
        only[:, c] = attended[:, c]
        assert torch.allclose(model._classify(batch, only)[:, c], logits[:, c], atol=1e-6)


def test_own_terms_count_what_a_sample_has(state, batch):
    model, features = state.model, state.model.features(batch)
    weights, _ = model.attention(features)
    alone = torch.stack([model.alone[i](features.all[:, i]) for i in range(3)], 1)
    terms = model._terms(batch, features, weights, alone)
    complete = batch.has_text & batch.has_image
    assert not terms["shared"][~complete].any() and not terms["ranking"][~complete].any()
    text_only = ~batch.has_image
    overlap = F.cosine_similarity(features.shared[:, 0], features.distinct[:, 0]).abs()
    assert torch.allclose(terms["distinct"][text_only], overlap[text_only])
    single = [sample_losses(alone[:, i], batch.labels) for i in range(3)]
    assert torch.allclose(terms["feature"][text_only], (single[0] + single[1])[text_only])
    assert (terms["distinct"] <= 2).all() and (terms["shared"] >= 0).all()
    out = model.losses(batch, 0)
    assert torch.allclose(out.total, sample_losses(out.logits, batch.labels) + sum(terms.values()), rtol=1e-5)


def test_ranking_punishes_attention_to_the_worse_feature_alone():
    losses = torch.tensor([0.1, 0.5, 0.9])[None, :, None].expand(1, 3, 4)  # text best, image worst
    follows = torch.tensor([0.6, 0.3, 0.1]).expand(1, 4, 3)
    contradicts = follows.flip(2)
    assert ranking_loss(follows, losses) == 0
    gaps = (0.6 - 0.1) + (0.3 - 0.1) + (0.6 - 0.3)
    assert torch.isclose(ranking_loss(contradicts, losses), torch.tensor(gaps / 3))


def test_class_losses_average_to_sample_losses(state, batch):
    alone = torch.randn(90, 3, state.model.n_classes, generator=torch.Generator().manual_seed(0))
    losses = class_losses(alone, batch.labels)
    for i in range(3):
        assert torch.allclose(losses[:, i].mean(1), sample_losses(alone[:, i], batch.labels), atol=1e-6)


def test_a_samples_loss_is_its_own_whatever_the_batch(state, batch):
    model, batch = deepcopy(state.model).double(), in_double(batch)
    alone = [model.losses(batch.select(torch.tensor([i])), 0).total for i in range(20)]
    assert not model.couples_samples and torch.allclose(model.losses(batch, 0).total[:20], torch.cat(alone), rtol=1e-10)


def test_the_disentangling_weights_do_what_they_are_for(binary_world):
    def own_terms(weight: float) -> np.ndarray:
        options = {"hidden": 16, "shared_weight": weight, "distinct_weight": weight}
        config = tiny_config(method="drfuse", epochs=6, method_options=options)
        telemetry = train(config, inputs=binary_world.inputs(config)).telemetry
        return telemetry[["term_shared", "term_distinct"]].iloc[-4:].mean().to_numpy()

    assert (own_terms(1.0) < 0.5 * own_terms(0.0)).all()


@pytest.mark.parametrize("options", [{"hidden": 0}, {"ranking_weight": -1.0}])
def test_impossible_options_are_refused(binary_world, options):
    config = tiny_config(method="drfuse", method_options=options)
    with pytest.raises(AngaError, match=r"drfuse.*must be at least"):
        build_model(config, binary_world.inputs(config))
