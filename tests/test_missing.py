"""Exact counts, and draws that depend on nothing but data set, split, type, rate and seed."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_world import make_dataset

from anga.config import Config
from anga.datasets import SPLITS
from anga.errors import AngaError
from anga.inputs import draw_table
from anga.missing import MISSING_TYPES, MissingTable


@pytest.fixture(scope="module")
def dataset():
    return make_dataset("binary")


def sized(dataset, sizes: tuple[int, int, int]):
    """A data set with the given numbers of training, validation and test samples."""
    split = np.random.default_rng(0).permutation(np.repeat(SPLITS, sizes))
    n = len(split)
    return replace(
        dataset,
        **{name: np.resize(getattr(dataset, name), n) for name in ("ids", "texts", "labels", "image_rows")},
        split=split,
    )


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
@pytest.mark.parametrize("rate", [0, 0.1, 0.25, 0.5, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("sizes", [(60, 15, 15), (101, 7, 33), (1, 0, 2), (3000, 500, 997)])
def test_counts_are_exact_in_every_split_and_one_modality_stays(dataset, sizes, rate, missing_type):
    data = sized(dataset, sizes)
    table = MissingTable.draw(data, rate, missing_type, seed=3)
    assert (table.has_text | table.has_image).all()
    for split, n in zip(SPLITS, sizes, strict=True):
        rows = data.rows(split)
        lost_text, lost_image = (~table.has_text[rows]).sum(), (~table.has_image[rows]).sum()
        assert lost_text + lost_image == (~table.complete[rows]).sum() == round(n * rate)
        if missing_type == "both":
            assert lost_image - lost_text in (0, 1)
        else:
            assert (lost_text if missing_type == "image" else lost_image) == 0


def test_the_same_draw_for_every_caller(dataset):
    np.random.seed(1)
    first = MissingTable.draw(dataset, 0.7, "both", seed=5)
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    other = replace(dataset, texts=dataset.texts[::-1], labels=1 - dataset.labels, content_hash="")
    again = MissingTable.draw(other, 0.7, "both", seed=5)
    assert np.array_equal(first.has_text, again.has_text) and np.array_equal(first.has_image, again.has_image)
    assert np.array_equal(np.random.get_state()[1], state), "numpy's global random state is not touched"


def test_the_config_draws_that_same_table_whatever_its_method_and_training_seed(dataset):
    expected = MissingTable.draw(dataset, 0.4, "image", 2, test_missing_rate=0.9)
    knobs = {"missing_rate": 0.4, "missing_type": "image", "mask_seed": 2, "test_missing_rate": 0.9}
    for method in ({}, {"use_alignment": False, "train_seed": 7}, {"use_retrieval": False, "use_adapter": False}):
        table = draw_table(Config(**knobs, **method), dataset)
        assert np.array_equal(table.has_image, expected.has_image) and table.has_text.all()


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"missing_rate": 0.6}, {"missing_type": "text"}, {"name": "tiny-other"}]
)
def test_another_seed_rate_type_or_data_set_draws_anew(dataset, changed):
    base = {"missing_rate": 0.5, "missing_type": "image", "seed": 0, "name": "tiny-binary"}

    def lost(missing_rate, missing_type, seed, name):
        return ~MissingTable.draw(replace(dataset, name=name), missing_rate, missing_type, seed).complete

    before, after = lost(**base), lost(**{**base, **changed})
    assert (before & ~after).any() and (after & ~before).any()


def test_test_rate_and_training_rate_do_not_touch_each_others_draw(dataset):
    def lost(split, **rates):
        return (~MissingTable.draw(dataset, missing_type="both", seed=0, **rates).has_text)[dataset.rows(split)]

    for split in ("train", "validation"):
        assert np.array_equal(lost(split, missing_rate=0.3), lost(split, missing_rate=0.3, test_missing_rate=0.9))
    for rate in (0.1, 0.7):
        hard = lost("test", missing_rate=rate, test_missing_rate=0.9)
        assert np.array_equal(hard, lost("test", missing_rate=0.5, test_missing_rate=0.9))
    assert lost("test", missing_rate=0.3, test_missing_rate=0.9).sum() == 7  # half of round(15 * 0.9)


def test_splits_are_drawn_independently(dataset):
    """Splits of one size would otherwise lose the same positions."""
    data = sized(dataset, (400, 400, 400))
    masks = [MissingTable.draw(data, 0.5, "text", 0).has_text[data.rows(split)] for split in SPLITS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(masks[one], masks[other])[0, 1]) < 0.15


def test_every_sample_is_lost_equally_often_over_seeds(dataset):
    counts = sum(~MissingTable.draw(dataset, 0.5, "text", seed).has_text for seed in range(300))
    assert counts.min() > 110 and counts.max() < 190


@pytest.mark.parametrize(
    ("knobs", "culprit"),
    [
        ({"missing_rate": -0.1}, "missing_rate"),
        ({"missing_rate": 1.1}, "missing_rate"),
        ({"missing_rate": float("nan")}, "missing_rate"),
        ({"test_missing_rate": 2}, "missing_rate"),
        ({"missing_type": "audio"}, "missing_type"),
    ],
)
def test_impossible_draws_are_refused(dataset, knobs, culprit):
    with pytest.raises(AngaError, match=culprit):
        MissingTable.draw(dataset, **{"missing_rate": 0.5, "missing_type": "text", **knobs})


def test_a_sample_without_anything_is_refused():
    with pytest.raises(AngaError, match="sample 1"):
        MissingTable(np.array([True, False, True]), np.array([True, False, False]))
