"""What every loader returns: texts, encoded pictures, labels and a split, with one hash over all of it."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from anga.datasets.report import SPLITS, LoadReport

METRICS = {"binary": "auroc", "multiclass": "accuracy", "multilabel": "f1_micro"}


@dataclass(frozen=True)
class Dataset:
    """N samples of one task; everything a result depends on is covered by `content_hash`.

    ids: [N] unique str.  texts: [N] object (str).
    images: the encoded pictures (bytes) of the whole collection.  image_rows: [N] int, which of them each sample shows
    (None: one each, in order). Tasks on one collection share its pictures, and so whatever is cached for them.
    labels: [N] int64 for binary and multiclass, [N, C] float32 of 0 and 1 for multilabel.
    classes: C names in label order.  split: [N] str, each one of `SPLITS`.
    report: what its loader found and skipped (None: nothing could be); no part of the data set's identity.
    """

    name: str
    task: str
    ids: np.ndarray
    texts: np.ndarray
    images: Sequence[bytes] = field(repr=False)
    labels: np.ndarray
    classes: list[str]
    split: np.ndarray
    image_rows: np.ndarray | None = None
    content_hash: str = ""
    report: LoadReport | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.image_rows is None:
            object.__setattr__(self, "image_rows", np.arange(len(self.ids)))
        if not self.content_hash:
            object.__setattr__(self, "content_hash", self._hash())

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def metric(self) -> str:
        """`auroc`, `accuracy` or `f1_micro`."""
        return METRICS[self.task]

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of one split, ascending; KeyError for a name not in `SPLITS`."""
        if split not in SPLITS:
            raise KeyError(f"unknown split '{split}': use one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.split == split)

    def image(self, row: int) -> Image.Image:
        """The picture of one sample, decoded to RGB."""
        return self.picture(self.image_rows[row])

    def picture(self, number: int) -> Image.Image:
        """One picture of the collection, decoded to RGB."""
        return Image.open(io.BytesIO(self.images[number])).convert("RGB")

    def images_hash(self) -> str:
        """SHA-256 over the pictures of the collection: the key of whatever is computed from pictures alone.

        A picture store knows the hash of its sources; its pictures need not be read for it.
        """
        if known := getattr(self.images, "content_hash", None):
            return known
        digest = hashlib.sha256(np.array([len(image) for image in self.images], "<i8").tobytes())
        digest.update(b"".join(self.images))
        return digest.hexdigest()

    def texts_hash(self) -> str:
        """SHA-256 over the texts, in order: the key of whatever is computed from texts alone."""
        return hashlib.sha256(json.dumps(self.texts.tolist()).encode()).hexdigest()

    def describe(self) -> pd.DataFrame:
        """One row per split: samples, classes present, labels per sample, share of the commonest class."""
        return pd.DataFrame({split: self._counts(self.rows(split)) for split in SPLITS}).T.convert_dtypes()

    def _counts(self, rows: np.ndarray) -> dict[str, float]:
        labels = self.labels[rows]
        per_class = labels.sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=len(self.classes))
        n = max(len(rows), 1)
        return {
            "samples": len(rows),
            "classes": int((per_class > 0).sum()),
            "labels_per_sample": round(float(per_class.sum()) / n, 2),
            "largest_class": round(float(per_class.max()) / n, 3),
        }

    def _hash(self) -> str:
        """SHA-256 over ids, texts, pictures, labels, classes and split."""
        known = [self.ids.tolist(), self.texts_hash(), list(self.classes), self.split.tolist(), self.images_hash()]
        digest = hashlib.sha256(json.dumps([*known, self.image_rows.tolist()]).encode())
        digest.update(str(self.labels.dtype).encode() + np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()
