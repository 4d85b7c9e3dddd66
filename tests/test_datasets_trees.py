"""The paper's data sets from small copies in their exact layouts: what is found, what is skipped, and how it looks."""

import json
import logging
import shutil
from collections import Counter

import numpy as np
import pytest
from data_trees import food101, hatememes, mmimdb
from drawings import SPLITS, looks_of

from anga.datasets import Dataset, Unusable, load_dataset
from anga.datasets.mmimdb import GENRES
from anga.errors import AngaError

COPIES = {
    "hatememes": {"plain": {"warts": False}, "warts": {}, "older": {"older": True}},
    "mmimdb": {"plain": {"warts": False}, "warts": {}, "two folders": {"folders": ("images", "labels")}},
    "food101": {"plain": {"warts": False}, "warts": {}, "two classes": {"classes": 2}},
}
BUILDERS = {"hatememes": hatememes, "mmimdb": mmimdb, "food101": food101}
CASES = [(name, copy) for name, copies in COPIES.items() for copy in copies]


def built(name, folder, **options):
    return BUILDERS[name](folder / name, **options)


@pytest.fixture(params=CASES, ids=" ".join, scope="module")
def pair(request, tmp_path_factory):
    """A tree, and the data set that its loader makes of it."""
    name, copy = request.param
    tree = built(name, tmp_path_factory.mktemp("tree"), **COPIES[name][copy])
    return tree, load_dataset(name, tree.root)


def official(dataset: Dataset) -> np.ndarray:
    """The splits as the files have them: UPMC Food-101 knows train and test only."""
    return (
        np.where(dataset.split == "validation", "train", dataset.split) if dataset.name == "food101" else dataset.split
    )


def label_of(dataset: Dataset, row: int):
    label = dataset.labels[row]
    names = [dataset.classes[k] for k in np.flatnonzero(label)] if dataset.task == "multilabel" else None
    return dataset.classes[label] if names is None else names


def test_exactly_the_good_samples_are_found_with_their_text_label_and_split(pair):
    tree, dataset = pair
    assert set(dataset.ids) == set(tree.samples) and len(dataset) == len(tree.samples)
    expected = [tree.samples[name] for name in dataset.ids]
    assert dataset.texts.tolist() == [sample.text for sample in expected]
    assert official(dataset).tolist() == [sample.split for sample in expected]
    assert [label_of(dataset, row) for row in range(len(dataset))] == [sample.label for sample in expected]


def test_every_sample_shows_its_own_picture(pair):
    tree, dataset = pair
    for row, name in enumerate(dataset.ids):
        picture = dataset.image(row)
        assert picture.mode == "RGB"
        assert abs(looks_of(picture) - tree.samples[name].looks).mean() < 2, name  # JPEG's own losses


def test_every_other_row_is_skipped_for_its_reason(pair):
    tree, dataset = pair
    skipped = dataset.report.skipped
    if dataset.name == "food101":  # which of its train rows go to validation is the loader's choice
        skipped = Counter()
        for (split, reason), count in dataset.report.skipped.items():
            skipped["train" if split == "validation" else split, reason] += count
    assert skipped == tree.skipped
    assert sum(dataset.report.found.values()) == len(tree.samples)


def test_the_report_shows_counts_reasons_and_names(pair):
    tree, dataset = pair
    shown = str(dataset.report)
    table = dataset.report.table()
    assert table["found"].tolist() == [len(dataset.rows(split)) for split in SPLITS] + [len(dataset)]
    assert table.loc["all", "skipped"] == sum(tree.skipped.values())
    assert table.loc["all", "expected"] == {"hatememes": 10000, "mmimdb": 25959, "food101": 90688}[dataset.name]
    assert all(reason in shown for _, reason in tree.skipped)
    assert "the paper has" in shown


def test_class_order_split_and_report_lie_beside_the_pictures(pair):
    tree, dataset = pair
    (path,) = (tree.root / "anga-cache").glob(f"dataset-{dataset.content_hash[:16]}.json")
    facts = json.loads(path.read_text())
    assert facts["classes"] == dataset.classes and facts["content_hash"] == dataset.content_hash
    assert facts["split"] == {split: dataset.ids[dataset.rows(split)].tolist() for split in SPLITS}
    assert facts["found"] == dataset.report.found and facts["skipped"] == dataset.report.reasons()


def test_a_second_load_and_a_copy_elsewhere_are_the_same_data(pair, tmp_path, monkeypatch):
    tree, dataset = pair
    assert load_dataset(dataset.name, tree.root).content_hash == dataset.content_hash
    monkeypatch.setenv("ANGA_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tree.root, tmp_path / "copy", ignore=shutil.ignore_patterns("anga-cache"))
    copy = load_dataset(dataset.name, tmp_path / "copy")
    assert copy.content_hash == dataset.content_hash and not (tmp_path / "copy" / "anga-cache").exists()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_report_is_no_part_of_the_hash(pair):
    _, dataset = pair
    bare = Dataset(*(getattr(dataset, name) for name in ("name", "task", "ids", "texts", "images", "labels")),
                   dataset.classes, dataset.split, dataset.image_rows)  # fmt: skip
    assert bare.report is None and bare.content_hash == dataset.content_hash


@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_skipped_is_logged_in_one_line_and_nothing_otherwise(tmp_path, caplog, name):
    with caplog.at_level(logging.WARNING, "anga"):
        load_dataset(name, built(name, tmp_path / "plain", warts=False).root)
        assert not caplog.records
        tree = built(name, tmp_path / "warts")
        load_dataset(name, tree.root)
    (record,) = caplog.records
    total, skipped = len(tree.samples) + sum(tree.skipped.values()), sum(tree.skipped.values())
    assert f"{name}: {skipped} of {total} rows skipped" in record.getMessage() and "\n" not in record.getMessage()


def test_a_worker_process_leaves_the_warning_to_its_parent(tmp_path, caplog, monkeypatch):
    tree = built("hatememes", tmp_path)
    monkeypatch.setattr("anga.datasets.samples.parent_process", object)
    with caplog.at_level(logging.WARNING, "anga"):
        assert load_dataset("hatememes", tree.root).report.skipped and not caplog.records


@pytest.mark.parametrize("name", BUILDERS)
def test_an_archive_that_unpacked_into_a_folder_of_its_own_is_found(tmp_path, name):
    tree = BUILDERS[name](tmp_path / "outer" / "inner", warts=False)
    assert len(load_dataset(name, tmp_path / "outer")) == len(tree.samples)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_root_without_data_shows_the_tree_and_where_to_get_it(tmp_path, name):
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(
            AngaError, match=rf"(?s)^{name}: '{root}'.*Expected:.*{name}/.*Where to get it: .*ANGA_DATA"
        ):
            load_dataset(name, root)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_mended_file_is_noticed(tmp_path, name):
    tree = built(name, tmp_path, warts=False)
    before = load_dataset(name, tree.root)
    path = next(path for path in sorted(tree.root.rglob("*.*")) if path.suffix in (".png", ".jpg", ".jpeg"))
    data = path.read_bytes()
    path.write_bytes(data[:100])
    assert len(load_dataset(name, tree.root)) == len(before) - 1
    path.write_bytes(data)
    assert load_dataset(name, tree.root).content_hash == before.content_hash


def test_texts_that_are_not_utf8_are_read_as_latin_1_line_by_line(tmp_path):
    tree = built("hatememes", tmp_path, warts=False)
    path = tree.root / "train.jsonl"
    lines = path.read_bytes().split(b"\n")
    for number, text in ((0, "caf\u00e9".encode("latin-1")), (1, "\u96ea caf\u00e9".encode())):
        row = json.loads(lines[number]) | {"text": "HERE"}
        lines[number] = json.dumps(row).encode().replace(b"HERE", text)
    path.write_bytes(b"\n".join(lines))
    assert load_dataset("hatememes", tree.root).texts[:2].tolist() == ["café", "雪 café"]


# --- what is particular to one of them


def test_memes_without_test_labels_say_where_labels_are(tmp_path):
    tree = built("hatememes", tmp_path, older=True)
    path = tree.root / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.startswith('{"id": "0')]
    path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if k != "label"}) for row in rows))
    with pytest.raises(Unusable, match=r"test split is empty.*test_seen\.jsonl has it \(16\)") as caught:
        load_dataset("hatememes", tree.root)
    assert caught.value.report.found == {"train": 30, "validation": 15, "test": 0}
    path.unlink()
    with pytest.raises(Unusable, match="test split is empty"):
        load_dataset("hatememes", tree.root)


def test_labels_of_one_class_are_refused(tmp_path):
    tree = built("hatememes", tmp_path, warts=False)
    path = tree.root / "dev_seen.jsonl"
    path.write_text(path.read_text().replace('"label": 0', '"label": 1'))
    with pytest.raises(Unusable, match="all 15 samples of the validation split are of class hateful"):
        load_dataset("hatememes", tree.root)


def test_films_have_one_sample_each_and_genres_in_the_authors_order(tmp_path):
    tree = built("mmimdb", tmp_path)
    dataset = load_dataset("mmimdb", tree.root)
    assert len(dataset) == 60 and dataset.labels.dtype == np.float32
    assert dataset.classes == [genre for genre in GENRES if genre in dataset.classes] and len(dataset.classes) == 5
    assert "News (18)" in str(dataset.report) and len(GENRES) == len(set(GENRES)) == 23


def test_a_copy_with_other_genres_loads_with_its_own(tmp_path):
    tree = built("mmimdb", tmp_path, warts=False)
    for path in (tree.root / "dataset").glob("*.json"):
        film = json.loads(path.read_text())
        path.write_text(json.dumps(film | {"genres": [f"my {genre}" for genre in film["genres"]]}))
    dataset = load_dataset("mmimdb", tree.root)
    genres = {"my News", *(f"my {genre}" for sample in tree.samples.values() for genre in sample.label)}
    assert len(dataset) == 60 and dataset.classes == sorted(genres)


@pytest.mark.parametrize("content", ["[", '["train"]', '{"train": {"a": 1}}'])
def test_a_broken_list_of_splits_is_named(tmp_path, content):
    tree = built("mmimdb", tmp_path, warts=False)
    (tree.root / "split.json").write_text(content)
    with pytest.raises(AngaError, match=r"split\.json.*get"):
        load_dataset("mmimdb", tree.root)
