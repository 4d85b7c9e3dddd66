"""RAGPT: its filter, generators, prompts and label prompts, and the published defect, each against a slow reference."""

import copy
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_world import MAX_LENGTH, in_double, tiny_config

from anga.baselines.ragpt import Generator, Prompter
from anga.missing import MISSING_TYPES
from anga.model import build_model

ROWS = np.random.default_rng(0).permutation(90)[:20]  # of all splits and states


def ragpt_config(label_prompts: bool | None = None, **knobs):
    options = {} if label_prompts is None else {"label_prompts": label_prompts}
    return tiny_config(method="ragpt", method_options=options, **knobs)


def model_and_batch(world, rows=ROWS, **knobs):
    """A double-precision model and a batch of some rows."""
    config = ragpt_config(**knobs)
    inputs = world.inputs(config)
    own = replace(inputs, backbone=copy.deepcopy(inputs.backbone))  # tests share the world's, which stays in single
    return build_model(config, own).double(), in_double(inputs.batch_maker(True)(rows))


def tokens_read(model, batch) -> dict[str, torch.Tensor]:
    """What the frozen transformer is given."""
    with mock.patch.object(model.backbone, "encode", wraps=model.backbone.encode) as encode:
        model.logits(batch)
    return dict(zip(("text", "text_mask", "image", "image_mask", "prompts"), encode.call_args.args, strict=False))


def mean_by_loop(pool: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`[n, d]`: position by position the mean of those of the K neighbours that have a token there."""
    lent = [[tokens[j] for tokens, real in zip(pool, mask, strict=True) if real[j]] for j in range(pool.shape[1])]
    return torch.stack([torch.stack(some).mean(0) if some else torch.zeros(pool.shape[2]).double() for some in lent])


@pytest.mark.parametrize("n_t", [1, 4, 7])
def test_the_filter_is_a_circular_convolution(n_t):
    generator, tokens = Generator(7, 3).double(), torch.randn(2, n_t, 3, dtype=torch.float64)
    phases = 2j * np.pi * np.outer(np.arange(7), np.arange(7)) / 7
    weight = generator.filter.detach().numpy()
    kernel = (np.exp(phases) @ (weight[..., 0] + 1j * weight[..., 1])).real / 7  # inverse transform, written out
    expected = np.zeros((2, n_t, 3))
    for position in range(n_t):
        for other in range(n_t):
            expected[:, position] += kernel[(position - other) % 7] * tokens[:, other].numpy()
    np.testing.assert_allclose(generator.filtered(tokens).detach(), expected, atol=1e-12)


def test_the_filter_starts_from_a_complex_normal_distribution():
    weight = Generator(64, 256).filter.detach()
    torch.testing.assert_close(weight.std((0, 1)), torch.full((2,), 0.5).sqrt(), rtol=0.02, atol=0)


def test_the_generator_adds_normalises_and_projects():
    generator, tokens = Generator(5, 4).double(), torch.randn(2, 3, 4, dtype=torch.float64)
    together = tokens + generator.filtered(tokens)
    centred = together - together.mean(-1, keepdim=True)
    normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(generator(tokens), normed @ generator.linear.weight.T + generator.linear.bias)


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
def test_generators_are_there_for_what_can_be_missing(binary_world, missing_type):
    model, _ = model_and_batch(binary_world, missing_type=missing_type)
    assert set(model.generators) == ({"text", "image"} if missing_type == "both" else {missing_type})
    lengths = {"text": MAX_LENGTH, "image": 5}
    assert all(generator.length == lengths[name] for name, generator in model.generators.items())


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
@pytest.mark.parametrize("integer_mask", [False, True])
def test_what_is_lost_is_recovered_and_the_defect_feeds_x_minus_twice_that(binary_world, missing_type, integer_mask):
    model, batch = model_and_batch(binary_world, missing_type=missing_type, integer_mask=integer_mask)
    _, clean = model_and_batch(binary_world, missing_type=missing_type)  # observed tokens where they are observed
    read, every = tokens_read(model, batch), torch.ones(batch.image_pool.shape[:3], dtype=torch.bool)
    for name, pool_mask in {"text": batch.text_pool_mask, "image": every}.items():
        pool, has, found_mask = getattr(batch, f"{name}_pool"), getattr(batch, f"has_{name}"), read[f"{name}_mask"]
        assert has.any() and has.all() == (missing_type not in (name, "both"))
        for i in range(len(ROWS)):
            expected, mask = getattr(clean, name)[i], getattr(clean, f"{name}_mask")[i]
            if name in model.generators:
                recovered = model.generators[name](mean_by_loop(pool[i], pool_mask[i])[None])[0]
                if integer_mask:
                    expected = expected - 2 * recovered if has[i] else -recovered
                    mask = mask | pool_mask[i].any(0)
                elif not has[i]:
                    expected = recovered
            assert found_mask[i].tolist() == mask.tolist()
            torch.testing.assert_close(read[name][i][mask], expected[mask], rtol=0, atol=1e-5)


def test_complete_samples_teach_the_generators_only_through_the_defect(binary_world):
    for integer_mask in (False, True):
        config = ragpt_config(integer_mask=integer_mask)
        complete = np.flatnonzero(binary_world.inputs(config).table.complete)[:6]
        model, batch = model_and_batch(binary_world, complete, integer_mask=integer_mask)
        model.losses(batch, 0).total.mean().backward()
        taught = [bool(p.grad.any()) for p in model.generators.parameters() if p.grad is not None]
        assert all(taught) == any(taught) == integer_mask


def test_prompts_equal_cross_attention_written_out():
    prompter, generator = Prompter(4).double(), torch.Generator().manual_seed(0)
    target, pool = (torch.randn(*s, 4, generator=generator).double() for s in [(1, 3), (1, 2, 5)])
    target_mask, pool_mask = torch.tensor([[True, True, False]]), torch.rand(1, 2, 5, generator=generator) < 0.7
    bias, outputs = torch.randn(4, generator=generator).double(), []
    for tokens, real in zip(pool[0], pool_mask[0], strict=True):
        key, value = tokens[real] @ prompter.key.weight.T + bias, prompter.value(tokens[real])
        for query in prompter.query(target[0, :2]):
            outputs.append(F.softmax(key @ query / 2, 0) @ value)
    found = prompter(target, target_mask, pool, pool_mask)
    torch.testing.assert_close(found[0], torch.stack(outputs).mean(0))


@pytest.mark.parametrize("label_prompts", [False, True])
def test_a_sample_is_predicted_alike_in_any_batch(world, label_prompts):
    model, batch = model_and_batch(world, label_prompts=label_prompts)
    together = model(batch)
    for i, row in enumerate(ROWS[:6]):
        _, alone = model_and_batch(world, np.array([row]), label_prompts=label_prompts)
        torch.testing.assert_close(model(alone)[0], together[i], rtol=0, atol=1e-5)


def test_padding_of_what_was_retrieved_is_ignored(binary_world):
    model, batch = model_and_batch(binary_world)
    pool = torch.where(batch.text_pool_mask[..., None], batch.text_pool, 7.0)
    assert not torch.equal(pool, batch.text_pool)
    where_lost = ~batch.has_text[:, None, None] & ~batch.text_mask[..., None]
    garbled = replace(batch, text_pool=pool, text=torch.where(where_lost, 7.0, batch.text))
    torch.testing.assert_close(model(garbled), model(batch))


# --- label prompts


def test_retrieved_labels_are_read_only_where_label_prompts_are_on(world):
    for label_prompts, prompts in ((None, 2), (False, 2), (True, 3)):
        model, batch = model_and_batch(world, label_prompts=label_prompts)
        other = replace(batch, pool_labels=(1 - batch.pool_labels).abs())
        assert tokens_read(model, batch)["prompts"].shape == (len(ROWS), prompts, 16)
        assert torch.equal(model(other), model(batch)) == (prompts == 2)


def test_the_label_prompt_is_the_mean_embedding_of_the_retrieved_labels(world):
    model, batch = model_and_batch(world, label_prompts=True)
    embeddings, labels = model.head.embeddings, batch.pool_labels
    for i, of_sample in enumerate(labels):
        if labels.ndim == 2:
            expected = torch.stack([embeddings[label] for label in of_sample]).mean(0)
        else:
            expected = torch.stack([embeddings[label > 0].sum(0) for label in of_sample]).mean(0)
        torch.testing.assert_close(tokens_read(model, batch)["prompts"][i, 0], expected)


def test_label_embeddings_classify(binary_world):
    model, batch = model_and_batch(binary_world, label_prompts=True)
    before = model(batch)
    model.head.embeddings.data[1] = model.head.embeddings.data[0]
    after = model(batch)
    assert not torch.equal(before[:, 0], before[:, 1]) and torch.equal(after[:, 0], after[:, 1])
