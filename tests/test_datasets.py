"""Embedded data: counts, splits, constructed pairs, integrity and errors."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anga.datasets import LOADERS, SPLITS, Dataset, load_dataset
from anga.datasets.clipart import CUES, FILE, FOLDER, read_table, swap_texts
from anga.errors import AngaError


@pytest.fixture(scope="module")
def table():
    return read_table().to_pandas()


@pytest.fixture(scope="module")
def pairs():
    return load_dataset("clipart-pairs")


EMBEDDED = {
    "clipart-keywords": "9205e6e488626529cfab754d101fe22fe943e0a4909abe3c6e83802afff190c9",
    "clipart-folders": "98b93cf8ca6e87a4531d840f959839e66b65739aeb9845ded6be11b3f7646cbf",
    "clipart-pairs": "1f8f38001999c91e81a15b8ab1a032aff39d3ab5ebd51247835f304c717154c5",
}  # and their content hashes, on which the stored results depend


@pytest.fixture(params=sorted(EMBEDDED), scope="module")
def dataset(request):
    return load_dataset(request.param)


def own_text(table, dataset):
    return table.set_index("id").loc[dataset.ids, "text"].to_numpy()


def column(table, dataset, name):
    return table.set_index("id").loc[dataset.ids, name].to_numpy()


def test_every_task_has_unique_ids_known_splits_and_texts(dataset):
    assert len(dataset) > 2500 and len(set(dataset.ids)) == len(dataset)
    assert set(dataset.split) == set(SPLITS)
    assert sum(len(dataset.rows(split)) for split in SPLITS) == len(dataset)
    assert all(isinstance(text, str) and text.strip() for text in dataset.texts)
    assert len(dataset.image_rows) == len(dataset.labels) == len(dataset.texts) == len(dataset)


def test_tasks_share_the_collection_and_show_their_own_pictures(table, dataset):
    assert dataset.images_hash() == load_dataset("clipart-folders").images_hash()
    own = column(table, dataset, "image")
    assert all(dataset.images[number] == own[row] for row, number in enumerate(dataset.image_rows))


def test_a_data_set_without_image_rows_shows_its_pictures_in_order(dataset):
    first = [dataset.images[number] for number in dataset.image_rows[:3]]
    small = Dataset(
        "small",
        dataset.task,
        dataset.ids[:3],
        dataset.texts[:3],
        first,
        dataset.labels[:3],
        dataset.classes,
        dataset.split[:3],
    )
    for row in range(3):
        assert small.image(row).tobytes() == dataset.image(row).tobytes()


def test_texts_hash_follows_the_texts(pairs):
    assert pairs.texts_hash() != load_dataset("clipart-pairs", seed=1).texts_hash()
    assert pairs.texts_hash() == load_dataset("clipart-pairs").texts_hash()


def test_split_shares_are_about_70_10_20(table):
    share = table["split"].value_counts(normalize=True)
    assert share["train"] == pytest.approx(0.7, abs=0.05)
    assert share["validation"] == pytest.approx(0.1, abs=0.025)
    assert share["test"] == pytest.approx(0.2, abs=0.03)


def test_label_shapes_and_every_class_in_every_split(dataset):
    many = dataset.task == "multilabel"
    assert dataset.labels.dtype == (np.float32 if many else np.int64)
    for split in SPLITS:
        labels = dataset.labels[dataset.rows(split)]
        count = labels.sum(0) if many else np.bincount(labels, minlength=len(dataset.classes))
        assert count.shape == (len(dataset.classes),) and (count > 0).all()
    if many:
        assert set(np.unique(dataset.labels)) == {0.0, 1.0} and dataset.labels.any(axis=1).all()


def test_labels_agree_with_the_columns(table):
    folders, keywords = load_dataset("clipart-folders"), load_dataset("clipart-keywords")
    assert [folders.classes[label] for label in folders.labels] == column(table, folders, "folder").tolist()
    for words, row in zip(column(table, keywords, "keywords"), keywords.labels, strict=True):
        assert set(words) & set(keywords.classes) == {keywords.classes[k] for k in np.flatnonzero(row)}


def test_class_order_is_sorted_and_stored(table):
    stored = json.loads(pq.read_schema(FOLDER / FILE).metadata[b"classes"])
    for task in ("keywords", "folders"):
        classes = load_dataset(f"clipart-{task}").classes
        assert classes == stored[task] == sorted(set(classes))


def test_no_group_text_or_picture_straddles_a_split(table):
    for name in ("group", "image"):
        assert (table.groupby(name)["split"].nunique() == 1).all()
    assert (table["split"].groupby(table["text"].str.lower()).nunique() == 1).all()


def test_every_row_is_tagged_public_domain_and_has_its_source(table):
    assert table["licence"].str.lower().str.contains("publicdomain").all()
    assert table["source"].is_unique and table["source"].str.endswith(".svg").all()


def test_pictures_decode_to_square_rgb(dataset):
    for row in np.linspace(0, len(dataset) - 1, 25).astype(int):
        picture = dataset.image(row)
        assert picture.mode == "RGB" and picture.size == (128, 128)
        assert np.asarray(picture).min() < 250  # something is drawn


def test_exactly_half_of_each_split_and_top_folder_is_swapped(table, pairs):
    top = np.array([folder.split("/")[0] for folder in column(table, pairs, "folder")])
    for split in SPLITS:
        for name in np.unique(top):
            labels = pairs.labels[(pairs.split == split) & (top == name)]
            assert 2 * labels.sum() == len(labels)


def test_label_1_means_own_text(table, pairs):
    assert pairs.classes == ["swapped", "belongs"]
    np.testing.assert_array_equal(pairs.labels == 1, pairs.texts == own_text(table, pairs))


def test_swapping_permutes_the_texts_of_a_split(table, pairs):
    for split in SPLITS:
        rows = pairs.rows(split)
        assert Counter(pairs.texts[rows]) == Counter(own_text(table, pairs)[rows])


@pytest.mark.parametrize("seed", [0, 7])
def test_swapped_texts_come_from_same_split_and_top_folder_but_another_group(table, seed):
    split, folder, group = (table[name].to_numpy() for name in ("split", "folder", "group"))
    rows, donors = swap_texts(split, folder, group, seed)
    top = np.array([name.split("/")[0] for name in folder])
    swapped = rows != donors
    assert sorted(rows) == sorted(donors) and len(set(rows)) == len(rows)
    np.testing.assert_array_equal(split[rows], split[donors])
    np.testing.assert_array_equal(top[rows], top[donors])
    assert (group[rows] != group[donors])[swapped].all()


def test_no_series_gives_the_label_away(table, pairs):
    frame = table.set_index("id").loc[pairs.ids].assign(label=pairs.labels)
    per_group = frame.groupby("group")["label"].agg(["sum", "size"])
    assert (abs(2 * per_group["sum"] - per_group["size"]) <= 4).all()  # a group may lie in several top folders


def test_pairs_follow_their_seed(pairs):
    assert load_dataset("clipart-pairs", seed=0).content_hash == pairs.content_hash
    assert load_dataset("clipart-pairs", seed=1).content_hash != pairs.content_hash


def test_swap_leaves_out_cells_without_a_partner():
    split = np.array(["train"] * 3 + ["test"] * 5)
    folder, group = np.array(["a/b"] * 8), np.array(list("xyz") + ["p"] * 5)
    rows, _ = swap_texts(split, folder, group, seed=0)
    assert len(rows) == 0  # three rows are too few, and five of one group have no other to swap with


def test_cue_0_leaves_texts_as_they_are_and_cue_1_tells_the_label(pairs):
    told = load_dataset("clipart-pairs", unimodal_cue=1.0)
    np.testing.assert_array_equal(load_dataset("clipart-pairs", unimodal_cue=0).texts, pairs.texts)
    np.testing.assert_array_equal(told.labels, pairs.labels)
    expected = [f"{CUES[label]}: {text}" for label, text in zip(pairs.labels, pairs.texts, strict=True)]
    assert told.texts.tolist() == expected


@pytest.mark.parametrize("cue", [1e-9, 0.3, 0.8])
def test_cue_agrees_with_the_label_as_often_as_it_says(cue):
    dataset = load_dataset("clipart-pairs", unimodal_cue=cue)
    first = np.array([CUES.index(text.split(":")[0]) for text in dataset.texts])
    error = 4 * np.sqrt(0.25 / len(dataset))
    assert np.mean(first == dataset.labels) == pytest.approx((1 + cue) / 2, abs=error)


def test_content_hashes_are_those_of_the_stored_results(dataset):
    assert dataset.content_hash == EMBEDDED[dataset.name] and dataset.report is None
    assert len(set(EMBEDDED.values())) == len(EMBEDDED) == len([name for name in LOADERS if "clipart" in name])


def test_root_may_be_a_copy(tmp_path, dataset):
    (tmp_path / FILE).write_bytes((FOLDER / FILE).read_bytes())
    assert load_dataset(dataset.name, str(tmp_path)).content_hash == dataset.content_hash


def test_describe_counts_each_split(dataset):
    described = dataset.describe()
    assert described["samples"].to_dict() == {split: len(dataset.rows(split)) for split in SPLITS}
    assert (described["classes"] == len(dataset.classes)).all()


def test_unknown_split_is_named(dataset):
    with pytest.raises(KeyError, match="dev"):
        dataset.rows("dev")


def altered(table: pa.Table, column: str, value) -> pa.Table:
    values = table.column(column).to_pylist()
    values[5] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize(("column", "value"), [("text", "other"), ("image", b"\x00"), ("split", "test")])
def test_an_altered_file_is_refused(tmp_path, column, value):
    pq.write_table(altered(read_table(), column, value), tmp_path / FILE)
    with pytest.raises(AngaError, match="content hash"):
        load_dataset("clipart-folders", tmp_path)


def test_altered_class_lists_are_refused(tmp_path):
    table = read_table().replace_schema_metadata({"classes": json.dumps({"keywords": [], "folders": []})})
    pq.write_table(table, tmp_path / FILE)
    with pytest.raises(AngaError, match="content hash"):
        load_dataset("clipart-keywords", tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "not parquet", "flipped", "other table"])
def test_a_damaged_file_is_one_clear_error(tmp_path, damage):
    data = (FOLDER / FILE).read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes(b ^ 255 for b in data[middle : middle + 64]) + data[middle + 64 :]
    content = {"truncated": data[:middle], "not parquet": b"hello", "flipped": flipped}
    if damage == "other table":
        pq.write_table(pa.table({"id": ["a"]}), tmp_path / FILE)
    else:
        (tmp_path / FILE).write_bytes(content[damage])
    with pytest.raises(AngaError, match=r"tools/build_clipart\.py"):
        load_dataset("clipart-pairs", tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AngaError, match=r"no clipart\.parquet"):
        load_dataset("clipart-pairs", tmp_path / "absent")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(AngaError, match="clipart-folders, clipart-keywords, clipart-pairs"):
        load_dataset("clipart-pear")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clipart-pairs", {"cue": 0.5}, "unknown option 'cue'.*seed, unimodal_cue"),
        ("clipart-folders", {"seed": 1}, "unknown option 'seed'.*takes none"),
        ("clipart-pairs", {"unimodal_cue": 1.5}, "unimodal_cue.*0 to 1"),
        ("clipart-pairs", {"unimodal_cue": "much"}, "unimodal_cue"),
        ("clipart-pairs", {"unimodal_cue": float("nan")}, "unimodal_cue"),
        ("clipart-pairs", {"seed": -1}, "seed"),
        ("clipart-pairs", {"seed": 0.5}, "seed"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(AngaError, match=message):
        load_dataset(name, **options)
