"""One frozen layer of the vision-language transformer, and the kernels that it is computed with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROUND = 128  # packed rows come in multiples of it, so that kernels made for one shape serve many batches


def rows_to_pack(mask: Tensor) -> Tensor | None:
    """Which of B * L positions a layer need compute, int64 `[n]`: those where mask `[B, L]` is True, and as many others
    as make a round number. None where that gains nothing: if few are masked, or on a GPU, which would have to wait for
    the number."""
    if mask.device.type != "cpu":
        return None
    n = -(-int(mask.sum()) // ROUND) * ROUND
    return None if n > 0.9 * mask.numel() else (~mask.flatten()).byte().argsort(stable=True)[:n]


def apply_layer(
    layer: nn.Module,
    hidden: Tensor,
    mask: Tensor,
    rows: slice = slice(None),
    prefix: Tensor | None = None,
    packed: Tensor | None = None,
) -> Tensor:
    """One pre-norm layer of `transformers` on hidden [B, L, d], for the query positions `rows` only.

    A prefix [B, 2 m, d] adds m keys, its first half, and m values, its second half, that every query sees.
    `packed` (of `rows_to_pack`) names the positions to compute; the outputs of all others are zero.
    """
    attention, every = layer.attention.attention, rows == slice(None)
    states = _pack(hidden, packed)
    normed = layer.layernorm_before(states)
    if normed.device.type == "cpu" or not every:
        asking = normed if every else layer.layernorm_before(hidden[:, rows])
        query, key, value = attention.query(asking), attention.key(normed), attention.value(normed)
    else:
        query, key, value = _project_at_once(attention, normed)
    size = hidden.shape[:2]
    key, value = _unpack(key, packed, size), _unpack(value, packed, size)
    query = _unpack(query, packed, size) if every else query
    if prefix is not None:
        more_keys, more_values = prefix.to(key.dtype).chunk(2, dim=1)
        key, value = torch.cat([more_keys, key], dim=1), torch.cat([more_values, value], dim=1)
        mask = F.pad(mask, (more_keys.shape[1], 0), value=True)

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    context = _attend(heads(query), heads(key), heads(value), mask).transpose(1, 2).flatten(2)
    context, states = (_pack(context, packed), states) if every else (context, hidden[:, rows])
    attended = layer.attention.output.dense(context) + states
    output = layer.output(layer.intermediate(layer.layernorm_after(attended)), attended)
    return _unpack(output, packed, size) if every else output


def _pack(padded: Tensor, packed: Tensor | None) -> Tensor:
    """Some rows of [B, L, d] as [n, d]."""
    return padded if packed is None else padded.flatten(0, 1).index_select(0, packed)


def _unpack(rows: Tensor, packed: Tensor | None, size: tuple[int, int]) -> Tensor:
    """[n, d] back in [B, L, d], zero elsewhere."""
    if packed is None:
        return rows
    return rows.new_zeros(size[0] * size[1], rows.shape[-1]).index_copy(0, packed, rows).unflatten(0, size)


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
