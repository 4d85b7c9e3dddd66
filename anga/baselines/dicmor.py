"""DiCMoR: distribution-consistent modal recovering (Wang, Cui and Li, ICCV 2023).

A normalising flow F_m per modality maps features to one latent space, where every class has a Gaussian of its own. What
is missing is recovered from what is there (o) by the one flow forward and the other backward:

    log p(x_m | y) = log N(F_m(x_m); mu_y, diag(sigma_y)^2) + log |det dF_m / dx_m|
    x^_m = R_m(F_m^-1(F_o(x_o))),    L = CE + a (sum_m -log p(x_m | y) + |x_m - x^_m|^2)

with -log p in bits per dimension, not below 0, the error averaged over dimensions, and R_m a residual network with
channel attention. Flows consist of affine couplings [u, v] -> [u, (v + t(u)) s(u)], s = sigmoid(. + 2).
Published (CMU-MOSEI): features of width w = 64, 32 couplings with f = 64 hidden units, R_m of width c = 2 w and
b = 20 blocks with reduction 16, a = 0.1, learning rate 1e-4; training starts from weights learned on complete data.
Adapted: x_m is a linear map of the frozen output on modality m alone (w at most d); it learns by the classification
alone, as a likelihood could grow by shrinking what it is given; flows, as published, by the likelihood alone. The head
reads the backbone's own joint output e plus the fused features. Only complete samples have targets, in both directions.
A set of labels has the even mixture of its classes' Gaussians, the empty one N(0, I). Halves swap after each coupling
(the public code's flows never change the first half). The bound 0 holds per sample, not per batch. The first stage, on
complete samples, has a fixed length; learning rate and decay are the config's.
Left out: the cross-modal transformers before the published fusion (attention over the one feature of the other
modality has the weight 1), the map that merges two sources (there is one), dropout, gradient clipping.

Learnable parameters, with w = min(width, d) // 2 * 2, l = couplings, f = hidden, c = 2 w, b = blocks,
r = max(1, c // 16):

    2 (d + 1) w                                   features
    + 2 l ((w / 2 + 1) f + (f + 1)(f + w))        couplings
    + 2 k w                                       Gaussians
    + 2 ((w + 1) c + b (2 (c + 1) c + (c + 1) r + (r + 1) c) + (c + 1)(c + w))        R_m
    + (c + 1)(2 c + d)                            fusion
    + (d + k)(d + 1)                              head
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anga.backbone import Backbone
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch

TERMS = ("bits_text", "bits_image", "recovery")


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        width: w; the backbone's where that is smaller.
        couplings, hidden: of each flow, and units of each coupling's two hidden layers.
        blocks, weight: b and a.
        pretrain_epochs: of the first stage (published: until validation stops improving).
    """

    width: int = 64
    couplings: int = 32
    hidden: int = 64
    blocks: int = 20
    weight: float = 0.1
    pretrain_epochs: int = 5

    def __post_init__(self):
        if self.width % 2 or min(self.width, self.couplings, self.hidden, self.blocks) < 1:
            raise ValueError("width must be even, and width, couplings, hidden and blocks at least 1.")
        if not self.weight >= 0 or self.pretrain_epochs < 0:
            raise ValueError("weight and pretrain_epochs must not be negative.")


class Flow(nn.Module):
    """Affine couplings on `[B, w]` whose halves swap; the identity but for a constant factor before it learns."""

    def __init__(self, width: int, couplings: int, hidden: int):
        super().__init__()
        self.nets = nn.ModuleList(make_coupling(width, hidden) for _ in range(couplings))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z `[B, w]` and log |det dz / dx| `[B]`."""
        log_det = x.new_zeros(len(x))
        for net in self.nets:
            u, v = x.chunk(2, dim=1)
            raw, shift = net(u).chunk(2, dim=1)
            log_scale = F.logsigmoid(raw + 2)
            x = torch.cat([(v + shift) * log_scale.exp(), u], dim=1)
            log_det = log_det + log_scale.sum(dim=1)
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """x `[B, w]` of z `[B, w]`."""
        for net in reversed(self.nets):
            v, u = z.chunk(2, dim=1)
            raw, shift = net(u).chunk(2, dim=1)
            z = torch.cat([u, v * (-F.logsigmoid(raw + 2)).exp() - shift], dim=1)
        return z


def make_coupling(width: int, hidden: int) -> nn.Sequential:
    """u `[B, w / 2]` -> raw scale and shift `[B, w]`, zero before it learns."""
    layers = [nn.Linear(width // 2, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, width)]
    for layer, deviation in zip(layers, (0.05, 0.05, 0.0), strict=True):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class Residual(nn.Module):
    """x + body(x); where there is a gate (channel attention), it weighs the channels of body(x)."""

    def __init__(self, *body: nn.Module, gate: nn.Module | None = None):
        super().__init__()
        self.body, self.gate = nn.Sequential(*body), gate

    def forward(self, x: Tensor) -> Tensor:
        change = self.body(x)
        return x + (change if self.gate is None else change * self.gate(change))


def make_refiner(width: int, blocks: int) -> nn.Sequential:
    """R_m: what the flows recovered `[B, w]` -> features `[B, w]`."""
    c, few = 2 * width, max(1, width // 8)

    def block() -> Residual:
        gate = nn.Sequential(nn.Linear(c, few), nn.ReLU(), nn.Linear(few, c), nn.Sigmoid())
        return Residual(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c), gate=gate)

    body = Residual(*(block() for _ in range(blocks)), nn.Linear(c, c))
    return nn.Sequential(nn.Linear(width, c), body, nn.Linear(c, width))


class Dicmor(Method):
    """Flows between the features of two modalities, text's first, by way of a latent space with class Gaussians."""

    reads = "pooled"
    pretrain_subset = "complete"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options, dim = read_options(Options, config), backbone.dim
        width = min(options.width, dim - dim % 2)
        self.weight, self.pretrain_epochs = options.weight, options.pretrain_epochs
        self.features = nn.ModuleList(nn.Linear(dim, width) for _ in range(2))
        self.flows = nn.ModuleList(Flow(width, options.couplings, options.hidden) for _ in range(2))
        self.refiners = nn.ModuleList(make_refiner(width, options.blocks) for _ in range(2))
        self.means, self.log_deviations = (nn.Parameter(torch.zeros(n_classes, width)) for _ in range(2))
        c = 2 * width
        self.fusion = nn.Sequential(Residual(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c)), nn.Linear(c, dim))
        self.head = make_head(config, backbone, n_classes)

    def learned(self, epoch: int) -> dict[str, nn.Parameter]:
        """All but R_m in the first stage, where nothing is recovered."""
        first = epoch < self.pretrain_epochs
        return {name: p for name, p in self.trainable().items() if not (first and name.startswith("refiners."))}

    def encode(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """x_m and F_m(x_m) `[B, w]` and log-determinants `[B]`, constant where m is missing; F does not move x."""
        pooled = batch.pooled_text, batch.pooled_image
        features = [feature(x).to(x.dtype) for feature, x in zip(self.features, pooled, strict=True)]
        with torch.autocast(pooled[0].device.type, enabled=False):  # in bfloat16 a flow would not invert
            mapped = [flow(x.detach()) for flow, x in zip(self.flows, features, strict=True)]
        return features, [z for z, _ in mapped], [log_det for _, log_det in mapped]

    def recover(self, latents: list[Tensor]) -> list[Tensor]:
        """x^_text from the image's latent vectors `[B, w]`, and x^_image from the text's; the flows do not learn."""
        with torch.no_grad(), torch.autocast(latents[0].device.type, enabled=False):
            crossed = [flow.inverse(z) for flow, z in zip(self.flows, reversed(latents), strict=True)]
        return [refiner(x).to(x.dtype) for refiner, x in zip(self.refiners, crossed, strict=True)]

    def fuse(self, batch: Batch, features: list[Tensor], recovered: list[Tensor]) -> Tensor:
        """e plus the fused features `[B, d]`, recovered ones in the place of those that are missing."""
        has = batch.has_text, batch.has_image
        parts = [torch.where(h[:, None], x, y) for h, x, y in zip(has, features, recovered, strict=True)]
        return batch.pooled + self.fusion(torch.cat(parts, dim=1))

    def losses(self, batch: Batch, epoch: int) -> Losses:
        features, latents, log_dets = self.encode(batch)
        recovered = self.recover(latents) if epoch >= self.pretrain_epochs else [x.detach() for x in features]
        logits = classify(self.head, self.fuse(batch, features, recovered))
        errors = [(x.detach() - y).square().mean(dim=1) for x, y in zip(features, recovered, strict=True)]
        bits = [self.bits(z, log_det, batch.labels) for z, log_det in zip(latents, log_dets, strict=True)]
        applies = batch.has_text, batch.has_image, batch.has_text & batch.has_image
        own = [torch.where(where, values, 0) for values, where in zip([*bits, sum(errors) / 2], applies, strict=True)]
        counts = [where.sum().clamp(min=1) for where in applies]
        terms = {n: (x.sum() / count).detach() for n, x, count in zip(TERMS, own, counts, strict=True)}
        return Losses(sample_losses(logits, batch.labels) + self.weight * sum(own), logits, terms)

    def bits(self, latent: Tensor, log_det: Tensor, labels: Tensor) -> Tensor:
        """-log2 p(x_m | y) / w, not below 0, `[B]`."""
        log_p = class_log_density(latent, self.means, self.log_deviations, labels) + log_det
        return (-log_p / (latent.shape[1] * math.log(2))).clamp(min=0)

    def logits(self, batch: Batch) -> Tensor:
        features, latents, _ = self.encode(batch)
        return classify(self.head, self.fuse(batch, features, self.recover(latents)))


def class_log_density(z: Tensor, means: Tensor, log_deviations: Tensor, labels: Tensor) -> Tensor:
    """log p(z | y) `[B]` of z `[B, w]` under the Gaussians `[k, w]` of labels `[B]`, or the even mixture of those of
    labels `[B, k]`; N(0, I) where there is no label."""
    own = F.one_hot(labels, len(means)) if labels.ndim == 1 else labels
    own = torch.cat([own > 0, (own == 0).all(dim=1, keepdim=True)], dim=1)  # [B, k + 1]
    mu, log_sd = F.pad(means, (0, 0, 0, 1)), F.pad(log_deviations, (0, 0, 0, 1))
    scaled = (z[:, None] - mu) * torch.exp(-log_sd)
    log_n = -(0.5 * scaled.square() + log_sd + 0.5 * math.log(2 * math.pi)).sum(dim=2)
    return log_n.masked_fill(~own, float("-inf")).logsumexp(dim=1) - own.sum(dim=1).log()


build = Dicmor
