"""The embedded data: public-domain drawings with noisy texts, and three tasks on them (see DATASHEET.md)."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from anga.datasets.dataset import SPLITS, Dataset
from anga.errors import AngaError

FOLDER = Path(__file__).parents[1] / "assets" / "clipart"
FILE = "clipart.parquet"
CONTENT_HASH = "5fa1392266b0bc18c0b3ddcbb44648aedcc035720e87c2e3df2fdaee99a3c2a4"
COLUMNS = [
    "id",
    "image",
    "text",
    "title",
    "keywords",
    "folder",
    "group",
    "split",
    "source",
    "creator",
    "licence",
]
CUES = ("picture", "drawing")  # first word of a text if unimodal_cue > 0; the second agrees with label 1


def read_table(root: Path | None = None) -> pa.Table:
    """The whole parquet file of the folder `root` (None: the package's); AngaError if absent, damaged or altered."""
    path = (FOLDER if root is None else root) / FILE
    if not path.is_file():
        raise AngaError(
            f"no {FILE} in '{path.parent}': give the folder that holds it, or no root for the embedded copy"
        )
    return _checked_table(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=2)
def _checked_table(path: Path, changed: int, size: int) -> pa.Table:
    """Read and checked once per process and version of the file."""
    cure = "restore it from the repository or rebuild it with tools/build_clipart.py"
    try:
        table = pq.read_table(path, use_threads=False)
        found = table_hash(table)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise AngaError(f"'{path}' cannot be read ({type(error).__name__}): {cure}") from error
    if found != CONTENT_HASH:
        raise AngaError(f"'{path}' has content hash {found[:12]}, expected {CONTENT_HASH[:12]}: {cure}")
    return table


def sources(dataset: Dataset) -> pd.DataFrame:
    """Where each sample comes from: id, own text, creator, folder, group; one row per sample.

    Of other data sets less is known: the text is the sample's, its classes stand for a folder, and it is a group alone.
    """
    if dataset.name.startswith("clipart-"):
        return read_table().drop_columns(["image"]).to_pandas().set_index("id").loc[dataset.ids].reset_index()
    member = dataset.labels > 0 if dataset.labels.ndim == 2 else np.eye(len(dataset.classes))[dataset.labels] > 0
    folders = ["; ".join(name for name, of_it in zip(dataset.classes, row, strict=True) if of_it) for row in member]
    known = {"id": dataset.ids, "text": dataset.texts, "creator": "unknown", "folder": folders}
    return pd.DataFrame({**known, "group": dataset.ids})


def table_hash(table: pa.Table) -> str:
    """SHA-256 over every column and the stored class lists, whatever the parquet encoding."""
    digest = hashlib.sha256(json.dumps(_classes(table), sort_keys=True).encode())
    for name in COLUMNS:
        values = table.column(name).to_pylist()
        digest.update(name.encode())
        if name == "image":
            digest.update(np.array([len(image) for image in values], "<i8").tobytes())
            digest.update(b"".join(values))
        else:
            digest.update(json.dumps(values).encode())
    return digest.hexdigest()


def _classes(table: pa.Table) -> dict[str, list[str]]:
    """The class lists of both labelled tasks, in label order, as the builder stored them."""
    return json.loads((table.schema.metadata or {})[b"classes"])


def load_keywords(root: Path | None = None) -> Dataset:
    """`clipart-keywords`: which of the frequent keywords does a drawing carry? Multi-label, F1-micro."""
    table = read_table(root)
    classes = _classes(table)["keywords"]
    number = {keyword: k for k, keyword in enumerate(classes)}
    labels = np.zeros((len(table), len(classes)), np.float32)
    for row, keywords in enumerate(table.column("keywords").to_pylist()):
        labels[row, [number[word] for word in keywords if word in number]] = 1.0
    rows = np.flatnonzero(labels.any(axis=1))
    return _dataset("clipart-keywords", "multilabel", table, rows, labels[rows], classes)


def load_folders(root: Path | None = None) -> Dataset:
    """`clipart-folders`: in which folder did the collection file a drawing? Multi-class, accuracy."""
    table = read_table(root)
    classes = _classes(table)["folders"]
    number = {folder: k for k, folder in enumerate(classes)}
    labels = np.array([number.get(folder, -1) for folder in table.column("folder").to_pylist()], np.int64)
    rows = np.flatnonzero(labels >= 0)
    return _dataset("clipart-folders", "multiclass", table, rows, labels[rows], classes)


def load_pairs(root: Path | None = None, seed: int = 0, unimodal_cue: float = 0.0) -> Dataset:
    """`clipart-pairs`: does the text belong to the picture (label 1) or to another drawing (label 0)? Binary, AUROC.

    Within each split and top folder, exactly half of the samples exchange their texts with a drawing of another
    group, so that neither text nor picture alone tells. With `unimodal_cue` c in (0, 1] each text begins with one
    of two words, and the word agrees with the label with probability (1 + c) / 2; with c = 0 texts stay as they are.
    """
    _check_options(seed, unimodal_cue)
    table = read_table(root)
    rows, donors = swap_texts(*(np.array(table.column(c).to_pylist()) for c in ("split", "folder", "group")), seed)
    labels = (rows == donors).astype(np.int64)
    texts = np.array(table.column("text").to_pylist(), object)[donors]
    if unimodal_cue > 0:
        texts = add_cue(texts, labels, unimodal_cue, np.random.default_rng([seed, 1]))
    return _dataset("clipart-pairs", "binary", table, rows, labels, ["swapped", "belongs"], texts)


def _check_options(seed: int, unimodal_cue: float) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise AngaError(f"seed of clipart-pairs is {seed!r}: give a whole number from 0")
    number = isinstance(unimodal_cue, int | float | np.floating) and not isinstance(unimodal_cue, bool)
    if not number or not 0 <= unimodal_cue <= 1:
        raise AngaError(f"unimodal_cue of clipart-pairs is {unimodal_cue!r}: give a number from 0 to 1")


def swap_texts(split: np.ndarray, folder: np.ndarray, group: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """([M], [M]) row numbers kept for the task and, for each, the row that its text comes from.

    Cells (split x top folder) are dealt with one by one; drawings that would make an exact half or a swap
    between groups impossible (an odd one out, a group of more than half a cell) are left out.
    """
    top = np.array([name.split("/")[0] for name in folder])
    pieces = []
    for s, part in enumerate(SPLITS):
        for t, name in enumerate(np.unique(top)):
            cell = np.flatnonzero((split == part) & (top == name))
            pieces.append(_swap_cell(cell, group, np.random.default_rng([seed, 0, s, t])))
    rows, donors = np.concatenate(pieces, axis=1)
    order = np.argsort(rows)
    return rows[order], donors[order]


def _swap_cell(cell: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[2, m] rows and donors of one cell, m even, half of them swapped; m = 0 if no swap is possible."""
    for _ in range(50):
        rows = _balanced(cell, group, rng)
        if len(rows) < 4:
            break
        # one of each neighbouring two: every group is swapped by half, so that no series gives the label away
        chosen = np.arange(0, len(rows), 2) + rng.integers(0, 2, len(rows) // 2)
        shift = np.unique(group[rows[chosen]], return_counts=True)[1].max()
        if 2 * shift <= len(chosen):
            donors = rows.copy()
            donors[chosen] = np.roll(rows[chosen], -shift)  # sorted by group: a roll by the largest leaves the group
            return np.stack([rows, donors])
    return np.zeros((2, 0), np.int64)


def _balanced(cell: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An even number of the cell's rows, group by group from the largest, none with more than half of them."""
    names = rng.permutation(np.unique(group[cell]))
    blocks = sorted((rng.permutation(cell[group[cell] == name]) for name in names), key=len, reverse=True)
    if blocks:
        blocks[0] = blocks[0][: sum(map(len, blocks[1:]))]
    rows = np.concatenate([*blocks, np.zeros(0, np.int64)]).astype(np.int64)
    return rows[: len(rows) // 2 * 2]


def add_cue(texts: np.ndarray, labels: np.ndarray, cue: float, rng: np.random.Generator) -> np.ndarray:
    """[N] texts, each after one of two words that agrees with its label with probability (1 + cue) / 2."""
    agrees = rng.random(len(labels)) < (1 + cue) / 2
    words = np.where(agrees, labels, 1 - labels)
    return np.array([f"{CUES[word]}: {text}" for word, text in zip(words, texts, strict=True)], object)


def _dataset(name, task, table, rows, labels, classes, texts=None) -> Dataset:
    ids, split = (np.array(table.column(column).take(rows).to_pylist()) for column in ("id", "split"))
    if texts is None:
        texts = np.array(table.column("text").take(rows).to_pylist(), object)
    pictures = table.column("image").to_pylist()
    return Dataset(name, task, ids, texts, pictures, labels, classes, split, image_rows=rows)
