"""Models of three sizes with random weights, and data of random tokens: what is measured. Nothing is downloaded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anga.backbone import Backbone
from anga.config import Config
from anga.datasets import Dataset
from anga.gradients import Group
from anga.inputs import Inputs
from anga.missing import MissingTable
from anga.model import AngaModel
from anga.retriever import Neighbours
from anga.tokens import BatchMaker, TokenBank

TOP_K, PROMPT_LAYER, N_PROMPTS = 5, 2, 2
SHARES = {Group.COMPLETE: 0.3, Group.ADMITTED: 0.21, Group.REMAINING: 0.49}  # delta = 0.7, lambda = 0.3
WORDS = 8000  # vocabulary
DRAWN = 1000  # pictures whose tokens are drawn; more samples repeat them


@dataclass(frozen=True)
class Size:
    """d, layers, heads, text tokens, side of the image's grid, classes, batch on a CPU and on a GPU."""

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
        """Image tokens, the image's own [CLS] included."""
        return 1 + self.grid**2

    def batch(self, device: torch.device) -> int:
        return self.gpu_batch if device.type == "cuda" else self.cpu_batch

    def __str__(self) -> str:
        tokens = f"{self.n_text} + {self.n_image} tokens"
        return f"{self.layers} layers x {self.dim}, {tokens}, K = {TOP_K}"


SIZES = {
    "tiny": Size(dim=32, layers=3, heads=2, n_text=8, grid=2, n_classes=2, cpu_batch=16, gpu_batch=16),
    "mini-vilt": Size(dim=256, layers=4, heads=4, n_text=32, grid=4, n_classes=2, cpu_batch=64, gpu_batch=64),
    "ViLT-B/32": Size(dim=768, layers=12, heads=12, n_text=128, grid=12, n_classes=2, cpu_batch=8, gpu_batch=64),
}


def make_backbone(size: Size, device: torch.device) -> Backbone:
    """A backbone of this size with random weights."""
    from transformers import ViltConfig, ViltModel

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
    with torch.random.fork_rng(devices=[]), device:  # random weights of this size are drawn faster on a GPU
        torch.manual_seed(0)
        vilt = ViltModel(shape)
    return Backbone(vilt, None, None, "random weights", "").to(device)


def make_config(**knobs) -> Config:
    """The study's defaults with the numbers that the arithmetic counts on."""
    return Config(top_k=TOP_K, prompt_layer=PROMPT_LAYER, **knobs)


def make_model(size: Size, device: torch.device) -> AngaModel:
    """The study's model on a backbone of this size."""
    torch.manual_seed(0)
    return AngaModel(make_config(), make_backbone(size, device), size.n_classes).to(device).eval()


def make_inputs(
    backbone: Backbone,
    size: Size,
    splits: dict[str, int],
    device: torch.device,
    task: str = "binary",
    folder: Path | None = None,
    placement: str | None = None,
) -> Inputs:
    """Random tokens and labels; 70 % of the samples lack their text.

    Args:
        splits: number of samples of train, validation and test.
        folder: image tokens are written there and memory-mapped, as a data set's are.
        placement: where the image tokens lie; None: where they fit.
    """
    generator, n = np.random.default_rng(0), sum(splits.values())
    ids = generator.integers(0, WORDS, (n, size.n_text))
    lengths = generator.integers(size.n_text // 4, size.n_text + 1, n)
    mask = np.arange(size.n_text) < lengths[:, None]
    bank = TokenBank(backbone, ids, mask, _image_tokens(size, n, folder), np.arange(n), device, placement)
    rows, similarity = generator.integers(0, splits["train"], (2, n, TOP_K)), np.zeros((n, TOP_K), np.float32)
    neighbours = Neighbours(rows[0], rows[1], similarity, similarity)
    table = MissingTable(generator.random(n) >= 0.7, np.ones(n, bool))
    return Inputs(_dataset(size, splits, task), table, neighbours, bank, backbone)


def _image_tokens(size: Size, n: int, folder: Path | None) -> np.ndarray:
    shape = (min(n, DRAWN), size.n_image, size.dim)
    drawn = np.random.default_rng(1).standard_normal(shape, np.float32).astype(np.float16)
    image = np.empty((n, *shape[1:]), np.float16)
    for start in range(0, n, DRAWN):
        image[start : start + DRAWN] = drawn[: n - start]
    if folder is None:
        return image
    np.save(folder / "image.npy", image)
    return np.load(folder / "image.npy", mmap_mode="c")


def _dataset(size: Size, splits: dict[str, int], task: str) -> Dataset:
    """Labels alone: texts and pictures are never looked at, since their tokens are there."""
    n, exclusive = sum(splits.values()), task != "multilabel"
    shape, values = (n, size.n_classes) if exclusive else ((n, size.n_classes), 2)
    labels = np.random.default_rng(2).integers(0, values, shape).astype(np.int64 if exclusive else np.float32)
    ids, texts = np.arange(n).astype(str), np.full(n, "", object)
    classes, split = [str(c) for c in range(size.n_classes)], np.repeat(list(splits), list(splits.values()))
    return Dataset(f"random-{task}", task, ids, texts, [], labels, classes, split, content_hash="random tokens")


def make_batches(model: AngaModel, size: Size, n: int, device: torch.device, **options) -> BatchMaker:
    """A batch maker over n random samples, for the adapter; options as in `make_inputs`."""
    splits = {"train": n, "validation": 0, "test": 0}
    return make_inputs(model.backbone, size, splits, device, **options).batch_maker(with_pools=True)


def make_groups(n_samples: int) -> np.ndarray:
    """Group codes `[n]` in the usual shares, shuffled."""
    ends = np.cumsum([round(share * n_samples) for share in SHARES.values()])[:-1]
    groups = np.searchsorted(ends, np.arange(n_samples), side="right")
    return np.random.default_rng(0).permutation(groups)
