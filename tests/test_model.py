"""What may and what may not move the logits, and who learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax
from tiny_world import tiny_config

from anga.errors import AngaError
from anga.method import sample_losses
from anga.missing import MISSING_TYPES
from anga.model import AngaModel, build_model

VARIANTS = {
    "zero-filled": {"use_retrieval": False, "use_adapter": False},
    "retrieval": {"use_adapter": False},
    "adapter": {},
}


def model_and_batch(world, rows=None, **knobs):
    config = tiny_config(**knobs)
    inputs = world.inputs(config)
    rows = inputs.dataset.rows("test") if rows is None else rows
    return build_model(config, inputs), inputs.batch_maker(config.use_adapter)(rows)


@pytest.mark.parametrize("variant", VARIANTS)
def test_masked_tokens_have_no_influence_on_logits(world, variant):
    model, batch = model_and_batch(world, **VARIANTS[variant])
    before = model(batch)
    for name in ("text", "image", "text_pool"):
        tokens = getattr(batch, name)
        if tokens is not None:
            mask = getattr(batch, f"{name}_mask")
            noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
            changed = replace(batch, **{name: torch.where(mask[..., None], tokens, 100 * noise)})
            assert torch.equal(model(changed), before), name
            seen = replace(batch, **{name: torch.where(mask[..., None], noise, tokens)})
            assert not torch.allclose(model(seen), before), f"{name}: tokens that are there do matter"


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_sample_lacks_has_no_influence_on_any_logits(world, variant, missing_type, tmp_path):
    """Lost texts (of any length), pictures and embeddings are exchanged before anything is computed from them."""
    knobs = {"missing_type": missing_type, **VARIANTS[variant]}
    table = world.inputs(tiny_config(**knobs)).table
    other = world.with_garbage(~table.has_text, ~table.has_image, tmp_path)
    for rows in np.split(np.arange(90), 3):
        (model, batch), (again, changed) = (model_and_batch(w, rows, **knobs) for w in (world, other))
        assert torch.equal(again(changed), model(batch))


@pytest.mark.parametrize("knobs", [{"memory_bank": "full"}, {"missing_type": "image"}])
def test_what_is_read_does_move_the_logits(binary_world, knobs, tmp_path):
    """Guards the test above: the full bank reads lost modalities, and other samples' texts are not lost."""
    table = binary_world.inputs(tiny_config()).table
    other = binary_world.with_garbage(~table.has_text, ~table.has_image, tmp_path)
    (before, one), (after, two) = (model_and_batch(w, np.arange(30), **knobs) for w in (binary_world, other))
    assert not torch.allclose(before(one), after(two))


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_of_a_batch_do_not_touch_each_other(world, variant):
    """What the boundary and sub-batch forms of the gradients rest on; also, padding changes nothing."""
    model, batch = model_and_batch(world, np.arange(12), **VARIANTS[variant])
    together = model(batch)
    for i in range(12):
        alone = model(model_and_batch(world, np.arange(i, i + 1), **VARIANTS[variant])[1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


@pytest.mark.parametrize("classifier", ["linear", "pooler"])
@pytest.mark.parametrize("use_adapter", [True, False])
def test_only_adapter_and_head_learn(binary_world, use_adapter, classifier):
    model, batch = model_and_batch(binary_world, use_adapter=use_adapter, classifier=classifier)
    frozen = {name: p.clone() for name, p in model.backbone.named_parameters()}
    names = set(model.trainable())
    assert {name.split(".")[0] for name in names} == ({"adapter", "head"} if use_adapter else {"head"})
    assert any(name.startswith("head.0") for name in names) == (classifier == "pooler")
    before = {name: p.detach().clone() for name, p in model.trainable().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sample_losses(model(batch), batch.labels).mean().backward()
    optimizer.step()
    assert all(torch.equal(p, frozen[name]) for name, p in model.backbone.named_parameters())
    assert all(not torch.equal(p, before[name]) for name, p in model.trainable().items())


def test_the_pooler_starts_as_the_checkpoints_own(binary_world):
    model, batch = model_and_batch(binary_world)
    pooled = model.encode(batch, model.prompts(batch))
    assert torch.equal(model.head[0](pooled), model.backbone.pooler(pooled))
    assert model.head[0][0].weight is not model.backbone.pooler[0].weight


def test_the_layer_of_the_prompts_matters_and_must_exist(binary_world):
    logits = []
    for layer in (1, 2, 3):
        model, batch = model_and_batch(binary_world, prompt_layer=layer)
        logits.append(model(batch))
    assert all(not torch.allclose(logits[a], logits[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    with pytest.raises(AngaError, match=r"prompt_layer: 4 .* 3 layers"):
        AngaModel(tiny_config(prompt_layer=4), binary_world.backbone, 2)


def test_initial_weights_follow_the_training_seed_alone(binary_world):
    def drawn(**knobs):
        config = tiny_config(**knobs)
        return build_model(config, binary_world.inputs(config)).head[1].weight.detach()

    torch.manual_seed(1)
    first = drawn(train_seed=3)
    state = torch.get_rng_state()
    assert torch.equal(drawn(train_seed=3, mask_seed=9, cos_threshold=0.5), first)
    assert not torch.equal(drawn(train_seed=4), first)
    assert torch.equal(torch.get_rng_state(), state), "torch's global random state is not touched"


@pytest.mark.parametrize("method", ["anga", "vilt"])
def test_a_head_that_starts_at_the_prior_predicts_how_frequent_labels_are(world, method):
    config = tiny_config(method=method, use_adapter=False, use_alignment=False)
    inputs = world.inputs(config)
    plain, prior = (build_model(config.with_(head_bias=start), inputs) for start in ("zero", "prior"))
    labels = torch.as_tensor(inputs.dataset.labels[inputs.training_rows()])
    bias = prior.head[-1].bias
    if labels.ndim == 2:
        assert torch.allclose(bias.sigmoid(), (labels.sum(0) + 1).float() / (len(labels) + 2), atol=1e-6)
    else:
        counts = torch.bincount(labels, minlength=len(bias)) + 1
        assert torch.allclose(bias.softmax(0), counts / counts.sum(), atol=1e-6)
    moved = [n for n, start in plain.trainable().items() if not torch.equal(start, prior.trainable()[n])]
    assert moved == ["head.1.bias"], "nothing else starts elsewhere"
    for subset in ("complete", "reconstructed"):
        bound = build_model(config.with_(head_bias="prior", train_subset=subset), inputs)
        assert torch.equal(bound.head[-1].bias, bias), "an upper bound's knows the labels of all training samples too"


def test_the_backbones_dropout_stays_off(binary_world):
    model, batch = model_and_batch(binary_world)
    model.train()
    assert torch.equal(model(batch), model.eval()(batch))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_sample_losses_are_the_negative_log_likelihoods(task):
    generator = np.random.default_rng(0)
    logits = 3 * generator.standard_normal((20, 4))
    if task == "multiclass":
        labels = generator.integers(0, 4, 20)
        expected = -log_softmax(logits, axis=1)[np.arange(20), labels]
    else:
        labels = generator.integers(0, 2, (20, 4)).astype(float)
        expected = -(labels * log_expit(logits) + (1 - labels) * log_expit(-logits)).mean(1)
    found = sample_losses(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(found, expected, atol=1e-12)
