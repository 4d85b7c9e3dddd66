"""IF-MMIN: invariant features for imagining a missing modality (Zuo, Liu, Zhao, Gao and Li, ICASSP 2023).

A teacher learns on complete samples; a second network, started from it, must do with what is left of them:

    h = [E_spe^t(x^t), E_spe^v(x^v)]    H = [E_inv(h^t), E_inv(h^v)]        specific and invariant embeddings
    teacher:  L = L_cls([h, H]) + CMD(H^t, H^v)        CMD: distance of the means and central moments 2 to 5
    student:  c_m = Enc_m(h + sum_{j<m} dz_j + H'),  dz_m = Dec_m(c_m),  m = 1..M        residual autoencoders
              h' = transition(h + sum_j dz_j),  C = [c_1, .., c_M]        what is imagined, and the joint representation
              L = L_cls(C) + w_img |h'_lost - h_lost|^2 + w_inv |H' - H|^2        h, H: the teacher's, nothing missing

Published (the authors' scripts): embeddings of 128, M = 5 autoencoders of widths 256, 128, 64, w_img = 1, w_inv = 100
(the model reads another name, default 1), 20 epochs of the teacher; Adam, 2e-4, 40 epochs, dropout 0.5.
Adapted: the modality encoders, an LSTM and a TextCNN over sequences, are a linear layer and tanh on the frozen
backbone's output for the modality alone. The classifiers of two hidden layers are the shared head, which reads the
backbone's joint output plus [h, H] or C, projected and normalised (`make_fusion`): no method is denied the backbone's
own fusion. The paper hides every combination of modalities of every (complete) sample; here a complete sample stays
so, loses its text, or loses its image, each with probability 1/3 an epoch. In samples that lack a modality for good
there is nothing to imagine: they only learn to classify. The student's encoders are the frozen teacher's plus a change
that starts at zero. The released cascade feeds H' to every block but not the earlier dz_j; here it gets both.
Left out: dropout, gradient clipping, separate learning rates.

Learnable parameters, with e = embedding, M = n_autoencoders, E = 2 e (d + 1) + 2 e (e + 1):

    E + d (4 e + 3) + (d + k)(d + 1)        teacher with its head
    + E + M e (26 e + 17) / 2 + 4 e (2 e + 1) + d (M e / 2 + 3) + (d + k)(d + 1)        student with its head
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anga.backbone import Backbone
from anga.baselines.fusion import hide, make_fusion, widen
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch

MOMENTS = 5


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        embedding: e, width of a modality's embedding; even.
        n_autoencoders: M.
        imagination_weight, invariance_weight: w_img, w_inv.
        teacher_epochs: epochs of the first stage.
    """

    embedding: int = 128
    n_autoencoders: int = 5
    imagination_weight: float = 1.0
    invariance_weight: float = 100.0
    teacher_epochs: int = 20

    def __post_init__(self):
        if self.embedding < 2 or self.embedding % 2:
            raise ValueError(f"embedding must be even and at least 2, not {self.embedding}.")
        if min(self.n_autoencoders, self.teacher_epochs) < 1:
            raise ValueError("n_autoencoders and teacher_epochs must be at least 1.")
        if min(self.imagination_weight, self.invariance_weight) < 0:
            raise ValueError("imagination_weight and invariance_weight must be at least 0.")


class Embedding(nn.Module):
    """Specific and invariant embeddings h and H, `[B, 2, e]` each, text first."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.specific = nn.ModuleList(nn.Linear(dim, width) for _ in range(2))
        self.invariant = nn.Sequential(_layers([width] * 3, nn.LeakyReLU), nn.LeakyReLU())

    def forward(self, text: Tensor, image: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
        """From outputs `[B, d]` and what is there, bool `[B, 2]`; the specific embedding of what is not is zero."""
        h = torch.stack([encode(x).tanh() for encode, x in zip(self.specific, (text, image), strict=True)], 1)
        h = h * has[..., None]
        return h, self.invariant(h)


class Imagination(nn.Module):
    """The cascade of residual autoencoders."""

    def __init__(self, width: int, n_autoencoders: int):
        super().__init__()
        sizes = [2 * width, 2 * width, width, width // 2]
        self.encoders = nn.ModuleList(_layers(sizes, nn.LeakyReLU) for _ in range(n_autoencoders))
        self.decoders = nn.ModuleList(_layers(sizes[::-1], nn.ReLU) for _ in range(n_autoencoders))
        self.transition = _layers([2 * width] * 3, nn.ReLU)

    def forward(self, h: Tensor, invariant: Tensor) -> tuple[Tensor, Tensor]:
        """h' `[B, 2, e]` and C `[B, M e / 2]` of h and H', `[B, 2, e]` each."""
        z, latents = h.flatten(1), []
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            latents.append(encode(z + invariant.flatten(1)))
            z = z + decode(latents[-1])
        return self.transition(z).view_as(h), torch.cat(latents, 1)


class IfMmin(Method):
    """A teacher on complete samples, then a student that imagines what it cannot see."""

    reads = "pooled"
    pretrain_subset = "complete"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options = read_options(Options, config)
        e, n, d = options.embedding, options.n_autoencoders, backbone.dim
        self.pretrain_epochs = options.teacher_epochs
        self.weights = options.imagination_weight, options.invariance_weight
        teacher = {"embedding": Embedding(d, e), "fuse": make_fusion(4 * e, d)}
        self.teacher = nn.ModuleDict(teacher | {"head": make_head(config, backbone, n_classes)})
        self.change = nn.ParameterList(torch.zeros_like(p) for p in self.teacher.embedding.parameters())
        self.imagine = Imagination(e, n)
        self.fuse = make_fusion(n * e // 2, d)
        self.head = make_head(config, backbone, n_classes)

    def learned(self, epoch: int) -> dict[str, nn.Parameter]:
        """First the teacher alone, then all but the teacher."""
        first = epoch < self.pretrain_epochs
        return {name: p for name, p in self.trainable().items() if name.startswith("teacher.") == first}

    def losses(self, batch: Batch, epoch: int) -> Losses:
        return self._teach(batch) if epoch < self.pretrain_epochs else self._imagine(batch, epoch)

    def logits(self, batch: Batch) -> Tensor:
        return self._student(batch)[0]

    def _teach(self, batch: Batch) -> Losses:
        """Classification and the distance of the invariant embeddings' distributions; of complete samples."""
        h, invariant = self.teacher.embedding(*_inputs(batch))
        fused = self.teacher.fuse(torch.cat([h, invariant], 2).flatten(1))
        logits = classify(self.teacher.head, batch.pooled + fused)
        distance = central_moment_discrepancy(*widen(invariant).unbind(1))
        return Losses(sample_losses(logits, batch.labels) + distance, logits, {"cmd": distance.detach()})

    def _imagine(self, batch: Batch, epoch: int) -> Losses:
        """Classification, and for a hidden modality the errors against what the teacher sees in the whole sample."""
        lost = self._draw_lost(batch, epoch)
        logits, imagined, invariant = self._student(hide(batch, *lost.unbind(1)))
        with torch.no_grad():
            h, aim = self.teacher.embedding(*_inputs(batch))
        imagination = ((widen(imagined) - h).square().mean(2) * lost).sum(1)
        invariance = (widen(invariant) - aim).square().mean((1, 2)) * lost.any(1)
        total = sample_losses(logits, batch.labels) + self.weights[0] * imagination + self.weights[1] * invariance
        terms = {"imagination": imagination.mean().detach(), "invariance": invariance.mean().detach()}
        return Losses(total, logits, terms)

    def _student(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, k]`, h' and H' `[B, 2, e]`."""
        taught = self.teacher.embedding.named_parameters()
        changed = {name: p.detach() + change for (name, p), change in zip(taught, self.change, strict=True)}
        h, invariant = functional_call(self.teacher.embedding, changed, _inputs(batch))
        imagined, joint = self.imagine(h, invariant)
        return classify(self.head, batch.pooled + self.fuse(joint)), imagined, invariant

    def _draw_lost(self, batch: Batch, epoch: int) -> Tensor:
        """What is hidden from the student, bool `[B, 2]`: text, image or nothing of each complete sample."""
        state = (3 * self.draws(batch.rows, epoch, 1)).long()  # [B, 1]: 0 text, 1 image, 2 nothing
        return (state == torch.arange(2, device=state.device)) & (batch.has_text & batch.has_image)[:, None]


def central_moment_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """|E x - E y| + sum_{k=2..5} |E (x - E x)^k - E (y - E y)^k| of two samples `[B, e]`, a scalar."""
    center = x - x.mean(0), y - y.mean(0)
    gaps = [x.mean(0) - y.mean(0)]
    gaps += [center[0].pow(k).mean(0) - center[1].pow(k).mean(0) for k in range(2, MOMENTS + 1)]
    return torch.linalg.vector_norm(torch.stack(gaps), dim=1).sum()


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.pooled_text, batch.pooled_image, torch.stack([batch.has_text, batch.has_image], 1)


def _layers(sizes: list[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of those sizes with the activation between them, none at the end."""
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


build = IfMmin
