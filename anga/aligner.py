"""Gradient alignment: keep, shrink or suppress the remaining gradient by its place in the anchor's cone (Sec. 4.2).

Everything is decided from the 3 x 3 matrix of the group gradients' inner products (their Gramian): norms, cosines and
the case. The update is a weighted sum of the three group gradients, so an update rule is a function from the Gramian
and the group sizes to three weights.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch

from anga.errors import AngaError
from anga.gradients import Group, group_positions, loop_gradients
from anga.placement import send

Counts = tuple[int, int, int]


class Case(IntEnum):
    """Where the remaining gradient lies, or why the question does not arise."""

    INSIDE = 0  # cos >= tau: kept (Eq. 9)
    OUTSIDE = 1  # 0 < cos < tau: orthogonal part shrunk onto the cone (Eqs. 10-13)
    OPPOSITE = 2  # cos <= 0: suppressed (Eq. 14)
    NO_ANCHOR = 3  # no complete and no admitted sample in the batch: kept, nothing to align it to
    NO_REMAINING = 4  # no remaining sample in the batch, or its gradient is zero
    NOT_ALIGNED = 5  # ordinary training of a compared method: only the mean gradient was computed


@dataclass
class Alignment:
    """What happened in one step; scalar tensors, so that a step never waits for the device.

    Attributes:
        weights: float64 `[3]`, of the complete, admitted and remaining gradients in the update.
        case: a Case code. Under another rule than the cone's: what the cone would have made of these gradients, as are
            the next two.
        cosine: of the remaining gradient and the anchor (0 where one of them is zero).
        shrink: alpha, the factor on the orthogonal part (Eq. 12): 1 inside, 0 opposite.
        norms: float64 `[4]`, of the complete, admitted, remaining and anchor gradients.
        counts: group sizes.
    """

    weights: torch.Tensor
    case: torch.Tensor
    cosine: torch.Tensor
    shrink: torch.Tensor
    norms: torch.Tensor
    counts: Counts


def gramian(vectors: torch.Tensor) -> torch.Tensor:
    """Inner products `[3, 3]` of the group gradients `[3, P]`, in float64."""
    vectors = vectors.double()
    return vectors @ vectors.T


def align(gram: torch.Tensor, counts: Counts, cos_threshold: float, update_base: str = "complete") -> Alignment:
    """The cone rule (Eqs. 9-15) on the Gramian alone.

    With a = g_A, m = g_M', c = cos(m, a) in (0, tau), the paper's g_par + alpha * g_perp is alpha * m plus
    (1 - alpha) (m.a / |a|^2) a, where alpha = kappa_max * |g_par| / |g_perp| = kappa_max * c / sqrt(1 - c^2).
    Eq. 10 as printed divides by |a|; the projection divides by |a|^2, without which the result's cosine is not tau.

    Args:
        gram: float64 `[3, 3]`.
        counts: samples per group; the anchor is the mean over complete and admitted samples together (Eq. 8).
        cos_threshold: tau in [0, 1).
        update_base: "complete" adds the aligned gradient to g_C as Eq. 15 prints it, "anchor" to g_A.
    """
    n_complete, n_admitted, _ = counts
    n_anchor = n_complete + n_admitted
    anchor = _row(gram, n_complete, n_admitted, 0) / max(n_anchor, 1)
    remaining = _row(gram, 0, 0, 1)
    base = _row(gram, float(n_complete > 0), 0, 0) if update_base == "complete" else anchor

    aa, mm, am = anchor @ gram @ anchor, gram[2, 2], anchor @ gram @ remaining
    product = (aa * mm).sqrt()
    cosine = torch.where(product > 0, am / product.clamp(min=torch.finfo(gram.dtype).tiny), 0).clamp(-1, 1)
    # tau = 0 makes the cone a half-space: kappa_max is infinite, and no cosine lies strictly between 0 and tau.
    kappa_max = math.sqrt(1 - cos_threshold**2) / cos_threshold if cos_threshold > 0 else 0.0
    on_boundary = kappa_max * cosine / (1 - cosine**2).clamp(min=torch.finfo(gram.dtype).tiny).sqrt()

    inside, opposite = cosine >= cos_threshold, cosine <= 0
    if n_anchor == 0:
        inside, opposite = torch.ones_like(inside), torch.zeros_like(opposite)
    shrink = torch.where(opposite, 0.0, torch.where(inside, 1.0, on_boundary))
    along_anchor = torch.where(opposite | inside, 0.0, (1 - shrink) * am / aa.clamp(min=torch.finfo(gram.dtype).tiny))
    case = torch.where(opposite, Case.OPPOSITE, torch.where(inside, Case.INSIDE, Case.OUTSIDE))
    if n_anchor == 0:
        case = torch.full_like(case, Case.NO_ANCHOR)
    case = torch.where(mm > 0, case, Case.NO_REMAINING)
    weights = base + shrink * remaining + along_anchor * anchor
    norms = torch.stack([gram[0, 0], gram[1, 1], mm, aa]).clamp(min=0).sqrt()
    return Alignment(weights, case, cosine, shrink, norms, counts)


def _row(like: torch.Tensor, *values: float) -> torch.Tensor:
    """Numbers known to the host as a tensor beside `like`, without waiting for the device."""
    return send(np.array(values, np.float64), like.device).to(like.dtype)


def unaligned(vectors: torch.Tensor, counts: Counts) -> Alignment:
    """What is known of a step whose groups were not told apart: their sizes."""
    unknown = vectors.new_full((4,), math.nan, dtype=torch.float64)
    case = torch.full_like(unknown[0], Case.NOT_ALIGNED, dtype=torch.int64)
    return Alignment(unknown[:3], case, unknown[0], unknown[0], unknown, counts)


def cone_weights(alignment: Alignment) -> torch.Tensor:
    """ANGA: g_C plus the aligned remaining gradient (Eq. 15)."""
    return alignment.weights


def pooled_weights(alignment: Alignment) -> torch.Tensor:
    """Ordinary training: every sample counts the same, whatever its group (the mean loss of Eq. 2)."""
    counts = _row(alignment.weights, *alignment.counts)
    return counts / counts.sum()


def group_means_weights(alignment: Alignment) -> torch.Tensor:
    """g_C + g_M of Eq. 4 without alignment: the control that tells reweighting from aligning."""
    n_complete, *reconstructed = alignment.counts
    share = _row(alignment.weights, 0, *reconstructed) / max(sum(reconstructed), 1)
    return share + _row(alignment.weights, float(n_complete > 0), 0, 0)


UPDATE_RULES: dict[str, Callable[[Alignment], torch.Tensor]] = {
    "cone": cone_weights,
    "pooled": pooled_weights,
    "group_means": group_means_weights,
}


def align_gradients(
    complete: torch.Tensor,
    admitted: torch.Tensor,
    remaining: torch.Tensor,
    n_complete: int,
    n_admitted: int,
    cos_threshold: float = 0.2,
    update_base: str = "complete",
) -> tuple[torch.Tensor, Case]:
    """The aligned update of Eq. 15 and the case it fell into.

    Args:
        complete, admitted, remaining: flat mean gradients `[P]` of the three groups; zeros where a group is empty.
        n_complete, n_admitted: samples behind the first two.
        cos_threshold: tau in [0, 1).
        update_base: "complete" or "anchor".

    Returns:
        The update `[P]` in the inputs' dtype, and its Case.

    Raises:
        AngaError: tau outside [0, 1), an unknown update_base, a negative count, or vectors that do not match.
    """
    _check_knobs(cos_threshold, update_base)
    if min(n_complete, n_admitted) < 0:
        raise AngaError(f"n_complete, n_admitted: must not be negative, not {n_complete}, {n_admitted}.")
    shapes = [tuple(vector.shape) for vector in (complete, admitted, remaining)]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise AngaError(f"complete, admitted, remaining: expected flat vectors of one length, not {shapes}.")
    vectors = torch.stack([complete, admitted, remaining])
    result = align(gramian(vectors), (n_complete, n_admitted, 0), cos_threshold, update_base)
    return weighted_sum(vectors, result.weights), Case(int(result.case))


def _check_knobs(cos_threshold: float, update_base: str) -> None:
    if not 0 <= cos_threshold < 1:
        raise AngaError(f"cos_threshold: must lie in [0, 1), not {cos_threshold}.")
    if update_base not in ("complete", "anchor"):
        raise AngaError(f"update_base: must be complete or anchor, not {update_base!r}.")


def weighted_sum(vectors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_g weights[g] * vectors[g] in the vectors' dtype, added up in float32 where that is narrower."""
    if vectors.dtype in (torch.float16, torch.bfloat16):
        return (weights.float() @ vectors.float()).to(vectors.dtype)
    return weights.to(vectors.dtype) @ vectors


class GradientAligner:
    """Anchor-guided gradient alignment for any PyTorch training loop.

        aligner = GradientAligner(model.parameters())
        losses = loss_function(model(inputs), labels)      # [B], one loss per sample
        optimizer.zero_grad()
        stats = aligner.backward(losses, group)            # instead of losses.mean().backward()
        optimizer.step()

    Args:
        parameters: what learns; parameters with requires_grad False are left alone.
        cos_threshold: tau in [0, 1).
        update_base: "complete" (Eq. 15) or "anchor".
        rule: "cone" (ANGA), "pooled" (ordinary training) or "group_means" (g_C + g_M).
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        cos_threshold: float = 0.2,
        update_base: str = "complete",
        rule: str = "cone",
    ):
        _check_knobs(cos_threshold, update_base)
        if rule not in UPDATE_RULES:
            raise AngaError(f"rule: must be one of {', '.join(UPDATE_RULES)}, not {rule!r}.")
        self.parameters = [p for p in parameters if p.requires_grad]
        self.cos_threshold, self.update_base, self.rule = cos_threshold, update_base, rule

    def backward(self, losses: torch.Tensor, group) -> Alignment:
        """Add the aligned gradient to every parameter's `.grad`, as `losses.mean().backward()` adds the plain one.

        Args:
            losses: `[B]`, per-sample losses with their graph.
            group: `[B]` codes of anga.Group: 0 complete, 1 admitted, 2 remaining (array, tensor or list).

        Raises:
            AngaError: `group` does not hold one valid code per loss.
        """
        group = np.asarray(group.cpu() if isinstance(group, torch.Tensor) else group)
        if losses.ndim != 1 or group.shape != tuple(losses.shape) or not np.isin(group, list(Group)).all():
            raise AngaError(f"group: expected one code 0, 1 or 2 for each of the losses {tuple(losses.shape)}.")
        positions = group_positions(group, losses.device)
        vectors = loop_gradients(losses, positions, self.parameters)
        return self.apply(vectors, tuple(len(index) for index in positions))

    def apply(self, vectors: torch.Tensor, counts: Counts) -> Alignment:
        """Add the update made of group gradients `[3, P]` to every parameter's `.grad`.

        A single vector `[1, P]` is the update itself; the groups' cosine, norms and case are then unknown (NaN).
        """
        if len(vectors) == 1:
            alignment, update = unaligned(vectors, counts), vectors[0]
        else:
            alignment = align(gramian(vectors), counts, self.cos_threshold, self.update_base)
            alignment = replace(alignment, weights=UPDATE_RULES[self.rule](alignment))
            update = weighted_sum(vectors, alignment.weights)
        for parameter, part in zip(self.parameters, update.split([p.numel() for p in self.parameters]), strict=True):
            part = part.view_as(parameter).to(parameter.dtype)
            if parameter.grad is None:
                parameter.grad = part.clone()
            else:
                parameter.grad.add_(part)
        return alignment
