"""What late-fusion methods share: a representation of their own beside the frozen backbone's output, and hiding."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from anga.tokens import Batch

START = 0.1  # of an entry of the fused representation, beside about 1 of the backbone's output


def make_fusion(width: int, dim: int) -> nn.Sequential:
    """A projection of a representation `[.., width]` to what is added to the backbone's output `[.., d]`.

    Normalised, as that output is: otherwise the first steps, which only move all logits to the classes' frequencies,
    do so by a vector that grows in the same direction for all samples, until the tanh of ViLT's pooling layer is
    saturated and learning stalls (F1 of 0 for the first epochs of clipart-keywords). It starts small, so that training
    begins near the backbone's own fusion. It has d (width + 3) parameters.
    """
    norm = nn.LayerNorm(dim)
    nn.init.constant_(norm.weight, START)
    return nn.Sequential(nn.Linear(width, dim), norm)


def hide(batch: Batch, text: Tensor, image: Tensor) -> Batch:
    """The batch of outputs as if some complete samples had never had their text, others their image.

    Args:
        text, image: bool `[B]`, whose text and whose image is hidden; never both of one sample. The joint output on
            what is left is that on the other modality alone.
    """
    pooled = torch.where(image[:, None], batch.pooled_text, batch.pooled)
    return replace(
        batch,
        pooled=torch.where(text[:, None], batch.pooled_image, pooled),
        pooled_text=batch.pooled_text * ~text[:, None],
        pooled_image=batch.pooled_image * ~image[:, None],
        has_text=batch.has_text & ~text,
        has_image=batch.has_image & ~image,
    )


def widen(x: Tensor) -> Tensor:
    """At least float32, also within autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
