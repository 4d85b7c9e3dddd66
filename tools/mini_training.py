"""One loop for both checkpoints: AdamW, warm-up and cosine, bf16 autocast, progress with time left, resume."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

WARM_UP = 0.05  # share of the steps
SAVE_EVERY = 100  # steps


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    steps: int
    learning_rate: float
    weight_decay: float
    seed: int
    device: str

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine."""
        warm_up = max(1, round(WARM_UP * self.steps))
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (self.steps - warm_up)))


def fit(
    model: nn.Module, losses: Callable[[np.random.Generator], dict[str, Tensor]], schedule: Schedule, state: Path
) -> float:
    """Minimise the sum of `losses(rng)`; returns the minutes spent, those before an interruption included.

    Each step draws from its own generator, so that a run resumed from the file `state` continues exactly.
    """
    optimiser = torch.optim.AdamW(parameter_groups(model, schedule.weight_decay), lr=schedule.learning_rate)
    start, minutes = load_state(state, model, optimiser, schedule)
    begun = time.monotonic() - 60 * minutes
    bar = tqdm(range(start, schedule.steps), initial=start, total=schedule.steps, desc=state.stem, unit="step")
    for step in bar:
        parts = take_step(model, losses, optimiser, schedule, step)
        if step % 20 == 0:
            bar.set_postfix({name: f"{value.item():.3f}" for name, value in parts.items()})
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == schedule.steps:
            minutes = (time.monotonic() - begun) / 60
            save_state(state, model, optimiser, schedule, step + 1, minutes)
    return minutes


def take_step(model: nn.Module, losses: Callable, optimiser, schedule: Schedule, step: int) -> dict[str, Tensor]:
    """One update; returns the parts of the loss. SystemExit when the loss is no longer finite."""
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate(step)
    torch.manual_seed(schedule.seed * 1_000_003 + step)
    # the fused attention's backward pass is several times slower in half precision on a CPU
    with torch.autocast(schedule.device.partition(":")[0], torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        parts = losses(np.random.default_rng((schedule.seed, step)))
    total = sum(parts.values())
    if not torch.isfinite(total):
        raise SystemExit(f"The loss is {total.item()} at step {step}: lower the learning rate.")
    optimiser.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return parts


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trainable parameters: matrices decay, vectors (biases, normalisation) do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def save_state(path: Path, model: nn.Module, optimiser, schedule: Schedule, step: int, minutes: float) -> None:
    """Write everything that a later process needs to go on, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"step": step, "minutes": minutes, "for": repr(schedule)}
    content |= {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save(content, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def load_state(path: Path, model: nn.Module, optimiser, schedule: Schedule) -> tuple[int, float]:
    """Restore a state saved under the same schedule; returns (step to go on with, minutes spent so far)."""
    if not path.is_file():
        return 0, 0.0
    content = torch.load(path, map_location=schedule.device, weights_only=True)
    if content["for"] != repr(schedule):
        return 0, 0.0
    model.load_state_dict(content["model"])
    optimiser.load_state_dict(content["optimiser"])
    return content["step"], content["minutes"]
