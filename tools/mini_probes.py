"""How good are the shipped checkpoints? Linear probes, retrieval and matching on the clip-art test split."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from anga.backbone import Backbone
from anga.datasets import Dataset, load_dataset
from anga.encoders import ClipEncoder

MAX_LENGTH = 40  # tokens
BLOCK = 128  # samples encoded at once
C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
RESAMPLES = 1000
Interval = tuple[float, float, float]  # value, lower and upper end of the 95 % interval


def encode_collection(backbone: Backbone, dataset: Dataset) -> tuple[Tensor, np.ndarray]:
    """(image tokens [pictures, n_v, d], pooled trunk features [pictures, 1280]) of the whole collection."""
    stem = backbone.vilt.embeddings.patch_embeddings.projection
    tokens, pooled = [], []
    for start in tqdm(range(0, len(dataset.images), 8), desc="pictures", unit="batch"):
        numbers = range(start, min(start + 8, len(dataset.images)))
        grid = stem.trunk.forward_features(backbone.preprocess([dataset.picture(i) for i in numbers]))
        tokens.append(backbone.embed_cells(F.conv2d(grid, stem.weight, stem.bias)))
        pooled.append(grid.mean((2, 3)))
    return torch.cat(tokens), torch.cat(pooled).numpy()


def outputs(backbone: Backbone, dataset: Dataset, pictures: Tensor) -> dict[str, np.ndarray]:
    """Last-layer features [N, ..] per input: each modality alone, and both together."""
    parts: dict[str, list[Tensor]] = {"text": [], "image": [], "both": [], "both, [CLS]": []}
    nothing, _ = backbone.tokenize([""], MAX_LENGTH)
    for start in range(0, len(dataset), BLOCK):
        rows = range(start, min(start + BLOCK, len(dataset)))
        ids, mask = backbone.tokenize([dataset.texts[i] for i in rows], MAX_LENGTH)
        image = pictures[dataset.image_rows[start : start + BLOCK]]
        seen = torch.ones(image.shape[:2], dtype=torch.bool)
        text, empty = backbone.embed_text(ids), backbone.embed_text(nothing).expand(len(ids), -1, -1)
        alone = backbone.encode_tokens(text, mask, image, ~seen)
        parts["text"].append(mean_outputs(alone[:, :MAX_LENGTH], mask))
        alone = backbone.encode_tokens(empty, torch.arange(MAX_LENGTH) < torch.full((len(ids), 1), 2), image, seen)
        parts["image"].append(alone[:, MAX_LENGTH:].mean(1))
        whole = backbone.encode_tokens(text, mask, image, seen)
        means = [mean_outputs(whole[:, :MAX_LENGTH], mask), whole[:, MAX_LENGTH:].mean(1)]
        parts["both"].append(torch.cat(means, dim=1))
        parts["both, [CLS]"].append(whole[:, 0])
    return {name: torch.cat(blocks).numpy() for name, blocks in parts.items()}


def mean_outputs(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of [B, L, d] over the unmasked positions."""
    weights = mask[..., None].float()
    return (hidden * weights).sum(1) / weights.sum(1)


def probe(features: np.ndarray, dataset: Dataset) -> Interval:
    """Score of a logistic regression on frozen features; C by the validation split, scored on the test split."""
    train, validation, test = (dataset.rows(split) for split in ("train", "validation", "test"))
    scaled = StandardScaler().fit(features[train]).transform(features)
    with threadpool_limits(1):  # many small problems: threads only get in each other's way
        best = max(C_GRID, key=lambda c: _score(_predict(scaled, dataset, train, validation, c), dataset, validation))
        predicted = _predict(scaled, dataset, train, test, best)
    return bootstrap(lambda pick: _score(predicted[pick], dataset, test[pick]), len(test))


def _predict(features: np.ndarray, dataset: Dataset, train: np.ndarray, rows: np.ndarray, c: float) -> np.ndarray:
    """Predicted labels of `rows`: classes, or for a multi-label task a 0/1 matrix of one classifier per class."""
    if dataset.task != "multilabel":
        model = LogisticRegression(C=c, max_iter=200).fit(features[train], dataset.labels[train])
        return model.predict(features[rows])
    columns = [
        LogisticRegression(C=c, max_iter=200).fit(features[train], labels).predict(features[rows])
        for labels in dataset.labels[train].T
    ]
    return np.stack(columns, axis=1)


def _score(predicted: np.ndarray, dataset: Dataset, rows: np.ndarray) -> float:
    """F1-micro or accuracy."""
    truth = dataset.labels[rows]
    if dataset.task != "multilabel":
        return float((predicted == truth).mean())
    return float(2 * (predicted * truth).sum() / (predicted.sum() + truth.sum()))


def bootstrap(score: Callable[[np.ndarray], float], n: int, resamples: int = RESAMPLES) -> Interval:
    """Score of all n test samples, with the 95 % interval over resampled ones."""
    rng = np.random.default_rng(0)
    scores = [score(rng.integers(n, size=n)) for _ in range(resamples)]
    return score(np.arange(n)), float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


def matching(backbone: Backbone, rank_output: torch.nn.Module, pictures: Tensor) -> Interval:
    """AUROC of the pretrained matching head on the test split of clipart-pairs, with no training on the task."""
    dataset = load_dataset("clipart-pairs")
    rows = dataset.rows("test")
    scores = []
    for block in np.array_split(rows, max(1, len(rows) // BLOCK)):
        ids, mask = backbone.tokenize([dataset.texts[i] for i in block], MAX_LENGTH)
        image = pictures[dataset.image_rows[block]]
        seen = torch.ones(image.shape[:2], dtype=torch.bool)
        cls = backbone.encode(backbone.embed_text(ids), mask, image, seen)
        scores.append(rank_output(backbone.pooler(cls))[:, 0])
    values, labels = torch.cat(scores).numpy(), dataset.labels[rows]
    return bootstrap(lambda pick: float(roc_auc_score(labels[pick], values[pick])), len(rows))


def retrieval(encoder: ClipEncoder, dataset: Dataset) -> dict[str, Interval]:
    """Recall@10 on the test split: is the own partner among the ten most similar of all test items?"""
    rows = dataset.rows("test")
    text = encoder.encode_texts([dataset.texts[i] for i in rows])
    image = encoder.encode_images([dataset.image(i) for i in rows])
    result = {}
    for name, similarity in (("image to text", image @ text.T), ("text to image", text @ image.T)):
        found = (similarity > similarity.diagonal()[:, None]).sum(1) < 10
        result[name] = bootstrap(lambda pick, found=found: float(found[pick].mean()), len(rows))
    return result
