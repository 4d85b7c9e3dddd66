"""The folded adapter against Eq. 16 written out literally, in double precision, gradients included."""

import math

import pytest
import torch
from tiny_world import tiny_config
from torch import nn

from anga.adapter import PooledCrossAttention, SemanticAdapter

B, K, N, D = 4, 3, 5, 6  # samples, neighbours, tokens, width


@pytest.fixture
def attention() -> PooledCrossAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PooledCrossAttention(D).double()


def random(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def masks(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Target mask `[B, N]` and pool mask `[B, K, N]`; the first token is always real."""
    target, pool = torch.ones(B, N, dtype=torch.bool), torch.ones(B, K, N, dtype=torch.bool)
    if kind == "padded":
        target, pool = random(B, N, seed=1) > 0, random(B, K, N, seed=2) > 0
        target[:, 0], pool[..., 0] = True, True
    if kind == "one token":
        target[:, 1:], pool[..., 1:] = False, False
    return target, pool


def literal(attention, key_bias, target, target_mask, pool, pool_mask) -> torch.Tensor:
    """f^Q, f^K, f^V on every token, softmax over all neighbours' real tokens, mean over the target's real tokens."""
    prompts = []
    for t, t_mask, p, p_mask in zip(target, target_mask, pool, pool_mask, strict=True):
        keys = p[p_mask] @ attention.key.weight.T + key_bias
        values = attention.value(p[p_mask])
        rows = torch.softmax(attention.query(t[t_mask]) @ keys.T / math.sqrt(D), -1) @ values
        prompts.append(rows.mean(0))
    return torch.stack(prompts)


@pytest.mark.parametrize("kind", ["all real", "padded", "one token"])
def test_folded_form_equals_eq_16_and_mean_pooling_with_gradients(attention, kind):
    (target_mask, pool_mask), key_bias = masks(kind), random(D, seed=5).requires_grad_()
    learned = list(attention.parameters())
    found = []
    for form in ("folded", "literal"):
        target, pool = random(B, N, D, seed=3).requires_grad_(), random(B, K, N, D, seed=4).requires_grad_()
        inputs = (target, target_mask, pool, pool_mask)
        prompts = attention(*inputs) if form == "folded" else literal(attention, key_bias, *inputs)
        weighted = (prompts * random(B, D, seed=6)).sum()
        found.append([prompts, *torch.autograd.grad(weighted, [*learned, target, pool], retain_graph=True)])
    for folded, written in zip(*found, strict=True):
        torch.testing.assert_close(folded, written, rtol=0, atol=1e-13)
    (at_bias,) = torch.autograd.grad(weighted, key_bias)
    torch.testing.assert_close(at_bias, torch.zeros(D, dtype=torch.float64), rtol=0, atol=1e-13)


def test_every_projection_matters(attention):
    """Guards the test above: a projection that no prompt depends on would agree with anything."""
    target_mask, pool_mask = masks("padded")
    prompts = attention(random(B, N, D, seed=3), target_mask, random(B, K, N, D, seed=4), pool_mask)
    for gradient in torch.autograd.grad((prompts * random(B, D, seed=6)).sum(), list(attention.parameters())):
        assert gradient.abs().max() > 1e-3


def test_no_pool_mask_means_that_all_tokens_are_real(attention):
    target_mask, everything = masks("padded")[0], torch.ones(B, K, N, dtype=torch.bool)
    target, pool = random(B, N, D, seed=3), random(B, K, N, D, seed=4)
    assert torch.equal(attention(target, target_mask, pool), attention(target, target_mask, pool, everything))


def test_masked_tokens_have_no_influence(attention):
    target_mask, pool_mask = masks("padded")
    target, pool = random(B, N, D, seed=3), random(B, K, N, D, seed=4)
    before = attention(target, target_mask, pool, pool_mask)
    target, pool = target.clone(), pool.clone()
    target[~target_mask], pool[~pool_mask] = 1e3, -1e3
    torch.testing.assert_close(attention(target, target_mask, pool, pool_mask), before, rtol=0, atol=1e-13)
    target[target_mask] += 1
    assert not torch.allclose(attention(target, target_mask, pool, pool_mask), before)


def test_order_of_neighbours_does_not_matter(attention):
    target_mask, pool_mask = masks("padded")
    target, pool, order = random(B, N, D, seed=3), random(B, K, N, D, seed=4), torch.tensor([2, 0, 1])
    turned = attention(target, target_mask, pool[:, order], pool_mask[:, order])
    torch.testing.assert_close(turned, attention(target, target_mask, pool, pool_mask), rtol=0, atol=1e-13)


def test_prompts_come_text_first_each_from_its_own_projections(binary_world):
    config = tiny_config()
    inputs = binary_world.inputs(config)
    batch, adapter = inputs.batch_maker(with_pools=True)(inputs.dataset.rows("train")[:6]), SemanticAdapter(16)
    prompts = adapter(batch)
    assert prompts.shape == (6, 2, 16)
    nn.init.zeros_(adapter.text.value.weight)
    nn.init.zeros_(adapter.text.value.bias)
    assert not adapter(batch)[:, 0].any()
    assert torch.equal(adapter(batch)[:, 1], prompts[:, 1])
