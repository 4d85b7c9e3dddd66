"""MMDS: modal-mixup and deep supervision (Yang et al., MIDL 2023).

Two branches, one per modality, each supervised by a classifier of its own, meet in a fusion. Incomplete samples are
put together into complete ones, and the network learns from these as well:

    h_m = f_m(x_m),  fused = W [h_t; h_v]        h_m = 0 where m is missing
    mixup: a sample i without modality m takes that of a random j: x~_i = (x_i of what it has, x_j of what it lacks)
    L = l(fused_i) + l(fused of x~_i) + sum_m l(C_m h_m)        the last over what sample i has

The published abstract, which this follows, gives these ideas, not sizes or weights: two layers of width d per branch,
weights of 1 and the rules below are ours.

Adapted: a branch starts from the backbone's output on its modality alone. j is drawn from the samples of the batch
that have what i lacks and i's class (labels that are not exclusive: at least one in common), and the loss of x~_i is
the mean of those under both labels. Complete samples may lend too: where only texts are ever missing, no incomplete
sample could lend one. The classifier reads pooled + LayerNorm(fused), so that the backbone's own fusion is not denied
to this method; pooled is normalised too, and neither drowns the other. For x~_i pooled stays that of i: the joint
output of two samples' tokens is not known beforehand. An incomplete sample also learns as it is, which is how it is
met at test time, where nobody lends anything.
Left out: brain graphs and the graph convolutions over them.

Learnable parameters:

    4 d (d + 1)             branches
    + 2 k (d + 1)           their classifiers
    + d (2 d + 3)           fusion
    + (d + k)(d + 1)        head
"""

from dataclasses import dataclass

import torch
from torch import nn

from anga.backbone import Backbone
from anga.baselines.fusion import make_fusion
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Classifier, Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Ours; none are published in the abstract.

    Attributes:
        mixup_weight: weight of the loss of samples put together.
        supervision_weight: weight of each branch's own loss.
    """

    mixup_weight: float = 1.0
    supervision_weight: float = 1.0

    def __post_init__(self):
        if self.mixup_weight < 0 or self.supervision_weight < 0:
            raise ValueError("mixup_weight and supervision_weight must not be negative.")


class Branch(nn.Module):
    """Encoder f_m of a modality, and the classifier that supervises it."""

    def __init__(self, dim: int, n_classes: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.classifier = Classifier(dim, n_classes)

    def forward(self, x: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
        """h_m `[B, d]`, zero where the modality is missing."""
        return self.encoder(x) * has[:, None]


class MMDS(Method):
    """Two branches and their fusion."""

    reads = "pooled"
    couples_samples = True

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        self.options = read_options(Options, config)
        self.text, self.image = Branch(backbone.dim, n_classes), Branch(backbone.dim, n_classes)
        self.fusion = make_fusion(2 * backbone.dim, backbone.dim)
        self.head = make_head(config, backbone, n_classes)

    def losses(self, batch: Batch, epoch: int) -> Losses:
        text, image = self._encode(batch)
        logits = self._classify(batch, text, image)
        task = sample_losses(logits, batch.labels)
        mixup = self._mixup(batch, text, image, epoch)
        supervision = self._supervision(self.text, text, batch.has_text, batch.labels)
        supervision = supervision + self._supervision(self.image, image, batch.has_image, batch.labels)
        total = task + self.options.mixup_weight * mixup + self.options.supervision_weight * supervision
        terms = {"task": task, "mixup": mixup, "supervision": supervision}
        return Losses(total, logits, {name: value.mean().detach() for name, value in terms.items()})

    def logits(self, batch: Batch) -> torch.Tensor:
        return self._classify(batch, *self._encode(batch))

    def _encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """h_t and h_v `[B, d]`."""
        return self.text(batch.pooled_text, batch.has_text), self.image(batch.pooled_image, batch.has_image)

    def _classify(self, batch: Batch, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return classify(self.head, batch.pooled + self.fusion(torch.cat([text, image], 1)))

    def _mixup(self, batch: Batch, text: torch.Tensor, image: torch.Tensor, epoch: int) -> torch.Tensor:
        """Loss of the samples put together `[B]`; zero for complete samples and those to whom nobody can lend."""
        lender, found = draw_lenders(batch, self.draws(batch.rows, epoch, 1)[:, 0])
        text = torch.where(batch.has_text[:, None], text, text[lender])
        image = torch.where(batch.has_image[:, None], image, image[lender])
        logits = self._classify(batch, text, image)
        both = sample_losses(logits, batch.labels) + sample_losses(logits, batch.labels[lender])
        return both / 2 * found

    def _supervision(self, branch: Branch, encoded: torch.Tensor, has: torch.Tensor, labels: torch.Tensor):
        """Loss of a branch's own classifier `[B]`, zero where the modality is missing."""
        return sample_losses(classify(branch.classifier, encoded), labels) * has


def draw_lenders(batch: Batch, draw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each sample one of those that can lend what it lacks, int64 `[B]`, and whether there is any, bool `[B]`.

    `draw` `[B]` in [0, 1) says which, all being equally likely.
    """
    lends_text = ~batch.has_text[:, None] & batch.has_text
    lends_image = ~batch.has_image[:, None] & batch.has_image
    able = (lends_text | lends_image) & alike(batch.labels)
    count = able.sum(1)
    place = torch.minimum((draw * count).long(), (count - 1).clamp_min(0))
    chosen = able & (able.cumsum(1) == place[:, None] + 1)
    return chosen.int().argmax(1), count > 0


def alike(labels: torch.Tensor) -> torch.Tensor:
    """Whether samples have the same class, or a label in common, bool `[B, B]`."""
    if labels.ndim == 1:
        return labels[:, None] == labels
    return labels @ labels.T > 0


build = MMDS
