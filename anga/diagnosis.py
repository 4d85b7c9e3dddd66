"""What to measure before believing a picture: what features know, and how far reconstructions lie from the truth.

Tokens are compared by their mean over positions (pooled tokens, `[n, d]`), since texts differ in length. The truth is
looked up in the token bank, which holds what the missing table took away; no model ever reads it there.
"""

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anga.datasets import Dataset
from anga.errors import AngaError
from anga.evaluation import score
from anga.inputs import Inputs
from anga.missing import MissingTable
from anga.retriever import reconstruct
from anga.statistics import bootstrap_interval
from anga.tokens import TokenBank

SOURCES = ("nearest by the truth", "retrieved", "random donors", "one random donor", "bank mean")
BLOCK = 256  # samples pooled at a time


# --- what frozen features know of the label


def probe_scores(dataset: Dataset, features: dict[str, np.ndarray]) -> pd.DataFrame:
    """What linear classifiers on frozen features reach on the test split, beside an answer that knows nothing.

    Args:
        dataset: its labels and splits.
        features: name -> features `[N, D]`.

    Returns:
        One row per kind of features and one called "constant": features, score, low, high (95 % over test samples).
    """
    test = dataset.rows("test")
    logits = {name: probe(dataset, values)[test] for name, values in features.items()}
    logits["constant"] = _constant_logits(dataset, len(test))
    rows = [{"features": name, **_scored(dataset, test, values)} for name, values in logits.items()]
    return pd.DataFrame(rows)


def probe(dataset: Dataset, features: np.ndarray, strengths=(0.1, 1.0, 10.0, 100.0)) -> np.ndarray:
    """Logits `[N, C]` of a ridge classifier on features `[N, D]`, fitted on the training split.

    Of the ridge penalties (in units of the number of training samples) the one that validates best is taken.
    """
    train, validation = dataset.rows("train"), dataset.rows("validation")
    scaled = StandardScaler().fit(features[train]).transform(features)
    models = [RidgeClassifier(alpha=a * len(train)).fit(scaled[train], dataset.labels[train]) for a in strengths]
    candidates = [_two_columns(model.decision_function(scaled)) for model in models]
    return max(candidates, key=lambda logits: _metric(dataset, validation, logits[validation]))


def _two_columns(margin: np.ndarray) -> np.ndarray:
    return np.stack([-margin, margin], 1) if margin.ndim == 1 else margin


def _metric(dataset: Dataset, rows: np.ndarray, logits: np.ndarray) -> float:
    return score(dataset.task, dataset.labels[rows], logits)[dataset.metric]


def _scored(dataset: Dataset, rows: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    low, high = bootstrap_interval(dataset.task, dataset.labels[rows], logits)
    return {"score": _metric(dataset, rows, logits), "low": low, "high": high}


def _constant_logits(dataset: Dataset, n: int) -> np.ndarray:
    """`[n, C]`: the commonest class of the training split for every sample."""
    train = dataset.labels[dataset.rows("train")]
    counts = train.sum(0) if train.ndim == 2 else np.bincount(train, minlength=len(dataset.classes))
    return np.tile(np.where(np.arange(len(counts)) == counts.argmax(), 1.0, -1.0), (n, 1))


# --- how far reconstructed tokens lie from the true ones


@torch.no_grad()
def pooled_tokens(bank: TokenBank, modality: str, rows: np.ndarray) -> np.ndarray:
    """True tokens of some rows, averaged over their positions: float32 `[n, d]`."""
    return pooled_reconstruction(bank, modality, np.asarray(rows)[:, None])


@torch.no_grad()
def pooled_reconstruction(bank: TokenBank, modality: str, donors: np.ndarray) -> np.ndarray:
    """Tokens made by mean pooling K donors (Sec. 3.3), averaged over positions: `[n, K]` -> float32 `[n, d]`."""
    parts = [_pool(bank, modality, donors[i : i + BLOCK]) for i in range(0, len(donors), BLOCK)]
    return torch.cat(parts).cpu().numpy() if parts else np.zeros((0, bank.backbone.dim), np.float32)


def _pool(bank: TokenBank, modality: str, donors: np.ndarray) -> torch.Tensor:
    if modality == "text":
        tokens, mask = bank.text(donors, int(bank.lengths[donors].max()))
    else:
        tokens = bank.images(donors)
        mask = torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device)
    tokens, mask = reconstruct(tokens, mask)
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1)


def relative_error(made: np.ndarray, true: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """|made - true| / rms |true - mean|, `[n]`: 0 is exact, 1 is what the bank's mean would cost.

    Args:
        made, true: pooled tokens `[n, d]`.
        mean: pooled tokens' mean over the memory bank, `[d]`; it knows nothing of the sample.
    """
    scale = np.sqrt(((true - mean) ** 2).sum(1).mean())
    return np.linalg.norm(made - true, axis=1) / scale


def reconstruction_errors(inputs: Inputs, split: str = "test", seed: int = 0, sources=SOURCES) -> pd.DataFrame:
    """How far each reconstruction of a split lies from the truth, and how far simpler guesses would.

    Errors are relative to the mean of the observed bank's donors (`donor_rows`), whichever bank was used, so that those
    of two banks compare; guesses draw on these donors, so beside a bank that lends more they have no place.

    Returns:
        One row per sample that lacks a modality and per source of tokens: row, modality (the lost one),
        source, error (see `relative_error`). "random donors" pools as many as retrieval does; "nearest by the
        truth" retrieves by the lost tokens themselves, which nobody has: the best that K donors of this bank can do.

    Raises:
        AngaError: nothing was retrieved, or a guess was asked for beside a full bank.
    """
    _check_sources(inputs, sources)
    parts = [_modality_errors(inputs, split, modality, seed, sources) for modality in ("text", "image")]
    return pd.concat(parts, ignore_index=True)


def lost_rows(table: MissingTable, rows: np.ndarray, modality: str) -> np.ndarray:
    """Those of some rows that lack the modality."""
    has = table.has_text if modality == "text" else table.has_image
    return rows[~has[rows]]


def donor_rows(inputs: Inputs) -> np.ndarray:
    """Training rows with both modalities: with the observed bank, whoever stands in for a lost one is among them."""
    train = inputs.dataset.rows("train")
    return train[inputs.table.complete[train]]


def _check_sources(inputs: Inputs, sources) -> None:
    if inputs.neighbours is None:
        raise AngaError(
            "reconstruction_errors: these inputs were prepared without retrieval, so nothing was reconstructed; "
            "prepare them with use_retrieval: true."
        )
    lacking, guesses = ~inputs.table.complete, [source for source in sources if source != "retrieved"]
    lenders = inputs.neighbours.text[lacking], inputs.neighbours.image[lacking]
    if guesses and not np.isin(lenders, donor_rows(inputs)).all():
        raise AngaError(
            "reconstruction_errors: the memory bank lends what the missing table took away (memory_bank: full), but "
            f"{', '.join(guesses)} would draw on the observed bank's donors alone; use memory_bank: observed, or "
            "sources=('retrieved',)."
        )


def _modality_errors(inputs: Inputs, split: str, modality: str, seed: int, sources) -> pd.DataFrame:
    rows = lost_rows(inputs.table, inputs.dataset.rows(split), modality)
    if not len(rows):
        return pd.DataFrame(columns=["row", "modality", "source", "error"])
    donors = donor_rows(inputs)
    true, known = (pooled_tokens(inputs.bank, modality, r) for r in (rows, donors))
    top_k = getattr(inputs.neighbours, modality).shape[1]
    picks = {
        "retrieved": lambda: getattr(inputs.neighbours, modality)[rows],
        "nearest by the truth": lambda: nearest_donors(true, known, rows, donors, top_k),
        "random donors": lambda: draw_donors(rows, donors, top_k, seed),
        "one random donor": lambda: draw_donors(rows, donors, 1, seed),
    }
    mean = known.mean(0)
    parts = []
    for source in sources:
        made = mean if source == "bank mean" else pooled_reconstruction(inputs.bank, modality, picks[source]())
        error = relative_error(made, true, mean)
        parts.append(pd.DataFrame({"row": rows, "modality": modality, "source": source, "error": error}))
    return pd.concat(parts, ignore_index=True)


def draw_donors(rows: np.ndarray, donors: np.ndarray, top_k: int, seed: int) -> np.ndarray:
    """K different donors for each row, drawn without looking, never the row itself: `[n, K]`."""
    order = np.random.default_rng(seed).random((len(rows), len(donors)))
    order[rows[:, None] == donors] = 2.0
    return donors[order.argsort(1)[:, :top_k]]


def nearest_donors(true: np.ndarray, known: np.ndarray, rows: np.ndarray, donors: np.ndarray, top_k: int):
    """The K donors whose own pooled tokens `[M, d]` lie nearest to the true ones `[n, d]`, never the row itself."""
    distance = (known**2).sum(1) - 2 * true @ known.T
    distance[rows[:, None] == donors] = np.inf
    return donors[distance.argsort(1, kind="stable")[:, :top_k]]


# --- the semantic gap of Fig. 6a-b, as numbers


def separability(true: np.ndarray, made: np.ndarray, folds: int = 5) -> float:
    """AUROC at which a linear classifier tells made from true pooled tokens: 0.5 no gap, 1 two separate clouds.

    Cross-validated; a sample's true and made tokens always share a fold.
    """
    features = np.concatenate([true, made])
    is_made = np.repeat([0, 1], len(true))
    sample = np.tile(np.arange(len(true)), 2)
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=float(len(true))))
    margin = cross_val_predict(
        model, features, is_made, groups=sample, cv=GroupKFold(folds), method="decision_function"
    )
    return score("binary", is_made, _two_columns(margin))["auroc"]


def spread_ratio(true: np.ndarray, made: np.ndarray) -> float:
    """Total variance of the made pooled tokens over that of the true ones: below 1, pooling has blurred them."""
    return float(made.var(0).sum() / true.var(0).sum())


# --- how far apart groups of embeddings lie: the number beside Fig. 6c-d


def cluster_separation(
    embeddings: dict[str, np.ndarray], groups: np.ndarray, n_resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Mean silhouette of the same samples' groups in several embeddings, with 95 % bootstrap intervals over samples.

    Takes name -> vectors `[n, d]`, and at least two different groups `[n]`. Returns embedding, silhouette, low, high;
    change, change_low, change_high: compared with the first embedding, on the same resamples.
    """
    if len(np.unique(groups)) < 2:
        raise AngaError("cluster_separation: all samples are of one group; give at least two.")
    n, distances = len(groups), [cdist(vectors, vectors) for vectors in embeddings.values()]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    scores = np.array([silhouette(distance, groups) for distance in distances])
    drawn = np.array([[silhouette(distance, groups, times) for distance in distances] for times in counts])
    ends = [np.nanpercentile(values, (2.5, 97.5), axis=0) for values in (drawn, drawn - drawn[:, :1])]
    columns = [scores, *ends[0], scores - scores[0], *ends[1]]
    names = ["silhouette", "low", "high", "change", "change_low", "change_high"]
    return pd.DataFrame({"embedding": list(embeddings), **dict(zip(names, columns, strict=True))})


def silhouette(distances: np.ndarray, groups: np.ndarray, times: np.ndarray | None = None) -> float:
    """Mean of (b - a) / max(a, b); a, b: mean distance to the sample's own and to the nearest other group.

    Args:
        distances: `[n, n]`.
        groups: `[n]`.
        times: how often each sample counts `[n]`. Copies of a sample are no neighbours of one another: at distance
            zero they would make every group look tight. Samples alone in their group score 0, a single group NaN.
    """
    times = np.ones(len(groups)) if times is None else times
    kept = times > 0
    times, distances = times[kept], distances[np.ix_(kept, kept)]
    names, group = np.unique(groups[kept], return_inverse=True)
    if len(names) < 2:
        return float("nan")
    member, own = np.eye(len(names))[group] * times[:, None], (np.arange(len(group)), group)
    sums, sizes = distances @ member, np.tile(member.sum(0), (len(group), 1))
    sizes[own] -= times
    means = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    alone, a = sizes[own] == 0, means[own]
    means[own] = np.inf
    b = means.min(1)
    larger = np.maximum(a, b)
    values = np.divide(b - a, larger, out=np.zeros(len(a)), where=~alone & (larger > 0))
    return float(np.average(values, weights=times))
