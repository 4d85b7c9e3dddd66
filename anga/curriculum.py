"""Entropy-driven curriculum: which reconstructed samples may join the anchor, and when (Sec. 4.1, Eqs. 5-7)."""

import numpy as np
import torch
import torch.nn.functional as F


def prediction_entropy(logits: torch.Tensor, multilabel: str | None = None) -> torch.Tensor:
    """Entropy of a prediction in nats `[N]`; low means reliable (Eq. 5).

    Args:
        logits: `[N, k]`.
        multilabel: None or "softmax" for Eq. 5 as printed; "bernoulli" for the mean over k independent labels.
    """
    if multilabel == "bernoulli":
        positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)
        return -(positive.exp() * positive + negative.exp() * negative).mean(-1)
    log_p = F.log_softmax(logits, -1)
    return -(log_p.exp() * log_p).sum(-1)


def anchor_ratio(epoch: int, lambda_min: float = 0.1, lambda_max: float = 0.3, grow_epochs: int = 5) -> float:
    """lambda(z), the fraction of reconstructed samples admitted at epoch z = 0, 1, ... (Eq. 6)."""
    if grow_epochs == 0:
        return lambda_max
    return min(lambda_max, lambda_min + (lambda_max - lambda_min) / grow_epochs * epoch)


def admit(entropy: np.ndarray, ratio: float, admission: str, generator: np.random.Generator) -> np.ndarray:
    """bool `[N^m]`: which reconstructed samples are in the anchor set, exactly floor(ratio * N^m) of them (Eq. 7).

    Args:
        entropy: `[N^m]`, of every reconstructed training sample; equal values keep the data set's order.
        ratio: lambda(z).
        admission: "lowest_entropy" (the paper), or the controls "highest_entropy" and "random".
        generator: for "random".
    """
    keys = {
        "lowest_entropy": lambda: entropy,
        "highest_entropy": lambda: -entropy,
        "random": lambda: generator.random(len(entropy)),
    }
    # The small term keeps a product such as 0.29 * 100 = 28.999... from losing a sample.
    n_admitted = int(np.floor(ratio * len(entropy) + 1e-9))
    admitted = np.zeros(len(entropy), bool)
    admitted[np.argsort(keys[admission](), kind="stable")[:n_admitted]] = True
    return admitted
