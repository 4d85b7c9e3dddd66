"""ViLT (Kim et al., ICML 2021) as a baseline: what is missing is absent, and only pooling layer and classifier learn.

Adapted: the published comparison feeds dummy inputs (an empty string, a white image) for what is missing; here its
tokens are masked out of attention, so that no constant can tell which modality is missing. The backbone stays frozen,
as for every method.

Learnable parameters:

    (d + k)(d + 1)        pooling layer d (d + 1), classifier k (d + 1): the head
"""

from dataclasses import dataclass

import torch

from anga.backbone import Backbone
from anga.config import Config
from anga.method import Method, classify, make_head
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """ViLT has no options of its own."""


class Vilt(Method):
    """The head alone, on the frozen backbone's output."""

    reads = "pooled"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        self.head = make_head(config, backbone, n_classes)

    def logits(self, batch: Batch) -> torch.Tensor:
        return classify(self.head, batch.pooled)


build = Vilt
