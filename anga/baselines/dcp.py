"""DCP: deep correlated prompting (Hu, Shi, Feng, Shang and Wan, NeurIPS 2024).

Three kinds of prompts; I and T stand for image and text, m for the missing state:

    correlated    P_i^M = F_i^M(LN_i^M([P_{i-1}^I; P_{i-1}^T])) for M in {I, T} and each prompted layer i, where
                  F = FC(2d, 2d/r), GELU, FC(2d/r, d); P_0^M is learned, once for M observed and once for M missing
    modal-common  G^M(P_c,m) for M in {I, T}, with G = FC(d, d/r), GELU, FC(d/r, d) and P_c,m learned for each m
    dynamic       softmax(Q(P_d,m) K(x)^T / sqrt(d)) V(x), then FC: P_d,m, learned for each m, looks at the input x

Published: CLIP ViT-B/16; 36 prompts, a third of each kind, in 6 layers; r = 16; AdamW, weight decay 2e-2, 20 epochs.

Adapted to one stream in the place of two encoders: the 36 prompts stand before text and image together, the
correlated and the common ones half the text's, half the image's, and the dynamic ones look at all observed tokens.
Published common and dynamic prompts enter at the first layer and only the correlated ones are exchanged further up;
here all three kinds enter anew at each prompted layer, where those of the layer before leave, and the last ones stay.
What is missing is masked out in the place of dummy inputs. Learning rate, decay and batch are the config's. ViLT's
pooling layer learns in the place of CLIP's last normalisations and projections.
Left out: setting the missing modality's output to zero, since one stream has one output.

Learnable parameters, with n = prompt_length // 6, J = min(prompt_layers, layers), h = 2 d // reduction,
c = d // reduction:

    13 n d                         prompts
    + 2 J (3 d h + h + 5 d)        F and LN
    + 2 (2 d c + c + d)            G
    + 4 d (d + 1)                  Q, K, V and FC
    + (d + k)(d + 1)               head
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone, LayerPrompts
from anga.baselines.maps import missing_state
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Method, classify, make_head
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        prompt_length: prompts of each layer, of all kinds together; a multiple of 6.
        prompt_layers: J, how many layers have prompts, counted from the first.
        reduction: r, how much narrower the hidden layers of F and G are.
    """

    prompt_length: int = 36
    prompt_layers: int = 6
    reduction: int = 16

    def __post_init__(self):
        if self.prompt_length < 6 or self.prompt_length % 6:
            raise ValueError(f"prompt_length must be a multiple of 6, not {self.prompt_length}.")
        if self.prompt_layers < 1 or self.reduction < 1:
            raise ValueError("prompt_layers and reduction must be at least 1.")


class DynamicPrompts(nn.Module):
    """One-headed attention of learned prompts, one set per missing state, over a sample's tokens."""

    def __init__(self, dim: int, length: int):
        super().__init__()
        self.prompts = nn.Parameter(0.02 * torch.randn(3, length, dim))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, state: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`[B, n, d]` of states `[B]` and tokens `[B, L, d]`, of which those with mask True are seen."""
        query = self.query(self.prompts)[state]
        seen = F.scaled_dot_product_attention(query, self.key(tokens), self.value(tokens), attn_mask=mask[:, None])
        return self.out(seen)


class DeepCorrelatedPrompting(Method):
    """Correlated, common and dynamic prompts before the joint sequence."""

    whole_batches = True

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options, dim = read_options(Options, config), backbone.dim
        length, n_layers = options.prompt_length // 6, min(options.prompt_layers, backbone.n_layers)
        wide, narrow = 2 * dim // options.reduction, dim // options.reduction
        self.image_seed = nn.Parameter(0.02 * torch.randn(2, length, dim))  # observed, missing
        self.text_seed = nn.Parameter(0.02 * torch.randn(2, length, dim))
        self.common = nn.Parameter(0.02 * torch.randn(3, length, dim))
        self.image_steps = nn.ModuleList([_correlate(dim, max(1, wide)) for _ in range(n_layers)])
        self.text_steps = nn.ModuleList([_correlate(dim, max(1, wide)) for _ in range(n_layers)])
        self.image_common, self.text_common = (_bottleneck(dim, max(1, narrow), dim) for _ in range(2))
        self.dynamic = DynamicPrompts(dim, 2 * length)
        self.head = make_head(config, backbone, n_classes)

    def correlated(self) -> list[torch.Tensor]:
        """The correlated prompts of each layer `[3, 2n, d]`, for every missing state; the image's first."""
        image = torch.stack([self.image_seed[missing] for missing in (0, 0, 1)])  # the states of `missing_state`
        text = torch.stack([self.text_seed[missing] for missing in (0, 1, 0)])
        layers = []
        for image_step, text_step in zip(self.image_steps, self.text_steps, strict=True):
            both = torch.cat([image, text], dim=-1)
            image, text = image_step(both), text_step(both)
            layers.append(torch.cat([image, text], dim=1))
        return layers

    def prompts(self, batch: Batch) -> LayerPrompts:
        """Each sample's prompts by layer `[B, 6n, d]`."""
        state = missing_state(batch)
        tokens = torch.cat([batch.text, batch.image], dim=1).to(self.common.dtype)
        mask = torch.cat([batch.text_mask, batch.image_mask], dim=1)
        common = torch.cat([self.image_common(self.common), self.text_common(self.common)], dim=1)
        fixed = torch.cat([common[state], self.dynamic(state, tokens, mask)], dim=1)
        layers = [torch.cat([prompts[state], fixed], dim=1) for prompts in self.correlated()]
        return LayerPrompts({i + 1: prompts for i, prompts in enumerate(layers)}, "deep")

    def logits(self, batch: Batch) -> torch.Tensor:
        tokens = batch.text, batch.text_mask, batch.image, batch.image_mask
        return classify(self.head, self.backbone.encode(*tokens, self.prompts(batch)))


def _correlate(dim: int, hidden: int) -> nn.Sequential:
    """F of a layer, with the normalisation of its input `[.., 2d]`."""
    return nn.Sequential(nn.LayerNorm(2 * dim), *_bottleneck(2 * dim, hidden, dim))


def _bottleneck(wide: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, out))


build = DeepCorrelatedPrompting
