"""RAGPT: retrieval-augmented dynamic prompt tuning (Lang et al., AAAI 2025).

A generator per modality that can be missing recovers its tokens from the mean F of the K retrieved samples' tokens:

    X = FFT(F),  F~ = IFFT(W * X),  F^ = LayerNorm(F + F~) W_l + b_l        FFT over tokens, W complex [n, d]

A prompter with projections f^Q, f^K, f^V, shared by both modalities, turns each modality's tokens T (recovered where
missing) and retrieved tokens R_1 .. R_K into one prompt; the transformer reads both prompts from layer b on:

    p = mean over k and over T's tokens of softmax(f^Q(T) f^K(R_k)^T / sqrt(d)) f^V(R_k)

With `label_prompts` the mean E[retrieved labels] of learned label embeddings E `[k, d]` is a third prompt, and the
classifier becomes E MLP([pooled; mean]). That is off by default: it uses retrieved labels at test time as well, which
no other method sees. Without it the classifier is every method's.

With the config's `integer_mask` the published defect is back: until August 2025 its code combined x * has + F^ * ~has
with integers, where ~1 = -2 and ~0 = -1. In a modality that can be missing, an observed x becomes x - 2 F^, and a lost
one -F^; the other modality stays as it is.

Published: one prompt per modality and per label mean, W drawn from a complex normal distribution, AdamW at 1e-3
with weight decay 2e-2, K = 3, prompts from the first layer on. Adapted: rates, decay, K and b are the config's, as for
every method. Padding enters neither F nor attention (the public code
masks none), and a text's F is zero-padded to max_text_length, so that its batch does not matter. [CLS] is read out (the
public code pools position 0, which is a prompt). f^K has no bias: softmax cancels it.
Left out: dropout of 0.2 in the generator, as everywhere.

Learnable parameters, with n_t = max_text_length:

    2 (n_t + n_v) d + 2 (d^2 + 3 d)          generators, one for each modality that can be missing
    + 3 d^2 + 2 d                            prompter
    + (d + k)(d + 1)                         head
    + label_prompts (6 d^2 + 7 d - k)        with label prompts (1, else 0): MLP; E has no bias
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from anga.backbone import Backbone
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Method, classify, make_head
from anga.retriever import reconstruct
from anga.tokens import Batch

RETRIEVES = True


@dataclass(frozen=True)
class Options:
    """Published values, but for the label prompts, which the publication has.

    Attributes:
        label_prompts: whether retrieved labels are used, at test time too.
    """

    label_prompts: bool = False


class Generator(nn.Module):
    """Recovers a modality's tokens from the mean of the retrieved ones; `length` is n, the tokens that W spans."""

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.length = length
        self.filter = nn.Parameter(torch.randn(length, dim, 2) / math.sqrt(2))  # W, real and imaginary parts
        self.norm, self.linear = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def filtered(self, tokens: torch.Tensor) -> torch.Tensor:
        """F~ `[B, n_t, d]` of F `[B, n_t, d]`: a circular convolution over n tokens, those beyond n_t being zero."""
        weight = torch.view_as_complex(self.filter)
        spectrum = torch.fft.fft(tokens, n=self.length, dim=1)
        return torch.fft.ifft(weight * spectrum, dim=1).real[:, : tokens.shape[1]]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(tokens + self.filtered(tokens)))


class Prompter(nn.Module):
    """Context-aware prompts; f^K moves to the queries and f^V behind the means, which gives the same for less."""

    def __init__(self, dim: int):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)

    def forward(self, target, target_mask, pool, pool_mask) -> torch.Tensor:
        """A prompt `[B, d]`.

        Args:
            target: `[B, n, d]`, the sample's tokens; `target_mask` bool `[B, n]`.
            pool: `[B, K, n, d]`, the retrieved samples' tokens; `pool_mask` bool `[B, K, n]`.
        """
        query = self.query(target) @ self.key.weight
        score = query[:, None] @ pool.mT / math.sqrt(target.shape[-1])
        attention = score.masked_fill(~pool_mask[:, :, None], -torch.inf).softmax(-1).to(target.dtype)
        weight = target_mask.to(target.dtype)
        weight = (weight / weight.sum(1, keepdim=True))[:, None, None]
        return self.value((weight @ attention @ pool).squeeze(2).mean(1))


class LabelHead(nn.Module):
    """The published classifier: label embeddings E `[k, d]` against a projection of pooled output and label prompt."""

    def __init__(self, pooler: nn.Module, dim: int, n_classes: int):
        super().__init__()
        self.pooler, self.embeddings = pooler, nn.Parameter(torch.randn(n_classes, dim))
        wide = 2 * dim
        self.project = nn.Sequential(nn.Linear(wide, wide), nn.LayerNorm(wide), nn.GELU(), nn.Linear(wide, dim))
        for layer in (self.project[0], self.project[3]):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def prompt(self, labels: torch.Tensor) -> torch.Tensor:
        """Mean embedding `[B, d]` of retrieved labels, int `[B, 2K]` or 0 and 1 `[B, 2K, k]`."""
        exclusive = labels.ndim == 2
        chosen = self.embeddings[labels] if exclusive else labels.to(self.embeddings.dtype) @ self.embeddings
        return chosen.mean(1)

    def forward(self, output: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """Logits `[B, k]` of an output `[B, d]`."""
        return self.project(torch.cat([self.pooler(output), prompt], 1)) @ self.embeddings.T


class Ragpt(Method):
    """Generators of what can be missing, prompts from what was retrieved, and a head."""

    reads = "pools"
    whole_batches = True

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        lengths = {"text": config.max_text_length, "image": backbone.vilt.embeddings.position_embeddings.shape[1]}
        self.generators = nn.ModuleDict({name: Generator(lengths[name], backbone.dim) for name in config.may_lack})
        self.prompter = Prompter(backbone.dim)
        self.head = make_head(config, backbone, n_classes)
        self.label_prompts = read_options(Options, config).label_prompts
        if self.label_prompts:
            self.head = LabelHead(self.head[0], backbone.dim, n_classes)
        self.prompt_layer, self.integer_mask = config.prompt_layer, config.integer_mask

    def recovered(self, name: str, tokens, has, pool, pool_mask) -> torch.Tensor:
        """A batch's tokens `[B, n, d]` with this method's reconstruction in the place of the plain mean.

        They arrive as x * has + mean * lost, where lost is ~has: of booleans, or of integers if the config says so.
        What no sample can lack stays.
        """
        if name not in self.generators:
            return tokens
        lost = (~has.long() if self.integer_mask else ~has)[:, None, None]
        mean, _ = reconstruct(pool, pool_mask)
        return tokens + lost * (self.generators[name](mean) - mean)

    def logits(self, batch: Batch) -> torch.Tensor:
        every = torch.ones(batch.image_pool.shape[:3], dtype=torch.bool, device=batch.image_pool.device)
        texts, images = (batch.text_pool, batch.text_pool_mask), (batch.image_pool, every)
        text = self.recovered("text", batch.text, batch.has_text, *texts)
        image = self.recovered("image", batch.image, batch.has_image, *images)
        prompts = [self.prompter(text, batch.text_mask, *texts), self.prompter(image, batch.image_mask, *images)]
        if self.label_prompts:
            prompts = [self.head.prompt(batch.pool_labels), *prompts]
        tokens = text, batch.text_mask, image, batch.image_mask
        output = self.backbone.encode(*tokens, torch.stack([p.to(text.dtype) for p in prompts], 1), self.prompt_layer)
        if self.label_prompts:
            return classify(lambda pooled: self.head(pooled, prompts[0]), output)
        return classify(self.head, output)


build = Ragpt
