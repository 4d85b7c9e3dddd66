"""Scores, for all samples and apart for complete and reconstructed ones (Sec. 5.1, "Evaluation metrics")."""

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from anga.datasets.dataset import METRICS
from anga.missing import MissingTable

METRIC_NAMES = {"auroc": "AUROC", "accuracy": "accuracy", "f1_micro": "F1-micro"}


def score(task: str, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """The task's metrics; the first is the one that selects models.

    AUROC ranks by the logit margin of class 1; F1 cuts sigmoids at 0.5 (logits at 0). A score that is not defined
    (no sample; AUROC of one class) is NaN.

    Args:
        task: "binary", "multiclass" or "multilabel".
        labels: `[N]`, or `[N, k]` for multilabel.
        logits: `[N, k]`.
    """
    if len(labels) == 0:
        return {METRICS[task]: float("nan")}
    if task == "binary":
        defined = len(np.unique(labels)) == 2
        auroc = roc_auc_score(labels, logits[:, 1] - logits[:, 0]) if defined else float("nan")
        return {"auroc": float(auroc), "accuracy": float(accuracy_score(labels, logits.argmax(1)))}
    if task == "multiclass":
        predicted = logits.argmax(1)
        macro = f1_score(labels, predicted, average="macro", zero_division=0)
        return {"accuracy": float(accuracy_score(labels, predicted)), "f1_macro": float(macro)}
    averages = ("micro", "macro")
    return {f"f1_{a}": float(f1_score(labels, logits > 0, average=a, zero_division=0)) for a in averages}


def selecting_score(task: str, labels: np.ndarray, logits: np.ndarray) -> float:
    """The first metric of `score` alone, ten times faster: resampling asks for it thousands of times."""
    if task == "multiclass":
        return float((logits.argmax(1) == labels).mean())
    if task == "multilabel":
        predicted, true = logits > 0, labels > 0
        return float(2 * (predicted & true).sum() / max(predicted.sum() + true.sum(), 1))
    rank, positive = rankdata(logits[:, 1] - logits[:, 0]), labels == 1
    n_positive = positive.sum()
    wins = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * (len(labels) - n_positive))) if 0 < n_positive < len(labels) else float("nan")


def best_cut(labels: np.ndarray, logits: np.ndarray) -> float:
    """The logit at which to cut for the highest F1-micro; `score` cuts at 0, which is a sigmoid of 0.5.

    Args:
        labels, logits: `[N, k]`, multilabel; best those of the validation split.

    Returns the middle between the lowest logit that is taken and the highest one that is not; 0 where no label is true.
    """
    if not (labels > 0).any():
        return 0.0
    order = np.argsort(-logits, axis=None, kind="stable")
    ranked = logits.ravel()[order]
    hits = np.cumsum(labels.ravel()[order] > 0)
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1])
    following = np.append(ranked[1:], ranked[-1] - 1)
    f1[ranked == following] = 0  # equal logits are taken together
    best = f1.argmax()
    return float((ranked[best] + following[best]) / 2)


def subsets(table: MissingTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """bool masks `[n]` over some rows: all, complete, reconstructed, and by which modality is missing."""
    complete = table.complete[rows]
    return {
        "all": np.ones(len(rows), bool),
        "complete": complete,
        "reconstructed": ~complete,
        "text_missing": ~table.has_text[rows],
        "image_missing": ~table.has_image[rows],
    }


def score_subsets(task: str, labels, logits, table: MissingTable, rows: np.ndarray) -> dict[str, dict[str, float]]:
    """score() on each subset of `rows`; `labels` and `logits` are those rows', in order; `n` counts the samples."""
    return {
        name: {**score(task, labels[mask], logits[mask]), "n": int(mask.sum())}
        for name, mask in subsets(table, rows).items()
    }
