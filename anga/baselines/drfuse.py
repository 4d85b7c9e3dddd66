"""DrFuse: disentangled features and attention by class (Yao, Yin, Cheung, Liu and Qin, AAAI 2024).

Each modality m has a distinct and a shared feature; the shared ones are fused as if each entry were the logit of a
probability, and every class attends to distinct and fused shared features in its own way:

    h_sh = log((2 e^{a+b} + e^a + e^b) / (2 + e^a + e^b)),  a = h_sh^t,  b = h_sh^v        logit pooling
    h_sh = that of the modality that is there, where one is missing
    q, v, k_c = W [h_di^t, h_sh, h_di^v];  w_c = softmax(mean(q) . k_c / sqrt(n_h));  f_c = w_c v        for class c
    L = L(y) + L(y_t) + L(y_sh) + L(y_v)        from f_c, and from each of the three features alone
        + JSD(sigmoid(a), sigmoid(b)) + |cos(h_sh^t, h_di^t)| + |cos(h_sh^v, h_di^v)| + L_rank
    L_rank = max(0, w_c^j - w_c^i) where feature i alone predicts class c better than feature j

sigmoid(h_sh) is the mean of sigmoid(a) and sigmoid(b). Published: n_h = 256, all weights 1, Adam, 1e-4, dropout 0.3.
Adapted: only the X-ray could be missing; here text or image can, in the same way. The encoders, a transformer for
records and a ResNet for X-rays, are two layers on the frozen backbone's output for the modality alone. The shared head
reads, for each class, the backbone's joint output plus f_c, projected and normalised (`make_fusion`): no method is
denied the backbone's own fusion; class c is its c-th logit. With exclusive labels a feature's loss is the same for all
classes. Terms count per sample, over what it has, divergence and ranking over complete samples; they are averaged over
all samples, not over pairs, so that samples do not touch each other. Keys have no bias: softmax cancels it. Ranking is,
as in the released code, a mean over the comparisons that are violated, here of a sample. The released divergence has
the terms of p but not of 1 - p; here it is that of Bernoulli distributions, summed over entries.
Left out: dropout, and a modality classifier that the released code builds and never calls.

Learnable parameters, with n = hidden:

    4 n (d + 1) + 4 n (n + 1)        encoders
    + n (5 n + 4)                    shared projection
    + 2 n (n + 1) + k n^2            attention
    + 3 k (n + 1)                    classifiers of single features
    + d (n + 3)                      projection to the head
    + (d + k)(d + 1)                 head
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anga.backbone import Backbone
from anga.baselines.fusion import make_fusion, widen
from anga.baselines.options import read_options
from anga.config import Config
from anga.method import Classifier, Losses, Method, classify, make_head, sample_losses
from anga.tokens import Batch

TEXT, SHARED, IMAGE = range(3)  # order of the three features


@dataclass(frozen=True)
class Options:
    """Published values.

    Attributes:
        hidden: n_h, width of the features.
        feature_weight: of the losses of the three features alone.
        shared_weight, distinct_weight, ranking_weight: of divergence, cosines and ranking.
    """

    hidden: int = 256
    feature_weight: float = 1.0
    shared_weight: float = 1.0
    distinct_weight: float = 1.0
    ranking_weight: float = 1.0

    def __post_init__(self):
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, not {self.hidden}.")
        if min(self.feature_weight, self.shared_weight, self.distinct_weight, self.ranking_weight) < 0:
            raise ValueError("weights must be at least 0.")


@dataclass
class Features:
    """What a batch is split into.

    Attributes:
        shared, distinct: `[B, 2, n_h]`, text first.
        all: `[B, 3, n_h]`: distinct of the text, fused shared, distinct of the image.
        has: bool `[B, 3]`, which of the three are there.
    """

    shared: Tensor
    distinct: Tensor
    all: Tensor
    has: Tensor


class DrFuse(Method):
    """Shared features fused by logit pooling, distinct ones beside them, weighed by class."""

    reads = "pooled"

    def __init__(self, config: Config, backbone: Backbone, n_classes: int):
        super().__init__(config, backbone, n_classes)
        self.options = read_options(Options, config)
        d, n = backbone.dim, self.options.hidden
        self.distinct = nn.ModuleList(_encoder(d, n) for _ in range(2))
        self.shared = nn.ModuleList(_encoder(d, n) for _ in range(2))
        projection = [nn.Linear(n, 2 * n), nn.ReLU(), nn.Linear(2 * n, n), nn.ReLU(), nn.Linear(n, n)]
        self.project = nn.Sequential(*projection)
        self.attend, self.key = nn.Linear(n, 2 * n), nn.Linear(n, n_classes * n, bias=False)
        self.alone = nn.ModuleList(Classifier(n, n_classes) for _ in range(3))
        self.fuse = make_fusion(n, d)
        self.head = make_head(config, backbone, n_classes)

    def features(self, batch: Batch) -> Features:
        has_text, has_image = batch.has_text[:, None], batch.has_image[:, None]
        text, image = batch.pooled_text, batch.pooled_image
        shared = torch.stack([self.shared[0](text), self.shared[1](image)], 1)
        distinct = torch.stack([self.distinct[0](text) * has_text, self.distinct[1](image) * has_image], 1)
        shared = widen(self.project(shared))
        a, b = shared.unbind(1)
        fused = torch.where(has_text & has_image, pool_logits(a, b), torch.where(has_text, a, b))
        every = torch.stack([distinct[:, 0], fused.to(distinct.dtype), distinct[:, 1]], 1)
        has = torch.cat([has_text, torch.ones_like(has_text), has_image], 1)
        return Features(shared, widen(distinct), every, has)

    def attention(self, features: Features) -> tuple[Tensor, Tensor]:
        """Weights w_c `[B, k, 3]`, zero on what is missing, and f_c `[B, k, n_h]`.

        Keys W_c x are never made: q . W_c x is (W_c^T q) . x, one projection of the query in the place of three.
        """
        query, value = self.attend(features.all).chunk(2, -1)
        has = features.has[..., None]
        query = (query * has).sum(1) / has.sum(1)
        by_class = self.key(query).unflatten(-1, (self.n_classes, -1))  # W_c^T q
        scores = by_class @ features.all.to(by_class.dtype).mT / math.sqrt(query.shape[-1])
        weights = widen(scores).masked_fill(~features.has[:, None], -math.inf).softmax(-1)
        return weights, weights.to(value.dtype) @ value

    def logits(self, batch: Batch) -> Tensor:
        return self._classify(batch, self.attention(self.features(batch))[1])

    def _classify(self, batch: Batch, attended: Tensor) -> Tensor:
        """Class c's logit of class c's representation `[B, k]`."""
        return classify(self.head, batch.pooled[:, None] + self.fuse(attended)).diagonal(dim1=1, dim2=2)

    def losses(self, batch: Batch, epoch: int) -> Losses:
        features = self.features(batch)
        weights, attended = self.attention(features)
        logits = self._classify(batch, attended)
        alone = torch.stack([classify(self.alone[i], features.all[:, i]) for i in range(3)], 1)
        terms = self._terms(batch, features, weights, alone)
        total = sample_losses(logits, batch.labels)
        total = total + sum(getattr(self.options, f"{name}_weight") * term for name, term in terms.items())
        return Losses(total, logits, {name: term.mean().detach() for name, term in terms.items()})

    def _terms(self, batch: Batch, features: Features, weights: Tensor, alone: Tensor) -> dict[str, Tensor]:
        """The method's own losses `[B]`, by the name of their weight; `alone` `[B, 3, k]`."""
        complete = features.has.all(1)
        single = torch.stack([sample_losses(alone[:, i], batch.labels) for i in range(3)], 1)
        overlap = F.cosine_similarity(features.shared, features.distinct, dim=2).abs()
        return {
            "feature": (single * features.has).sum(1),
            "shared": shared_divergence(*features.shared.unbind(1)) * complete,
            "distinct": (overlap * features.has[:, [TEXT, IMAGE]]).sum(1),
            "ranking": ranking_loss(weights, class_losses(alone.detach(), batch.labels)) * complete,
        }


def pool_logits(a: Tensor, b: Tensor) -> Tensor:
    """The logits whose probabilities are the means of those of a and b."""
    either, two = torch.logaddexp(a, b), torch.full_like(a, math.log(2))
    return torch.logaddexp(a + b + two, either) - torch.logaddexp(two, either)


def shared_divergence(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence `[B]`, in nats, of Bernoulli distributions with logits `[B, n]`, summed over n."""
    return (_entropy(pool_logits(a, b)) - (_entropy(a) + _entropy(b)) / 2).sum(1)


def _entropy(logits: Tensor) -> Tensor:
    return F.softplus(logits) - logits * logits.sigmoid()


def class_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Losses `[B, 3, k]` of each feature's logits `[B, 3, k]` for each class; of exclusive labels, the sample's."""
    if labels.ndim == 1:
        wanted = labels[:, None, None].expand(-1, 3, 1)
        return -logits.log_softmax(-1).gather(2, wanted).expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, labels[:, None].expand_as(logits), reduction="none")


def ranking_loss(weights: Tensor, losses: Tensor) -> Tensor:
    """How far weights `[B, k, 3]` contradict losses `[B, 3, k]`: mean over violated comparisons, then pairs `[B]`."""
    pairs = []
    for i, j in ((IMAGE, TEXT), (SHARED, TEXT), (SHARED, IMAGE)):
        better = torch.where(losses[:, i] < losses[:, j], 1, -1)  # [B, k]
        excess = F.relu(-better * (weights[..., i] - weights[..., j]))
        pairs.append(excess.sum(1) / (excess > 0).sum(1).clamp(min=1))
    return torch.stack(pairs, 1).mean(1)


def _encoder(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


build = DrFuse
