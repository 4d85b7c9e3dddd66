"""Floating-point operations of a training step, from the model's shapes: a product of m x k and k x n counts 2 m k n.

Only matrix products count (the rest is under 1 %), and nothing that a kernel computes twice to save memory. Lengths:
n_t and n_v tokens of text and image, L = n_t + n_v + 2 with the prompts, K neighbours; d is the width, the hidden
layer of an MLP 4 d wide.
"""

from benchmarks.models import N_PROMPTS, PROMPT_LAYER, TOP_K, Size


def step_flops(size: Size, n_samples: int, naive: bool = False, backward_passes: int = 1, skipped: float = 0.0) -> int:
    """Operations of one training step: forward, and backward to what learns.

    Args:
        size: of the model and the batch's tokens.
        n_samples: in the batch.
        naive: the adapter written out and the last layer computed for all tokens, instead of folded and for [CLS].
        backward_passes: 3 for the loop over groups, which keeps the graph.
        skipped: masked tokens of a sample, in the mean, that the layers' projections pass over.
    """
    one = forward_flops(size, naive, skipped) + backward_passes * _backward(size, naive, skipped)
    return round(n_samples * one)


def forward_flops(size: Size, naive: bool = False, skipped: float = 0.0) -> float:
    """Operations of the forward pass of one sample."""
    d, below, length = size.dim, size.n_text + size.n_image, size.n_text + size.n_image + N_PROMPTS
    layers = (PROMPT_LAYER - 1) * _layer(below, d, 1, skipped)
    layers += (size.layers - PROMPT_LAYER) * _layer(length, d, 1, skipped)
    last = _layer(length, d, 1, skipped) if naive else _last_layer(length, d, 1, skipped)
    adapter = sum((_adapter_naive if naive else _adapter)(n, d)[0] for n in (size.n_text, size.n_image))
    return layers + last + adapter + _head(size)


def _backward(size: Size, naive: bool, skipped: float) -> float:
    """Of one sample: to the prompts through all layers from theirs on (weights are frozen), to adapter and head."""
    d, length = size.dim, size.n_text + size.n_image + N_PROMPTS
    layers = (size.layers - PROMPT_LAYER) * _layer(length, d, 2, skipped)
    last = _layer(length, d, 2, skipped) if naive else _last_layer(length, d, 2, skipped)
    adapter = sum((_adapter_naive if naive else _adapter)(n, d)[1] for n in (size.n_text, size.n_image))
    return layers + last + adapter + 2 * _head(size)


def _layer(length: int, d: int, attention: int, skipped: float) -> float:
    """Four projections d x d, two d x 4d; scores and weighted values. `attention`: 1 forward, 2 backward, where both
    factors of those two products get a gradient. Attention sees all tokens, projections those not skipped."""
    return 24 * (length - skipped) * d**2 + attention * 4 * length**2 * d


def _last_layer(length: int, d: int, attention: int, skipped: float) -> float:
    """The last layer for one query: only keys and values of all tokens."""
    return (4 * (length - skipped) + 20) * d**2 + attention * 4 * length * d


def _adapter(n: int, d: int) -> tuple[int, int]:
    """Folded, for one modality, forward and backward: query, query times W_K, scores, pooling, weighted pool, W_V."""
    pool = TOP_K * n
    forward = 4 * n * d**2 + 2 * n * pool * d + 2 * n * pool + 2 * pool * d + 2 * d**2
    backward = 6 * n * d**2 + 2 * n * pool * d + 2 * n * pool + 2 * pool * d + 4 * d**2
    return forward, backward


def _adapter_naive(n: int, d: int) -> tuple[int, int]:
    """Written out: query, key and value of every token, scores, weighted values; tokens get no gradient."""
    pool = TOP_K * n
    linear, attention = 2 * n * d**2 + 4 * pool * d**2, 4 * n * pool * d
    return linear + attention, linear + 2 * attention


def _head(size: Size) -> int:
    """ViLT's pooling layer and the classifier."""
    return 2 * size.dim**2 + 2 * size.dim * size.n_classes
