"""Models of two sizes with random weights, and batches of random tokens: what steps are measured on."""

from dataclasses import dataclass

import numpy as np
import torch

from anga.backbone import Backbone
from anga.config import Config
from anga.gradients import Group
from anga.missing import MissingTable
from anga.model import AngaModel
from anga.retriever import Neighbours
from anga.tokens import BatchMaker, TokenBank

TOP_K = 5
SHARES = {Group.COMPLETE: 0.3, Group.ADMITTED: 0.21, Group.REMAINING: 0.49}  # delta = 0.7, lambda = 0.3
WORDS = 8000  # vocabulary


@dataclass(frozen=True)
class Size:
    """d, layers, heads, text and image tokens (the image's [CLS] included), classes, batch on a CPU and on a GPU."""

    dim: int
    layers: int
    heads: int
    n_text: int
    grid: int
    n_classes: int
    cpu_batch: int
    gpu_batch: int

    @property
    def n_image(self) -> int:
        return 1 + self.grid**2

    def batch(self, device: torch.device) -> int:
        return self.gpu_batch if device.type == "cuda" else self.cpu_batch

    def __str__(self) -> str:
        tokens = f"{self.n_text} + {self.n_image} tokens"
        return f"{self.layers} layers x {self.dim}, {tokens}, K = {TOP_K}"


SIZES = {
    "tiny": Size(dim=32, layers=2, heads=2, n_text=8, grid=2, n_classes=2, cpu_batch=16, gpu_batch=16),
    "mini-vilt": Size(dim=256, layers=4, heads=4, n_text=32, grid=4, n_classes=2, cpu_batch=64, gpu_batch=64),
    "ViLT-B/32": Size(dim=768, layers=12, heads=12, n_text=128, grid=12, n_classes=2, cpu_batch=8, gpu_batch=64),
}


def make_model(size: Size, device: torch.device) -> AngaModel:
    """The study's model on a backbone of this size with random weights."""
    from transformers import ViltConfig, ViltModel

    torch.manual_seed(0)
    shape = ViltConfig(
        vocab_size=WORDS,
        hidden_size=size.dim,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.dim,
        max_position_embeddings=size.n_text,
        image_size=32 * size.grid,
        patch_size=32,
    )
    backbone = Backbone(ViltModel(shape), None, None, "random weights", "")
    return AngaModel(Config(), backbone, size.n_classes).to(device).eval()


def make_batches(model: AngaModel, size: Size, n_samples: int, device: torch.device, folder=None) -> BatchMaker:
    """A batch maker over random tokens of `n_samples` samples, 70 % of which lack their text.

    With `folder`, image tokens are written there and memory-mapped, as a data set's are.
    """
    generator = np.random.default_rng(0)
    ids = generator.integers(0, WORDS, (n_samples, size.n_text))
    lengths = generator.integers(size.n_text // 4, size.n_text + 1, n_samples)
    mask = np.arange(size.n_text) < lengths[:, None]
    image = generator.standard_normal((n_samples, size.n_image, size.dim), np.float32).astype(np.float16)
    if folder is not None:
        np.save(folder / "image.npy", image)
        image = np.load(folder / "image.npy", mmap_mode="c")
    rows, similarity = generator.integers(0, n_samples, (2, n_samples, TOP_K)), np.zeros((n_samples, TOP_K))
    neighbours = Neighbours(rows[0], rows[1], similarity, similarity)
    table = MissingTable(generator.random(n_samples) >= 0.7, np.ones(n_samples, bool))
    bank = TokenBank(model.backbone, ids, mask, image, image_rows=np.arange(n_samples), device=device)
    return BatchMaker(bank, generator.integers(0, size.n_classes, n_samples), table, neighbours, with_pools=True)


def make_groups(n_samples: int) -> np.ndarray:
    """Group codes `[n]` in the usual shares, shuffled."""
    ends = np.cumsum([round(share * n_samples) for share in SHARES.values()])[:-1]
    groups = np.searchsorted(ends, np.arange(n_samples), side="right")
    return np.random.default_rng(0).permutation(groups)
