"""Entropies against SciPy, the curve of Eq. 6, and the exact count of Eq. 7."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import entropy

from anga.curriculum import admit, anchor_ratio, prediction_entropy


def logits(scale: float) -> np.ndarray:
    return scale * np.random.default_rng(0).standard_normal((40, 7))


@pytest.mark.parametrize("scale", [0.0, 0.1, 1, 20, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_entropy_equals_scipy(dtype, tolerance, scale):
    rounded = torch.tensor(logits(scale), dtype=dtype)
    exclusive = entropy(softmax(rounded.double().numpy(), axis=1), axis=1)
    np.testing.assert_allclose(prediction_entropy(rounded), exclusive, atol=tolerance)
    np.testing.assert_allclose(prediction_entropy(rounded, "softmax"), exclusive, atol=tolerance)
    positive = expit(rounded.double().numpy())
    bernoulli = entropy(np.stack([positive, expit(-rounded.double().numpy())]), axis=0).mean(1)
    np.testing.assert_allclose(prediction_entropy(rounded, "bernoulli"), bernoulli, atol=tolerance)


@pytest.mark.parametrize("multilabel", [None, "softmax", "bernoulli"])
def test_entropy_is_largest_without_preference_and_zero_when_certain(multilabel):
    found = prediction_entropy(torch.tensor([[0.0, 0, 0, 0], [1e5, -1e5, -1e5, -1e5]]), multilabel)
    assert found[0] == pytest.approx(math.log(2 if multilabel == "bernoulli" else 4)) and found[1] == 0


def test_anchor_ratio_rises_by_equal_steps_from_epoch_zero_and_then_stays():
    found = [anchor_ratio(epoch) for epoch in range(8)]
    assert found == pytest.approx([0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("epoch", [0, 1, 10])
def test_without_growth_the_anchor_is_full_from_the_start(epoch):
    assert anchor_ratio(epoch, 0.1, 0.3, grow_epochs=0) == 0.3
    assert anchor_ratio(epoch, 0.25, 0.25, grow_epochs=5) == 0.25


@pytest.mark.parametrize(("low", "high"), [("0.1", "0.3"), ("0", "1"), ("0.29", "0.29"), ("0.07", "0.7")])
def test_admitted_are_exactly_the_floor_of_the_exact_product(low, high):
    for n in [*range(130), 1000, 9999, 61127]:
        for epoch in range(7):
            exact = Fraction(low) + (Fraction(high) - Fraction(low)) / 5 * min(epoch, 5)
            ratio = anchor_ratio(epoch, float(low), float(high), 5)
            admitted = admit(np.zeros(n), ratio, "lowest_entropy", np.random.default_rng(0))
            assert admitted.sum() == math.floor(exact * n), (n, epoch)


@pytest.mark.parametrize(("admission", "best_first"), [("lowest_entropy", False), ("highest_entropy", True)])
def test_admitted_are_the_extreme_entropies_and_ties_keep_the_order(admission, best_first):
    values = np.random.default_rng(0).integers(0, 5, 60) / 4  # twelve samples share each value
    order = sorted(range(60), key=lambda i: ((-values[i] if best_first else values[i]), i))
    for ratio in (0.1, 0.35, 0.9, 1.0):
        admitted = admit(values, ratio, admission, np.random.default_rng(0))
        assert set(np.flatnonzero(admitted)) == set(order[: int(ratio * 60)])


def test_random_admission_follows_its_generator_and_not_the_entropies():
    rising = np.linspace(0, 1, 50)

    def draw(seed, values):
        return np.flatnonzero(admit(values, 0.3, "random", np.random.default_rng(seed))).tolist()

    assert draw(0, rising) == draw(0, rising) == draw(0, rising[::-1])
    assert draw(0, rising) != draw(1, rising) and len(draw(0, rising)) == 15
    chosen = np.bincount(np.concatenate([draw(seed, rising) for seed in range(400)]), minlength=50)
    assert chosen.min() > 80 and chosen.max() < 160, "every sample is drawn about 120 times in 400"
