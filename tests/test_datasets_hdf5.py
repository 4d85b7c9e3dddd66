"""MM-IMDb in one HDF5 file: words from numbers, colours from what was left of them, and no code from its pickle."""

import json
import os
import sys

import h5py
import numpy as np
import pytest
from drawings import Drawings, looks_of

from anga.datasets import load_dataset
from anga.datasets.mmimdb_hdf5 import FILE, WORDS, pixels, read_words
from anga.errors import AngaError

GENRES = ["Drama", "Comedy", "Romance"]
MEANS = np.array([103.939, 116.779, 123.68])
SPLITS = {"train": (0, 12), "dev": (12, 18), "test": (18, 24)}


def stored(picture) -> np.ndarray:
    """int32 `[3, 256, 160]` as the authors made it: blue first, each channel's mean taken off, fractions cut."""
    values = np.asarray(picture.resize((160, 256)), np.float32)[..., ::-1].copy()
    for channel, mean in enumerate(MEANS):
        values[..., channel] -= mean
    return values.transpose(2, 0, 1).astype(np.int32)


@pytest.fixture
def films(tmp_path):
    """24 films on disk; their texts, genres and pictures in order."""
    drawings = Drawings("keywords")
    parts = [drawings.take("train") for _ in range(24)]
    texts = [text.lower().split() for text, _, _ in parts]
    words = ["_UNK_", *sorted({word for text in texts for word in text})]
    genres = np.array([[k % 2, k % 3 == 0, k % 5 == 0] for k in range(24)], np.int32)
    genres[7] = 0  # a film without any of the genres
    with h5py.File(tmp_path / FILE, "w") as file:
        table = [(split, source, *span) for split, span in SPLITS.items() for source in ("images", "genres")]
        kinds = [("split", "S5"), ("source", "S9"), ("start", np.int64), ("stop", np.int64)]
        file.attrs["split"] = np.array([(s.encode(), o.encode(), a, b) for s, o, a, b in table], kinds)
        file.create_dataset("genres", (24, 3), "int32")[...] = genres
        file["genres"].attrs["target_names"] = json.dumps(GENRES)
        file.create_dataset("imdb_ids", (24,), "S7")[...] = np.array([f"{k:07d}" for k in range(24)], "S7")
        images = file.create_dataset("images", (24, 3, 256, 160), "int32")
        sequences = file.create_dataset("sequences", (24,), h5py.vlen_dtype(np.dtype("int32")))
        for k, (_, _, picture) in enumerate(parts):
            images[k] = stored(picture)
            sequences[k] = np.array([words.index(word) for word in texts[k]], np.int32)
    known = {"ix_to_word": dict(enumerate(words)), "vocab_size": len(words), "lookup": np.ones((3, 4), np.float32)}
    np.save(tmp_path / WORDS, known)
    return texts, genres, [picture.resize((160, 256)) for _, _, picture in parts]


def test_films_are_read_with_words_genres_splits_and_posters(films, tmp_path):
    texts, genres, pictures = films
    dataset = load_dataset("mmimdb", tmp_path)
    kept = [k for k in range(24) if genres[k].any()]
    assert dataset.ids.tolist() == [f"{k:07d}" for k in kept] and dataset.classes == GENRES
    assert dataset.texts.tolist() == [" ".join(texts[k]) for k in kept]
    np.testing.assert_array_equal(dataset.labels, genres[kept])
    expected = np.repeat(["train", "validation", "test"], [12, 6, 6])[kept]
    assert dataset.split.tolist() == expected.tolist()
    for row, k in enumerate(kept):
        assert abs(looks_of(dataset.image(row)) - looks_of(pictures[k])).mean() < 2
    assert dataset.report.skipped.total() == len(set(range(24)) - set(kept)) > 0


def test_a_second_load_is_the_same(films, tmp_path):
    assert load_dataset("mmimdb", tmp_path).content_hash == load_dataset("mmimdb", tmp_path).content_hash


def test_pixels_come_back_to_within_one_level():
    original = np.arange(256, dtype=np.float32).repeat(3).reshape(1, 256, 3)
    centred = (original - MEANS.astype(np.float32)).transpose(2, 0, 1).astype(np.int32)
    back = pixels(centred)[..., ::-1].astype(int)
    assert abs(back - original).max() <= 1 and (back != original).sum() <= 3, "a stored zero stands for two pixels"


def test_the_file_of_words_is_asked_for(films, tmp_path):
    (tmp_path / WORDS).unlink()
    with pytest.raises(AngaError, match=r"metadata\.npy: not found.*numbers of words"):
        load_dataset("mmimdb", tmp_path)


@pytest.mark.parametrize("lost", ["genres", "imdb_ids", "images", "sequences"])
def test_an_incomplete_file_is_named(films, tmp_path, lost):
    names = ["genres", "imdb_ids", "images", "sequences"]
    with h5py.File(tmp_path / FILE, "w") as file:
        for name in names:
            if name != lost:
                file.create_dataset(name, (24,), "int32")[...] = np.zeros(24, np.int32)
        if lost != "genres":
            file["genres"].attrs["target_names"] = json.dumps(GENRES)
        file.attrs["split"] = np.zeros(0, [("split", "S5"), ("source", "S9")])
    with pytest.raises(AngaError, match=f"hdf5: lacks .*{lost}"):
        load_dataset("mmimdb", tmp_path)


def test_a_file_that_is_none_is_named(films, tmp_path):
    (tmp_path / FILE).write_bytes(b"<html>")
    with pytest.raises(AngaError, match=r"multimodal_imdb\.hdf5: cannot be read"):
        load_dataset("mmimdb", tmp_path)


def test_without_h5py_one_sentence_says_what_to_install(films, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(AngaError, match=r"needs h5py; install it.*extra hdf5"):
        load_dataset("mmimdb", tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("came-alive",)


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / WORDS, {"ix_to_word": {0: Evil()}})
    with pytest.raises(AngaError, match=r"cannot be read \(it wants to load .*mkdir\)"):
        read_words(tmp_path / WORDS)
    assert not (tmp_path / "came-alive").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"hello there", None])
def test_a_damaged_file_of_words_is_named(tmp_path, content):
    if content is None:
        np.save(tmp_path / WORDS, np.arange(4))
    else:
        (tmp_path / WORDS).write_bytes(content)
    with pytest.raises(AngaError, match=r"metadata\.npy: cannot be read"):
        read_words(tmp_path / WORDS)
