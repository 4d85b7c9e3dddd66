"""Measuring functions: known values, properties and edge cases."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, pairwise_distances, silhouette_score
from sklearn.neighbors import NearestNeighbors
from tiny_world import tiny_config

from anga import diagnosis as dg
from anga.errors import AngaError
from anga.tokens import TokenBank

LENGTHS = np.array([2, 5, 3, 4])


@pytest.fixture
def bank() -> TokenBank:
    """Four samples with texts of 2 to 5 tokens and pictures of 3, width 4; a text token is looked up by its number."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(20, 4, generator=generator)
    ids = torch.randint(1, 20, (4, 6), generator=generator).numpy()
    mask = np.arange(6) < LENGTHS[:, None]
    image = torch.randn(4, 3, 4, generator=generator).half().numpy()
    backbone = SimpleNamespace(dim=4, embed_text=lambda numbers, n=None: words[numbers])
    return TokenBank(backbone, ids, mask, image, np.arange(4))


# --- probes


def test_a_probe_on_the_labels_themselves_is_right_and_one_on_noise_is_not(world):
    dataset = world.dataset
    labels = dataset.labels if dataset.labels.ndim == 2 else np.eye(len(dataset.classes))[dataset.labels]
    noise = np.random.default_rng(0).normal(size=(len(dataset), 3))
    scores = dg.probe_scores(dataset, {"labels": labels, "noise": noise}).set_index("features")["score"]
    assert scores["labels"] == 1
    assert scores["noise"] < 0.8


def test_the_constant_answer_is_the_commonest_training_class(world_of):
    dataset = world_of("multiclass").dataset
    common = np.bincount(dataset.labels[dataset.rows("train")]).argmax()
    test = dataset.labels[dataset.rows("test")]
    scores = dg.probe_scores(dataset, {}).set_index("features")["score"]
    assert scores["constant"] == pytest.approx(accuracy_score(test, np.full(len(test), common)))

    dataset = world_of("multilabel").dataset
    answer = np.zeros((15, 5))
    answer[:, dataset.labels[dataset.rows("train")].sum(0).argmax()] = 1
    reference = f1_score(dataset.labels[dataset.rows("test")], answer, average="micro")
    assert dg.probe_scores(dataset, {}).set_index("features").loc["constant", "score"] == pytest.approx(reference)

    assert dg.probe_scores(world_of("binary").dataset, {}).loc[0, "score"] == 0.5


def test_a_probe_never_learns_from_validation_or_test_labels(binary_world):
    dataset = binary_world.dataset
    features = np.random.default_rng(0).normal(size=(len(dataset), 3))
    labels = dataset.labels.copy()
    labels[dataset.rows("test")] = 1 - labels[dataset.rows("test")]
    changed = replace(dataset, labels=labels, content_hash="")
    np.testing.assert_array_equal(dg.probe(dataset, features), dg.probe(changed, features))


# --- pooled tokens


def test_pooled_tokens_are_the_mean_over_real_tokens(bank):
    rows = np.arange(4)
    text = dg.pooled_tokens(bank, "text", rows)
    words = bank.backbone.embed_text(bank.ids)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(text[row], words[row, :length].mean(0), rtol=1e-5)
    image = dg.pooled_tokens(bank, "image", rows)
    np.testing.assert_allclose(image, bank.image.float().mean(1), rtol=1e-5)


def test_a_reconstruction_averages_each_place_over_the_donors_that_have_a_token_there(bank):
    words = bank.backbone.embed_text(bank.ids)
    places = [(words[0, p] + words[2, p]) / 2 for p in range(2)] + [words[2, 2]]  # lengths 2 and 3
    made = dg.pooled_reconstruction(bank, "text", np.array([[0, 2]]))
    np.testing.assert_allclose(made[0], torch.stack(places).mean(0), rtol=1e-5)
    made = dg.pooled_reconstruction(bank, "image", np.array([[0, 2]]))
    np.testing.assert_allclose(made[0], bank.image[[0, 2]].float().mean((0, 1)), rtol=1e-5)


def test_blocks_do_not_change_a_reconstruction(bank, monkeypatch):
    donors = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]])
    whole = [dg.pooled_reconstruction(bank, modality, donors) for modality in ("text", "image")]
    monkeypatch.setattr(dg, "BLOCK", 2)
    parts = [dg.pooled_reconstruction(bank, modality, donors) for modality in ("text", "image")]
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_no_row_gives_no_tokens(bank):
    assert dg.pooled_tokens(bank, "text", np.zeros(0, int)).shape == (0, 4)


# --- errors


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_relative_error_is_free_of_units(scale):
    true = np.random.default_rng(0).normal(size=(50, 8)) * scale
    mean = true.mean(0)
    assert (dg.relative_error(true, true, mean) == 0).all()
    of_mean = dg.relative_error(np.broadcast_to(mean, true.shape), true, mean)
    assert np.sqrt((of_mean**2).mean()) == pytest.approx(1)
    assert dg.relative_error(true + scale, true, mean) == pytest.approx(
        dg.relative_error(true / scale + 1, true / scale, mean / scale)
    )


@pytest.fixture(scope="module")
def inputs(world_of):
    return world_of("binary").inputs(tiny_config(top_k=3))


def test_every_lost_modality_has_one_error_per_source(inputs):
    errors = dg.reconstruction_errors(inputs, "test")
    test = inputs.dataset.rows("test")
    for modality in ("text", "image"):
        lost = dg.lost_rows(inputs.table, test, modality)
        rows = errors[errors["modality"] == modality].groupby("source")["row"].apply(sorted)
        assert len(lost) > 0 and set(rows.index) == set(dg.SOURCES)
        assert all(found == sorted(lost) for found in rows)
    assert errors["error"].notna().all() and (errors["error"] >= 0).all()


def test_errors_keep_their_order_of_sources(inputs):
    """The truth's own nearest donor beats a random one; the bank's mean costs 1 in the root mean square."""
    errors = dg.reconstruction_errors(inputs, "train").groupby(["modality", "source"])["error"]
    for modality in ("text", "image"):
        assert errors.mean()[modality, "nearest by the truth"] < errors.mean()[modality, "one random donor"]
        assert errors.apply(lambda e: np.sqrt((e**2).mean()))[modality, "bank mean"] == pytest.approx(1)


def test_a_complete_split_has_no_errors(world_of):
    inputs = world_of("binary").inputs(tiny_config(missing_rate=0.5, test_missing_rate=0.0, top_k=3))
    assert dg.reconstruction_errors(inputs, "test").empty


def test_without_retrieval_there_is_nothing_to_measure(inputs):
    with pytest.raises(AngaError, match="use_retrieval: true"):
        dg.reconstruction_errors(replace(inputs, neighbours=None))


@pytest.fixture(scope="module")
def full_inputs(world_of):
    return world_of("binary").inputs(tiny_config(top_k=3, memory_bank="full"))


@pytest.mark.parametrize("source", [source for source in dg.SOURCES if source != "retrieved"])
def test_beside_a_full_bank_no_guess_is_made_from_the_observed_one(full_inputs, source):
    with pytest.raises(AngaError, match=f"{source}.*memory_bank: observed.*retrieved"):
        dg.reconstruction_errors(full_inputs, sources=("retrieved", source))


@pytest.mark.parametrize("split", ["train", "test"])
def test_errors_of_a_full_bank_are_measured_in_the_observed_ones_unit(inputs, full_inputs, split):
    errors = dg.reconstruction_errors(full_inputs, split, sources=("retrieved",))
    for modality in ("text", "image"):
        rows = dg.lost_rows(inputs.table, inputs.dataset.rows(split), modality)
        mean = dg.pooled_tokens(inputs.bank, modality, dg.donor_rows(inputs)).mean(0)
        true = dg.pooled_tokens(inputs.bank, modality, rows)
        made = dg.pooled_reconstruction(inputs.bank, modality, getattr(full_inputs.neighbours, modality)[rows])
        found = errors[errors["modality"] == modality]
        np.testing.assert_array_equal(found["row"], rows)
        np.testing.assert_array_equal(found["error"], dg.relative_error(made, true, mean))


def test_a_full_bank_is_the_observed_one_where_no_training_sample_lacks_anything(world_of):
    config = tiny_config(missing_rate=0.0, test_missing_rate=0.5, top_k=3)
    found = [dg.reconstruction_errors(world_of("binary").inputs(c)) for c in (config, config.with_(memory_bank="full"))]
    assert len(found[0]) and found[0].equals(found[1])


def test_random_donors_are_different_donors_and_never_the_sample_itself():
    donors = np.arange(10, 20)
    rows = np.array([10, 15, 3])
    drawn = dg.draw_donors(rows, donors, 9, seed=0)
    assert np.isin(drawn, donors).all()
    assert (drawn != rows[:, None]).all()
    assert all(len(set(row)) == 9 for row in drawn.tolist())
    np.testing.assert_array_equal(drawn, dg.draw_donors(rows, donors, 9, seed=0))
    assert (drawn != dg.draw_donors(rows, donors, 9, seed=1)).any()


def test_nearest_donors_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    true, known = generator.normal(size=(6, 5)), generator.normal(size=(30, 5))
    rows, donors = np.arange(100, 106), np.arange(30)
    found = dg.nearest_donors(true, known, rows, donors, 4)
    np.testing.assert_array_equal(found, NearestNeighbors(n_neighbors=4).fit(known).kneighbors(true)[1])
    itself = dg.nearest_donors(known[:6], known, donors[:6], donors, 4)
    assert (itself != donors[:6, None]).all()


# --- the gap


def test_separability_is_half_without_a_gap_and_one_across_a_wide_one():
    generator = np.random.default_rng(0)
    true, other = generator.normal(size=(2, 200, 6))
    assert dg.separability(true, true) == pytest.approx(0.5)
    assert dg.separability(true, other) == pytest.approx(0.5, abs=0.08)
    assert dg.separability(true, other + 10) == 1


def test_spread_ratio_is_a_ratio_of_variances():
    true = np.random.default_rng(0).normal(size=(40, 6))
    assert dg.spread_ratio(true, true) == pytest.approx(1)
    assert dg.spread_ratio(true, 0.5 * true + 3) == pytest.approx(0.25)


# --- separation of clusters


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """60 points of three groups that overlap a little, and one point of a group of its own."""
    generator = np.random.default_rng(0)
    groups = np.array(["a", "b", "c"] * 20 + ["alone"])
    centres = {"a": 0.0, "b": 2.0, "c": 4.0, "alone": 9.0}
    return generator.normal(size=(61, 5)) + np.array([[centres[g]] for g in groups]), groups


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_silhouette_is_that_of_scikit_learn(clouds, scale):
    vectors, groups = clouds
    distances = pairwise_distances(scale * vectors)
    assert dg.silhouette(distances, groups) == pytest.approx(silhouette_score(vectors, groups))


def test_samples_that_were_not_drawn_do_not_count(clouds):
    vectors, groups = clouds
    times = np.random.default_rng(1).integers(0, 2, len(groups))
    drawn = times > 0
    reference = silhouette_score(vectors[drawn], groups[drawn])
    assert dg.silhouette(pairwise_distances(vectors), groups, times) == pytest.approx(reference)


def test_copies_of_a_sample_are_no_neighbours_of_one_another(clouds):
    vectors, groups = clouds
    vectors, groups = vectors[:-1], groups[:-1]  # a lone sample has no neighbour, however often it is drawn
    distances, every = pairwise_distances(vectors), np.ones(len(groups))
    first = np.arange(len(groups)) == 0
    doubled = dg.silhouette(distances, groups, every + first)
    assert doubled != pytest.approx(silhouette_score(np.r_[vectors, vectors[:1]], np.r_[groups, groups[:1]]))
    own, other = (groups == groups[0]) & ~first, distances[0]
    a, b = other[own].mean(), min(other[groups == g].mean() for g in set(groups) - {groups[0]})
    alone = dg.silhouette(distances, groups, np.where(first, 1e9, 1.0))  # the first sample outweighs all others
    assert alone == pytest.approx((b - a) / max(a, b), rel=1e-6)
    assert dg.silhouette(distances, groups, 3 * every) == pytest.approx(silhouette_score(vectors, groups))


def test_one_group_alone_has_no_silhouette_and_equal_points_have_none_to_speak_of():
    assert np.isnan(dg.silhouette(np.ones((3, 3)), np.array([1, 1, 1])))
    assert dg.silhouette(np.zeros((4, 4)), np.array([0, 0, 1, 1])) == 0
    with pytest.raises(AngaError, match="one group"):
        dg.cluster_separation({"one": np.zeros((3, 2))}, np.array([1, 1, 1]))


def test_separation_compares_embeddings_of_the_same_samples(clouds):
    vectors, groups = clouds
    noise = np.random.default_rng(2).normal(size=(61, 3))
    table = dg.cluster_separation({"noise": noise, "clouds": vectors, "again": vectors}, groups).set_index("embedding")
    assert table["silhouette"]["clouds"] == pytest.approx(silhouette_score(vectors, groups))
    assert (table["low"] <= table["silhouette"]).all() and (table["silhouette"] <= table["high"]).all()
    assert table.loc["noise", ["change", "change_low", "change_high"]].eq(0).all()
    assert table.loc["clouds", "change_low"] > 0
    assert table.loc["clouds"].equals(table.loc["again"].rename("clouds"))
