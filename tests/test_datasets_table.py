"""One's own data: a table in any of three formats, and what its rows and columns may look like."""

import csv
import io
import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawings import encoded, noise

from anga.datasets import Unusable, load_dataset
from anga.errors import AngaError

SPLIT_NAMES = {"train": "train", "validation": "val", "test": "Test"}


def rows_of(n=24, labels=None) -> list[dict]:
    """Good rows, half of them for training; `labels` makes them multi-label."""
    splits = ["train", "validation", "train", "test"]
    rows = []
    for k in range(n):
        row = {"id": f"item {k}", "text": f'a "quoted", façade {k}\nin two lines', "image": f"pictures/{k}.png"}
        label = {"label": ("no", "yes", "perhaps")[k // 4 % 3]} if labels is None else {"labels": labels(k)}
        rows.append(row | label | {"split": SPLIT_NAMES[splits[k % 4]], "remark": k})
    return rows


def write_pictures(root, rows) -> None:
    (root / "pictures").mkdir(exist_ok=True)
    for k, row in enumerate(rows):
        if row.get("image"):
            (root / row["image"]).write_bytes(encoded(noise(6 + k % 5, 7, seed=k)))


def write_csv(path, rows) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows([{name: "|".join(v) if isinstance(v, list) else v for name, v in row.items()} for row in rows])
    path.write_bytes(b"\xef\xbb\xbf" + file.getvalue().encode())


def write_jsonl(path, rows) -> None:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


def write_parquet(path, rows) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


@pytest.fixture(params=WRITERS)
def table(request, tmp_path):
    """Writes rows (and their pictures) in one format after the other, and loads them."""

    def load(rows, pictures=True):
        if pictures:
            write_pictures(tmp_path, rows)
        WRITERS[request.param](tmp_path / f"mine.{request.param}", rows)
        return load_dataset("table", tmp_path)

    return load


def test_every_format_gives_the_same_samples(table):
    rows = rows_of()
    dataset = table(rows)
    assert dataset.ids.tolist() == [row["id"] for row in rows]
    assert dataset.texts.tolist() == [row["text"] for row in rows]
    assert dataset.task == "multiclass" and dataset.classes == ["no", "perhaps", "yes"]
    assert [dataset.classes[label] for label in dataset.labels] == [row["label"] for row in rows]
    assert [len(dataset.rows(split)) for split in SPLIT_NAMES] == [12, 6, 6]
    assert not dataset.report.skipped and dataset.report.differences() == []
    for row in range(len(rows)):
        np.testing.assert_array_equal(np.asarray(dataset.image(row)), np.asarray(noise(6 + row % 5, 7, seed=row)))


def test_two_classes_are_binary_and_numbers_are_ordered_by_size(table):
    rows = [row | {"label": k // 4 % 2} for k, row in enumerate(rows_of())]
    dataset = table(rows)
    assert dataset.task == "binary" and dataset.classes == ["0", "1"] and dataset.metric == "auroc"
    assert dataset.labels.tolist() == [row["label"] for row in rows]
    rows = [row | {"label": (2, 10, -1)[k // 4 % 3]} for k, row in enumerate(rows_of())]
    assert table(rows).classes == ["-1", "2", "10"]


def test_several_labels_are_multilabel(table):
    rows = rows_of(labels=lambda k: [["b"], ["a", "c"], ["c", "b", "a"]][k % 3])
    dataset = table(rows)
    assert dataset.task == "multilabel" and dataset.classes == ["a", "b", "c"]
    found = [[dataset.classes[k] for k in np.flatnonzero(label)] for label in dataset.labels]
    assert found == [sorted(row["labels"]) for row in rows]


def test_labels_may_be_a_json_list_in_a_cell(tmp_path):
    rows = rows_of(labels=lambda k: json.dumps(["x, y", "z"] if k % 2 else ["z"]))
    write_pictures(tmp_path, rows)
    write_csv(tmp_path / "a.csv", rows)
    assert load_dataset("table", tmp_path).classes == ["x, y", "z"]


def test_rows_that_cannot_serve_are_skipped_with_their_reason(table, tmp_path, caplog):
    rows = rows_of()
    write_pictures(tmp_path, rows)
    changes = {0: {"text": " "}, 4: {"label": None}, 8: {"image": "pictures/nowhere.png"}, 12: {"split": "later"}}
    changes |= {2: {"id": "item 1"}, 6: {"image": None}}
    with caplog.at_level(logging.WARNING, "anga"):
        dataset = table([row | changes.get(k, {}) for k, row in enumerate(rows)], pictures=False)
    assert dataset.report.skipped == {
        ("train", "without text"): 1,
        ("train", "without label"): 1,
        ("train", "image missing"): 2,
        ("train", "split is not train, validation or test"): 1,
        ("train", "id given before"): 1,
    }
    assert len(dataset) == len(rows) - 6 and "6 of 24 rows skipped" in caplog.text
    assert "pictures/0.png" not in str(dataset.report.notes), "a row without text has a picture all the same"
    assert "pictures/12.png" in str(dataset.report.notes)


def test_several_rows_may_show_one_picture(table):
    rows = [row | {"image": f"pictures/{k // 2}.png"} for k, row in enumerate(rows_of())]
    dataset = table(rows)
    assert len(dataset) == 24 and len(dataset.images) == 12
    assert dataset.image_rows.tolist() == [k // 2 for k in range(24)]


def test_picture_names_are_found_in_another_case_and_with_other_slashes(tmp_path):
    rows = rows_of()
    write_pictures(tmp_path, rows)
    other = [row | {"image": row["image"].replace("/", "\\").replace(".png", ".PNG")} for row in rows]
    write_csv(tmp_path / "a.csv", other)
    (tmp_path / "pictures" / "3.png").rename(tmp_path / "pictures" / "3.PnG")
    dataset = load_dataset("table", tmp_path)
    assert len(dataset) == 24 and not dataset.report.notes


def test_names_in_composed_and_decomposed_accents_are_the_same(tmp_path):
    rows = rows_of()
    rows[0]["image"] = "pictures/caf\u00e9.png"
    write_pictures(tmp_path, rows)
    (tmp_path / "pictures" / "caf\u00e9.png").rename(tmp_path / "pictures" / "cafe\u0301.png")
    write_csv(tmp_path / "a.csv", rows)
    assert len(load_dataset("table", tmp_path)) == 24


def test_a_picture_without_suffix_or_outside_the_folder_is_found_by_its_name(tmp_path):
    rows = rows_of()
    (tmp_path / "data").mkdir()
    (tmp_path / "bare").write_bytes(encoded(noise(5, 5), "jpeg"))
    write_pictures(tmp_path / "data", rows)
    rows[0]["image"], rows[1]["image"] = "../bare", str(tmp_path / "bare")
    write_jsonl(tmp_path / "data" / "a.jsonl", rows)
    assert len(load_dataset("table", tmp_path / "data")) == 24


def test_a_row_with_a_comma_too_many_is_named_by_its_line(tmp_path):
    rows = rows_of()
    write_pictures(tmp_path, rows)
    write_csv(tmp_path / "a.csv", rows)
    with open(tmp_path / "a.csv", "a") as file:
        file.write("x,y\r\n\r\n")
    dataset = load_dataset("table", tmp_path)
    # every text has a line break: 24 rows are 48 lines, after the header
    assert dataset.report.names["train", "line cannot be read"] == ["a.csv:50"] and len(dataset) == 24


def test_a_quote_that_is_never_closed_is_named_by_its_line(tmp_path):
    (tmp_path / "a.csv").write_text('id,text,image,label,split\n1,a,b,c,train\n2,"open,b,c,train\n3,a,b,c,test\n')
    with pytest.raises(AngaError, match=r"a\.csv: the row that begins in line 3 is no valid CSV"):
        load_dataset("table", tmp_path)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        (["text"], {}, "lacks text"),
        (["label"], {}, "lacks one of label and labels"),
        ([], {"labels": "a"}, "lacks a choice: label or labels"),
        (["id", "image", "split"], {}, "has the columns text, label, remark and lacks id, image, split"),
    ],
)
def test_columns_that_are_lacking_are_named(tmp_path, suffix, lost, added, message):
    rows = [{name: value for name, value in row.items() if name not in lost} | added for row in rows_of()]
    WRITERS[suffix](tmp_path / f"a.{suffix}", rows)
    with pytest.raises(AngaError, match=message):
        load_dataset("table", tmp_path)


def test_one_table_is_chosen_by_name_among_several(tmp_path):
    rows = rows_of()
    write_pictures(tmp_path, rows)
    for name in ("a", "table"):
        write_csv(tmp_path / f"{name}.csv", rows)
    assert len(load_dataset("table", tmp_path)) == 24
    (tmp_path / "table.csv").rename(tmp_path / "b.csv")
    with pytest.raises(AngaError, match=r"holds a\.csv, b\.csv; call one of them table"):
        load_dataset("table", tmp_path)


@pytest.mark.parametrize("root", ["", "absent"])
def test_a_folder_without_table_shows_what_is_expected(tmp_path, root):
    with pytest.raises(AngaError, match=r"(?s)holds no table|is no folder.*Expected:.*one class, or labels"):
        load_dataset("table", tmp_path / root)


@pytest.mark.parametrize(
    ("name", "content"), [("a.parquet", b"PAR1 no more"), ("a.csv", b""), ("a.jsonl", b"\n"), ("a.csv", b"\x00\xff")]
)
def test_a_damaged_table_is_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AngaError, match=rf"{tmp_path / name}"):
        load_dataset("table", tmp_path)


def test_a_missing_split_or_a_single_class_is_refused(tmp_path):
    rows = rows_of()
    write_pictures(tmp_path, rows)
    write_csv(tmp_path / "a.csv", [row | {"split": "train"} for row in rows])
    with pytest.raises(Unusable, match="validation split is empty"):
        load_dataset("table", tmp_path)
    write_csv(tmp_path / "a.csv", [row | {"label": "one"} for row in rows])
    with pytest.raises(Unusable, match="all 12 samples of the train split are of class one"):
        load_dataset("table", tmp_path)
