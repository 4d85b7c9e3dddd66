"""What every loader returns: texts, encoded pictures, labels and a split, with one hash over all of it."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

SPLITS = ("train", "validation", "test")
METRICS = {"binary": "auroc", "multiclass": "accuracy", "multilabel": "f1_micro"}


@dataclass(frozen=True)
class Dataset:
    """N samples of one task; everything a result depends on is covered by `content_hash`.

    ids: [N] unique str.  texts: [N] object (str).  images: N encoded pictures (bytes).
    labels: [N] int64 for binary and multiclass, [N, C] float32 of 0 and 1 for multilabel.
    classes: C names in label order.  split: [N] str, each one of `SPLITS`.
    """

    name: str
    task: str
    ids: np.ndarray
    texts: np.ndarray
    images: Sequence[bytes] = field(repr=False)
    labels: np.ndarray
    classes: list[str]
    split: np.ndarray
    content_hash: str = ""

    def __post_init__(self) -> None:
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
        """The picture of one row, decoded to RGB."""
        return Image.open(io.BytesIO(self.images[row])).convert("RGB")

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
        """SHA-256 over ids, texts, image bytes, labels, classes and split."""
        texts = [self.ids.tolist(), self.texts.tolist(), list(self.classes), self.split.tolist()]
        digest = hashlib.sha256(json.dumps(texts).encode())
        digest.update(np.array([len(image) for image in self.images], "<i8").tobytes())
        digest.update(b"".join(self.images))
        digest.update(str(self.labels.dtype).encode() + np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()
