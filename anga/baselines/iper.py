"""IPer: invertible prompter (Lu, Zhao, Li, Tang and Luo, "Modality-missing RGBT tracking: invertible prompt learning
and high-quality benchmarks", IJCV 2025).

The missing modality's prompts are generated from the available one by a map that can be inverted, so that what is
available can be told from them in full:

    P_v = f_tv(x_t),   x_t = f_tv^{-1}(P_v);   f is a chain of two blocks, on the halves (x1, x2) of the channels:
    y2 = x2 - G(x1), y1 = x1 - F(y2);   inverse: x1 = y1 + F(y2), x2 = y2 + G(x1);   F, G = FC, ReLU, FC

and f_vt likewise. The stream of a missing modality holds its generated prompts alone; that of an observed one its
tokens plus the prompts generated from the other. Trained on complete samples, each with either modality hidden:

    L = sum over M in {t, v} of L_task(M hidden) + KL(prediction when complete || M hidden) + 0.5 MSE(P_M, x_M)

Published: two blocks per map, these weights, a map in each layer of a two-stream tracker.

Adapted: it tracks objects, and MSE compares the generated with the real features of every layer. Here x_t and x_v are
n_p means of the observed tokens' embeddings (the j-th of n_p equal stretches), the maps work at the embedding layer,
and the 2 n_p tokens of the two streams enter before the first layer as prompts that stay. Samples that lack a modality
are trained on as well, with their task loss, and complete ones also as they are; the prediction's gradient is stopped
where it is the target of KL, as published. Labels that are not exclusive get the mean KL of Bernoulli distributions.
Left out: the first stage, which trains the tracker itself on complete pairs, since the backbone is frozen and
pretrained; the loss on x_t against f_tv^{-1}(P_v), which is zero at the layer where the prompts are generated.

Learnable parameters, with s = blocks:

    2 s (d^2 + 2 d)         maps
    + (d + k)(d + 1)        head
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone, LayerPrompts
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Published values, but for the prompt length: a tracker has a prompt for every token.

    Attributes:
        blocks: coupling blocks of a map.
        prompt_length: n_p, prompts of each modality.
        agreement: weight of the divergences KL.
        generation: weight of the generated prompts' MSE.
    """

    blocks: int = 2
    prompt_length: int = 16
    agreement: float = 1.0
    generation: float = 0.5

    def __post_init__(self):
        if self.blocks < 1 or self.prompt_length < 1:
            raise ValueError("blocks and prompt_length must be at least 1.")
        if not (self.agreement >= 0 and self.generation >= 0):
            raise ValueError("agreement and generation must be at least 0.")


class Coupling(nn.Module):
    """An additive coupling block on `[.., d]`, d even."""

    def __init__(self, dim: int):
        super().__init__()
        self.f, self.g = (nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)) for dim in [dim // 2] * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x1, x2 = x.chunk(2, dim=-1)
        y2 = x2 - self.g(x1)
        return torch.cat([x1 - self.f(y2), y2], dim=-1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        y1, y2 = y.chunk(2, dim=-1)
        x1 = y1 + self.f(y2)
        return torch.cat([x1, y2 + self.g(x1)], dim=-1)


class InvertibleMap(nn.Sequential):
    """A chain of coupling blocks."""

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        for block in reversed(self):
            y = block.inverse(y)
        return y


class InvertiblePrompter(Method):
    """Two maps, text to image and image to text, and the streams that they fill."""

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        self.options, dim = read_options(Options, config), backbone.dim
        self.to_image, self.to_text = (
            InvertibleMap(*[Coupling(dim) for _ in range(self.options.blocks)]) for _ in range(2)
        )
        self.head = make_head(config, backbone, n_classes)

    def sources(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """x_t and x_v `[B, n_p, d]`, zero where missing."""
        n, dtype = self.options.prompt_length, next(self.to_image.parameters()).dtype
        text = stretch_means(batch.text, batch.text_mask, n) * batch.has_text[:, None, None]
        image = stretch_means(batch.image, batch.image_mask, n) * batch.has_image[:, None, None]
        return text.to(dtype), image.to(dtype)

    def generated(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """P_t and P_v `[B, n_p, d]`, zero where what they are generated from is missing."""
        text, image = self.sources(batch)
        return (
            self.to_text(image) * batch.has_image[:, None, None],
            self.to_image(text) * batch.has_text[:, None, None],
        )

    def prompts(self, batch: Batch) -> LayerPrompts:
        """Both streams `[B, 2 n_p, d]`, the text's first, before the first layer."""
        streams = [x + p for x, p in zip(self.sources(batch), self.generated(batch), strict=True)]
        return LayerPrompts({1: torch.cat(streams, dim=1)})

    def logits(self, batch: Batch) -> torch.Tensor:
        tokens = batch.text, batch.text_mask, batch.image, batch.image_mask
        return classify(self.head, self.backbone.encode(*tokens, self.prompts(batch)))

    def losses(self, batch: Batch, epoch: int) -> Losses:
        logits = self.logits(batch)
        total = sample_losses(logits, batch.labels)
        at = (batch.has_text & batch.has_image).nonzero()[:, 0]
        terms = dict.fromkeys(("hidden_task", "agreement", "generation"), total.new_zeros(()))
        if len(at):
            parts = self._hidden_losses(batch.select(at), logits[at].detach())
            weights = 1.0, self.options.agreement, self.options.generation
            total = total.index_add(0, at, sum(w * part for w, part in zip(weights, parts, strict=True)))
            terms = {name: part.detach().mean() for name, part in zip(terms, parts, strict=True)}
        return Losses(total, logits, terms)

    def _hidden_losses(self, batch: Batch, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Task, KL and MSE of complete samples `[B]` each, summed over the two ways of hiding a modality."""
        hidden = [self.logits(hide(batch)) for hide in (hide_text, hide_image)]
        task = sum(sample_losses(logits, batch.labels) for logits in hidden)
        agreement = sum(divergence(target, logits, batch.labels.ndim == 2) for logits in hidden)
        pairs = zip(self.generated(batch), self.sources(batch), strict=True)
        generation = sum((p - x).square().mean((1, 2)) for p, x in pairs)
        return task, agreement, generation


def stretch_means(tokens: torch.Tensor, mask: torch.Tensor, n: int) -> torch.Tensor:
    """`[B, n, d]`: means over n equal stretches of each sample's observed tokens `[B, L, d]`, whose mask `[B, L]` is
    True; stretches share a token where they do not end between two, so that none is empty."""
    length = mask.sum(1).clamp(min=1)[:, None, None]
    rank, j = (mask.cumsum(1) - 1)[:, None], torch.arange(n, device=mask.device)[:, None]
    first, end = j * length // n, -(-(j + 1) * length // n)
    weights = ((rank >= first) & (rank < end) & mask[:, None]).to(tokens.dtype)
    return weights @ tokens / weights.sum(2, keepdim=True).clamp(min=1)


def hide_text(batch: Batch) -> Batch:
    """The batch as if no text were observed; [CLS], which carries no content, stays."""
    is_cls = torch.arange(batch.text.shape[1], device=batch.text.device) == 0
    text, mask = batch.text * is_cls[:, None], batch.text_mask & is_cls
    return replace(batch, text=text, text_mask=mask, has_text=torch.zeros_like(batch.has_text))


def hide_image(batch: Batch) -> Batch:
    """The batch as if no image were observed."""
    zero, mask = torch.zeros_like(batch.image), torch.zeros_like(batch.image_mask)
    return replace(batch, image=zero, image_mask=mask, has_image=torch.zeros_like(batch.has_image))


def divergence(target: torch.Tensor, logits: torch.Tensor, multilabel: bool) -> torch.Tensor:
    """KL(target || prediction) `[B]` of logits `[B, k]`: of the softmax, or the mean of k Bernoulli distributions."""
    if multilabel:
        pairs = [torch.stack([F.logsigmoid(z), F.logsigmoid(-z)], dim=-1) for z in (target, logits)]
        return (pairs[0].exp() * (pairs[0] - pairs[1])).sum(-1).mean(-1)
    target, logits = target.log_softmax(-1), logits.log_softmax(-1)
    return (target.exp() * (target - logits)).sum(-1)


build = InvertiblePrompter
