"""CorrKD: correlation-decoupled knowledge distillation (Li et al., CVPR 2024).

A teacher learns from complete samples and is then frozen. A student of the same structure, with parameters of its
own, sees random parts of them. With H^s, H^t the joint representations of student and teacher (N complete samples):

    SCD: sum_i sum_{j != i} D(H_i^s, H_i^t)^2 + max(0, eta - D(H_i^s, H_j^t))^2        D the Euclidean distance
    CPD: 1 / (N K) sum_i sum_k |M_k^s(i) - M_k^t(i)|,  M_k(i) = cos(H_i, c_k),  c_k = mean of H over class k
    RCD: -I(p_target^s, p_target^t) - I(p_others^s, p_others^t),
         I = E_joint[-softplus(-F(s, t))] - E_marginal[softplus(F(s, t))], F a learned statistics network
    L = L_task + L_SCD + L_CPD + L_RCD

Published: width of an encoded modality 40; terms without weights; eta and the number of epochs by data set (1.2 and
20 here). Ours: the shape of F, one hidden layer, and what is dropped: nothing, text or image, equally often.

Adapted: a modality encoder is one layer on the backbone's output for that modality alone, and H = pooled +
LayerNorm(fused) keeps the backbone's own fusion (known exactly also without a dropped modality), both on one scale.
Only complete samples have a teacher; incomplete ones add their task loss alone. Distances are between unit vectors,
so that the margin means the same at any width, and negatives are averaged, so that the batch size sets no weight.
Labels that are not exclusive count as one binary decision each. Prototypes are those of the classes in the batch.
Left out: convolution, transformer and dropped frames (there are no sequences here), dropout.

Learnable parameters, with e = width, h = statistics_width:

    2 (2 e (d + 1) + d (2 e + 3) + (d + k)(d + 1))        teacher and student, each with a head
    + 2 (h (2 k + 2) + 1)        statistics networks
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anga.backbone import Backbone
from anga.baselines.fusion import hide, make_fusion
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch


@dataclass(frozen=True)
class Options:
    """Width and distillation as published; the others as the module's text says.

    Attributes:
        teacher_epochs: epochs of the first stage.
        width: e, of an encoded modality.
        margin: eta, below which another sample's teacher counts as too near; unit vectors are at most 2 apart.
        drop_rate: share of the complete samples of which the student sees one modality alone.
        statistics_width: h, hidden width of a statistics network.
        distillation: weight of the three terms, each.
    """

    teacher_epochs: int = 20
    width: int = 40
    margin: float = 1.2
    drop_rate: float = 2 / 3
    statistics_width: int = 32
    distillation: float = 1.0

    def __post_init__(self):
        if min(self.teacher_epochs, self.width, self.statistics_width) < 1:
            raise ValueError("teacher_epochs, width and statistics_width must be at least 1.")
        if min(self.margin, self.distillation) < 0 or not 0 <= self.drop_rate <= 1:
            raise ValueError("margin and distillation must not be negative, and drop_rate must lie between 0 and 1.")


class Network(nn.Module):
    """What teacher and student have in common: modality encoders, fusion, classifier."""

    def __init__(self, config: Config, backbone: Backbone, n_classes: int, width: int):
        super().__init__()
        self.text, self.image = nn.Linear(backbone.dim, width), nn.Linear(backbone.dim, width)
        self.fusion = make_fusion(2 * width, backbone.dim)
        self.head = make_head(config, backbone, n_classes)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Joint representation H `[B, d]` and logits `[B, k]`."""
        text = F.gelu(self.text(batch.pooled_text)) * batch.has_text[:, None]
        image = F.gelu(self.image(batch.pooled_image)) * batch.has_image[:, None]
        joint = batch.pooled + self.fusion(torch.cat([text, image], 1))
        return joint, classify(self.head, joint)


class CorrKD(Method):
    """Teacher and student; the student alone predicts."""

    reads = "pooled"
    couples_samples = True
    pretrain_subset = "complete"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        options = self.options = read_options(Options, config)
        self.pretrain_epochs, hidden = options.teacher_epochs, options.statistics_width
        self.teacher = Network(config, backbone, n_classes, options.width)
        self.student = Network(config, backbone, n_classes, options.width)
        self.statistics = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * n_classes, hidden), nn.ReLU(), nn.Linear(hidden, 1)) for _ in range(2)
        )

    def learned(self, epoch: int) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.trainable().items() if n.startswith("teacher.") == (epoch < self.pretrain_epochs)}

    def logits(self, batch: Batch) -> torch.Tensor:
        return self.student(batch)[1]

    def losses(self, batch: Batch, epoch: int) -> Losses:
        if epoch < self.pretrain_epochs:
            logits = self.teacher(batch)[1]
            task = sample_losses(logits, batch.labels)
            return Losses(task, logits, {"teacher": task.mean().detach()})
        joint, logits = self.student(self.partial_view(batch, epoch))
        task = sample_losses(logits, batch.labels)
        at = (batch.has_text & batch.has_image).nonzero()[:, 0]
        distilled = self._distil(batch.select(at), joint[at], logits[at])
        terms = {name: value.sum().detach() / max(1, len(at)) for name, value in distilled.items()}
        total = task.index_add(0, at, self.options.distillation * sum(distilled.values()))
        return Losses(total, logits, {"task": task.mean().detach(), **terms})

    def partial_view(self, batch: Batch, epoch: int) -> Batch:
        """What the student sees: of a complete sample all of it, or its text or its image alone."""
        draw = self.draws(batch.rows, epoch, 1)[:, 0]
        complete, half = batch.has_text & batch.has_image, self.options.drop_rate / 2
        return hide(batch, complete & (draw < half), complete & (half <= draw) & (draw < 2 * half))

    def _distil(self, batch: Batch, joint: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """The three terms of complete samples `[n]` from the student's representations and logits."""
        with torch.no_grad():
            teacher_joint, teacher_logits = self.teacher(batch)
        with torch.autocast(joint.device.type, enabled=False):
            said, taught = responses(logits, batch.labels), responses(teacher_logits, batch.labels)
            shared = [mutual_information(*parts) for parts in zip(self.statistics, said, taught, strict=True)]
            return {
                "contrastive": contrast(joint, teacher_joint, self.options.margin),
                "prototype": prototype_gap(joint, teacher_joint, batch.labels, self.n_classes),
                "response": -sum(shared),
            }


def contrast(student: torch.Tensor, teacher: torch.Tensor, margin: float) -> torch.Tensor:
    """L_SCD of each sample `[n]`: near its own teacher `[n, d]`, no nearer than the margin to those of others."""
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    distance = torch.cdist(student, teacher, compute_mode="donot_use_mm_for_euclid_dist")
    too_near = (margin - distance).clamp_min(0) ** 2
    others = (too_near.sum(1) - too_near.diagonal()) / max(1, len(student) - 1)
    return (student - teacher).square().sum(1) + others


def prototype_gap(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """L_CPD of each sample `[n]`: how differently student and teacher `[n, d]` lie to their class prototypes."""
    members = (F.one_hot(labels, n_classes) if labels.ndim == 1 else labels).to(student.dtype)
    present = members.sum(0) > 0
    gap = (_similarity(student, members) - _similarity(teacher, members)).abs() * present
    return gap.sum(1) / present.sum().clamp_min(1)


def _similarity(joint: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """M_k(i) `[n, K]`: cosine of each sample and each class's mean."""
    prototypes = members.T @ joint / members.sum(0).clamp_min(1)[:, None]
    return F.cosine_similarity(joint[:, None], prototypes[None], dim=2)


def responses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of the target and of all others, one or K - 1 (K each for labels `[n, K]`), padded to `[n, K]`."""
    if labels.ndim == 2:
        right = torch.where(labels > 0, logits, -logits)
        return right.sigmoid(), (-right).sigmoid()
    n, k = logits.shape
    is_target = F.one_hot(labels, k).bool()
    probabilities = logits.softmax(1)
    target, others = probabilities[is_target].view(n, 1), probabilities[~is_target].view(n, k - 1)
    return F.pad(target, (0, k - 1)), F.pad(others, (0, 1))


def mutual_information(
    statistic: Callable[[torch.Tensor], torch.Tensor], student: torch.Tensor, teacher: torch.Tensor
) -> torch.Tensor:
    """Jensen-Shannon estimate of I at most 0 `[n]`, from responses `[n, m]`; a lone sample has none, and counts 0."""
    n = len(student)
    pairs = torch.cat([student[:, None].expand(-1, n, -1), teacher[None].expand(n, -1, -1)], 2)
    scores = statistic(pairs)[..., 0]
    apart = F.softplus(scores)
    marginal = (apart.sum(1) - apart.diagonal()) / max(1, n - 1)
    return (-F.softplus(-scores.diagonal()) - marginal) * (n > 1)


build = CorrKD
