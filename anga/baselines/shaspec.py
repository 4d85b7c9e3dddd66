"""ShaSpec: shared and specific features (Wang, Chen, Ma, Avery, Hull and Carneiro, CVPR 2023).

One encoder for all modalities and one for each, fused by a residual:

    r^m = f_sha(x^m)    s^m = f_spe^m(x^m)        shared and specific features of modality m
    f^m = f_proj([r^m; s^m]) + r^m        where m is there
    f^m = mean of r^n over the n that are there        where it is not
    L = L_task(f_dec([f^1; ..; f^N])) + alpha |r^t - r^v|_1 + beta CE(f_dcl(s^m), m)

The second term aligns the distributions of shared features, the third keeps specific ones apart: from them a linear
classifier tells the modality. Published: alpha = 0.1, beta = 0.02.
Adapted: the encoders, convolutional for images and volumes, are two layers with a leaky ReLU on the frozen backbone's
output for the modality alone, at its width d; f_proj and the decoder are linear. The shared head reads the backbone's
joint output plus the decoder's, normalised (`make_fusion`): no method is denied the backbone's own fusion. Distances
are means over features, of complete samples, and the modality loss is a mean over what a sample has; both are averaged
over all samples, so that samples do not touch each other.
Left out: the adversarial form of alignment, one of the alternatives the paper names, its code having L1 alone; SGD;
the second training of the released code, which goes on from the first and drops modalities at random.

Learnable parameters:

    6 d (d + 1)             encoders
    + 2 d (2 d + 2)         f_proj and decoder
    + 2 (d + 1)             modality classifier
    + (d + k)(d + 1)        head
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anga.backbone import Backbone
from anga.baselines.fusion import make_fusion, widen
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        alignment_weight: alpha, of the distance between shared features.
        modality_weight: beta, of the modality classifier on specific features.
    """

    alignment_weight: float = 0.1
    modality_weight: float = 0.02

    def __post_init__(self):
        if self.alignment_weight < 0 or self.modality_weight < 0:
            raise ValueError("alignment_weight and modality_weight must be at least 0.")


@dataclass
class Features:
    """Shared, specific and fused features `[B, 2, d]`, text first; `has` bool `[B, 2]`, which modality is there."""

    shared: Tensor
    specific: Tensor
    fused: Tensor
    has: Tensor


class ShaSpec(Method):
    """Shared features stand in for what is missing."""

    reads = "pooled"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        self.options, d = read_options(Options, config), backbone.dim
        self.shared = _encoder(d)
        self.specific = nn.ModuleList(_encoder(d) for _ in range(2))
        self.project = nn.Linear(2 * d, d)
        self.decode = make_fusion(2 * d, d)
        self.tell_modality = nn.Linear(d, 2)
        self.head = make_head(config, backbone, n_classes)

    def features(self, batch: Batch) -> Features:
        """All features; shared and specific ones of what is missing are zero."""
        has = torch.stack([batch.has_text, batch.has_image], 1)
        outputs = batch.pooled_text, batch.pooled_image
        shared = self.shared(torch.stack(outputs, 1)) * has[..., None]
        specific = [encode(x) for encode, x in zip(self.specific, outputs, strict=True)]
        specific = torch.stack(specific, 1) * has[..., None]
        residual = self.project(torch.cat([shared, specific], 2)) + shared
        stand_in = shared.sum(1, keepdim=True) / has.sum(1)[:, None, None]
        return Features(shared, specific, torch.where(has[..., None], residual, stand_in), has)

    def logits(self, batch: Batch) -> Tensor:
        return self._decode(batch, self.features(batch))

    def losses(self, batch: Batch, epoch: int) -> Losses:
        features = self.features(batch)
        logits = self._decode(batch, features)
        distance, modality = shared_distance(features), self._modality_loss(features)
        total = sample_losses(logits, batch.labels)
        total = total + self.options.alignment_weight * distance + self.options.modality_weight * modality
        return Losses(total, logits, {"shared": distance.mean().detach(), "specific": modality.mean().detach()})

    def _decode(self, batch: Batch, features: Features) -> Tensor:
        return classify(self.head, batch.pooled + self.decode(features.fused.flatten(1)))

    def _modality_loss(self, features: Features) -> Tensor:
        """How badly specific features tell their modality `[B]`, mean over those that are there."""
        told = classify(self.tell_modality, features.specific)
        modality = torch.arange(2, device=told.device).expand(len(told), 2)
        losses = F.cross_entropy(told.flatten(0, 1), modality.flatten(), reduction="none").view_as(features.has)
        return (losses * features.has).sum(1) / features.has.sum(1)


def shared_distance(features: Features) -> Tensor:
    """Mean absolute difference of the two shared features `[B]`, float32 or wider; zero where one is not there."""
    text, image = widen(features.shared).unbind(1)
    return (text - image).abs().mean(1) * features.has.all(1)


def _encoder(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim))


build = ShaSpec
