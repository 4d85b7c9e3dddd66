"""The kernels of one frozen layer compute the same, with gradients, and can be compiled."""

import pytest
import torch
from tiny_world import make_backbone

import anga.layer
from anga.backbone import LayerPrompts
from anga.layer import apply_layer, rows_to_pack

N_KEYS = 7


@pytest.fixture
def layer():
    return make_backbone().vilt.encoder.layer[0].double()


def random(*shape, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def padded_mask() -> torch.Tensor:
    mask = random(3, N_KEYS, seed=9) > 0
    mask[:, 0] = True
    return mask


def with_gradients(attend) -> list[torch.Tensor]:
    inputs = [random(3, 2, n, 4, seed=n + i).requires_grad_() for i, n in enumerate((5, N_KEYS, N_KEYS))]
    context = attend(*inputs, padded_mask())
    return [context, *torch.autograd.grad((context * random(3, 2, 5, 4, seed=3)).sum(), inputs)]


def test_fused_and_eager_attention_agree_with_gradients():
    for fused, eager in zip(*map(with_gradients, (anga.layer._attend_fused, anga.layer._attend_eager)), strict=True):
        torch.testing.assert_close(fused, eager, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype, learning, expected", [("bfloat16", True, "eager"), ("bfloat16", False, "fused")])
def test_training_in_bfloat16_on_a_cpu_takes_the_eager_kernel(monkeypatch, dtype, learning, expected):
    called = []
    for name in ("fused", "eager"):
        monkeypatch.setattr(anga.layer, f"_attend_{name}", lambda *_, name=name: called.append(name))
    query = torch.zeros(1, 1, 2, 4, dtype=getattr(torch, dtype))
    with torch.set_grad_enabled(learning):
        anga.layer._attend(query, query, query, None)
        anga.layer._attend(query.float(), query.float(), query.float(), None)
    assert called == [expected, "fused"]


def test_three_projections_at_once_equal_three_projections(layer):
    attention, tokens = layer.attention.attention, random(2, 5, 16).requires_grad_()
    weights = [random(2, 5, 16, seed=s) for s in (1, 2, 3)]
    found = []
    for projected in (
        (attention.query(tokens), attention.key(tokens), attention.value(tokens)),
        anga.layer._project_at_once(attention, tokens),
    ):
        loss = sum((p * w).sum() for p, w in zip(projected, weights, strict=True))
        found.append([*projected, *torch.autograd.grad(loss, tokens)])
    for apart, at_once in zip(*found, strict=True):
        torch.testing.assert_close(at_once, apart, rtol=0, atol=1e-13)


@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("rows, prefix", [(slice(None), None), (slice(0, 1), None), (slice(None), 4)])
def test_packed_rows_change_nothing_that_is_seen(layer, monkeypatch, rows, prefix, multiple):
    monkeypatch.setattr(anga.layer, "ROUND", multiple)
    mask = padded_mask()
    packed = rows_to_pack(mask)
    assert len(packed) % multiple == 0 and mask.sum() <= len(packed) < mask.numel()
    found = []
    for chosen in (None, packed):
        hidden = random(3, N_KEYS, 16).requires_grad_()
        more = None if prefix is None else random(3, prefix, 16).requires_grad_()
        output = apply_layer(layer, hidden, mask, rows, more, chosen)[mask[:, rows]]
        weighed = (output * random(*output.shape, seed=5)).sum()
        found.append([output, *torch.autograd.grad(weighed, [x for x in (hidden, more) if x is not None])])
    for dense, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, dense, rtol=0, atol=1e-12)


def test_in_bfloat16_packed_rows_are_as_near_to_the_exact_ones_as_dense_rows(layer, monkeypatch):
    monkeypatch.setattr(anga.layer, "ROUND", 1)
    mask = padded_mask()
    exact = apply_layer(layer, random(3, N_KEYS, 16), mask)[mask]
    hidden = random(3, N_KEYS, 16).float().requires_grad_()
    errors = []
    for packed in (None, rows_to_pack(mask)):
        with torch.autocast("cpu", torch.bfloat16):
            output = apply_layer(layer.float(), hidden, mask, packed=packed)[mask]
        (gradient,) = torch.autograd.grad(output.float().square().sum(), hidden)
        errors.append(((output - exact).norm() / exact.norm(), gradient))
    (dense, dense_gradient), (ours, our_gradient) = errors
    assert 0 < ours < 1.5 * dense < 0.02
    assert (our_gradient - dense_gradient).norm() < 0.02 * dense_gradient.norm()


def test_what_is_not_packed_comes_out_as_zero(layer, monkeypatch):
    monkeypatch.setattr(anga.layer, "ROUND", 1)
    mask = padded_mask()
    output = apply_layer(layer, random(3, N_KEYS, 16), mask, packed=rows_to_pack(mask))
    assert torch.equal(output.abs().sum(-1) > 0, mask)


@pytest.mark.parametrize("form", ["input", "deep", "attention"])
def test_a_backbone_packs_and_gives_the_same(monkeypatch, form):
    """Also where prompts join, which are never masked."""
    backbone, asked = make_backbone().double(), []
    text, image, mask = random(3, 5, 16), random(3, 4, 16, seed=1), random(3, 9, seed=2) > 0
    mask[:, 0] = True
    prompts = {i: random(3, 2, 16, seed=i).requires_grad_() for i in (1, 2)}

    def run():
        output = backbone.encode(text, mask[:, :5], image, mask[:, 5:], LayerPrompts(prompts, form))
        return [output, *torch.autograd.grad(output.square().sum(), list(prompts.values()))]

    dense = run()
    monkeypatch.setattr(anga.layer, "ROUND", 1)
    monkeypatch.setattr(anga.backbone, "rows_to_pack", lambda m: asked.append(rows_to_pack(m)) or asked[-1])
    for ours, expected in zip(run(), dense, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    assert any(packed is not None for packed in asked)


def test_nothing_is_packed_where_it_gains_nothing():
    few, none = torch.ones(64, 40, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    few[:, :2] = False
    assert rows_to_pack(few) is None and rows_to_pack(none) is None
    few[:, :20] = False
    assert len(rows_to_pack(few)) == 64 * 20 and rows_to_pack(few.to("meta")) is None


@pytest.mark.parametrize("rows, prefix", [(slice(None), None), (slice(2, 3), None), (slice(None), 4)])
def test_other_devices_get_the_same_shapes(layer, rows, prefix):
    """The device "meta" takes the path of a GPU."""
    hidden, prefix = random(3, N_KEYS, 16), None if prefix is None else random(3, prefix, 16)
    expected = apply_layer(layer, hidden, padded_mask(), rows, prefix)
    there = [None if x is None else x.to("meta") for x in (hidden, padded_mask(), prefix)]
    assert apply_layer(layer.to("meta"), there[0], there[1], rows, there[2]).shape == expected.shape


@pytest.mark.parametrize("rows", [slice(None), slice(1, 2)])
def test_a_layer_is_one_graph_for_all_lengths(layer, rows):
    """Traced as for a compiler; "eager" runs the trace as it is and needs none."""
    torch._dynamo.reset()
    compiled = torch.compile(apply_layer, backend="eager", fullgraph=True, dynamic=True)
    counter = torch._dynamo.utils.counters
    counter.clear()
    for length in (N_KEYS, N_KEYS - 2, N_KEYS - 3):
        hidden, mask = random(3, length, 16), padded_mask()[:, :length].clone()
        torch.testing.assert_close(compiled(layer, hidden, mask, rows), apply_layer(layer, hidden, mask, rows))
    assert counter["stats"]["unique_graphs"] == 1
