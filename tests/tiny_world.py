"""A tiny random world: 90 samples, a ViLT of 3 layers and width 16, random embeddings; a training step takes 10 ms.

Everything right of the files is the package's own: `World.inputs` calls `prepare`, and only data, encoder and backbone
are replaced.
"""

import io
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

from anga.backbone import Backbone
from anga.config import Config
from anga.datasets import Dataset
from anga.inputs import Inputs, prepare
from anga.tokens import Batch

TASKS = ("binary", "multiclass", "multilabel")
COLOURS = ("red", "green", "blue", "grey")
FILLERS = ("bird", "car", "hill", "tree", "on", "a")
MAX_LENGTH = 9  # tokens: [CLS], up to seven words, [SEP]


@dataclass(frozen=True)
class World:
    """Data, frozen backbone, and unit embeddings `[N, 8]` of texts and images."""

    dataset: Dataset
    backbone: Backbone
    embeddings: tuple[np.ndarray, np.ndarray]
    outputs: Path

    @contextmanager
    def replaced(self):
        """Where this is active, whatever asks for data, embeddings or a backbone by name gets this world's."""
        loaders = {"load_config_dataset": lambda config: self.dataset}
        encoders = {"embed_dataset": lambda *names: self.embeddings, "Backbone": mock.Mock()}
        encoders["Backbone"].from_name = lambda name: self.backbone
        with ExitStack() as replaced:
            replaced.enter_context(mock.patch.multiple("anga.inputs", **loaders, **encoders))
            for module in ("anga.runs", "anga.grids"):
                replaced.enter_context(mock.patch.multiple(module, **loaders))
            yield

    def inputs(self, config: Config) -> Inputs:
        with self.replaced():
            return prepare(config, self.outputs)

    def with_garbage(self, lost_text: np.ndarray, lost_image: np.ndarray, outputs: Path) -> "World":
        """Other texts of other lengths, other pictures and other embeddings in the given places, bool `[N]` each."""
        other = make_dataset(self.dataset.task, seed=99)
        images = list(self.dataset.images)
        for row in np.flatnonzero(lost_image):
            images[self.dataset.image_rows[row]] = other.images[row]
        dataset = replace(
            self.dataset,
            texts=np.where(lost_text, other.texts, self.dataset.texts),
            images=images,
            content_hash="",
        )
        pairs = zip(self.embeddings, random_embeddings(len(dataset), seed=99), (lost_text, lost_image), strict=True)
        embeddings = tuple(np.where(lost[:, None], new, old) for old, new, lost in pairs)
        return World(dataset, self.backbone, embeddings, outputs)


def make_world(task: str, outputs: Path) -> World:
    return World(make_dataset(task), make_backbone(), random_embeddings(90, seed=7), outputs)


def tiny_config(**knobs) -> Config:
    """Three epochs of four steps on half-incomplete data."""
    tiny = {"backbone": "tiny", "clip": "tiny", "max_text_length": MAX_LENGTH, "device": "cpu"}
    tiny |= {"missing_rate": 0.5, "missing_type": "both", "top_k": 3, "lambda_min": 0.2, "lambda_max": 0.5}
    tiny |= {"grow_epochs": 2, "epochs": 3, "batch_size": 16, "learning_rate": 0.01}
    return Config(**{**tiny, **knobs})


def make_dataset(task: str, n: int = 90, seed: int = 0) -> Dataset:
    """Labels follow the text's colour word and the picture's colour; splits 60, 15 and 15, in mixed order."""
    generator = np.random.default_rng(seed)
    split = np.random.default_rng(5).permutation(np.repeat(["train", "validation", "test"], [n - 30, 15, 15]))
    kind, shade = generator.integers(0, 4, n), generator.integers(0, 4, n)
    texts = [" ".join([COLOURS[k], *generator.choice(FILLERS, generator.integers(0, 7))]) for k in kind]
    image_rows = np.random.default_rng(6).permutation(n)
    pictures = [_png(shade[row], generator) for row in np.argsort(image_rows)]
    labels, classes = _labels(task, kind, shade)
    ids = np.array([f"sample-{row}" for row in range(n)])
    return Dataset(f"tiny-{task}", task, ids, np.array(texts, object), pictures, labels, classes, split, image_rows)


def _png(shade: int, generator: np.random.Generator) -> bytes:
    pixels = (60 * shade + generator.integers(0, 60, (8, 8, 3))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _labels(task: str, kind: np.ndarray, shade: np.ndarray):
    if task == "binary":
        return (kind == shade).astype(np.int64) | (kind < 2), ["no", "yes"]
    if task == "multiclass":
        return kind.astype(np.int64), list(COLOURS)
    return np.stack([kind == 0, kind >= 2, shade >= 1, shade == 3, kind == shade], 1).astype(np.float32), list("abcde")


def random_embeddings(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors float32 `[n, 8]` for texts and for images."""
    vectors = np.random.default_rng(seed).standard_normal((2, n, 8))
    return tuple((vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32))


def make_backbone() -> Backbone:
    """A random ViLT: images of 2 x 2 cells, weights large enough that every token matters."""
    from transformers import BertTokenizerFast, ViltConfig, ViltImageProcessorPil, ViltModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COLOURS, *FILLERS]
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    grid = {"image_size": 16, "patch_size": 8, "max_position_embeddings": 12, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vilt = ViltModel(ViltConfig(vocab_size=len(words), initializer_range=0.3, **sizes, **grid))
        for parameter in vilt.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    return Backbone(vilt, tokenizer, ViltImageProcessorPil(size={"shortest_edge": 16}), "tiny", "weights of tiny")


def in_double(batch: Batch) -> Batch:
    """The batch with every float tensor in double precision."""
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    is_float = {name: value is not None and value.is_floating_point() for name, value in values.items()}
    return Batch(**{name: value.double() if is_float[name] else value for name, value in values.items()})
