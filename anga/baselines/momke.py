"""MoMKE: mixture of modality knowledge experts (Xu, Jiang and Liang, ACM MM 2024).

One expert per modality. In the first stage each learns from its own modality alone, with a classifier of its own; in
the second, every modality that is there passes through all experts, and a router mixes what they say:

    stage 1: h_m = E_m(x_m),  L = sum_m l(C_m h_m, y)
    stage 2: h_m = sum_e w_{m,e} E_e(x_m),  w_m = softmax(R_m(x_m)),  x_m = W_m (input of modality m)
             z = [h_t; h_v],  fused = z + relu(W z),  L = l(C fused, y)        h_m = 0 where m is missing

Published: width 256, 4 layers in an expert, hidden layers as wide as their input, both stages of equal length (100
and 100, or 150 and 150 epochs). Here the first stage has 20, as many as a run has by default.

Adapted: in the first stage an expert sees what the missing table leaves (the released code has every modality there).
x_m starts from the backbone's output on modality m alone. A sample is one vector per modality instead of a
conversation, and attention over a single token is the token's own value whatever query and key are: a layer of an
expert is x + v + MLP(v) with v = V x, the published one without them. The classifier reads
pooled + LayerNorm(W_o fused), so that the backbone's own fusion is not denied to this method; pooled is normalised
too, and without the same scale trained experts drown it and saturate the pooling layer's tanh.
Left out: query and key (see above), dropout.

Learnable parameters, with w = width, L = depth:

    2 w (d + 1)                          inputs
    + 6 L w (w + 1)                      experts
    + 2 k (w + 1)                        their classifiers
    + 2 (w + 2)(w + 1)                   routers
    + 2 w (2 w + 1) + d (2 w + 3)        fusion
    + (d + k)(d + 1)                     head
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone
from anga.baselines.fusion import make_fusion
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Classifier, Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch

MODALITIES = ("text", "image")


@dataclass(frozen=True)
class Options:
    """Published values, but for the number of epochs.

    Attributes:
        expert_epochs: epochs of the first stage.
        width: w, of what the experts read and write.
        depth: L, layers of an expert.
    """

    expert_epochs: int = 20
    width: int = 256
    depth: int = 4

    def __post_init__(self):
        if min(self.expert_epochs, self.width, self.depth) < 1:
            raise ValueError("expert_epochs, width and depth must be at least 1.")


class ExpertLayer(nn.Module):
    """x + v + MLP(v) with v = V x: a transformer layer of the published form on a single token."""

    def __init__(self, width: int):
        super().__init__()
        self.value = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.value(x)
        return x + value + self.mlp(value)


class MoMKE(Method):
    """Experts, their classifiers, routers and fusion."""

    reads = "pooled"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options = read_options(Options, config)
        self.pretrain_epochs, width = options.expert_epochs, options.width
        self.inputs = _for_each(lambda: nn.Linear(backbone.dim, width))
        self.experts = _for_each(lambda: nn.Sequential(*(ExpertLayer(width) for _ in range(options.depth))))
        self.expert_heads = _for_each(lambda: Classifier(width, n_classes))
        self.routers = _for_each(
            lambda: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(MODALITIES)))
        )
        self.mix = nn.Linear(2 * width, 2 * width)
        self.out = make_fusion(2 * width, backbone.dim)
        self.head = make_head(config, backbone, n_classes)

    def learned(self, epoch: int) -> dict[str, nn.Parameter]:
        first, second = ("inputs.", "experts.", "expert_heads."), ("inputs.", "experts.", "routers.", "mix.", "out.")
        names = first if epoch < self.pretrain_epochs else (*second, "head.")
        return {name: p for name, p in self.trainable().items() if name.startswith(names)}

    def losses(self, batch: Batch, epoch: int) -> Losses:
        if epoch >= self.pretrain_epochs:
            return super().losses(batch, epoch)
        logits = {m: classify(self.expert_heads[m], self.experts[m](x)) for m, x in self._read(batch).items()}
        losses = {m: sample_losses(logits[m], batch.labels) * has for m, has in _has(batch).items()}
        counts = {m: has.sum().clamp_min(1) for m, has in _has(batch).items()}
        terms = {f"{m}_expert": (loss.sum() / counts[m]).detach() for m, loss in losses.items()}
        alone = sum(logits[m] * has[:, None] for m, has in _has(batch).items())
        return Losses(sum(losses.values()), alone / sum(_has(batch).values())[:, None], terms)

    def weights(self, x: torch.Tensor, modality: str) -> torch.Tensor:
        """Router weights w_m `[B, experts]` of a modality's input `[B, w]`; they sum to one."""
        return self.routers[modality](x).softmax(1)

    def fused(self, batch: Batch) -> torch.Tensor:
        """The mixed modalities, fused `[B, d]`."""
        has = _has(batch)
        parts = []
        for modality, x in self._read(batch).items():
            said = torch.stack([self.experts[expert](x) for expert in MODALITIES], 1)
            mixed = (self.weights(x, modality)[..., None] * said).sum(1)
            parts.append(mixed * has[modality][:, None])
        z = torch.cat(parts, 1)
        return self.out(z + F.relu(self.mix(z)))

    def logits(self, batch: Batch) -> torch.Tensor:
        return classify(self.head, batch.pooled + self.fused(batch))

    def _read(self, batch: Batch) -> dict[str, torch.Tensor]:
        """x_m `[B, w]` of each modality, also where it is missing (to be masked by the reader)."""
        return {"text": self.inputs["text"](batch.pooled_text), "image": self.inputs["image"](batch.pooled_image)}


def _for_each(make) -> nn.ModuleDict:
    """One module of a kind per modality."""
    return nn.ModuleDict({modality: make() for modality in MODALITIES})


def _has(batch: Batch) -> dict[str, torch.Tensor]:
    """Which samples have each modality, bool `[B]`."""
    return {"text": batch.has_text, "image": batch.has_image}


build = MoMKE
