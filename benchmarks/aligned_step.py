"""What alignment costs: one aligned training step against plain steps of the same model and batch."""

import argparse
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

import anga.backbone
from anga.adapter import PooledCrossAttention
from anga.aligner import GradientAligner
from anga.gradients import FORMS
from anga.inputs import pick_device
from anga.layer import rows_to_pack
from anga.method import sample_losses
from anga.model import AngaModel
from anga.tokens import Batch
from benchmarks.flops import forward_flops, step_flops
from benchmarks.models import SIZES, Size, make_batches, make_config, make_groups, make_model
from benchmarks.peak import matmul_rate
from benchmarks.timing import Seconds, interleave, peak_in_child, print_table, report_peak, with_replaced

NAIVE, PLAIN, ALIGNED = "plain step, written out", "plain step", "aligned step, boundary form"
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
        prompts = score.softmax(-1).to(target.dtype) @ self.value(pool)
        weight = target_mask.to(prompts.dtype)[..., None]
        return (prompts * weight).sum(1) / weight.sum(1)


class WrittenOutModel(AngaModel):
    """The model without its shortcuts: Eq. 16 as printed, and the last layer computed for all tokens (see `padded`)."""

    def __init__(self, model: AngaModel):
        super().__init__(make_config(), model.backbone, model.head[-1].out_features)
        self.to(model.head[-1].weight.device).load_state_dict(model.state_dict())
        self.adapter.text = WrittenOutAttention(self.adapter.text)
        self.adapter.image = WrittenOutAttention(self.adapter.image)
        self.eval()

    def encode(self, batch: Batch, prompts: torch.Tensor) -> torch.Tensor:
        tokens = batch.text, batch.text_mask, batch.image, batch.image_mask
        return self.backbone.encode_tokens(*tokens, prompts, self.prompt_layer)[:, prompts.shape[1]]


def skipped_tokens(batch: Batch) -> float:
    """How many masked tokens of a sample, in the mean, the layers pass over (prompts change it by a rounding)."""
    mask = torch.cat([batch.text_mask, batch.image_mask], dim=1)
    rows = rows_to_pack(mask)
    return 0.0 if rows is None else (mask.numel() - len(rows)) / len(mask)


def padded(step: Callable[[], None]) -> Callable[[], None]:
    """The step with masked tokens computed, as if nobody knew that they are."""
    return with_replaced(step, anga.backbone, "rows_to_pack", lambda mask: None)


@dataclass(frozen=True)
class Step:
    """A call to be timed, and the floating-point operations of its matrix products."""

    run: Callable[[], None]
    flops: int


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """As in training: bfloat16 for the forward pass, or nothing."""
    return contextlib.nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def make_variants(size: Size, device: torch.device, precision: str = "float32") -> dict[str, Step]:
    """Name -> one step, from tokens to updated weights, all on the same model and batch."""
    model, n = make_model(size, device), size.batch(device)
    batch = make_batches(model, size, n, device)(np.arange(n))
    size, group = replace(size, n_text=batch.text.shape[1]), make_groups(n)
    counts = {"size": size, "n_samples": n, "skipped": skipped_tokens(batch)}

    def plain(model: AngaModel) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.trainable().values(), lr=1e-5, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            with autocast(precision, device):
                losses = sample_losses(model(batch), batch.labels)
            losses.mean().backward()
            optimizer.step()

        return step

    @torch.no_grad()
    def rank() -> None:
        with autocast(precision, device):
            model(batch)

    def aligned(form: str) -> Callable[[], None]:
        return make_aligned(model, lambda: batch, group, precision, form)

    return {
        NAIVE: Step(padded(plain(WrittenOutModel(model))), step_flops(size, n, naive=True)),
        PLAIN: Step(plain(model), step_flops(**counts)),
        ALIGNED: Step(aligned("boundary"), step_flops(**counts)),
        "aligned step, sub-batches": Step(aligned("sub_batch"), step_flops(**counts)),
        "aligned step, retained graph": Step(aligned("loop"), step_flops(**counts, backward_passes=3)),
        "ranking pass, same batch": Step(rank, round(n * forward_flops(size, skipped=counts["skipped"]))),
    }


def make_aligned(
    model: AngaModel, get_batch: Callable[[], Batch], group: np.ndarray, precision: str, form: str = "boundary"
) -> Callable[[], None]:
    """An aligned training step, as in the training loop."""
    learned = list(model.trainable().values())
    optimizer, aligner = torch.optim.AdamW(learned, lr=1e-5, fused=True), GradientAligner(learned)

    def step() -> None:
        batch = get_batch()
        optimizer.zero_grad()
        with autocast(precision, batch.rows.device):
            gradients = FORMS[form](model, batch, group)
        aligner.apply(gradients.vectors, gradients.counts)
        optimizer.step()

    return step


def rate_columns(seconds: Seconds, flops: dict[str, int], peak: float) -> dict[str, dict[str, str]]:
    """Operations of the step, their rate, and its share of the machine's measured peak (MFU)."""
    rates = {name: flops[name] / np.median(values) for name, values in seconds.items()}
    return {
        "TFLOP": {name: f"{flops[name] / 1e12:.3g}" for name in rates},
        "TFLOP/s": {name: f"{rate / 1e12:.3g}" for name, rate in rates.items()},
        "MFU": {name: f"{rate / peak:.0%}" for name, rate in rates.items()},
    }


def report(name: str, device: torch.device, precision: str, peak: float) -> None:
    """Print one size's table."""
    size = SIZES[name]
    print(f"\nOne training step, {name} size: {size}, batch {size.batch(device)}, {precision}")
    variants = make_variants(size, device, precision)
    seconds = interleave({v: step.run for v, step in variants.items()}, REPEATS[name], device)
    columns = rate_columns(seconds, {v: step.flops for v, step in variants.items()}, peak)
    measured = [NAIVE] if name == "tiny" else list(variants)  # in a smoke test one is enough
    peaks = {v: peak_in_child("benchmarks.aligned_step", name, v, str(device), precision) for v in measured}
    columns["peak memory"] = {v: f"{peak:.0f} MB" for v, peak in peaks.items()}
    print_table(seconds, {"/ written out": NAIVE, "/ plain": PLAIN}, columns)


def main(arguments: list[str] | None = None, peaks: dict[str, float] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that all works")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--measure", nargs=4, metavar=("SIZE", "VARIANT", "DEVICE", "P"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        name, variant, device, precision = options.measure
        device = torch.device(device)
        report_peak(make_variants(SIZES[name], device, precision)[variant].run, device)
        return
    device = pick_device(options.device)
    for name in ["tiny"] if options.quick else ["mini-vilt", "ViLT-B/32"]:
        for precision in ["bfloat16", "float32"] if device.type == "cuda" else ["float32"]:
            report(name, device, precision, peaks[precision] if peaks else matmul_rate(device, precision))


if __name__ == "__main__":
    main()
