"""Token bank: what the frozen embedding layers make of a data set, computed once; batches are gathered from it.

Image tokens are stored in half precision and memory-mapped. Of the texts the word numbers are stored (a text's tokens
are one table look-up away and a hundred times larger).
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from anga.backbone import Backbone
from anga.datasets import Dataset
from anga.errors import AngaError
from anga.missing import MissingTable
from anga.placement import fetch, find_placement, place, send
from anga.replacing import named_if_not_made
from anga.retriever import Neighbours, reconstruct

IMAGES_PER_CALL = 128
TEXTS_PER_CALL = 1024


@dataclass
class Batch:
    """Inputs of one step; B samples, K neighbours, text length n_t (the batch's longest), n_v image tokens.

    Attributes:
        rows: int64 `[B]`, row numbers in the data set.
        labels: int64 `[B]`, or float32 `[B, C]` where labels are not exclusive.
        text, text_mask: float `[B, n_t, d]`, bool `[B, n_t]`; position 0 is [CLS] and always there.
        image, image_mask: float `[B, n_v, d]`, bool `[B, n_v]`.
        text_pool, text_pool_mask: the neighbours' texts `[B, K, n_t, d]`, `[B, K, n_t]`; None without an adapter.
        image_pool: the neighbours' images `[B, K, n_v, d]`; None without an adapter.
        pool_labels: labels of the neighbours, texts' first `[B, 2K]` or `[B, 2K, C]`; None without an adapter.
        pooled: the frozen backbone's output `[B, d]`, where it is known already; all tokens are None then.
        pooled_text, pooled_image: its output on one modality alone `[B, d]`, zero where that is missing; likewise.
        has_text, has_image: bool `[B]`, what is observed.
    """

    rows: torch.Tensor
    labels: torch.Tensor
    text: torch.Tensor | None = None
    text_mask: torch.Tensor | None = None
    image: torch.Tensor | None = None
    image_mask: torch.Tensor | None = None
    text_pool: torch.Tensor | None = None
    text_pool_mask: torch.Tensor | None = None
    image_pool: torch.Tensor | None = None
    pool_labels: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    pooled_text: torch.Tensor | None = None
    pooled_image: torch.Tensor | None = None
    has_text: torch.Tensor | None = None
    has_image: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, index: torch.Tensor) -> "Batch":
        """The samples at the given positions, as a batch of their own."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: None if value is None else value[index] for name, value in values.items()})


class TokenBank:
    """Word numbers and image tokens of every sample.

    Args:
        backbone: the frozen model whose embedding layers are used.
        ids, mask: int64 and bool `[N, n_t]`, tokenised texts.
        image: float16 `[M, n_v, d]`, tokens of the collection's pictures.
        image_rows: int `[N]`, which picture each sample shows.
        device: where batches are delivered; texts always lie there.
        placement: where the image tokens lie, see `anga.placement`; None: where they fit.
    """

    def __init__(self, backbone: Backbone, ids, mask, image, image_rows, device="cpu", placement: str | None = None):
        self.backbone, self.device = backbone, torch.device(device)
        self.lengths = mask.sum(1)  # kept on the host, so that padding never waits for the device
        self.ids = torch.from_numpy(ids).to(self.device)
        self.mask = torch.from_numpy(mask).to(self.device)
        self.placement = placement or find_placement(image.nbytes, self.device)
        self.image = place(torch.from_numpy(image), self.placement, self.device)
        self.image_rows = np.asarray(image_rows, np.int64)  # on the host, which says what a batch fetches

    @classmethod
    def build(cls, dataset: Dataset, backbone: Backbone, max_length: int, cache: Path, device="cpu") -> "TokenBank":
        """Tokens of a data set; image tokens come from the cache where they were made before for its pictures."""
        ids, mask = _word_numbers(dataset.texts, backbone, max_length)
        key = hashlib.sha256(json.dumps([dataset.images_hash(), backbone.content_hash]).encode()).hexdigest()
        path = Path(cache) / f"image-tokens-{key[:16]}.npy"
        if not path.exists():
            _write_image_tokens(dataset, backbone, path)
        try:  # copy-on-write: torch wants a writable array, the file stays as it is
            image = np.load(path, mmap_mode="c")
        except (OSError, ValueError, EOFError) as error:
            raise AngaError(f"{path}: the cached tokens cannot be read ({error}); delete this file.") from None
        return cls(backbone, ids, mask, image, dataset.image_rows, device)

    @torch.no_grad()
    def text(self, rows: np.ndarray, n_t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Text tokens `[..., n_t, d]` and their mask `[..., n_t]` for an array of rows of any shape."""
        index = send(rows, self.device)
        return self.backbone.embed_text(self.ids[index, :n_t], self.ids.shape[1]), self.mask[index, :n_t]

    def images(self, rows: np.ndarray) -> torch.Tensor:
        """Image tokens `[..., n_v, d]`, float32, for an array of rows of any shape."""
        return fetch(self.image, self.placement, self.image_rows[rows], self.device).float()


class BatchMaker:
    """Turns row numbers into batches: looks up tokens, takes away what is missing, puts in what was retrieved.

    Args:
        bank: tokens of every sample.
        labels: `[N]` or `[N, C]`.
        table: what each sample has.
        neighbours: retrieved rows, or None: what is missing is then absent from attention.
        with_pools: whether the neighbours' own tokens go along, for the adapter.
        integer_mask: modalities in which the published defect is reproduced (see `_mask_by_integers`).
    """

    def __init__(
        self,
        bank: TokenBank,
        labels: np.ndarray,
        table: MissingTable,
        neighbours: Neighbours | None = None,
        with_pools: bool = False,
        integer_mask: tuple[str, ...] = (),
    ):
        self.bank, self.table, self.neighbours, self.with_pools = bank, table, neighbours, with_pools
        self.integer_mask = integer_mask
        self.labels = torch.from_numpy(labels).to(bank.device)

    def __call__(self, rows: np.ndarray) -> Batch:
        batch = self._observed(rows)
        if self.neighbours is not None:
            self._retrieved(batch, rows)
        return batch

    def _observed(self, rows: np.ndarray) -> Batch:
        """What the missing table leaves; lost tokens are zero and masked. [CLS] carries no content and stays."""
        bank = self.bank
        n_t = self._text_length(rows)
        text, text_mask = bank.text(rows, n_t)
        image = bank.images(rows)
        has_text, has_image = (send(has[rows], bank.device) for has in (self.table.has_text, self.table.has_image))
        is_cls = torch.arange(n_t, device=bank.device) == 0
        keep = has_text[:, None] | is_cls
        index = send(rows, bank.device)
        text_mask = text_mask & keep
        return Batch(
            rows=index,
            labels=self.labels[index],
            text=text * keep[..., None],
            text_mask=text_mask,
            image=image * has_image[:, None, None],
            image_mask=has_image[:, None].expand(image.shape[:2]),
            has_text=has_text,
            has_image=has_image,
        )

    def _text_length(self, rows: np.ndarray) -> int:
        """Longest text that this batch reads, observed or retrieved; lost texts do not count, [CLS] always does."""
        read = [rows[self.table.has_text[rows]]]
        if self.neighbours is not None:
            every = self.with_pools or "text" in self.integer_mask
            read.append(self.neighbours.text[rows if every else rows[~self.table.has_text[rows]]].ravel())
        return int(self.bank.lengths[np.concatenate(read)].max(initial=1))

    def _retrieved(self, batch: Batch, rows: np.ndarray) -> None:
        """Reconstruct what is missing by the neighbours' mean and, for the adapter, attach the neighbours."""
        n_t = batch.text.shape[1]
        lost_text, lost_image = ~self.table.has_text[rows], ~self.table.has_image[rows]
        text_rows, image_rows = self.neighbours.text[rows], self.neighbours.image[rows]
        if self.with_pools:
            batch.text_pool, batch.text_pool_mask = self.bank.text(text_rows, n_t)
            batch.image_pool = self.bank.images(image_rows)
            batch.pool_labels = self.labels[send(np.concatenate([text_rows, image_rows], 1), self.bank.device)]
        if self.integer_mask:
            self._mask_by_integers(batch, rows)
            return
        if lost_text.any():
            at = send(np.flatnonzero(lost_text), self.bank.device)
            if self.with_pools:  # fetched already
                lent = batch.text_pool[at], batch.text_pool_mask[at]
            else:
                lent = self.bank.text(text_rows[lost_text], n_t)
            tokens, mask = reconstruct(*lent)
            batch.text, batch.text_mask = (
                batch.text.index_copy(0, at, tokens),
                batch.text_mask.index_copy(0, at, mask),
            )
        if lost_image.any():
            at = send(np.flatnonzero(lost_image), self.bank.device)
            tokens = batch.image_pool[at] if self.with_pools else self.bank.images(image_rows[lost_image])
            tokens, mask = reconstruct(tokens, torch.ones(tokens.shape[:3], dtype=torch.bool, device=tokens.device))
            batch.image = batch.image.index_copy(0, at, tokens)
            batch.image_mask = batch.image_mask.index_copy(0, at, mask)

    def _mask_by_integers(self, batch: Batch, rows: np.ndarray) -> None:
        """What retrieval code published until 2025 did: `x * has + r * ~has` with integers, where ~1 = -2 and ~0 = -1.

        In a modality that can be missing, an observed x becomes x - 2r and a lost one -r, with r the mean of what was
        retrieved for it; a modality that nobody lacks stays as it is.
        """
        if "text" in self.integer_mask:
            tokens, mask = reconstruct(*self.bank.text(self.neighbours.text[rows], batch.text.shape[1]))
            has = batch.has_text[:, None]
            batch.text = batch.text * has[..., None] - (1 + has.to(tokens.dtype))[..., None] * tokens
            batch.text_mask = (batch.text_mask & has) | mask
        if "image" in self.integer_mask:
            tokens, has = self.bank.images(self.neighbours.image[rows]).mean(1), batch.has_image[:, None, None]
            batch.image = batch.image - (1 + has.to(tokens.dtype)) * tokens
            batch.image_mask = torch.ones_like(batch.image_mask)


def _word_numbers(texts, backbone: Backbone, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts -> int64 and bool `[N, max_length]`, some at a time: a tokenizer takes 20 KB for each."""
    blocks = [list(texts[i : i + TEXTS_PER_CALL]) for i in range(0, len(texts), TEXTS_PER_CALL)]
    parts = [[t.numpy() for t in backbone.tokenize(block, max_length)] for block in blocks]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _scratch_beside(path: Path) -> tempfile.TemporaryDirectory:
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=path.parent, prefix=".image-tokens-")


@torch.no_grad()
def _write_image_tokens(dataset: Dataset, backbone: Backbone, path: Path) -> None:
    """Embed all pictures in batches, append each to a file (a mapped one would fill memory), and move it into place.

    Raises:
        AngaError: the file cannot be written, for instance to a full disk.
    """
    device, n = next(backbone.parameters()).device, len(dataset.images)
    with named_if_not_made(path), _scratch_beside(path) as scratch:
        partial = Path(scratch) / path.name
        with open(partial, "wb") as file:
            for start in tqdm(range(0, n, IMAGES_PER_CALL), desc=f"image tokens ({backbone.name})", unit="batch"):
                pictures = [dataset.picture(i) for i in range(start, min(start + IMAGES_PER_CALL, n))]
                tokens = backbone.embed_image(backbone.preprocess(pictures).to(device)).half().cpu().numpy()
                if start == 0:
                    facts = {"descr": "<f2", "fortran_order": False, "shape": (n, *tokens.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, facts)
                file.write(tokens.astype("<f2", copy=False).tobytes())
        os.replace(partial, path)
