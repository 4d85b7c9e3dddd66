"""Which sample lacks what: seeded masks with exact counts per split (Sec. 5.1, "Setting of missing patterns")."""

import hashlib
from dataclasses import dataclass

import numpy as np

from anga.datasets import Dataset
from anga.errors import AngaError

MISSING_TYPES = ("text", "image", "both")


@dataclass(frozen=True)
class MissingTable:
    """What is left of every sample.

    Attributes:
        has_text: bool `[N]`, whether the sample's text is observed.
        has_image: bool `[N]`, whether its image is.
    """

    has_text: np.ndarray
    has_image: np.ndarray

    def __post_init__(self):
        if not (self.has_text | self.has_image).all():
            row = int(np.argmin(self.has_text | self.has_image))
            raise AngaError(f"missing table: sample {row} lacks text and image; every sample must keep one of them.")

    @property
    def complete(self) -> np.ndarray:
        """bool `[N]`: both modalities observed. The others are the reconstructed samples."""
        return self.has_text & self.has_image

    @classmethod
    def draw(
        cls,
        dataset: Dataset,
        missing_rate: float,
        missing_type: str,
        seed: int = 0,
        test_missing_rate: float | None = None,
    ) -> "MissingTable":
        """Exactly round(n * rate) samples of each split lose a modality; "both" halves them between text and image.

        The draw depends on (data set, split, type, rate, seed) alone, so that every method sees the same table and
        no split's draw tells anything about another's.

        Raises:
            AngaError: a rate outside [0, 1] or an unknown type.
        """
        if missing_type not in MISSING_TYPES:
            raise AngaError(f"missing_type: must be one of {', '.join(MISSING_TYPES)}, not {missing_type!r}.")
        has_text, has_image = np.ones(len(dataset), bool), np.ones(len(dataset), bool)
        for split in ("train", "validation", "test"):
            rate = test_missing_rate if split == "test" and test_missing_rate is not None else missing_rate
            lost_text, lost_image = _draw_split(dataset, split, float(rate), missing_type, seed)
            has_text[lost_text], has_image[lost_image] = False, False
        return cls(has_text, has_image)


def _draw_split(dataset: Dataset, split: str, rate: float, missing_type: str, seed: int):
    """Row numbers of one split that lose their text, and that lose their image."""
    if not 0 <= rate <= 1:
        raise AngaError(f"missing_rate: must lie between 0 and 1, not {rate}.")
    rows = dataset.rows(split)
    key = f"{dataset.name}|{split}|{missing_type}|{rate}|{seed}"
    generator = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    lost = generator.permutation(rows)[: round(len(rows) * rate)]
    n_text = {"text": len(lost), "image": 0, "both": len(lost) // 2}[missing_type]
    return lost[:n_text], lost[n_text:]
