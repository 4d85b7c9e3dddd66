"""Where every loader ends: rows in, one by one, kept or skipped with a reason; a Dataset with its report out."""

import json
import logging
import os
import tempfile
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import PIL

from anga.datasets.dataset import Dataset
from anga.datasets.pictures import FORMAT, Entry, Journal, PictureStore, Source
from anga.datasets.report import SPLITS, LoadReport, Unusable, printable
from anga.datasets.roots import cache_folder

logger = logging.getLogger("anga")

NO_TEXT, NO_IMAGE, NO_LABEL = "without text", "image missing", "without label"
BROKEN_IMAGE, BROKEN_LINE, TWICE = "image cannot be decoded", "line cannot be read", "id given before"


@dataclass(frozen=True)
class Row:
    """One sample as its files tell it; `label` is a class name, or a list of them."""

    id: str
    text: str
    picture: Source
    label: str | list[str]
    split: str


class Samples:
    """Collects the rows of a data set.

    A row is skipped, and counted under its reason, if its text is missing or blank (it could never be a complete
    sample, and the paper's counts leave such rows out too), if its picture is missing or cannot be decoded, if it has
    no label, or if its id was there before.
    """

    def __init__(self, name: str, root: Path, expected: dict[str, int] | None = None, classes: int | None = None):
        self.name, self.root = name, root
        self.report = LoadReport(name, str(root), expected or {}, classes)
        self.rows: list[Row] = []
        self.ids: set[str] = set()

    def add(self, id: str, text, picture: Source | None, label, split: str, image_name: str = "") -> bool:
        """Keep one row, or skip it; `image_name` is what was looked for where `picture` is None. Whether it is kept."""
        checks = {
            TWICE: (id in self.ids, id),
            NO_LABEL: (label is None, id),
            NO_TEXT: (not isinstance(text, str) or not text.strip(), id),
            NO_IMAGE: (picture is None, image_name or id),
        }
        for reason, (failed, name) in checks.items():
            if failed:
                self.report.skip(split, reason, name)
                return False
        self.ids.add(id)
        self.rows.append(Row(printable(id), printable(text).strip(), picture, label, split))
        return True

    def skip(self, split: str, reason: str, name: str) -> None:
        """Leave out a row that got no further than its file and line."""
        self.report.skip(split, reason, name)

    def dataset(self, task: str, classes: list[str]) -> Dataset:
        """Decode (or find) the pictures and put everything together; rows of broken pictures are skipped.

        Raises:
            Unusable: a split is empty or shows one class only.
            AngaError: the cache cannot be written.
        """
        folder = cache_folder(self.name, self.root)
        entries = self._decoded(folder)
        self._check(task)
        places = {name: number for number, name in enumerate(entries)}
        labels = _labels(self.rows, task, classes)
        self.report.classes = list(classes)
        dataset = Dataset(
            name=self.name,
            task=task,
            ids=np.array([row.id for row in self.rows]),
            texts=np.array([row.text for row in self.rows], object),
            images=PictureStore(Journal(folder).blob, entries.values()),
            labels=labels,
            classes=list(classes),
            split=np.array([row.split for row in self.rows]),
            image_rows=np.array([places[row.picture.name] for row in self.rows]),
            report=self.report,
        )
        _write_trace(folder / f"dataset-{dataset.content_hash[:16]}.json", dataset)
        if self.report.skipped and parent_process() is None:  # a study's workers load what their parent has loaded
            logger.warning(self.report.summary())
        return dataset

    def _decoded(self, folder: Path) -> dict[str, Entry]:
        """The entries of all whole pictures by name, in the order of the rows; rows of broken ones are dropped."""
        pictures = list({row.picture.name: row.picture for row in self.rows}.values())
        entries = Journal(folder).entries(pictures, f"pictures ({self.name})")
        broken = {entry.name: entry.error for entry in entries if entry.error}
        for row in self.rows:
            if row.picture.name in broken:
                self.skip(row.split, BROKEN_IMAGE, f"{row.picture.name} ({broken[row.picture.name]})")
        self.rows = [row for row in self.rows if row.picture.name not in broken]
        return {entry.name: entry for entry in entries if not entry.error}

    def _check(self, task: str) -> None:
        """Count what is there; Unusable if it cannot serve."""
        for split in SPLITS:
            rows = [row for row in self.rows if row.split == split]
            self.report.found[split] = len(rows)
            if not rows:
                raise Unusable(self.report, f"the {split} split is empty{self._why(split)}")
            shown = {row.label for row in rows} if task != "multilabel" else set()
            if len(shown) == 1 and (split == "train" or task == "binary"):
                raise Unusable(self.report, f"all {len(rows)} samples of the {split} split are of class {shown.pop()}")

    def _why(self, split: str) -> str:
        reasons = "; ".join(line for line in self.report.reasons() if line.startswith(f"{split}: "))
        return f" ({reasons})" if reasons else ": no row of it was found"


def _labels(rows: list[Row], task: str, classes: list[str]) -> np.ndarray:
    """int64 `[N]`, or float32 `[N, C]` of 0 and 1 for multilabel."""
    number = {name: k for k, name in enumerate(classes)}
    if task != "multilabel":
        return np.array([number[row.label] for row in rows], np.int64)
    labels = np.zeros((len(rows), len(classes)), np.float32)
    for n, row in enumerate(rows):
        labels[n, [number[name] for name in row.label if name in number]] = 1.0
    return labels


def _write_trace(path: Path, dataset: Dataset) -> None:
    """Class order, split and report beside the pictures, so that a score can be traced to what it was made on."""
    if path.exists():
        return
    facts = {"content_hash": dataset.content_hash, "task": dataset.task, **dataset.report.to_dict()}
    facts |= {"pictures": {"format": FORMAT, "hash": dataset.images_hash(), "pillow": PIL.__version__}}
    facts["split"] = {split: [printable(i) for i in dataset.ids[dataset.rows(split)]] for split in SPLITS}
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            json.dump(facts, file, indent=1)
        os.replace(file.name, path)
    except OSError as error:  # everything that a run needs is there: a cache that can only be read will do
        logger.warning(f"{path}: class order and split could not be written ({error.strerror})")
