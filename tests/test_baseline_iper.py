"""IPer: maps that invert, streams filled from the other modality, and the losses of hidden modalities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import expit, rel_entr, softmax
from tiny_world import tiny_config

from anga.baselines.iper import Coupling, InvertibleMap, divergence, hide_image, hide_text, stretch_means
from anga.errors import AngaError
from anga.method import sample_losses
from anga.model import build_model

HIDDEN = {"text": hide_text, "image": hide_image}


def method_and_batch(world, rows=range(40), **options):
    config = tiny_config(method="iper", method_options={"prompt_length": 3, **options})
    inputs = world.inputs(config)
    return build_model(config, inputs), inputs.batch_maker(False)(np.array(rows))


def random_map(blocks: int, scale: float, dtype=torch.float64) -> InvertibleMap:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chain = InvertibleMap(*[Coupling(6) for _ in range(blocks)]).to(dtype)
    for parameter in chain.parameters():
        parameter.data *= scale
    return chain


@pytest.mark.parametrize("dtype, scale", [("float64", 0.1), ("float64", 1.0), ("float64", 5.0), ("float32", 1.0)])
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_the_map_inverts_both_ways(blocks, dtype, scale):
    dtype, atol = {"float64": (torch.float64, 1e-10), "float32": (torch.float32, 1e-5)}[dtype]
    chain = random_map(blocks, scale, dtype)
    x = torch.randn(5, 3, 6, dtype=dtype, generator=torch.Generator().manual_seed(1))
    y = chain(x)
    bound = atol * max(1.0, y.abs().max().item())
    assert (y - x).abs().max() > 1e-3, "the map does something"
    torch.testing.assert_close(chain.inverse(y), x, rtol=0, atol=bound)
    torch.testing.assert_close(chain(chain.inverse(x)), x, rtol=0, atol=bound)


def test_the_map_keeps_volume():
    chain = random_map(blocks=2, scale=2.0)
    for x in torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)):
        jacobian = torch.autograd.functional.jacobian(chain, x)
        assert abs(torch.linalg.slogdet(jacobian).logabsdet) < 1e-10
        assert not torch.allclose(jacobian, torch.eye(6, dtype=torch.float64))


def test_one_block_equals_its_formula():
    block = Coupling(4).double()
    (a1, b1), (a2, b2) = ([(layer.weight, layer.bias) for layer in (net[0], net[2])] for net in (block.f, block.g))
    x = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)

    def through(first, second, half):
        return second[0] @ (first[0] @ half + first[1]).clamp(min=0) + second[1]

    y2 = x[2:] - through(a2, b2, x[:2])
    torch.testing.assert_close(block(x), torch.cat([x[:2] - through(a1, b1, y2), y2]))


@pytest.mark.parametrize("n", [1, 3, 5, 16])
def test_stretch_means_are_adaptive_pooling_of_the_observed_tokens(n):
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(6, 5, 4, dtype=torch.float64, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
    found = stretch_means(tokens, torch.cat([mask, torch.zeros(1, 5).bool()]), n)
    for sample in range(5):
        observed = tokens[sample, mask[sample]].T[None]
        expected = F.adaptive_avg_pool1d(observed, n)[0].T
        torch.testing.assert_close(found[sample], expected, rtol=0, atol=1e-12)
    assert not found[5].any(), "nothing observed"


def test_streams_hold_tokens_and_what_is_generated(binary_world):
    method, batch = method_and_batch(binary_world)
    text, image = method.sources(batch)
    streams = method.prompts(batch).by_layer[1].unflatten(1, (2, 3))
    states = list(zip(batch.has_text.tolist(), batch.has_image.tolist(), strict=True))
    assert len(set(states)) == 3
    for i, (has_text, has_image) in enumerate(states):
        from_image, from_text = method.to_text(image[i]), method.to_image(text[i])
        expected = [has_text * text[i] + has_image * from_image, has_image * image[i] + has_text * from_text]
        torch.testing.assert_close(streams[i], torch.stack(expected))


@pytest.mark.parametrize("missing", ["text", "image"])
def test_what_is_available_can_be_told_from_the_missing_ones_prompts(binary_world, missing):
    method, batch = method_and_batch(binary_world)
    text, image = method.sources(batch)
    lost = ~(batch.has_text if missing == "text" else batch.has_image)
    assert lost.any()
    streams = method.prompts(batch).by_layer[1].unflatten(1, (2, 3))[lost]
    stream, chain, source = {
        "text": (streams[:, 0], method.to_text, image),
        "image": (streams[:, 1], method.to_image, text),
    }[missing]
    torch.testing.assert_close(chain.inverse(stream), source[lost], rtol=0, atol=1e-5)


@pytest.mark.parametrize("modality", HIDDEN)
def test_a_hidden_modality_is_as_good_as_missing(binary_world, modality):
    method, batch = method_and_batch(binary_world)
    has = getattr(batch, f"has_{modality}")
    noise = 10 * torch.randn(getattr(batch, modality).shape, generator=torch.Generator().manual_seed(4))
    if modality == "text":
        noise[:, 0] = batch.text[:, 0]  # [CLS] carries no content
    hidden = HIDDEN[modality](batch)
    assert torch.equal(method(hidden), method(HIDDEN[modality](replace(batch, **{modality: noise}))))
    assert not torch.allclose(method(hidden)[has], method(batch)[has])
    torch.testing.assert_close(method(hidden)[~has], method(batch)[~has], rtol=0, atol=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
def test_divergence_equals_scipys(multilabel):
    target, logits = 4 * np.random.default_rng(0).standard_normal((2, 7, 5))
    if multilabel:
        p, q = expit(target), expit(logits)
        expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(1)
    else:
        expected = rel_entr(softmax(target, axis=1), softmax(logits, axis=1)).sum(1)
    found = divergence(torch.from_numpy(target), torch.from_numpy(logits), multilabel)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert not divergence(torch.from_numpy(target), torch.from_numpy(target), multilabel).any()


def test_divergence_of_certain_predictions_is_finite():
    certain, logits = torch.tensor([[300.0, -300.0]]), torch.tensor([[-80.0, 80.0]])
    for multilabel in (False, True):
        assert divergence(certain, logits, multilabel).item() == pytest.approx(80 if multilabel else 160)


def test_losses_of_complete_samples_written_out(world):
    method, batch = method_and_batch(world, agreement=0.7, generation=0.3)
    losses = method.losses(batch, 0)
    multilabel = batch.labels.ndim == 2
    expected = sample_losses(method(batch), batch.labels)
    terms = {"hidden_task": [], "agreement": [], "generation": []}
    for i in torch.flatten((batch.has_text & batch.has_image).nonzero()).tolist():
        one = batch.select(torch.tensor([i]))
        (text, image), target = method.sources(one), method(one).detach()
        hidden = [method(hide_text(one)), method(hide_image(one))]
        terms["hidden_task"].append(sum(sample_losses(logits, one.labels)[0] for logits in hidden))
        terms["agreement"].append(sum(divergence(target, logits, multilabel)[0] for logits in hidden))
        terms["generation"].append(F.mse_loss(method.to_text(image), text) + F.mse_loss(method.to_image(text), image))
        extra = terms["hidden_task"][-1] + 0.7 * terms["agreement"][-1] + 0.3 * terms["generation"][-1]
        expected = expected + extra * F.one_hot(torch.tensor(i), len(batch))
    assert 3 < len(terms["agreement"]) < len(batch)
    torch.testing.assert_close(losses.total, expected, rtol=1e-4, atol=1e-5)
    assert {name: float(term) for name, term in losses.terms.items()} == pytest.approx(
        {name: float(torch.stack(values).detach().mean()) for name, values in terms.items()}, abs=1e-5
    )
    parameters = list(method.learned(0).values())
    grads, reference = (torch.autograd.grad(total.mean(), parameters) for total in (losses.total, expected))
    for found, wanted in zip(grads, reference, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_without_a_complete_sample_only_the_task_is_left(world):
    method, batch = method_and_batch(world)
    lost = torch.flatten((~(batch.has_text & batch.has_image)).nonzero())
    for index in (lost, lost[:1]):
        part = batch.select(index)
        losses = method.losses(part, 0)
        assert torch.equal(losses.total, sample_losses(losses.logits, part.labels))
        assert losses.terms.keys() == method.losses(batch, 0).terms.keys()
        assert not any(losses.terms.values())


def test_padding_and_neighbours_in_the_batch_change_nothing(binary_world):
    method, batch = method_and_batch(binary_world)
    together = method(batch)
    for i in range(0, 40, 4):
        _, alone = method_and_batch(binary_world, [i])
        torch.testing.assert_close(method(alone)[0], together[i], rtol=0, atol=1e-5)


def test_generation_is_learned(binary_world):
    """The generated prompts come nearer to what they stand for."""
    method, batch = method_and_batch(binary_world)
    before = method.losses(batch, 0).terms["generation"]
    optimizer = torch.optim.Adam(method.learned(0).values(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        method.losses(batch, 0).total.mean().backward()
        optimizer.step()
    assert method.losses(batch, 0).terms["generation"] < 0.9 * before


@pytest.mark.parametrize("options", [{"blocks": 0}, {"prompt_length": 0}, {"agreement": -0.1}, {"generation": -1.0}])
def test_impossible_options(binary_world, options):
    with pytest.raises(AngaError, match=f"method_options of iper: .*{next(iter(options))}"):
        method_and_batch(binary_world, **options)
