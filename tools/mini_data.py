"""The training material as arrays: token ids, teacher vectors and picture features, all in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mini_corpora import Corpus
from mini_teachers import grid_features, load_trunk, sentence_embeddings
from mini_vocabulary import CLS, MASK, PAD, SEP, SPECIAL
from torch import Tensor

MAX_LENGTH = 40  # tokens
SIDE, CLIP_SIDE = 128, 192  # pixels: the drawings' own size for mini-vilt, enlarged for mini-clip
SAME_MEANING = 0.9  # captions whose teacher vectors are closer are not held against each other


@dataclass
class Material:
    """N pairs and M sentences. Wording w of pair i is row `wordings[i][w]` of the caption arrays."""

    wordings: list[list[int]]
    caption_ids: Tensor  # int64 [captions, MAX_LENGTH]
    caption_vectors: Tensor  # float [captions, 384], MiniLM
    sentence_ids: Tensor  # int64 [M, MAX_LENGTH]
    sentence_vectors: Tensor  # float [M, 384], MiniLM
    grids: np.ndarray  # float16 [N, views, cells, 1280], EfficientNet-Lite0 on small pictures
    pooled: np.ndarray  # float16 [N, views, 1, 1280], the same on larger pictures, mean over the cells
    device: str

    def draw_captions(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """One caption row per pair: the full wording for most, another one for some."""
        other = rng.random(len(rows)) < 0.3
        return torch.tensor(
            [rng.choice(self.wordings[i]) if o else self.wordings[i][0] for i, o in zip(rows, other, strict=True)]
        )

    def draw_sentences(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(trimmed ids, teacher vectors) of sentences of one kind, so that little of the batch is padding."""
        half = len(self.sentence_ids) // 2  # full entries first, then words alone
        start = half * int(rng.random() < 0.5)
        rows = start + rng.choice(half, min(count, half), replace=False)
        ids = trim(self.sentence_ids[rows], 28 if start == 0 else 12)
        return ids.to(self.device), self.sentence_vectors[rows].to(self.device)

    def draw_views(self, features: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """float32 [B, cells, 1280] of `grids` or `pooled`: a random view of each picture."""
        views = rng.integers(features.shape[1], size=len(rows))
        return torch.from_numpy(features[rows, views]).float().to(self.device)


def plain_pooled(features: np.ndarray) -> Tensor:
    """float32 [N, 1280]: the first view's mean over the cells."""
    return torch.from_numpy(features[:, 0].astype(np.float32).mean(1))


def prepare(corpus: Corpus, tokenizer_folder: Path, cache: Path, device: str, seed: int) -> Material:
    """Run the teachers (or read what they said) and tokenise everything."""
    from transformers import AutoTokenizer

    tokenizer, trunk = AutoTokenizer.from_pretrained(tokenizer_folder), load_trunk()
    captions = [text for texts in corpus.texts for text in texts]
    ends = np.cumsum([len(texts) for texts in corpus.texts])
    vectors = [
        torch.from_numpy(np.array(sentence_embeddings(texts, device, cache / f"{name}.npy"))).float()
        for name, texts in (("captions", captions), ("sentences", corpus.sentences))
    ]
    return Material(
        wordings=[list(range(end - len(t), end)) for end, t in zip(ends, corpus.texts, strict=True)],
        caption_ids=token_ids(tokenizer, captions),
        caption_vectors=vectors[0],
        sentence_ids=token_ids(tokenizer, corpus.sentences),
        sentence_vectors=vectors[1],
        grids=np.array(grid_features(trunk, corpus.images, SIDE, False, device, seed, cache / "grids.npy")),
        pooled=np.array(grid_features(trunk, corpus.images, CLIP_SIDE, True, device, seed, cache / "pooled.npy")),
        device=device,
    )


def token_ids(tokenizer, texts: list[str]) -> Tensor:
    """int64 [N, MAX_LENGTH], padded."""
    batch = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return batch["input_ids"]


def trim(ids: Tensor, limit: int = MAX_LENGTH) -> Tensor:
    """Cut the columns that are padding in every row, and those from `limit` on; cut texts still end in [SEP]."""
    ids = ids[:, : min(limit, int((ids != PAD).sum(1).max()))].clone()
    ids[ids[:, -1] != PAD, -1] = SEP
    return ids


def draw_limit(rng: np.random.Generator) -> int:
    """Longest caption of a step, in tokens: 95 % fit into 17, so most steps are cut there and stay quick."""
    return 17 if rng.random() < 0.75 else MAX_LENGTH


def drop_words(ids: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Replace a share of the ordinary tokens by [MASK]."""
    hidden = torch.from_numpy(rng.random(ids.shape) < share).to(ids.device)
    return torch.where(hidden & (ids >= len(SPECIAL)), MASK, ids)


def contrast(queries: Tensor, keys: Tensor, same: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of unit vectors [B, D]; `same` bool [B, B] marks further true pairs, left out."""
    logits = (scale * queries @ keys.T).float()
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    logits = logits.masked_fill(others, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def distance(vectors: Tensor, targets: Tensor) -> Tensor:
    """Mean of 1 - cosine over rows."""
    return 1 - F.cosine_similarity(vectors.float(), targets.float(), dim=-1).mean()


__all__ = [
    "CLS",
    "PAD",
    "SEP",
    "Material",
    "contrast",
    "distance",
    "draw_limit",
    "drop_words",
    "prepare",
    "token_ids",
    "trim",
]
