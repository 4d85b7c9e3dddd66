"""SyP: synergistic prompting (Zhang et al., "Synergistic prompting for robust visual recognition with missing
modalities", ICCV 2025).

A static prompt that both modalities share, and a dynamic one that a *dynamic adapter* scales by the input's features:

    X_C = [X_I; X_T], zero where a modality is missing,   S_d = sigmoid(W_2 ReLU(W_1 X_C + b_1) + b_2)
    P_D^M = P_B^M * S_d^M   (dynamic),   P_S^M = G^M(P_S)   (static),   P_1^M = P_D^M + P_S^M   for M in {I, T}
    P_i^M = LN(FC(GELU(FC(P_{i-1}^M))))   in the layers i = 2 .. J

Published: CLIP ViT-B/16, 36 prompts in 6 layers, AdamW, learning rate 1e-3, weight decay 2e-2, batch 32, 20 epochs. No
public code was found; how narrow the two hidden layers are is not known here, and taken from DCP (r = 16).

Adapted to one stream in the place of two encoders: the 36 prompts, half the image's and half the text's, stand before
both modalities; those of the layer before leave. (Where they outnumber the tokens it learns slowly; fewer help.) X_I
and X_T are the means of the observed tokens of the embedding layer. S_d has one factor per modality and channel, the
same for all prompts. What is missing is masked out in the place of dummy inputs. Learning rate, decay and batch are
the config's. The classifier reads [CLS], as for every method, where the paper joins the last prompts of both encoders.
Left out: nothing else.

Learnable parameters, with n = prompt_length // 2, J = min(prompt_layers, layers), h = 2 d // reduction,
c = d // reduction:

    3 n d                               prompts
    + 4 d h + h + 2 d                   adapter
    + 2 d (d + 1)                       G
    + 2 (J - 1)(2 d c + c + 3 d)        between the layers
    + (d + k)(d + 1)                    head
"""

from dataclasses import dataclass

import torch
from torch import nn

from anga.backbone import Backbone, LayerPrompts
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Method, classify, make_head
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Published values, but for the reduction.

    Attributes:
        prompt_length: prompts of each layer, of both modalities together; even.
        prompt_layers: J, how many layers have prompts, counted from the first.
        reduction: r, how much narrower the hidden layers are.
    """

    prompt_length: int = 36
    prompt_layers: int = 6
    reduction: int = 16

    def __post_init__(self):
        if self.prompt_length < 2 or self.prompt_length % 2:
            raise ValueError(f"prompt_length must be even and at least 2, not {self.prompt_length}.")
        if self.prompt_layers < 1 or self.reduction < 1:
            raise ValueError("prompt_layers and reduction must be at least 1.")


class SynergisticPrompting(Method):
    """Dynamic plus static prompts, handed from layer to layer."""

    whole_batches = True

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options, dim = read_options(Options, config), backbone.dim
        length, steps = options.prompt_length // 2, min(options.prompt_layers, backbone.n_layers) - 1
        wide, narrow = max(1, 2 * dim // options.reduction), max(1, dim // options.reduction)
        self.base = nn.Parameter(0.02 * torch.randn(2, length, dim))  # the image's, the text's
        self.static = nn.Parameter(0.02 * torch.randn(length, dim))
        self.projections = nn.ModuleList([nn.Linear(dim, dim) for _ in range(2)])
        self.adapter = nn.Sequential(
            nn.Linear(2 * dim, wide), nn.ReLU(), nn.Linear(wide, 2 * dim), nn.Sigmoid(), nn.Unflatten(1, (2, dim))
        )
        self.image_steps = nn.ModuleList([_step(dim, narrow) for _ in range(steps)])
        self.text_steps = nn.ModuleList([_step(dim, narrow) for _ in range(steps)])
        self.head = make_head(config, backbone, n_classes)

    def scales(self, batch: Batch) -> torch.Tensor:
        """S_d `[B, 2, d]` in (0, 1): the image's factors, the text's."""
        image = observed_mean(batch.image, batch.image_mask, batch.has_image)
        text = observed_mean(batch.text, batch.text_mask, batch.has_text)
        return self.adapter(torch.cat([image, text], dim=-1).to(self.base.dtype))

    def first_prompts(self, batch: Batch) -> torch.Tensor:
        """P_1 `[B, 2, n, d]`: dynamic plus static."""
        static = torch.stack([project(self.static) for project in self.projections])
        return self.base * self.scales(batch)[:, :, None] + static

    def prompts(self, batch: Batch) -> LayerPrompts:
        """Each sample's prompts by layer `[B, 2n, d]`."""
        image, text = self.first_prompts(batch).unbind(1)
        layers = [torch.cat([image, text], dim=1)]
        for image_step, text_step in zip(self.image_steps, self.text_steps, strict=True):
            image, text = image_step(image), text_step(text)
            layers.append(torch.cat([image, text], dim=1))
        return LayerPrompts({i + 1: prompts for i, prompts in enumerate(layers)}, "deep")

    def logits(self, batch: Batch) -> torch.Tensor:
        tokens = batch.text, batch.text_mask, batch.image, batch.image_mask
        return classify(self.head, self.backbone.encode(*tokens, self.prompts(batch)))


def observed_mean(tokens: torch.Tensor, mask: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
    """Mean `[B, d]` of the tokens `[B, L, d]` with mask True; zero where the modality is missing, `has` `[B]` False."""
    weights = (mask & has[:, None]).to(tokens.dtype)
    return torch.einsum("bl,bld->bd", weights, tokens) / weights.sum(1, keepdim=True).clamp(min=1)


def _step(dim: int, hidden: int) -> nn.Sequential:
    """From one layer's prompts `[B, n, d]` to the next one's."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim), nn.LayerNorm(dim))


build = SynergisticPrompting
