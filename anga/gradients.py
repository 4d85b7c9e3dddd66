"""Gradients of the three groups of a batch (Sec. 4.1, Eqs. 4 and 8), in three forms that agree.

The groups are disjoint: complete samples, admitted and remaining reconstructed samples. The anchor's gradient is the
count-weighted mean of the first two, so nothing is computed twice.

* `boundary`: one pass. In the chain adapter -> frozen backbone -> head, samples do not touch each other inside the
  backbone, so a single backward pass yields every sample's derivative at the prompts; each group's gradient is then a
  short product through its own part of the adapter and head.
* `loop`: one backward pass through everything per group. The readable reference; works for any model.
* `sub_batch`: one forward and backward pass per group; for models whose samples do not interact.

`crossing` is what becomes of `boundary` for the compared methods that call the backbone on whole batches: whatever they
compute before it stands in the place of the adapter.
`plain` is for the compared methods where nothing is aligned: one backward pass for the mean of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch

from anga.config import Config
from anga.method import Method, sample_losses
from anga.model import AngaModel
from anga.placement import send
from anga.tokens import Batch


class Group(IntEnum):
    """What a sample counts as in this epoch."""

    COMPLETE = 0
    ADMITTED = 1
    REMAINING = 2


@dataclass
class GroupGradients:
    """Mean gradients of the groups, one flat vector each.

    Attributes:
        vectors: float32 `[3, P]` in the order of Group, zero for a group without samples; or `[1, P]`, the mean of all.
        counts: number of samples `(complete, admitted, remaining)`.
        logits: `[B, k]`, detached, in the batch's order.
        losses: `[B]`, detached.
        terms: the method's own loss terms, scalars, where the whole batch was seen at once.
    """

    vectors: torch.Tensor
    counts: tuple[int, int, int]
    logits: torch.Tensor
    losses: torch.Tensor
    terms: dict[str, torch.Tensor] = field(default_factory=dict)


def group_positions(group: np.ndarray, device="cpu") -> list[torch.Tensor]:
    """Positions in the batch of each group's samples, in the order of Group."""
    return [send(np.flatnonzero(group == g), torch.device(device)) for g in Group]


def loop_gradients(losses: torch.Tensor, positions: list[torch.Tensor], parameters: list) -> torch.Tensor:
    """Group gradients `[3, P]` from per-sample losses `[B]`, one backward pass per present group (Eqs. 4, 8)."""
    rows = []
    for index in positions:
        grads = [None] * len(parameters)
        if len(index):
            grads = torch.autograd.grad(losses[index].mean(), parameters, retain_graph=True, allow_unused=True)
        rows.append(_flat(grads, parameters))
    return torch.stack(rows)


def loop_form(model: Method, batch: Batch, group: np.ndarray, epoch: int = 0) -> GroupGradients:
    """Reference: the whole batch forward once, then one full backward pass per group."""
    positions = group_positions(group, batch.rows.device)
    out = model.losses(batch, epoch)
    vectors = loop_gradients(out.total, positions, list(model.learned(epoch).values()))
    return GroupGradients(vectors, _counts(positions), out.logits.detach(), out.total.detach(), out.terms)


def plain_form(model: Method, batch: Batch, group: np.ndarray, epoch: int = 0) -> GroupGradients:
    """The mean gradient of the whole batch alone, `[1, P]`: ordinary training, at the price of ordinary training."""
    parameters = list(model.learned(epoch).values())
    out = model.losses(batch, epoch)
    vector = _flat(torch.autograd.grad(out.total.mean(), parameters, allow_unused=True), parameters)
    counts = _counts(group_positions(group))
    return GroupGradients(vector[None], counts, out.logits.detach(), out.total.detach(), out.terms)


def sub_batch_form(model: Method, batch: Batch, group: np.ndarray, epoch: int = 0) -> GroupGradients:
    """Each group forward and backward by itself."""
    parameters = list(model.learned(epoch).values())
    positions = group_positions(group, batch.rows.device)
    present = [index for index in positions if len(index)]
    rows, logits, losses = [], [], []
    for index in present:
        out = model.losses(batch.select(index), epoch)
        logits.append(out.logits)
        losses.append(out.total)
        rows.append(_flat(torch.autograd.grad(out.total.mean(), parameters, allow_unused=True), parameters))
    order = torch.cat(present).argsort()
    logits, losses = torch.cat(logits).detach()[order], torch.cat(losses).detach()[order]
    return GroupGradients(_stack(rows, positions), _counts(positions), logits, losses)


def boundary_form(model: AngaModel, batch: Batch, group: np.ndarray, epoch: int = 0) -> GroupGradients:
    """One pass through the frozen backbone for all groups; exact because its samples do not interact."""
    positions = group_positions(group, batch.rows.device)
    present = [index for index in positions if len(index)]
    order = torch.cat(present).argsort()  # from group by group back to the batch's order

    below = [model.prompts(batch.select(index)) for index in present]
    boundary = None if model.adapter is None else torch.cat(below).detach()[order].requires_grad_()
    pooled = model.encode(batch, boundary)

    above, logits, losses = _through_head(model, batch, pooled.detach(), present)
    at_pooled = torch.cat([grads[0] for grads in above])[order]
    rows = [_flat(grads[1:], list(model.head.parameters())) for grads in above]
    if model.adapter is not None:
        (at_prompts,) = torch.autograd.grad(pooled, boundary, at_pooled.to(pooled.dtype))
        learned = list(model.adapter.parameters())
        for i, (prompts, index) in enumerate(zip(below, present, strict=True)):
            grads = torch.autograd.grad(prompts, learned, at_prompts[index].to(prompts.dtype))
            rows[i] = torch.cat([_flat(grads, learned), rows[i]])
    return GroupGradients(_stack(rows, positions), _counts(positions), logits[order], losses[order])


def crossing_form(model: Method, batch: Batch, group: np.ndarray, epoch: int = 0) -> GroupGradients:
    """One pass through the frozen backbone for all groups, per group what lies before and behind it; exact likewise."""
    parameters = list(model.learned(epoch).values())
    positions = group_positions(group, batch.rows.device)
    present = [index for index in positions if len(index)]
    with model.backbone.cut_off() as crossings:
        out = model.losses(batch, epoch)

    left = [crossing.left for crossing in crossings]
    behind = [_gradients([out.total[index].mean()], [*left, *parameters]) for index in present]
    at_inside = []
    for crossing, at_left in zip(crossings, zip(*behind, strict=True), strict=False):
        at_inside += torch.autograd.grad(crossing.output, crossing.inside, sum(at_left)) if crossing.inside else []
    entered = [tensor for crossing in crossings for tensor in crossing.entered]
    rows = []
    for grads, index in zip(behind, present, strict=True):
        own = [torch.zeros_like(grad).index_copy(0, index, grad[index]) for grad in at_inside]
        before = _gradients(entered, parameters, own) if entered else [None] * len(parameters)
        rows.append(_flat(grads[len(left) :], parameters) + _flat(before, parameters))
    counts = _counts(positions)
    return GroupGradients(_stack(rows, positions), counts, out.logits.detach(), out.total.detach(), out.terms)


def _gradients(outputs, inputs, at_outputs=None) -> list[torch.Tensor]:
    """Gradients that keep the graph; an input that is not reached has zeros."""
    grads = torch.autograd.grad(outputs, inputs, at_outputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, grads, strict=True)]


def _through_head(model: AngaModel, batch: Batch, pooled: torch.Tensor, present: list[torch.Tensor]):
    """Per group: gradients of its mean loss at its pooled rows and at the head's parameters; logits and losses."""
    grads, logits, losses = [], [], []
    for index in present:
        leaf = pooled[index].requires_grad_()
        logits.append(model.classify(leaf))
        losses.append(sample_losses(logits[-1], batch.labels[index]))
        grads.append(torch.autograd.grad(losses[-1].mean(), [leaf, *model.head.parameters()]))
    return grads, torch.cat(logits).detach(), torch.cat(losses).detach()


def _flat(grads, parameters) -> torch.Tensor:
    """One float32 (or float64) vector; a parameter without a gradient counts as zero."""
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]
    flat = torch.cat([part.reshape(-1) for part in parts])
    return flat if flat.dtype == torch.float64 else flat.float()


def _stack(rows: list[torch.Tensor], positions: list[torch.Tensor]) -> torch.Tensor:
    """`[3, P]` from the vectors of the groups that are present; the others are zero."""
    present = iter(rows)
    return torch.stack([next(present) if len(index) else torch.zeros_like(rows[0]) for index in positions])


def _counts(positions: list[torch.Tensor]) -> tuple[int, int, int]:
    return tuple(len(index) for index in positions)


FORMS = {"boundary": boundary_form, "loop": loop_form, "sub_batch": sub_batch_form}


def pick_form(config: Config, model: Method, epoch: int) -> Callable[..., GroupGradients]:
    """The config's form where the model is the chain it asks for; the cheapest exact one for any other method.

    A method that calls the backbone on whole batches crosses it once. Sub-batches would change a loss that couples the
    samples of a batch; such a method goes through the loop.
    """
    if isinstance(model, AngaModel):
        return FORMS[config.gradient_form]
    if config.update_rule == "pooled" or epoch < model.pretrain_epochs:
        return plain_form
    if model.couples_samples:
        return loop_form
    return crossing_form if model.whole_batches else sub_batch_form
