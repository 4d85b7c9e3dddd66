"""Prompts of several layers against a transformer written out sample by sample, without any mask."""

import copy

import pytest
import torch
import torch.nn.functional as F

from anga.backbone import Backbone, LayerPrompts
from anga.errors import AngaError

LENGTHS = {1: 2, 2: 4, 3: 6}  # prompts of each layer; even, so that they can be halved
LAYERS = [(1, 2, 3), (1, 3), (2,), (3,)]
FORMS = ("input", "deep", "attention")
N_T, N_V, DIM = 5, 4, 16


@pytest.fixture(scope="module")
def backbone(binary_world) -> Backbone:
    """The tiny backbone of three layers in double precision."""
    return copy.deepcopy(binary_world.backbone).double()


def tokens() -> tuple[torch.Tensor, ...]:
    """Text, its mask, image, its mask of a complete sample, one without a text and one without an image."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(3, N_T, DIM, dtype=torch.float64, generator=generator)
    image = torch.randn(3, N_V, DIM, dtype=torch.float64, generator=generator)
    text_mask = torch.arange(N_T) < torch.tensor([[4], [1], [5]])
    image_mask = torch.tensor([True, True, False])[:, None].expand(3, N_V)
    return text, text_mask, image, image_mask


def prompts(layers: tuple[int, ...]) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = {i: torch.randn(3, n, DIM, dtype=torch.float64, generator=generator) for i, n in LENGTHS.items()}
    return {i: drawn[i] for i in layers}


def attend(attention, hidden: torch.Tensor, more_keys: torch.Tensor, more_values: torch.Tensor) -> torch.Tensor:
    """Multi-head attention over hidden `[L, d]`, head by head, with keys and values `[m, d]` before its own."""
    query = attention.query(hidden)
    key = torch.cat([more_keys, attention.key(hidden)])
    value = torch.cat([more_values, attention.value(hidden)])
    width = DIM // attention.num_attention_heads
    heads = [slice(start, start + width) for start in range(0, DIM, width)]
    weights = [torch.softmax(query[:, h] @ key[:, h].T / width**0.5, dim=1) for h in heads]
    return torch.cat([w @ value[:, h] for w, h in zip(weights, heads, strict=True)], dim=1)


def one_layer(layer, hidden: torch.Tensor, more_keys: torch.Tensor, more_values: torch.Tensor) -> torch.Tensor:
    """A pre-norm transformer layer on hidden `[L, d]`."""
    attended = attend(layer.attention.attention, layer.layernorm_before(hidden), more_keys, more_values)
    hidden = hidden + layer.attention.output.dense(attended)
    widened = F.gelu(layer.intermediate.dense(layer.layernorm_after(hidden)))
    return hidden + layer.output.dense(widened)


def written_out(backbone: Backbone, sample: int, by_layer: dict[int, torch.Tensor], form: str) -> torch.Tensor:
    """All outputs of one sample: its prompts, then its observed tokens."""
    text, text_mask, image, image_mask = (part[sample] for part in tokens())
    before, hidden = text.new_zeros(0, DIM), torch.cat([text[text_mask], image[image_mask]])
    for number, layer in enumerate(backbone.vilt.encoder.layer, start=1):
        keys = values = text.new_zeros(0, DIM)
        if number in by_layer:
            own = by_layer[number][sample]
            if form == "attention":
                keys, values = own[: len(own) // 2], own[len(own) // 2 :]
            else:
                before = own if form == "deep" else torch.cat([own, before])
        output = one_layer(layer, torch.cat([before, hidden]), keys, values)
        before, hidden = output[: len(before)], output[len(before) :]
    return backbone.vilt.layernorm(torch.cat([before, hidden]))


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_equals_a_written_out_transformer(backbone, form, layers):
    by_layer = prompts(layers)
    outputs = backbone.encode_tokens(*tokens(), LayerPrompts(by_layer, form))
    n_p = outputs.shape[1] - N_T - N_V
    _, text_mask, _, image_mask = tokens()
    observed = torch.cat([torch.ones(3, n_p, dtype=torch.bool), text_mask, image_mask], dim=1)
    for sample in range(3):
        expected = written_out(backbone, sample, by_layer, form)
        torch.testing.assert_close(outputs[sample, observed[sample]], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_encode_is_the_cls_of_encode_tokens(backbone, form, layers):
    at_cls = {"input": sum(LENGTHS[i] for i in layers), "deep": LENGTHS[layers[-1]], "attention": 0}[form]
    chosen = LayerPrompts(prompts(layers), form)
    everything = backbone.encode_tokens(*tokens(), chosen)
    assert everything.shape[1] == at_cls + N_T + N_V
    torch.testing.assert_close(backbone.encode(*tokens(), chosen), everything[:, at_cls], rtol=0, atol=1e-12)


def test_the_forms_differ(backbone):
    outputs = [backbone.encode(*tokens(), LayerPrompts(prompts((1, 2)), form)) for form in FORMS]
    outputs.append(backbone.encode(*tokens()))
    assert all(not torch.allclose(outputs[a], outputs[b]) for a in range(4) for b in range(a))


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_one_layers_prompts_may_be_given_either_way(backbone, layer):
    (own,) = prompts((layer,)).values()
    expected = backbone.encode(*tokens(), own, layer)
    assert torch.equal(backbone.encode(*tokens(), LayerPrompts({layer: own})), expected)
    assert torch.equal(backbone.encode(*tokens(), LayerPrompts({layer: own}, "deep")), expected)


def test_no_layers_are_no_prompts(backbone):
    for form in FORMS:
        assert torch.equal(backbone.encode(*tokens(), LayerPrompts({}, form)), backbone.encode(*tokens()))


@pytest.mark.parametrize("form", FORMS)
def test_every_layers_prompts_learn(backbone, form):
    by_layer = {i: p.requires_grad_() for i, p in prompts((1, 2, 3)).items()}
    backbone.encode(*tokens(), LayerPrompts(by_layer, form)).square().sum().backward()
    assert all((p.grad.abs().sum((0, 2)) > 0).all() for p in by_layer.values())
    assert all(p.grad is None for p in backbone.parameters())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_is_not_there(backbone, form, layer):
    beyond = LayerPrompts({1: torch.zeros(3, 2, DIM), layer: torch.zeros(3, 2, DIM)}, form)
    for encode in (backbone.encode, backbone.encode_tokens):
        with pytest.raises(AngaError, match=f"prompt_layer is {layer}: tiny has layers 1 to 3"):
            encode(*tokens(), beyond)


@pytest.mark.parametrize("form", FORMS)
def test_half_precision(binary_world, form):
    single = [part.float() if part.is_floating_point() else part for part in tokens()]
    chosen = LayerPrompts({i: p.float() for i, p in prompts((1, 3)).items()}, form)
    expected = binary_world.backbone.encode(*single, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        found = binary_world.backbone.encode(*single, chosen)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)
