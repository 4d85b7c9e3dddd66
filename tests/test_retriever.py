"""Neighbours against scikit-learn's brute force, and what may never be among them."""

import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from tiny_world import random_embeddings, tiny_config

from anga import retriever
from anga.errors import AngaError
from anga.missing import MISSING_TYPES, MissingTable
from anga.retriever import MemoryBank, Retriever, reconstruct, top_similar

K = 4
BACKENDS = ("faiss", "torch")


@pytest.fixture
def dataset(binary_world):
    return binary_world.dataset


def draw(dataset, missing_type="both", rate=0.5, **knobs) -> MissingTable:
    return MissingTable.draw(dataset, rate, missing_type, **knobs)


def bank_of(mode: str, dataset, table: MissingTable) -> MemoryBank:
    rows = dataset.rows("train")
    return MemoryBank.observed(rows, table) if mode == "observed" else MemoryBank.full(rows)


def brute_force(embeddings, queries, donors, ids, k):
    """Rows and cosines of the k nearest donors of each query, own ids left out, one scikit-learn call per query."""
    rows, cosines = [], []
    for query in queries:
        others = donors[ids[donors] != ids[query]]
        search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(embeddings[others])
        distance, index = search.kneighbors(embeddings[query][None])
        rows.append(others[index[0]])
        cosines.append(1 - distance[0])
    return np.array(rows), np.array(cosines)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["observed", "full"])
@pytest.mark.parametrize("missing_type", MISSING_TYPES)
def test_neighbours_equal_brute_force(dataset, missing_type, mode, backend, monkeypatch):
    monkeypatch.setattr(retriever, "BLOCK", 7)  # several search calls
    table, (text, image) = draw(dataset, missing_type), random_embeddings(90, seed=1)
    bank, train = bank_of(mode, dataset, table), dataset.rows("train")
    found = Retriever(text, image, bank, dataset.ids, backend).neighbours(table, K)
    has_text = table.has_text[train] if mode == "observed" else np.ones(60, bool)
    has_image = table.has_image[train] if mode == "observed" else np.ones(60, bool)
    lists = [  # who asks, by what, whom, for which list
        (table.complete, text, has_text, found.text, found.text_similarity),
        (table.complete, image, has_image, found.image, found.image_similarity),
        (~table.has_image, text, has_text & has_image, found.text, found.text_similarity),
        (~table.has_image, text, has_text & has_image, found.image, found.image_similarity),
        (~table.has_text, image, has_text & has_image, found.text, found.text_similarity),
        (~table.has_text, image, has_text & has_image, found.image, found.image_similarity),
    ]
    for asking, embeddings, lends, rows, similarity in lists:
        if asking.any():
            expected = brute_force(embeddings, np.flatnonzero(asking), train[lends], dataset.ids, K)
            np.testing.assert_array_equal(rows[asking], expected[0])
            np.testing.assert_allclose(similarity[asking], expected[1], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["observed", "full"])
def test_only_training_samples_are_retrieved_and_nobody_retrieves_itself(dataset, mode, backend):
    for seed in range(5):
        table = draw(dataset, seed=seed)
        bank = bank_of(mode, dataset, table)
        found = Retriever(*random_embeddings(90, seed), bank, dataset.ids, backend).neighbours(table, K)
        assert set(dataset.split[bank.rows]) == {"train"}
        for rows in (found.text, found.image):
            assert set(dataset.split[rows.ravel()]) == {"train"}
            assert (dataset.ids[rows] != dataset.ids[:, None]).all()
            assert all(len(set(row)) == K for row in rows)


@pytest.mark.parametrize("backend", BACKENDS)
def test_self_is_excluded_by_id_even_if_all_embeddings_are_equal(dataset, backend):
    table, same = draw(dataset), np.tile(random_embeddings(1, 0)[0], (90, 1))
    found = Retriever(same, same, MemoryBank.full(dataset.rows("train")), dataset.ids, backend).neighbours(table, K)
    for rows in (found.text, found.image):
        assert (dataset.ids[rows] != dataset.ids[:, None]).all() and all(len(set(row)) == K for row in rows)


def test_all_entries_with_the_querys_id_are_excluded_also_those_of_another_split(dataset):
    """As when ids name groups of near-duplicates."""
    table, (text, image) = draw(dataset), random_embeddings(90, 0)
    groups = np.arange(90) // 9
    found = Retriever(text, image, MemoryBank.full(dataset.rows("train")), groups).neighbours(table, K)
    assert (groups[found.text] != groups[:, None]).all() and (groups[found.image] != groups[:, None]).all()
    alone = ~table.has_image
    expected = brute_force(text, np.flatnonzero(alone), dataset.rows("train"), groups, K)[0]
    np.testing.assert_array_equal(found.image[alone], expected)


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
def test_the_observed_bank_lends_nothing_that_its_samples_lack(dataset, missing_type):
    table = draw(dataset, missing_type)
    bank = bank_of("observed", dataset, table)
    found = Retriever(*random_embeddings(90, 1), bank, dataset.ids).neighbours(table, K)
    assert table.has_text[found.text].all() and table.has_image[found.image].all()
    assert table.complete[found.text[~table.complete]].all(), "who stands in must have been found by the other modality"


@pytest.mark.parametrize("mode", ["observed", "full"])
def test_embeddings_of_lost_modalities_are_never_looked_at(dataset, mode):
    table, kept, other = draw(dataset), random_embeddings(90, 1), random_embeddings(90, 2)
    lost = (~table.has_text, ~table.has_image)
    garbage = [np.where(rows[:, None], 100 * new, old) for rows, new, old in zip(lost, other, kept, strict=True)]
    bank = bank_of(mode, dataset, table)
    before = Retriever(*kept, bank, dataset.ids).neighbours(table, K)
    after = Retriever(*garbage, bank, dataset.ids).neighbours(table, K)
    unchanged = all(np.array_equal(old, vars(after)[name]) for name, old in vars(before).items())
    assert unchanged == (mode == "observed"), "the full bank is an oracle and does look at them"


@pytest.mark.parametrize("mode", ["observed", "full"])
def test_the_config_chooses_the_bank(binary_world, mode):
    inputs = binary_world.inputs(tiny_config(memory_bank=mode, top_k=K))
    bank = bank_of(mode, inputs.dataset, inputs.table)
    expected = Retriever(*binary_world.embeddings, bank, inputs.dataset.ids).neighbours(inputs.table, K)
    assert np.array_equal(inputs.neighbours.text, expected.text)
    assert np.array_equal(inputs.neighbours.image, expected.image)


def test_all_of_the_bank_may_be_asked_for_but_no_more(dataset):
    table, embeddings = draw(dataset, "text", rate=0.0), random_embeddings(90, 1)
    engine = Retriever(*embeddings, MemoryBank.full(dataset.rows("train")), dataset.ids)
    found = engine.neighbours(table, 59)
    for row in dataset.rows("train"):
        assert set(found.text[row]) == set(dataset.rows("train")) - {row}
    with pytest.raises(AngaError, match=r"top_k: 60 .* holds 59"):
        engine.neighbours(table, 60)


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
def test_a_bank_without_donors_is_refused(dataset, missing_type):
    table = draw(dataset, missing_type, rate=1.0)
    with pytest.raises(AngaError, match="memory bank holds 0 samples"):
        bank = bank_of("observed", dataset, table)
        Retriever(*random_embeddings(90, 1), bank, dataset.ids).neighbours(table, 1)


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_a_search_on_the_cpu_leaves_gpus_alone(monkeypatch, backend):
    bank, queries = random_embeddings(30, 0)
    expected = top_similar(bank, queries, 3, backend)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr("faiss.StandardGpuResources", lambda: pytest.fail("asked for a GPU"), raising=False)
    for found, wanted in zip(top_similar(bank, queries, 3, backend), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_without_faiss_torch_answers_and_asking_for_faiss_is_refused(monkeypatch):
    bank, queries = random_embeddings(30, 0)
    expected = top_similar(bank, queries, 3, "faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    similarity, index = top_similar(bank, queries, 3)
    np.testing.assert_array_equal(index, expected[1])
    np.testing.assert_allclose(similarity, expected[0], atol=1e-6)
    with pytest.raises(AngaError, match="faiss"):
        top_similar(bank, queries, 3, "faiss")


def test_reconstruction_is_the_mean_of_the_neighbours_that_have_a_token_there():
    generator = np.random.default_rng(0)
    tokens, mask = generator.standard_normal((5, 3, 7, 2)), generator.random((5, 3, 7)) < 0.5
    hidden = np.repeat(~mask[..., None], 2, axis=-1)
    expected = np.ma.array(tokens, mask=hidden).mean(axis=1).filled(0)
    found, found_mask = reconstruct(torch.from_numpy(tokens), torch.from_numpy(mask))
    np.testing.assert_allclose(found, expected, atol=1e-15)
    np.testing.assert_array_equal(found_mask, mask.any(1))
    assert not mask.any(1).all(), "some positions have no token at all"
    garbage, _ = reconstruct(torch.from_numpy(np.where(hidden, 1e6, tokens)), torch.from_numpy(mask))
    np.testing.assert_array_equal(garbage, found)
