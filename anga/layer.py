"""One frozen layer of the vision-language transformer, and the kernels that it is computed with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def apply_layer(
    layer: nn.Module, hidden: Tensor, mask: Tensor, rows: slice = slice(None), prefix: Tensor | None = None
) -> Tensor:
    """One pre-norm layer of `transformers` on hidden [B, L, d], for the query positions `rows` only.

    A prefix [B, 2 m, d] adds m keys, its first half, and m values, its second half, that every query sees.
    """
    attention = layer.attention.attention
    normed = layer.layernorm_before(hidden)
    if normed.device.type == "cpu" or rows != slice(None):
        query, key, value = attention.query(normed[:, rows]), attention.key(normed), attention.value(normed)
    else:
        query, key, value = _project_at_once(attention, normed)
    if prefix is not None:
        more_keys, more_values = prefix.to(key.dtype).chunk(2, dim=1)
        key, value = torch.cat([more_keys, key], dim=1), torch.cat([more_values, value], dim=1)
        mask = F.pad(mask, (more_keys.shape[1], 0), value=True)

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    context = _attend(heads(query), heads(key), heads(value), mask)
    attended = layer.attention.output.dense(context.transpose(1, 2).flatten(2)) + hidden[:, rows]
    return layer.output(layer.intermediate(layer.layernorm_after(attended)), attended)


def _project_at_once(attention: nn.Module, normed: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values in one product. On a GPU this saves two casts to bfloat16 and, on the way back, two
    additions of gradients, all bound by memory; on a CPU it gains nothing."""
    projections = attention.query, attention.key, attention.value
    biases = None if attention.query.bias is None else torch.cat([p.bias for p in projections])
    return F.linear(normed, torch.cat([p.weight for p in projections]), biases).chunk(3, dim=-1)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of [B, heads, L, d_head] over the keys where mask [B, L] is True, by the faster of two kernels."""
    # On a CPU the fused one's backward pass is slow in bfloat16: 4x (192 samples of 41 tokens), 1.15x (8 of 275).
    eager = query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()
    return (_attend_eager if eager else _attend_fused)(query, key, value, mask)


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])


def _attend_eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = (query @ key.mT) * query.shape[-1] ** -0.5
    return scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(dim=-1).to(value.dtype) @ value
