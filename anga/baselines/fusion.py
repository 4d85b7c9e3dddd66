"""How a late-fusion method's own representation joins the frozen backbone's joint output."""

from torch import nn

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
