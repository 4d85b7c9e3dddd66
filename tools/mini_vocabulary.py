"""A WordPiece vocabulary pruned from MiniLM's to the words of the training texts, with vectors to start from."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
PAIR_WEIGHT = 20  # a piece of a caption counts as much as this many of a text without a picture


def prune_vocabulary(captions: list[str], sentences: list[str], tokenizer, size: int) -> list[str]:
    """The `size` most useful pieces of `tokenizer`: special ones, single characters, then by frequency."""
    counts = Counter()
    for texts, weight in ((captions, PAIR_WEIGHT), (sentences, 1)):
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            counts.update(dict.fromkeys(ids, weight) if weight == 1 else {i: weight * ids.count(i) for i in ids})
    pieces = [piece for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    characters = [p for p in pieces if len(p.removeprefix("##")) == 1 and p.isascii()]
    frequent = [tokenizer.convert_ids_to_tokens(i) for i, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
    return list(dict.fromkeys([*SPECIAL, *characters, *frequent]))[:size]


def save_tokenizer(vocabulary: list[str], folder: Path, max_length: int) -> None:
    """Write a BERT tokenizer with this vocabulary into `folder`."""
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    BertTokenizerFast(vocab=numbers, model_max_length=max_length).save_pretrained(folder)


def word_vectors(vocabulary: list[str], tokenizer, model, width: int, spread: float) -> Tensor:
    """[V, width]: principal components of the teacher's word embeddings, scaled to the given root mean square."""
    table = model.get_input_embeddings().weight.detach()
    vectors = table[tokenizer.convert_tokens_to_ids(vocabulary)]
    centred = vectors - vectors.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ directions[:width].T
    return projected * (spread / projected.pow(2).mean().sqrt())
