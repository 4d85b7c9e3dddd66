"""MSPs: modality-specific prompts (Jang, Wang and Kim, "Towards robust multimodal prompting with missing modalities",
ICASSP 2024).

Not one set of prompts per missing state, as MAPs have, but one per modality, which is used where that is observed:

    P = P_T + P_I (complete), P_T (image missing), P_I (text missing),   h_i = layer_i([P_i; h_{i-1}])
    L = L_task + lambda L_o,   L_o = |cos(P_T, P_I)|: the two sets are to learn different things

Published: as MAPs, 16 prompts in each of 6 layers, lambda = 1, learning rate 1e-2, weight decay 2e-2.

Adapted: learning rate, decay and batch are the config's, as for every method; what is missing is masked out of
attention in the place of dummy inputs. The cosine is that of the j-th text prompt with the j-th image prompt of the
same layer, and L_o their mean over all of these pairs, so that lambda means the same for any number of prompts.
L_o belongs to no sample: each has it in its loss, so that every group's gradient holds it once when groups are aligned.
Prompts start small and random, and the classifier is every method's (a public port has zeros with a row of ones, and
two layers with a layer norm and a GELU between them).
Left out: nothing else.

Learnable parameters, with n = prompt_length, J = min(prompt_layers, layers):

    2 n J d                 prompts
    + (d + k)(d + 1)        head
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone, LayerPrompts
from anga.baselines.maps import Options as MapsOptions
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch


@dataclass(frozen=True)
class Options(MapsOptions):
    """Published values: those of MAPs (form, prompt_length n_p, prompt_layers), and one more.

    Attributes:
        orthogonality: lambda, weight of L_o.
    """

    orthogonality: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if not self.orthogonality >= 0:
            raise ValueError(f"orthogonality must be at least 0, not {self.orthogonality}.")


class ModalitySpecificPrompts(Method):
    """Prompts of the text and of the image `[layers, n_p, d]` each."""

    whole_batches = True

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options = read_options(Options, config)
        shape = min(options.prompt_layers, backbone.n_layers), options.prompt_length, backbone.dim
        self.form, self.weight = options.form, options.orthogonality
        self.text_prompts = nn.Parameter(0.02 * torch.randn(shape))
        self.image_prompts = nn.Parameter(0.02 * torch.randn(shape))
        self.head = make_head(config, backbone, n_classes)

    def prompts(self, batch: Batch) -> LayerPrompts:
        """Each sample's prompts by layer `[B, n_p, d]`: the sum over its observed modalities."""
        has_text, has_image = batch.has_text[:, None, None, None], batch.has_image[:, None, None, None]
        chosen = has_text * self.text_prompts + has_image * self.image_prompts
        return LayerPrompts({i + 1: chosen[:, i] for i in range(chosen.shape[1])}, self.form)

    def orthogonality_loss(self) -> torch.Tensor:
        """L_o, a scalar in [0, 1]."""
        return F.cosine_similarity(self.text_prompts, self.image_prompts, dim=-1).abs().mean()

    def logits(self, batch: Batch) -> torch.Tensor:
        tokens = batch.text, batch.text_mask, batch.image, batch.image_mask
        return classify(self.head, self.backbone.encode(*tokens, self.prompts(batch)))

    def losses(self, batch: Batch, epoch: int) -> Losses:
        logits, overlap = self.logits(batch), self.orthogonality_loss()
        total = sample_losses(logits, batch.labels) + self.weight * overlap
        return Losses(total, logits, {"orthogonality": overlap.detach()})


build = ModalitySpecificPrompts
