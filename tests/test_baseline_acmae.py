"""AcMAE: what is dropped, what the autoencoder may read, and what its error counts."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_world import in_double, tiny_config
from torch import nn

from anga.baselines.acmae import Layer, drop, modality_tokens, observed_modalities
from anga.errors import AngaError
from anga.method import classify, sample_losses
from anga.model import build_model
from anga.training import train
from anga.training_state import TrainingState

COMPLETE, NO_TEXT, NO_IMAGE = (True, True), (False, True), (True, False)


def shaken(module: nn.Module) -> nn.Module:
    """A copy in double precision with other weights, so that nothing is zero that learns."""
    module, generator = deepcopy(module).double(), torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


@pytest.fixture
def state(world) -> TrainingState:
    config = tiny_config(method="acmae")
    return TrainingState(config, world.inputs(config))


@pytest.fixture
def model(state):
    return shaken(state.model)


@pytest.fixture
def batch(state):
    """All samples of the world: complete ones, some without text, some without image."""
    return in_double(state.make_batch(np.arange(90)))


def test_a_complete_sample_loses_nothing_as_often_as_one_modality_and_others_lose_nothing():
    draws = torch.rand(6000, 2, generator=torch.Generator().manual_seed(0))
    lost = drop(draws, torch.tensor(COMPLETE).expand(6000, 2)).double()
    assert not lost.all(1).any()
    assert torch.allclose(lost.mean(0), torch.full((2,), 0.25, dtype=torch.float64), atol=0.03)
    for state in (NO_TEXT, NO_IMAGE):
        assert not drop(draws, torch.tensor(state).expand(6000, 2)).any()


def test_a_layer_equals_that_of_torch():
    layer = shaken(Layer(16, 4))
    reference = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True).double()
    names = {"qkv.weight": "self_attn.in_proj_weight", "qkv.bias": "self_attn.in_proj_bias"}
    names |= {f"{a}.{end}": f"{b}.{end}" for a, b in PAIRS.items() for end in ("weight", "bias")}
    reference.load_state_dict({names[name]: value for name, value in layer.state_dict().items()})
    tokens, visible = torch.randn(5, 3, 16, dtype=torch.float64), torch.tensor([[True, False, True]] * 5)
    wanted = reference.train()(tokens, src_key_padding_mask=~visible)
    assert torch.allclose(layer(tokens, visible), wanted, atol=1e-12)


PAIRS = {"attention_norm": "norm1", "mlp_norm": "norm2", "out": "self_attn.out_proj"}
PAIRS |= {"mlp.0": "linear1", "mlp.2": "linear2"}


def test_hidden_tokens_count_as_little_as_absent_ones(model, batch):
    tokens, kept = modality_tokens(batch), torch.tensor(NO_TEXT).expand(90, 2)
    memory = model.memory.expand(90, -1, -1)
    visible = F.pad(kept, (memory.shape[1], 0), value=True)
    masked = model.encoder(torch.cat([memory, tokens], 1), visible)[:, [0, 2]]
    assert torch.allclose(masked, model.encoder(torch.cat([memory, tokens[:, 1:]], 1)), atol=1e-12)


@pytest.mark.parametrize("kept", [NO_TEXT, NO_IMAGE])
def test_what_is_dropped_is_predicted_from_the_other_alone(model, kept):
    tokens, lost = torch.randn(4, 2, 16, dtype=torch.float64, requires_grad=True), kept.index(False)
    predicted = model.reconstruct(tokens, torch.tensor(kept).expand(4, 2))[:, lost]
    (gradient,) = torch.autograd.grad(predicted.square().sum(), tokens)
    assert not gradient[:, lost].any() and (gradient[:, 1 - lost].norm(dim=1) > 0).all()


@pytest.mark.parametrize("kept", [NO_TEXT, NO_IMAGE])
def test_a_sample_whose_modality_is_dropped_is_like_one_that_lacks_it(model, batch, kept):
    batch = batch.select((batch.has_text & batch.has_image).nonzero()[:, 0])
    names = ("text", "image")
    lost, other = names[kept.index(False)], names[kept.index(True)]
    zeros, left = torch.zeros_like(batch.pooled), getattr(batch, f"pooled_{other}")
    lacking = replace(batch, pooled=left, **{f"pooled_{lost}": zeros, f"has_{lost}": ~batch.has_text})
    dropped = model.fuse(batch, torch.tensor(kept).expand(len(batch), 2))[0]
    assert torch.allclose(classify(model.head, dropped), model.logits(lacking), atol=1e-12)


def test_the_backbones_output_without_an_image_is_that_on_the_text_alone(batch):
    """What the stand-in for a dropped modality rests on."""
    for has, alone in ((batch.has_image, batch.pooled_text), (batch.has_text, batch.pooled_image)):
        assert (~has).any()
        assert torch.allclose(batch.pooled[~has], alone[~has], atol=1e-5)


def test_only_what_is_missing_is_read_as_predicted(model, batch):
    before, complete = model.logits(batch), batch.has_text & batch.has_image
    for part in (model.encoder, model.decoder, model.predict):
        part.load_state_dict(shaken(part).state_dict())
    changed = (model.logits(batch) - before).abs().amax(1)
    assert not changed[complete].any() and (changed[~complete] > 1e-6).all()


def test_only_dropped_modalities_of_complete_samples_add_their_squared_error(model, batch):
    observed = observed_modalities(batch)
    lost = drop(model.draws(batch.rows, 3, 2), observed)
    out, (_, predicted) = model.losses(batch, 3), model.fuse(batch, observed & ~lost)
    own = out.total - sample_losses(out.logits, batch.labels)
    targets = (batch.pooled_text, batch.pooled_image)
    for j, x in enumerate(targets):
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        wanted = (predicted[:, j] - x).square().mean(1)
        assert lost[:, j].any() and torch.allclose(own[lost[:, j]], wanted[lost[:, j]], atol=1e-10)
    assert (own[~lost.any(1)].abs() < 1e-12).all()
    assert torch.isclose(out.terms["reconstruction"], own[lost.any(1)].mean())


def test_training_starts_from_the_backbones_own_fusion(state):
    batch = state.make_batch(np.arange(9))
    assert torch.equal(state.model.logits(batch), classify(state.model.head, batch.pooled))


def test_predictions_get_better(binary_world):
    config = tiny_config(method="acmae", epochs=15, batch_size=30, learning_rate=3e-3)
    terms = train(config, progress=False, inputs=binary_world.inputs(config)).telemetry
    error = terms.groupby("epoch")["term_reconstruction"].mean()
    assert error.iloc[-3:].mean() < 0.8 * error.iloc[0]


@pytest.mark.parametrize("options", [{"heads": 3}, {"memory_tokens": 0}, {"reconstruction_weight": -1.0}])
def test_impossible_options_are_named(binary_world, options):
    config = tiny_config(method="acmae", method_options=options)
    with pytest.raises(AngaError, match=next(iter(options))):
        build_model(config, binary_world.inputs(config))
