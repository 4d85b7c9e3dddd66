"""DiCMoR: its flows invert and count volumes right, classes have their densities, and recovery goes through both."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from tiny_world import in_double, tiny_config
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from anga.baselines import check_method
from anga.baselines.dicmor import Dicmor, Flow, class_log_density
from anga.errors import AngaError
from anga.method import sample_losses
from anga.model import build_model
from anga.training import train
from anga.training_state import TrainingState

SMALL = {"couplings": 4, "hidden": 8, "blocks": 2, "pretrain_epochs": 2}


def shaken(module: nn.Module, by: float = 0.1) -> nn.Module:
    """A copy in double precision with other weights, so that nothing is zero that learns."""
    module, generator = deepcopy(module).double(), torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += by * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


@pytest.fixture
def state(world) -> TrainingState:
    config = tiny_config(method="dicmor", method_options=SMALL)
    return TrainingState(config, world.inputs(config))


@pytest.fixture
def model(state) -> Dicmor:
    return shaken(state.model)


@pytest.fixture
def batch(state):
    """All samples of the world: complete ones, some without text, some without image."""
    return in_double(state.make_batch(np.arange(90)))


# --- flows


@pytest.mark.parametrize("width,couplings", [(2, 1), (6, 5), (64, 32)])
def test_a_flow_inverts(width, couplings):
    flow = shaken(Flow(width, couplings, hidden=64), by=0.05)
    x = 2 * torch.randn(20, width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(flow.inverse(flow(x)[0]), x, atol=1e-9)
        assert torch.allclose(flow(flow.inverse(x))[0], x, atol=1e-9)


def test_a_flow_inverts_in_single_precision_too():
    flow = shaken(Flow(64, 32, hidden=64), by=0.05).float()
    x = torch.randn(20, 64)
    with torch.no_grad():
        assert torch.allclose(flow.inverse(flow(x)[0]), x, atol=1e-3)


@pytest.mark.parametrize("width,couplings", [(2, 1), (6, 5), (16, 32)])
def test_the_log_determinant_is_that_of_autograd(width, couplings):
    flow = shaken(Flow(width, couplings, hidden=8))
    for x in torch.randn(5, width, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], x)
        assert torch.isclose(flow(x[None])[1][0], torch.linalg.slogdet(jacobian).logabsdet, atol=1e-10)


def test_every_coordinate_depends_on_every_other():
    flow = shaken(Flow(6, 5, hidden=8))
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], torch.randn(6, dtype=torch.float64))
    assert (jacobian != 0).all()


def test_a_density_of_a_flow_integrates_to_one():
    flow = shaken(Flow(2, 3, hidden=8))
    means, log_deviations = torch.tensor([[0.5, -0.3]]).double(), torch.tensor([[0.2, -0.1]]).double()
    axis = torch.linspace(-15, 15, 401, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        z, log_det = flow(x)
        log_p = class_log_density(z, means, log_deviations, torch.zeros(len(x), dtype=torch.long)) + log_det
    assert torch.isclose(log_p.exp().sum() * (axis[1] - axis[0]) ** 2, torch.ones((), dtype=torch.float64), rtol=1e-4)


# --- class densities


@pytest.fixture
def gaussians():
    generator = torch.Generator().manual_seed(0)
    means, log_deviations = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    return torch.randn(20, 6, generator=generator, dtype=torch.float64), means, log_deviations


def test_a_class_has_a_gaussian_of_its_own(gaussians):
    z, means, log_deviations = gaussians
    labels = torch.arange(20) % 4
    wanted = Independent(Normal(means[labels], log_deviations[labels].exp()), 1).log_prob(z)
    assert torch.allclose(class_log_density(z, means, log_deviations, labels), wanted, atol=1e-12)


def test_a_set_of_labels_has_the_mixture_of_its_classes(gaussians):
    z, means, log_deviations = gaussians
    chosen = [0, 3]
    labels = torch.zeros(20, 4).index_fill(1, torch.tensor(chosen), 1.0)
    parts = Independent(Normal(means[chosen], log_deviations[chosen].exp()), 1)
    wanted = MixtureSameFamily(Categorical(torch.ones(2).double()), parts).log_prob(z)
    assert torch.allclose(class_log_density(z, means, log_deviations, labels), wanted, atol=1e-12)


def test_a_sample_without_a_label_has_the_standard_normal(gaussians):
    z, means, log_deviations = gaussians
    wanted = Normal(0.0, 1.0).log_prob(z).sum(1)
    assert torch.allclose(class_log_density(z, means, log_deviations, torch.zeros(20, 4)), wanted, atol=1e-12)


# --- recovery and losses


def test_recovery_is_one_flow_forward_and_the_other_backward(model, batch):
    features, latents, _ = model.encode(batch)
    model.refiners = nn.ModuleList([nn.Identity(), nn.Identity()])
    text, image = model.recover(latents)
    assert torch.allclose(model.flows[0](text)[0], latents[1], atol=1e-9)
    assert torch.allclose(model.flows[1](image)[0], latents[0], atol=1e-9)
    model.flows[0] = model.flows[1]
    assert torch.allclose(model.recover(model.encode(batch)[1])[0], features[1], atol=1e-9)


def test_bfloat16_leaves_the_flows_alone(state):
    batch, model = state.make_batch(np.arange(20)), state.model
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features, latents, log_dets = model.encode(batch)
    assert latents[0].dtype == log_dets[0].dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(model.flows[0].inverse(latents[0]), features[0], atol=1e-5)


@pytest.mark.parametrize("part", ["flows", "means", "log_deviations"])
def test_flows_and_densities_learn_by_the_likelihood_alone(model, batch, part):
    parameters = [p for name, p in model.trainable().items() if name.startswith(part)]
    ours = torch.autograd.grad(model.losses(batch, 5).total.mean(), parameters)
    assert any(gradient.any() for gradient in ours)
    model.weight = 0.0
    rest = torch.autograd.grad(model.losses(batch, 5).total.mean(), parameters, allow_unused=True)
    assert not any(gradient is not None and gradient.any() for gradient in rest)


def test_features_learn_by_the_classification_alone(model, batch):
    def gradients():
        learned = list(model.features.parameters())
        return torch.autograd.grad(model.losses(batch, 5).total.mean(), learned)

    ours, model.weight = gradients(), 0.0
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(ours, gradients(), strict=True))


def test_each_sample_adds_the_terms_that_its_state_allows(model, batch):
    out = model.losses(batch, 5)
    own = (out.total - sample_losses(out.logits, batch.labels)) / model.weight
    features, latents, log_dets = model.encode(batch)
    recovered = model.recover(latents)
    wanted = torch.zeros(90, dtype=torch.float64)
    for has, z, log_det in zip((batch.has_text, batch.has_image), latents, log_dets, strict=True):
        log_p = class_log_density(z, model.means, model.log_deviations, batch.labels) + log_det
        wanted += has * (-log_p / np.log(2) / z.shape[1]).clamp(min=0)
    complete = batch.has_text & batch.has_image
    errors = [nn.functional.mse_loss(x, y, reduction="none").mean(1) for x, y in zip(features, recovered, strict=True)]
    wanted += complete * (errors[0] + errors[1]) / 2
    assert torch.allclose(own, wanted, atol=1e-9) and (~complete).any()
    assert torch.isclose(out.terms["recovery"], (errors[0] + errors[1])[complete].mean() / 2)


# --- stages


def test_the_first_stage_learns_all_but_the_recovery(state):
    first, second = state.model.learned(0), state.model.learned(2)
    assert set(second) == set(state.model.trainable())
    assert {name.split(".")[0] for name in set(second) - set(first)} == {"refiners"}
    assert state.table.complete[state.stage_rows].all()


def test_flows_and_recovery_get_better(binary_world):
    config = tiny_config(method="dicmor", method_options=SMALL, epochs=15, batch_size=30, learning_rate=3e-3)
    terms = train(config, progress=False, inputs=binary_world.inputs(config)).telemetry.groupby("epoch").mean()
    for name in ("term_bits_text", "term_bits_image"):
        assert terms[name].iloc[-1] < terms[name].iloc[0] - 0.1
    assert not terms["term_recovery"].iloc[:2].any()
    assert terms["term_recovery"].iloc[-1] < 0.8 * terms["term_recovery"].iloc[2]


def test_without_complete_samples_the_first_stage_must_go(binary_world):
    config = tiny_config(method="dicmor", method_options=SMALL, missing_rate=1.0, epochs=1)
    with pytest.raises(AngaError, match="no training sample is complete"):
        TrainingState(config, binary_world.inputs(config))
    check_method(config.with_(method_options={**SMALL, "pretrain_epochs": 0}))
    config = config.with_(method_options={**SMALL, "pretrain_epochs": 0}, missing_rate=0.9)
    assert len(train(config, progress=False, inputs=binary_world.inputs(config)).history) == 1


# --- size


def test_features_are_no_wider_than_the_backbone(binary_world):
    config = tiny_config(method="dicmor", method_options=SMALL)
    model = build_model(config, binary_world.inputs(config))
    assert model.features[0].out_features == model.backbone.dim


@pytest.mark.parametrize("options", [{"width": 7}, {"couplings": 0}, {"weight": -0.1}, {"pretrain_epochs": -1}])
def test_impossible_options_are_named(binary_world, options):
    config = tiny_config(method="dicmor", method_options=options)
    with pytest.raises(AngaError, match=next(iter(options))):
        build_model(config, binary_world.inputs(config))
