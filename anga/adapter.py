"""Semantic-enhanced adapter: neighbours' tokens become one prompt per modality (Sec. 4.3, Eq. 16)."""

import math

import torch
from torch import nn

from anga.tokens import Batch


class PooledCrossAttention(nn.Module):
    """Eq. 16 for one modality, followed by mean pooling over the target's tokens.

    The K neighbours' tokens form one sequence of keys and values. Written out literally, every one of the K * n
    neighbour tokens passes two d x d projections. The same result comes cheaper ("folded"), since both are linear:
    f^K moves to the few queries, and f^V is applied to the pooled token. The key's bias is the same for all keys and
    cancels in the softmax, so there is none; softmax rows sum to one, so the value's bias passes through unchanged.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)

    def forward(self, target, target_mask, pool, pool_mask=None) -> torch.Tensor:
        """Prompt `[B, d]`.

        Args:
            target: `[B, n, d]`, tokens of the sample; `target_mask` bool `[B, n]`.
            pool: `[B, K, n, d]`, tokens of its neighbours; `pool_mask` bool `[B, K, n]`, None: all real.
        """
        pool = pool.flatten(1, 2)
        query = self.query(target) @ self.key.weight
        score = query @ pool.transpose(1, 2) / math.sqrt(target.shape[-1])
        if pool_mask is not None:
            score = score.masked_fill(~pool_mask.flatten(1)[:, None], -torch.inf)
        attention = score.softmax(-1).to(target.dtype)
        weight = target_mask.to(target.dtype)[:, None]
        pooled_attention = weight @ attention / weight.sum(-1, keepdim=True)
        return self.value((pooled_attention @ pool).squeeze(1))


class SemanticAdapter(nn.Module):
    """One cross-attention per modality; the two prompts of each sample `[B, 2, d]`, text first."""

    def __init__(self, dim: int):
        super().__init__()
        self.text = PooledCrossAttention(dim)
        self.image = PooledCrossAttention(dim)

    def forward(self, batch: Batch) -> torch.Tensor:
        text = self.text(batch.text, batch.text_mask, batch.text_pool, batch.text_pool_mask)
        image = self.image(batch.image, batch.image_mask, batch.image_pool)
        return torch.stack([text, image], dim=1)
