"""What alignment costs: one aligned training step against one plain step of the same model and batch."""

import argparse
import math

import numpy as np
import torch
from torch import nn

from anga.adapter import PooledCrossAttention
from anga.aligner import GradientAligner
from anga.config import Config
from anga.gradients import FORMS
from anga.inputs import pick_device
from anga.model import AngaModel, sample_losses
from benchmarks.models import SIZES, Size, make_batches, make_groups, make_model
from benchmarks.timing import interleave, peak_in_child, print_table, report_peak

BASELINE = "plain step"
REPEATS = {"tiny": 2, "mini-vilt": 15, "ViLT-B/32": 3}


class WrittenOutAttention(nn.Module):
    """Eq. 16 with every neighbour token projected to a key and a value; the weights are those of the folded form."""

    def __init__(self, folded: PooledCrossAttention):
        super().__init__()
        self.query, self.key, self.value = folded.query, folded.key, folded.value

    def forward(self, target, target_mask, pool, pool_mask=None) -> torch.Tensor:
        """Prompt `[B, d]`; arguments as in the folded form."""
        pool = pool.flatten(1, 2)
        score = self.query(target) @ self.key(pool).transpose(1, 2) / math.sqrt(target.shape[-1])
        if pool_mask is not None:
            score = score.masked_fill(~pool_mask.flatten(1)[:, None], -torch.inf)
        prompts = score.softmax(-1) @ self.value(pool)
        weight = target_mask.to(prompts.dtype)[..., None]
        return (prompts * weight).sum(1) / weight.sum(1)


def write_out_adapter(model: AngaModel) -> AngaModel:
    """A copy of the model with the adapter written out; the backbone is shared."""
    twin = AngaModel(Config(), model.backbone, model.head[-1].out_features).to(next(model.parameters()).device)
    twin.load_state_dict(model.state_dict())
    twin.adapter.text = WrittenOutAttention(twin.adapter.text)
    twin.adapter.image = WrittenOutAttention(twin.adapter.image)
    return twin.eval()


def make_variants(size: Size, device: torch.device) -> dict:
    """Name -> one step, from tokens to updated weights, all on the same model and batch."""
    model = make_model(size, device)
    n_samples = size.batch(device)
    batch = make_batches(model, size, n_samples, device)(np.arange(n_samples))
    group, twin = make_groups(n_samples), write_out_adapter(model)
    aligner = GradientAligner(model.trainable().values())
    optimizer, twin_optimizer = (torch.optim.AdamW(m.trainable().values(), lr=1e-5) for m in (model, twin))

    def plain() -> None:
        optimizer.zero_grad()
        sample_losses(model(batch), batch.labels).mean().backward()
        optimizer.step()

    def plain_written_out() -> None:
        twin_optimizer.zero_grad()
        sample_losses(twin(batch), batch.labels).mean().backward()
        twin_optimizer.step()

    def aligned(form: str) -> None:
        optimizer.zero_grad()
        gradients = FORMS[form](model, batch, group)
        aligner.apply(gradients.vectors, gradients.counts)
        optimizer.step()

    @torch.no_grad()
    def rank() -> None:
        model(batch)

    return {
        BASELINE: plain,
        "plain step, adapter written out": plain_written_out,
        "aligned step, boundary form": lambda: aligned("boundary"),
        "aligned step, retained graph": lambda: aligned("loop"),
        "aligned step, sub-batches": lambda: aligned("sub_batch"),
        "ranking pass, same batch": rank,
    }


def report(name: str, device: torch.device) -> None:
    """Print one size's table."""
    size = SIZES[name]
    print(f"\nOne training step, {name} size: {size}, batch {size.batch(device)}, float32")
    variants = make_variants(size, device)
    memory = {v: peak_in_child("benchmarks.aligned_step", name, v, str(device)) for v in measured(name, variants)}
    print_table(interleave(variants, REPEATS[name], device), BASELINE, memory)


def measured(name: str, variants: dict) -> list[str]:
    """The variants whose memory is measured; in a smoke test one is enough."""
    return [BASELINE] if name == "tiny" else list(variants)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that all works")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--measure", nargs=3, metavar=("SIZE", "VARIANT", "DEVICE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        name, variant, device = options.measure
        report_peak(make_variants(SIZES[name], torch.device(device))[variant], torch.device(device))
        return
    for name in ["tiny"] if options.quick else ["mini-vilt", "ViLT-B/32"]:
        report(name, pick_device(options.device))


if __name__ == "__main__":
    main()
