"""Scores against their definitions written out, and the subsets that they are taken on."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from anga.datasets.dataset import METRICS
from anga.evaluation import METRIC_NAMES, best_cut, score, score_subsets, selecting_score, subsets
from anga.missing import MissingTable

TASKS = tuple(METRICS)


def example(task: str, n: int = 60, seed: int = 0):
    """Labels, and logits that are a little better than chance; some are tied."""
    generator = np.random.default_rng(seed)
    if task == "multilabel":
        labels = generator.integers(0, 2, (n, 4)).astype(np.float32)
        return labels, np.round(2 * labels - 1 + 2 * generator.standard_normal((n, 4))) / 2
    k = 2 if task == "binary" else 4
    labels = generator.integers(0, k, n)
    return labels, np.round(2 * np.eye(k)[labels] + 2 * generator.standard_normal((n, k))) / 2


def test_auroc_is_the_share_of_pairs_ranked_rightly():
    labels, logits = example("binary")
    margin = logits[:, 1] - logits[:, 0]
    gaps = margin[labels == 1][:, None] - margin[labels == 0][None]
    assert (gaps == 0).any(), "ties count one half"
    found = score("binary", labels, logits)
    assert found["auroc"] == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    assert found["accuracy"] == pytest.approx(((margin > 0) == labels).mean())


def test_accuracy_and_macro_f1_by_counting():
    labels, logits = example("multiclass")
    predicted = np.argmax(logits, 1)
    f1 = [2 * (predicted[labels == c] == c).sum() / ((predicted == c).sum() + (labels == c).sum()) for c in range(4)]
    found = score("multiclass", labels, logits)
    assert found == pytest.approx({"accuracy": (predicted == labels).mean(), "f1_macro": np.mean(f1)})


def test_f1_cuts_sigmoids_at_one_half():
    labels, logits = example("multilabel")
    predicted, true = 1 / (1 + np.exp(-logits)) > 0.5, labels == 1
    both, either = (predicted & true).sum(0), predicted.sum(0) + true.sum(0)
    found = score("multilabel", labels, logits)
    assert found == pytest.approx({"f1_micro": 2 * both.sum() / either.sum(), "f1_macro": np.mean(2 * both / either)})


@pytest.mark.parametrize("task", TASKS)
def test_the_first_score_is_the_one_that_selects_models(task):
    labels, logits = example(task)
    found = score(task, labels, logits)
    assert next(iter(found)) == METRICS[task] and METRICS[task] in METRIC_NAMES
    expected = {
        "binary": lambda: roc_auc_score(labels, logits[:, 1] - logits[:, 0]),
        "multiclass": lambda: accuracy_score(labels, logits.argmax(1)),
        "multilabel": lambda: f1_score(labels, logits > 0, average="micro"),
    }[task]()
    assert found[METRICS[task]] == pytest.approx(expected)
    assert selecting_score(task, labels, logits) == pytest.approx(expected)


@pytest.mark.parametrize("task", TASKS)
def test_scores_ignore_scale_order_of_samples_and_a_common_shift(task):
    labels, logits = example(task)
    shift = np.random.default_rng(1).integers(-9, 9, (60, 1)) / 2
    if task != "multilabel":
        assert score(task, labels, logits + shift) == pytest.approx(score(task, labels, logits))
    assert score(task, labels, 3 * logits) == score(task, labels, logits)
    order = np.random.default_rng(2).permutation(60)
    assert score(task, labels[order], logits[order]) == pytest.approx(score(task, labels, logits))


@pytest.mark.parametrize("present", [0, 1])
def test_auroc_of_one_class_is_undefined(present):
    logits = example("binary", n=5)[1]
    found = score("binary", np.full(5, present), logits)
    assert np.isnan(found["auroc"]) and found["accuracy"] == ((logits[:, 1] > logits[:, 0]) == present).mean()
    assert np.isnan(selecting_score("binary", np.full(5, present), logits))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("error")
def test_score_of_no_sample_is_undefined(task):
    labels, logits = example(task)
    assert np.isnan(score(task, labels[:0], logits[:0])[METRICS[task]])


def test_f1_without_any_positive_is_zero_not_an_error():
    found = score("multilabel", np.zeros((5, 3), np.float32), -np.ones((5, 3)))
    assert found == {"f1_micro": 0, "f1_macro": 0}


@pytest.mark.parametrize("seed", range(5))
def test_the_best_cut_beats_every_other_and_splits_no_tie(seed):
    labels, logits = example("multilabel", seed=seed)
    cut, values = best_cut(labels, logits), np.unique(logits)
    assert cut not in values and len(values) < logits.size, "there are ties"
    others = np.concatenate([values[:1] - 1, (values[1:] + values[:-1]) / 2])
    scores = [f1_score(labels, logits > other, average="micro") for other in others]
    assert f1_score(labels, logits > cut, average="micro") == pytest.approx(max(scores))


def test_the_best_cut_moves_with_the_logits_and_may_take_all():
    labels, logits = example("multilabel")
    assert best_cut(labels, logits - 3) == pytest.approx(best_cut(labels, logits) - 3)
    assert best_cut(np.ones_like(labels), logits) < logits.min()
    assert best_cut(np.zeros_like(labels), logits) == best_cut(labels[:0], logits[:0]) == 0, "nothing to go by"


TABLE = MissingTable(
    has_text=np.array([True, True, False, False, True, True, True]),
    has_image=np.array([True, False, True, True, True, True, False]),
)


def test_subsets_split_the_rows_by_what_is_missing():
    rows = np.array([6, 2, 0, 4, 3])
    found = {name: rows[mask].tolist() for name, mask in subsets(TABLE, rows).items()}
    assert found == {
        "all": [6, 2, 0, 4, 3],
        "complete": [0, 4],
        "reconstructed": [6, 2, 3],
        "text_missing": [2, 3],
        "image_missing": [6],
    }


@pytest.mark.parametrize("task", TASKS)
def test_subset_scores_are_those_of_their_samples_alone(task):
    rows = np.array([6, 2, 0, 4, 3])
    labels, logits = example(task, n=5)
    found = score_subsets(task, labels, logits, TABLE, rows)
    places = {"all": [0, 1, 2, 3, 4], "complete": [2, 3], "reconstructed": [0, 1, 4]}
    places |= {"text_missing": [1, 4], "image_missing": [0]}
    assert list(found) == list(places)
    for name, place in places.items():
        expected = {**score(task, labels[place], logits[place]), "n": len(place)}
        assert found[name] == pytest.approx(expected, nan_ok=True)
