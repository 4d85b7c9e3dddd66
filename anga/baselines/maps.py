"""MAPs: missing-aware prompts (Lee et al., CVPR 2023).

Each missing state, complete, text missing or image missing, has prompts of its own for the first layers:

    h_i = layer_i([P_i^m; h_{i-1}])        "input" form: prompts join layer i's input and stay to the end
    K_i, V_i = [P_i^m[:n/2]; K_i], [P_i^m[n/2:]; V_i]        "attention" form: they are more keys and values

with m the sample's missing state. Published: 16 prompts in each of 6 layers, learning rate 1e-2, weight decay 2e-2,
batch 256. Adapted: learning rate, decay and batch are the config's, as for every method; what is missing is masked out
of attention in the place of dummy inputs; the published pooler is kept, and learns. Prompts start small and random (the
public code's are zero but for a row of ones), and the classifier is every method's (there two layers with a layer norm
and a GELU between them). Nothing else is left out.

Learnable parameters, with n = prompt_length, J = min(prompt_layers, layers):

    3 n J d                 prompts
    + (d + k)(d + 1)        head
"""

from dataclasses import dataclass

import torch
from torch import nn

from anga.backbone import Backbone, LayerPrompts
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Method, classify, make_head
from anga.tokens import Batch

COMPLETE, TEXT_MISSING, IMAGE_MISSING = range(3)


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        form: "input" or "attention".
        prompt_length: n_p, prompts of each layer; even in the attention form.
        prompt_layers: how many layers have prompts, counted from the first.
    """

    form: str = "input"
    prompt_length: int = 16
    prompt_layers: int = 6

    def __post_init__(self):
        if self.form not in ("input", "attention"):
            raise ValueError(f"form must be input or attention, not {self.form!r}.")
        if self.prompt_length < 1 or self.prompt_layers < 1:
            raise ValueError("prompt_length and prompt_layers must be at least 1.")
        if self.form == "attention" and self.prompt_length % 2:
            raise ValueError(f"prompt_length must be even in the attention form, not {self.prompt_length}.")


class MissingAwarePrompts(Method):
    """Prompts `[3, layers, n_p, d]`, one set per missing state."""

    whole_batches = True

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options = read_options(Options, config)
        self.form, n_layers = options.form, min(options.prompt_layers, backbone.n_layers)
        self.states = nn.Parameter(0.02 * torch.randn(3, n_layers, options.prompt_length, backbone.dim))
        self.head = make_head(config, backbone, n_classes)

    def prompts(self, batch: Batch) -> LayerPrompts:
        """Each sample's prompts by layer, those of its missing state `[B, n_p, d]`."""
        chosen = self.states[missing_state(batch)]
        return LayerPrompts({i + 1: chosen[:, i] for i in range(chosen.shape[1])}, self.form)

    def logits(self, batch: Batch) -> torch.Tensor:
        tokens = batch.text, batch.text_mask, batch.image, batch.image_mask
        return classify(self.head, self.backbone.encode(*tokens, self.prompts(batch)))


def missing_state(batch: Batch) -> torch.Tensor:
    """int64 `[B]`: 0 complete, 1 text missing, 2 image missing."""
    return COMPLETE + TEXT_MISSING * (~batch.has_text).long() + IMAGE_MISSING * (~batch.has_image).long()


build = MissingAwarePrompts
