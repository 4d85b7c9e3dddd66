"""Drawings for the data trees: pictures with texts and labels, written in the many forms that picture files come in."""

import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from anga.datasets import load_dataset

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sample:
    """One sample that a loader must find; `looks` is what `looks_of` says of its picture."""

    split: str
    text: str
    label: str | list[str]
    looks: np.ndarray = field(repr=False)


@dataclass
class Tree:
    """A data set on disk, what is to be found in it by id, and what is to be skipped by (split, reason)."""

    root: Path
    samples: dict[str, Sample] = field(default_factory=dict)
    skipped: Counter = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        return {split: sum(sample.split == split for sample in self.samples.values()) for split in SPLITS}


class Drawings:
    """An endless supply of labelled drawings of one task, by split; labels of a binary task alternate."""

    def __init__(self, task: str, side: int = 128):
        self.dataset, self.side = load_dataset(f"clipart-{task}"), side
        self.rows = {split: self._mixed(self.dataset.rows(split)) for split in SPLITS}
        self.taken = Counter()

    def _mixed(self, rows: np.ndarray) -> np.ndarray:
        if self.dataset.task != "binary":
            return rows
        kinds = [rows[self.dataset.labels[rows] == label] for label in (0, 1)]
        return np.stack([kind[: min(map(len, kinds))] for kind in kinds], axis=1).ravel()

    def take(self, split: str) -> tuple[str, object, Image.Image]:
        """The next drawing of a split: its text, label and picture."""
        row = self.rows[split][self.taken[split] % len(self.rows[split])]
        self.taken[split] += 1
        picture = self.dataset.image(row)
        if self.side != 128:
            picture = picture.resize((self.side, self.side), Image.Resampling.BICUBIC)
        return self.dataset.texts[row], self.dataset.labels[row], picture


def looks_of(picture: Image.Image) -> np.ndarray:
    """Mean colours of 8 x 8 fields, float `[8, 8, 3]`: what two files that show the same have in common."""
    return np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BOX)).astype(float)


# --- picture files in the many forms they come in; each returns what the picture looks like


def plain(picture: Image.Image, path: Path) -> np.ndarray:
    picture.save(path, quality=95)
    return looks_of(picture)


def palette(picture: Image.Image, path: Path) -> np.ndarray:
    """64 colours, looked up."""
    few = picture.quantize(64)
    few.save(path)
    return looks_of(few)


def half_transparent(picture: Image.Image, path: Path) -> np.ndarray:
    """The left half is transparent: it shows white, whatever colour lies below."""
    alpha = np.full(picture.size[::-1], 255, np.uint8)
    alpha[:, : picture.width // 2] = 0
    layer = picture.convert("RGBA")
    layer.putalpha(Image.fromarray(alpha))
    layer.save(path)
    shown = picture.convert("RGB")
    shown.paste("white", (0, 0, picture.width // 2, picture.height))
    return looks_of(shown)


def grey(picture: Image.Image, path: Path) -> np.ndarray:
    picture.convert("L").save(path, quality=95)
    return looks_of(picture.convert("L"))


def deep_grey(picture: Image.Image, path: Path) -> np.ndarray:
    """16 bits a pixel."""
    values = np.asarray(picture.convert("L"))
    Image.fromarray(values.astype(np.uint16) * 257).save(path)
    return looks_of(Image.fromarray(values))


def inks(picture: Image.Image, path: Path) -> np.ndarray:
    """CMYK."""
    picture.convert("CMYK").save(path, quality=95)
    return looks_of(picture.convert("CMYK"))


PNG_FORMS = (plain, palette, half_transparent, grey, deep_grey)
JPEG_FORMS = (plain, grey, inks)


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str = "png") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()
