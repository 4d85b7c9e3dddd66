"""What a method is to the training loop: per-sample losses, logits, and what of it learns."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone
from anga.config import Config
from anga.tokens import Batch


@dataclass
class Losses:
    """The outcome of a training step's forward pass.

    Attributes:
        total: `[B]`, what each sample adds to the loss, all terms of the method included.
        logits: `[B, k]`.
        terms: the method's own terms, scalars, detached; logged, not optimised.
    """

    total: torch.Tensor
    logits: torch.Tensor
    terms: dict[str, torch.Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """Base of every method. Dropout layers stay off; whatever is random in training comes from `draws`.

    Class attributes, which a method may set for itself as well:
        reads: "tokens" (token batches), "pools" (with the neighbours' tokens and labels) or "pooled" (the frozen
            backbone's outputs, known beforehand: joint, and on each modality alone).
        couples_samples: whether a sample's loss depends on the others of its batch.
        whole_batches: whether the backbone is only ever called on the whole batch, sample by sample: the gradients of
            groups then need one pass through it.
        pretrain_epochs: epochs of a first stage, before those of the config; no model of theirs is selected.
        pretrain_subset: what the first stage trains on: "all" or "complete".
    """

    reads = "tokens"
    couples_samples = False
    whole_batches = False
    pretrain_epochs = 0
    pretrain_subset = "all"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__()
        self.backbone, self.n_classes, self.seed = backbone, n_classes, config.train_seed

    def losses(self, batch: Batch, epoch: int) -> Losses:
        """Per-sample losses in an epoch, counted from 0, the first stage's included."""
        logits = self.logits(batch)
        return Losses(sample_losses(logits, batch.labels), logits)

    @abstractmethod
    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits `[B, k]`; a method must not read `batch.labels` here."""

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.logits(batch)

    def learned(self, epoch: int) -> dict[str, nn.Parameter]:
        """What learns in an epoch, by name; the same throughout a stage."""
        return self.trainable()

    def trainable(self) -> dict[str, nn.Parameter]:
        """What learns in any stage, by name; the frozen backbone is not searched, as every step asks."""
        parts = [self.named_parameters(recurse=False)]
        parts += [part.named_parameters(name) for name, part in self.named_children() if part is not self.backbone]
        return {name: p for part in parts for name, p in part if p.requires_grad}

    def kept(self) -> dict[str, torch.Tensor]:
        """A copy of the state without the frozen backbone: parameters and buffers, by name."""
        state = self.state_dict().items()
        return {name: value.detach().clone() for name, value in state if not name.startswith("backbone.")}

    def draws(self, rows: torch.Tensor, epoch: int, n: int) -> torch.Tensor:
        """Uniform numbers in [0, 1) `[B, n]` for training: they depend on (train_seed, epoch, row) and nothing else,
        so that neither an interruption nor the batch that a sample falls into changes them."""
        numbers = [np.random.default_rng([self.seed, epoch, row]).random(n, np.float32) for row in rows.tolist()]
        return torch.from_numpy(np.array(numbers).reshape(-1, n)).to(rows.device)


def make_head(config: Config, backbone: Backbone, n_classes: int) -> nn.Sequential:
    """The classifier of Eq. 1 on an output e `[B, d]`: ViLT's pooling layer, trained on, then linear; or that alone."""
    pooler = copy.deepcopy(backbone.pooler) if config.classifier == "pooler" else nn.Identity()
    return nn.Sequential(pooler.requires_grad_(True), Classifier(backbone.dim, n_classes))


class Classifier(nn.Linear):
    """A linear layer that puts out logits of the task's labels: a head's last one, a teacher's, a branch's."""

    def start_at_prior(self, labels: np.ndarray) -> None:
        """Set the bias `[k]` to what labels say before any input is seen.

        That is log-odds for labels `[n, k]`, log-frequencies for classes `[n]`; counts are raised by one, so that none
        is infinite. Rare labels that start at probability 1/2 share a first, large gradient towards rarity, which
        AdamW's second moment remembers for a thousand steps.
        """
        k, n = self.out_features, len(labels)
        if labels.ndim == 2:
            share = (labels.sum(0) + 1) / (n + 2)
            prior = np.log(share / (1 - share))
        else:
            prior = np.log((np.bincount(labels, minlength=k) + 1) / (n + k))
        with torch.no_grad():
            self.bias.copy_(torch.as_tensor(prior))


def classify(head: Callable[[torch.Tensor], torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """Logits of an output `[B, d]`, never narrower than float32."""
    logits = head(output)
    return logits if logits.dtype == torch.float64 else logits.float()


def sample_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Per-sample losses l_i `[B]`: cross-entropy (Eq. 2), or the mean binary one for labels `[B, k]`."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
