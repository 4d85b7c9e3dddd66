"""The picture store: every picture once and in order, and nothing decoded twice."""

import pickle
from dataclasses import dataclass

import pytest
from drawings import encoded, noise
from memory_pictures import Memory, sources, store_of

from anga.datasets.pictures import Entry, Journal, line_of, parse


def test_pictures_come_back_in_order_by_number_and_by_slice(tmp_path):
    pictures = sources()
    store = store_of(tmp_path, pictures)
    assert len(store) == 12 and list(store) == [picture.data for picture in pictures]
    assert store[-1] == pictures[-1].data and store[2:5] == [p.data for p in pictures[2:5]]
    with pytest.raises(IndexError):
        store[12]


def test_a_second_store_reads_no_source(tmp_path):
    first = store_of(tmp_path, sources())
    unreadable = [Memory(s.name, None) for s in sources()]
    assert store_of(tmp_path, unreadable).content_hash == first.content_hash


def test_a_store_survives_pickling(tmp_path):
    store = store_of(tmp_path, sources())
    other = pickle.loads(pickle.dumps(store))
    assert list(other) == list(store) and len(pickle.dumps(store)) < 2000


def test_the_hash_is_of_the_sources_in_order_and_needs_no_blob(tmp_path):
    pictures = sources()
    store = store_of(tmp_path / "a", pictures)
    store.blob.unlink()
    assert store.content_hash == store_of(tmp_path / "b", pictures).content_hash
    changed = [*pictures[:-1], Memory("x", encoded(noise(5, 5)))]
    others = [pictures[::-1], pictures[:-1], changed]
    hashes = {store_of(tmp_path / "c", other).content_hash for other in others} | {store.content_hash}
    assert len(hashes) == 4


def test_only_what_changed_or_is_new_is_decoded_again(tmp_path):
    read = []

    @dataclass(frozen=True)
    class Counted(Memory):
        def read(self):
            read.append(self.name)
            return self.data

    old = [Counted(s.name, s.data) for s in sources()]
    store_of(tmp_path, old)
    read.clear()
    new = [
        *old[:3],
        Counted(old[3].name, encoded(noise(7, 7, seed=99)), stamp="2"),
        *old[4:],
        Counted("new", old[0].data),
    ]
    assert list(store_of(tmp_path, new)) == [source.data for source in new]
    assert read == [old[3].name, "new"]
    read.clear()
    assert list(store_of(tmp_path, new[::-1])) == [source.data for source in new[::-1]] and read == []


def test_broken_pictures_are_remembered_but_unreadable_files_are_tried_again(tmp_path):
    class Unreadable(Memory):
        def read(self):
            raise PermissionError(13, "Permission denied")

    pictures = [Memory("broken", b"no picture"), Unreadable("closed", b""), *sources(2)]
    entries = Journal(tmp_path).entries(pictures)
    assert [entry.error for entry in entries] == ["is no picture", "cannot be read (Permission denied)", "", ""]
    open_now = [pictures[0], Memory("closed", sources(1)[0].data), *pictures[2:]]
    assert [entry.error for entry in Journal(tmp_path).entries(open_now)] == ["is no picture", "", "", ""]


@pytest.mark.parametrize("line", [b"", b"null", b"7", b'"text"', b"{}", b"[]", b'["a", "1", 0, 1, 2, "h"]', b"\xff"])
def test_lines_that_are_no_entries_do_not_count(line):
    assert parse(line) is None


def test_a_line_is_read_as_it_was_written():
    entry = Entry("façade \udcff.png", "3-4", 5, 6, 7, "ab", "")
    assert parse(line_of(entry).rstrip(b"\n")) == entry and line_of(entry).isascii()
