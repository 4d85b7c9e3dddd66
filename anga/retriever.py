"""Multimodal instance retriever: who resembles a sample, and what can stand in for what it lacks (Sec. 3.3).

A sample without its image is compared by its text, one without its text by its image; the neighbours' other modality
then stands in. A complete sample asks twice, so that the adapter gets a list of texts and a list of images.
"""

from dataclasses import dataclass

import numpy as np
import torch

from anga.errors import AngaError
from anga.missing import MissingTable

BLOCK = 4096  # queries a search call: FAISS is ten times slower on blocks of about a hundred


@dataclass(frozen=True)
class MemoryBank:
    """What retrieval may draw on: rows of the training split and what is known of each.

    Attributes:
        rows: int `[M]`, row numbers of the bank's samples in the data set.
        has_text, has_image: bool `[M]`, what the bank holds of each.
    """

    rows: np.ndarray
    has_text: np.ndarray
    has_image: np.ndarray

    @classmethod
    def observed(cls, train_rows: np.ndarray, table: MissingTable) -> "MemoryBank":
        """Only what the missing table leaves: nothing of a lost modality is ever looked at."""
        return cls(train_rows, table.has_text[train_rows], table.has_image[train_rows])

    @classmethod
    def full(cls, train_rows: np.ndarray) -> "MemoryBank":
        """Every training sample whole, as published code has it: an oracle for the training samples themselves."""
        everything = np.ones(len(train_rows), bool)
        return cls(train_rows, everything, everything)


@dataclass(frozen=True)
class Neighbours:
    """Row numbers of each sample's retrieved neighbours, most similar first.

    Attributes:
        text: int `[N, K]`, whose texts serve sample i.
        image: int `[N, K]`, whose images serve sample i.
        text_similarity, image_similarity: float32 `[N, K]`, cosines of Eq. 3.
    """

    text: np.ndarray
    image: np.ndarray
    text_similarity: np.ndarray
    image_similarity: np.ndarray


class Retriever:
    """Top-K search by cosine over unimodal embeddings (Eq. 3); a sample never retrieves itself.

    Args:
        text_embeddings, image_embeddings: float32 `[N, D]`, unit vectors, one row per sample of the data set.
        bank: the rows that may be retrieved.
        ids: `[N]`, a sample's identity; entries with the query's own id are excluded.
        backend: "faiss", "torch", or "auto" (FAISS where it is installed). Both are exact.
        device: where to search. FAISS without support for GPUs searches on the CPU.
    """

    def __init__(
        self,
        text_embeddings,
        image_embeddings,
        bank: MemoryBank,
        ids: np.ndarray,
        backend: str = "auto",
        device="cpu",
    ):
        self.embeddings = {"text": text_embeddings, "image": image_embeddings}
        self.bank, self.ids, self.backend, self.device = bank, np.asarray(ids), backend, device

    def neighbours(self, table: MissingTable, top_k: int) -> Neighbours:
        """The K neighbours of every sample, queried by what the table leaves of it."""
        n = len(self.ids)
        found = {m: (np.zeros((n, top_k), np.int64), np.zeros((n, top_k), np.float32)) for m in ("text", "image")}
        both = self.bank.has_text & self.bank.has_image
        self._search_into(found, ["text", "image"], "text", table.has_text & ~table.has_image, both, top_k)
        self._search_into(found, ["text", "image"], "image", table.has_image & ~table.has_text, both, top_k)
        self._search_into(found, ["text"], "text", table.complete, self.bank.has_text, top_k)
        self._search_into(found, ["image"], "image", table.complete, self.bank.has_image, top_k)
        return Neighbours(found["text"][0], found["image"][0], found["text"][1], found["image"][1])

    def _search_into(self, found, lists, query_by, queries, donors, top_k):
        """Fill `lists` of the samples in `queries` with the neighbours found among `donors` by one modality."""
        rows = np.flatnonzero(queries)
        if not len(rows):
            return
        index, similarity = self.search(query_by, rows, self.bank.rows[donors], top_k)
        for modality in lists:
            found[modality][0][rows], found[modality][1][rows] = index, similarity

    def search(self, modality: str, queries: np.ndarray, donors: np.ndarray, top_k: int):
        """Rows `[Q, K]` and cosines `[Q, K]` of the donors most similar to the queries, own ids excluded.

        Raises:
            AngaError: fewer than K donors are left once a query's own entry is taken out.
        """
        names, entries = np.unique(self.ids[donors], return_counts=True)
        own = int(entries[np.isin(names, self.ids[queries])].max(initial=0))
        if len(donors) - own < top_k:
            raise AngaError(
                f"top_k: {top_k} neighbours were asked for, but the memory bank holds {len(donors) - own} samples "
                f"that can lend what a {modality} query lacks; lower top_k or missing_rate, or use memory_bank: full."
            )
        vectors = self.embeddings[modality]
        similarity, index = top_similar(vectors[donors], vectors[queries], top_k + own, self.backend, self.device)
        rows = donors[index]
        keep = _first_k_others(self.ids[rows] == self.ids[queries][:, None], top_k)
        return np.take_along_axis(rows, keep, 1), np.take_along_axis(similarity, keep, 1)


def _first_k_others(is_self: np.ndarray, top_k: int) -> np.ndarray:
    """Column numbers `[Q, K]` of the first K columns that are not the query itself, order kept."""
    return np.argsort(is_self, axis=1, kind="stable")[:, :top_k]


def top_similar(bank: np.ndarray, queries: np.ndarray, k: int, backend: str = "auto", device="cpu"):
    """Exact inner-product search: similarities `[Q, k]` (descending) and bank positions `[Q, k]`."""
    bank, device = np.ascontiguousarray(bank, np.float32), torch.device(device)
    queries = np.ascontiguousarray(queries, np.float32)
    index = None if backend == "torch" else _faiss_index(bank, device, required=backend == "faiss")
    search = _torch_search(bank, device) if index is None else index.search
    parts = [search(queries[i : i + BLOCK], k) for i in range(0, len(queries), BLOCK)]
    return np.concatenate([s for s, _ in parts]), np.concatenate([i for _, i in parts]).astype(np.int64)


def _faiss_index(bank: np.ndarray, device: torch.device, required: bool):
    """A flat inner-product index, on the device if FAISS can use it; None where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        if required:
            raise AngaError(
                "faiss: is not installed; install faiss-cpu or faiss-gpu, or use backend='torch'."
            ) from None
        return None
    index = faiss.IndexFlatIP(bank.shape[1])
    if device.type == "cuda" and getattr(faiss, "get_num_gpus", lambda: 0)():
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    index.add(bank)
    return index


def _torch_search(bank: np.ndarray, device: torch.device):
    keys = torch.from_numpy(bank).to(device).T

    def search(queries: np.ndarray, k: int):
        similarity, index = (torch.from_numpy(queries).to(device) @ keys).topk(k, dim=1)
        return similarity.cpu().numpy(), index.cpu().numpy()

    return search


def reconstruct(tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean pooling over neighbours, position by position (Sec. 3.3).

    Args:
        tokens: `[B, K, n, d]`, the neighbours' tokens of the missing modality.
        mask: bool `[B, K, n]`, which of them are real tokens.

    Returns:
        Tokens `[B, n, d]`, each the mean of the neighbours that have one there, and a mask `[B, n]`.
    """
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    count = weight.sum(1)
    return (tokens * weight).sum(1) / count.clamp(min=1), mask.any(1)
