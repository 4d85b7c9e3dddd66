"""UPMC Food-101: which of 101 dishes? Recipe pages' titles and pictures. Multi-class, accuracy."""

import hashlib
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from anga.datasets.dataset import Dataset
from anga.datasets.files import SUFFIXES, PictureFiles, read_lines
from anga.datasets.roots import Layout
from anga.datasets.samples import BROKEN_LINE, Samples

LAYOUT = Layout(
    name="food101",
    markers=("texts/train_titles.csv",),
    tree="""
  food101/
    images/train/apple_pie/apple_pie_0.jpg ...
    images/test/apple_pie/apple_pie_1.jpg ...
    texts/train_titles.csv   (no header: file, text, class)
    texts/test_titles.csv
""",
    source="the UPMC Food-101 page of the VISIIR project, Sorbonne Université (this is not ETH's Food-101)",
)
EXPECTED = {"train": 61127, "validation": 6845, "test": 22716}
VALIDATION_SEED = "food101-validation-0"
RECORD = re.compile(rf"[^,]+({'|'.join(map(re.escape, SUFFIXES))})\"?,", re.IGNORECASE)  # how a record begins


@dataclass(frozen=True)
class Record:
    """One line of a titles file, or several where a text has line breaks; `number` is the first one's."""

    number: int
    file: str
    text: str
    label: str
    mended: bool


def load(root: Path) -> Dataset:
    """`food101` from a folder as described in LAYOUT; its validation split is a seeded tenth of the train files."""
    folder = LAYOUT.locate(root)
    samples = Samples(LAYOUT.name, root, EXPECTED, 101)
    pictures = PictureFiles(folder, "images")
    folders = {name.split("/")[-2] for name in pictures.exact}
    for part in ("train", "test"):
        path = folder / "texts" / f"{part}_titles.csv"
        if path.is_file():
            _read(path, part, folders, pictures, samples)
    samples.report.note("pictures that the titles do not list", pictures.unlisted())
    return samples.dataset("multiclass", sorted({row.label for row in samples.rows}))


def _read(path: Path, part: str, folders: set[str], pictures: PictureFiles, samples: Samples) -> None:
    records, broken = parse(read_lines(path), folders)
    for number in broken:
        samples.skip(part, BROKEN_LINE, f"{path.name}:{number}")
    held_out = validation_files(records) if part == "train" else set()
    for record in records:
        split = "validation" if record.file in held_out else part
        name = f"images/{part}/{record.label}/{record.file}"
        picture = pictures.find(name, f"images/{record.label}/{record.file}")
        samples.add(f"{part}/{Path(record.file).stem}", record.text, picture, record.label, split, name)
    mended = [f"{path.name}:{record.number}" for record in records if record.mended]
    samples.report.note("texts with an unclosed quote or a line break, mended", mended)


def parse(lines: list[tuple[int, str]], folders: set[str]) -> tuple[list[Record], list[int]]:
    """Records of a titles file, and the numbers of lines that belong to none.

    The file is no proper CSV: texts hold commas, line breaks and quotes that never close. What can be relied on is
    that a record begins with the name of a picture and ends with its class.
    """
    records, broken, open_lines = [], [], []
    for number, line in lines:
        if RECORD.match(line):
            broken += [n for n, _ in open_lines]
            open_lines = []
        elif not open_lines:
            broken.append(number)
            continue
        open_lines.append((number, line))
        if record := _record(open_lines, folders):
            records.append(record)
            open_lines = []
    return records, broken + [number for number, _ in open_lines]


def _record(lines: list[tuple[int, str]], folders: set[str]) -> Record | None:
    """The record that some lines make up; None as long as it does not end with a class."""
    file, _, rest = " ".join(line.strip() for _, line in lines).partition(",")
    text, _, label = rest.rpartition(",")
    label, file = bare(label), bare(file)
    if label not in folders and label != file.rpartition("_")[0]:
        return None
    text, closed = unquoted(text.strip())
    return Record(lines[0][0], file, text, label, not closed or len(lines) > 1)


def bare(field: str) -> str:
    """A field without blanks and quotes around it; quotes on one side alone belong to a text that goes on."""
    field = field.strip()
    return field[1:-1].strip() if len(field) > 1 and field[0] == field[-1] == '"' else field


def unquoted(text: str) -> tuple[str, bool]:
    """A text without the quotes around it, and whether they were closed (or there were none)."""
    opens, closes = text.startswith('"'), len(text) > 1 and text.endswith('"')
    inner = text[1 if opens else 0 : -1 if closes and opens else None]
    return inner.replace('""', '"') if opens else text, opens == closes or not opens


def validation_files(records: list[Record]) -> set[str]:
    """A tenth of each class, rounded up, never all of it: those whose names come first in the order of a seeded hash.

    So a record's split depends on its class alone, not on the order of lines, and hardly on records that a copy lacks.
    """
    by_class = defaultdict(set)
    for record in records:
        if record.text:
            by_class[record.label].add(record.file)
    chosen = set()
    for files in by_class.values():
        ranked = sorted(files, key=lambda file: hashlib.sha256(f"{VALIDATION_SEED}|{file}".encode()).digest())
        chosen.update(ranked[: min(math.ceil(len(ranked) / 10), len(ranked) - 1)])
    return chosen
