"""AcMAE: ActionMAE, missing modality predictive coding (Woo et al., AAAI 2023).

Each modality is one token x_m. K of the N tokens, K uniform in {0, .., N - 1}, are dropped at random in training; an
autoencoder with memory tokens predicts them from the others, and a fusion unit reads the tokens that were kept in
their own form and those that were not as predicted:

    h = encoder([mem; {x_m kept}]),    x^ = decoder([h; mask token for each x_m not kept])
    e' = fusion({x_m kept} and {x^_m not kept}),    L = CE + L_rec,    L_rec = |x_m - x^_m|^2 / d over the dropped

Published: encoder and decoder of 2 layers and a fusion transformer of 4, pre-norm, 8 heads, MLPs 4 times as wide;
1 memory token; both losses of weight 1; targets normalised; learning rate and weight decay 1e-4.
Adapted: N = 2 (text and image), and the frozen backbone's output on one modality alone is its token, normalised at
once (mean 0, variance 1), so that tokens and targets are alike. Learning rate and decay are the config's. Sine
positions become one learned vector per modality, as two tokens have no order. K is drawn per complete sample, not per
batch; a missing modality counts as dropped but has no target. The head reads e + e', so that the method keeps the
backbone's own fusion; where a token is dropped, e is the output on the other modality alone, as where it is missing.
Branches start at 0 and e' passes a norm whose gain does too: with the published start and none, at ten times the
published learning rate, e' grew into a large constant that saturated the pooling layer within an epoch.
Where the public code departs from the paper (it fuses encoder or decoder outputs in the place of the kept tokens, and
the memory token in the place of the first modality if nothing is dropped), the paper is followed.
Left out: the encoders of frames and their temporal transformers (there is one output per modality, and it is frozen),
label smoothing 0.1 (the loss is that of all methods), augmentation.

Learnable parameters, with n = encoder_layers + decoder_layers + fusion_layers:

    n (12 d^2 + 13 d)              layers
    + (d + 7) d                    three norms and the prediction
    + (memory_tokens + 4) d        memory, mask and class token, two modality vectors
    + (d + k)(d + 1)               head
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone
from anga.baselines.options import read_options
from anga.config import Config
from anga.errors import AngaError
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        encoder_layers, decoder_layers, fusion_layers: depths.
        heads: attention heads; they must divide the backbone's width.
        memory_tokens: learned tokens that the autoencoder always sees.
        reconstruction_weight: of L_rec.
    """

    encoder_layers: int = 2
    decoder_layers: int = 2
    fusion_layers: int = 4
    heads: int = 8
    memory_tokens: int = 1
    reconstruction_weight: float = 1.0

    def __post_init__(self):
        if min(self.encoder_layers, self.decoder_layers, self.fusion_layers, self.heads, self.memory_tokens) < 1:
            raise ValueError("all numbers of layers, heads and memory_tokens must be at least 1.")
        if not self.reconstruction_weight >= 0:
            raise ValueError(f"reconstruction_weight must not be negative, as {self.reconstruction_weight} is.")


class Layer(nn.Module):
    """A pre-norm transformer layer on `[B, L, d]`; tokens see those where visible `[B, L]` is True."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        for first, last in ((self.qkv, self.out), (self.mlp[0], self.mlp[2])):
            nn.init.xavier_uniform_(first.weight)
            for values in (first.bias, last.weight, last.bias):  # each branch starts at 0
                nn.init.zeros_(values)

    def forward(self, tokens: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(self.attention_norm(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, L, d / heads]
        scores = (query @ key.mT) * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~visible[:, None, None, :], float("-inf")).softmax(dim=-1).to(value.dtype)
        tokens = tokens + self.out((weights @ value).transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.mlp_norm(tokens))


class Layers(nn.Module):
    """Layers one after the other, then a norm."""

    def __init__(self, dim: int, heads: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        visible = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if visible is None else visible
        for layer in self.layers:
            tokens = layer(tokens, visible)
        return self.norm(tokens)


class ActionMae(Method):
    """An autoencoder over modality tokens `[B, 2, d]`, text's first, and a fusion transformer."""

    reads = "pooled"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options, dim = read_options(Options, config), backbone.dim
        if dim % options.heads:
            raise AngaError(
                f"method_options of acmae: heads must divide the width {dim} of {backbone.name}, not {options.heads}."
            )
        self.weight = options.reconstruction_weight
        self.encoder = Layers(dim, options.heads, options.encoder_layers)
        self.decoder = Layers(dim, options.heads, options.decoder_layers)
        self.predict = nn.Linear(dim, dim)
        self.fusion = Layers(dim, options.heads, options.fusion_layers)
        nn.init.zeros_(self.fusion.norm.weight)
        nn.init.xavier_uniform_(self.predict.weight)
        self.memory = nn.Parameter(0.02 * torch.randn(options.memory_tokens, dim))
        self.mask_token, self.class_token = (nn.Parameter(0.02 * torch.randn(dim)) for _ in range(2))
        self.modality = nn.Parameter(0.02 * torch.randn(2, dim))
        self.head = make_head(config, backbone, n_classes)

    def reconstruct(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """x^ `[B, 2, d]` of tokens `[B, 2, d]`, from those alone where kept `[B, 2]` is True."""
        memory = self.memory.expand(len(tokens), -1, -1)
        visible = F.pad(kept, (memory.shape[1], 0), value=True)
        encoded = self.encoder(torch.cat([memory, tokens + self.modality], dim=1), visible)
        memory, encoded = encoded[:, : memory.shape[1]], encoded[:, memory.shape[1] :]
        filled = torch.where(kept[..., None], encoded, self.mask_token.to(encoded.dtype)) + self.modality
        return self.predict(self.decoder(torch.cat([memory, filled], dim=1))[:, memory.shape[1] :]).to(tokens.dtype)

    def fuse(self, batch: Batch, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """e + e' `[B, d]` from the modalities that are kept `[B, 2]`, and all tokens as predicted `[B, 2, d]`."""
        tokens = modality_tokens(batch)
        predicted = self.reconstruct(tokens, kept)
        both = torch.where(kept[..., None], tokens, predicted) + self.modality
        fused = self.fusion(torch.cat([self.class_token.expand(len(both), 1, -1), both], dim=1))[:, 0]
        return joint_output(batch, kept) + fused, predicted

    def losses(self, batch: Batch, epoch: int) -> Losses:
        observed = observed_modalities(batch)
        kept = observed & ~drop(self.draws(batch.rows, epoch, 2), observed)
        fused, predicted = self.fuse(batch, kept)
        logits = classify(self.head, fused)
        errors = (predicted - modality_tokens(batch)).square().mean(dim=-1)  # [B, 2]
        dropped = observed & ~kept
        reconstruction = (errors * dropped).sum(dim=1)
        mean = (reconstruction.sum() / dropped.sum().clamp(min=1)).detach()
        total = sample_losses(logits, batch.labels) + self.weight * reconstruction
        return Losses(total, logits, {"reconstruction": mean})

    def logits(self, batch: Batch) -> torch.Tensor:
        return classify(self.head, self.fuse(batch, observed_modalities(batch))[0])


def observed_modalities(batch: Batch) -> torch.Tensor:
    """bool `[B, 2]`: text, image."""
    return torch.stack([batch.has_text, batch.has_image], dim=1)


def modality_tokens(batch: Batch) -> torch.Tensor:
    """x `[B, 2, d]`: the frozen output on each modality alone, mean 0 and variance 1; zero where it is missing."""
    return F.layer_norm(torch.stack([batch.pooled_text, batch.pooled_image], dim=1), batch.pooled_text.shape[-1:])


def joint_output(batch: Batch, kept: torch.Tensor) -> torch.Tensor:
    """e `[B, d]`, the frozen output on what is kept `[B, 2]`."""
    alone = torch.where(kept[:, :1], batch.pooled_text, batch.pooled_image)
    return torch.where((kept == observed_modalities(batch)).all(dim=1, keepdim=True), batch.pooled, alone)


def drop(draws: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """bool `[B, 2]`: what a complete sample loses, nothing (draws `[B, 2]`: first below 1/2) or either modality."""
    loses = observed.all(dim=1) & (draws[:, 0] >= 0.5)
    text = draws[:, 1] < 0.5
    return loses[:, None] & torch.stack([text, ~text], dim=1)


build = ActionMae
