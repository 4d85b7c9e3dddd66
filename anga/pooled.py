"""Batches without tokens: where nothing learns below the head, the frozen backbone's output is computed only once."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch

from anga.inputs import Inputs
from anga.placement import send
from anga.tokens import Batch, BatchMaker


def rows_per_call(device: torch.device) -> int:
    """How many samples go through the backbone at once where nothing learns."""
    return 64 if device.type == "cpu" else 256  # they fit a CPU's caches: 1.3 (float32) to 1.8 times as fast as 256


class PooledBatches:
    """Makes batches of the backbone's outputs, known beforehand, for methods that put no prompts into it.

    Args:
        inputs: keeps the outputs, so that runs on the same inputs share them.
        make_batch: makes batches of tokens, without pools.
        precision: of the forward pass, float32 or bfloat16.
        autocast: the context of a forward pass.
        alone: whether each modality's output on itself alone is wanted as well.
    """

    def __init__(
        self,
        inputs: Inputs,
        make_batch: BatchMaker,
        precision: str,
        autocast: Callable[[], AbstractContextManager],
        alone: bool = False,
    ):
        self.backbone, self.make_batch, self.autocast = inputs.backbone, make_batch, autocast
        self.device, table, known = inputs.bank.device, inputs.table, inputs.pooled
        wanted = {"pooled": precision} | ({n: f"{precision} {n}" for n in ALONE} if alone else {})
        for name, key in wanted.items():
            if key not in known:
                known[key] = self._encode_all(len(inputs.dataset), MASKED[name])
        self.columns = {name: known[key] for name, key in wanted.items()}
        has = {"has_text": table.has_text, "has_image": table.has_image}
        self.columns |= {name: torch.from_numpy(mask).to(self.device) for name, mask in has.items()}
        self.columns["labels"] = make_batch.labels

    def __call__(self, rows: np.ndarray) -> Batch:
        index = send(rows, self.device)
        return Batch(rows=index, **{name: values[index] for name, values in self.columns.items()})

    @torch.no_grad()
    def _encode_all(self, n: int, masked: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        """One output `[N, d]` for every sample."""
        parts, size = [], rows_per_call(self.device)
        for start in range(0, n, size):
            batch = self.make_batch(np.arange(start, min(start + size, n)))
            present = masked(batch)
            with self.autocast():
                pooled = self.backbone.encode(batch.text, batch.text_mask, batch.image, batch.image_mask).float()
            parts.append(pooled * present[:, None])
        return torch.cat(parts)


def _all_modalities(batch: Batch) -> torch.Tensor:
    return torch.ones_like(batch.has_text)


def _text_alone(batch: Batch) -> torch.Tensor:
    """Hide the image; bool `[B]`: whose text is there."""
    batch.image_mask = torch.zeros_like(batch.image_mask)
    return batch.has_text


def _image_alone(batch: Batch) -> torch.Tensor:
    """Hide the text but for [CLS], which carries no content and is read out; bool `[B]`: whose image is there."""
    batch.text_mask = batch.text_mask & (torch.arange(batch.text_mask.shape[1], device=batch.text_mask.device) == 0)
    return batch.has_image


MASKED = {"pooled": _all_modalities, "pooled_text": _text_alone, "pooled_image": _image_alone}
ALONE = ("pooled_text", "pooled_image")
