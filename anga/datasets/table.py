"""Anybody's own data: a folder with one table of `id, text, image, label (or labels), split`, and its pictures."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from anga.datasets.dataset import Dataset
from anga.datasets.files import PictureFiles, parse_json_rows, read_text
from anga.datasets.roots import Layout
from anga.datasets.samples import BROKEN_LINE, Samples
from anga.errors import AngaError

FORMATS = (".csv", ".jsonl", ".parquet")
LAYOUT = Layout(
    name="table",
    markers=("*.csv, *.jsonl or *.parquet",),
    tree="""
  FOLDER/
    table.csv    (or any one .csv, .jsonl or .parquet file; UTF-8)
    images/first.jpg ...   (wherever the column image says, from FOLDER)
  with the columns
    id      unique
    text
    image   a path
    label   one class, or labels: several (a list; in CSV joined by |)
    split   train, validation (or val, valid, dev) or test
""",
    source="these are your own data",
)
COLUMNS = ("id", "text", "image", "split")
SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
UNKNOWN_SPLIT = "split is not train, validation or test"


def load(root: Path) -> Dataset:
    """`table` from a folder as described in LAYOUT: multi-label with a column `labels`, else binary or multi-class."""
    path = find_table(root)
    samples = Samples(LAYOUT.name, root)
    pictures = PictureFiles(root)
    for number, row in READERS[path.suffix.lower()](path):
        _add(path, number, row, pictures, samples)
    samples.report.note("pictures that the table does not list", pictures.unlisted())
    if any(isinstance(row.label, list) for row in samples.rows):
        return samples.dataset("multilabel", ordered({name for row in samples.rows for name in row.label}))
    classes = ordered({row.label for row in samples.rows})
    return samples.dataset("binary" if len(classes) <= 2 else "multiclass", classes)


def find_table(root: Path) -> Path:
    """The folder's one table, or the one called `table` where there are several.

    Raises:
        AngaError: there is none, or there are several.
    """
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in FORMATS) if root.is_dir() else []
    named = [path for path in found if path.stem == "table"]
    if len(named or found) == 1:
        return (named or found)[0]
    what = f"holds {', '.join(p.name for p in found)}; call one of them table" if found else "holds no table"
    raise AngaError(f"table: '{root}' {what if root.is_dir() else 'is no folder'}.\n{LAYOUT.help()}")


def ordered(names: set[str]) -> list[str]:
    """Classes in label order: numbers by size, other names by alphabet."""
    return sorted(names, key=float) if all(map(_is_number, names)) else sorted(names)


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _add(path: Path, number: int, row: dict | None, pictures: PictureFiles, samples: Samples) -> None:
    """One row of the table, `number` lines (in Parquet: rows) from its beginning."""
    split = SPLITS.get(str((row or {}).get("split")).strip().lower())
    if row is None:
        samples.skip("train", BROKEN_LINE, f"{path.name}:{number}")
    elif split is None:
        samples.skip("train", UNKNOWN_SPLIT, f"{path.name}:{number}")
    else:
        name, image = _plain(row["id"]) or f"{path.name}:{number}", _plain(row["image"])
        label = _labels(row["labels"]) if "labels" in row else _plain(row["label"])
        samples.add(name, row["text"], pictures.find(image) if image else None, label, split, image or name)


def _plain(value) -> str | None:
    """A cell as text; None if it is empty. Whole numbers lose the `.0` that some tools give them."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return text or None


def _labels(value) -> list[str] | None:
    """Several classes: a list, a JSON list, or names joined by `|`; None if the cell is empty."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return None
    if not isinstance(value, list):
        text = _plain(value)
        value = text.split("|") if text else None
    return None if value is None else [name for name in map(_plain, value) if name]


def _check_columns(path: Path, columns: list[str]) -> None:
    """AngaError if a column is missing, or if it cannot be told whether a sample has one class or several."""
    lacking = [name for name in COLUMNS if name not in columns]
    n_labels = sum(name in columns for name in ("label", "labels"))
    if lacking or n_labels != 1:
        lacking += [] if n_labels == 1 else ["one of label and labels" if not n_labels else "a choice: label or labels"]
        raise AngaError(f"{path}: has the columns {', '.join(columns)} and lacks {', '.join(lacking)}.")


def read_csv(path: Path) -> Iterator[tuple[int, dict | None]]:
    """(line number, row) of a CSV file; None for a row with more or fewer fields than the header.

    Raises:
        AngaError: a column is missing, or a quote is never closed (all that follows would be one text).
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    start = 1
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(path, columns)
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                yield start, dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else None
            start = reader.line_num + 1
    except csv.Error as error:
        raise AngaError(f"{path}: the row that begins in line {start} is no valid CSV ({error}); mend it.") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, dict | None]]:
    """(line number, row) of a JSONL file; None for a line that is no JSON object; absent values are None.

    Raises:
        AngaError: a column occurs in no row.
    """
    rows = list(parse_json_rows(path))
    columns = list(dict.fromkeys(name for _, row in rows for name in row or {}))
    _check_columns(path, columns)
    for number, row in rows:
        yield number, None if row is None else {name: row.get(name) for name in columns}


def read_parquet(path: Path) -> Iterator[tuple[int, dict]]:
    """(row number from 1, row) of a Parquet file.

    Raises:
        AngaError: the file cannot be read or a column is missing.
    """
    try:
        columns = pq.read_schema(path).names
        _check_columns(path, columns)
        rows = pq.read_table(path, columns=[n for n in columns if n in (*COLUMNS, "label", "labels")]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise AngaError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())}); write it anew.") from None
    yield from enumerate(rows, 1)


READERS = dict(zip(FORMATS, (read_csv, read_jsonl, read_parquet), strict=True))
