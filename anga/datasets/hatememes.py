"""Hateful Memes: is a picture with a caption hateful? Binary, AUROC."""

from pathlib import Path

from anga.datasets.dataset import Dataset
from anga.datasets.files import PictureFiles, parse_json_rows
from anga.datasets.roots import Layout
from anga.datasets.samples import BROKEN_LINE, NO_LABEL, Samples

LAYOUT = Layout(
    name="hatememes",
    markers=("train.jsonl",),
    tree="""
  hatememes/
    img/01235.png ...
    train.jsonl
    dev_seen.jsonl    (older copies: dev.jsonl)
    test_seen.jsonl   (older copies: test.jsonl, some of them without labels)
""",
    source="Meta AI's page of the Hateful Memes Challenge; its licence has to be accepted there",
)
EXPECTED = {"train": 8500, "validation": 500, "test": 1000}
FILES = {
    "train": ("train.jsonl",),
    "validation": ("dev_seen.jsonl", "dev.jsonl"),
    "test": ("test_seen.jsonl", "test.jsonl"),
}
CLASSES = ["not hateful", "hateful"]
NO_TEST_LABEL = f"{NO_LABEL}: the final release's test_seen.jsonl has it"


def load(root: Path) -> Dataset:
    """`hatememes` from a folder as described in LAYOUT."""
    folder = LAYOUT.locate(root)
    samples = Samples(LAYOUT.name, root, EXPECTED, len(CLASSES))
    pictures = PictureFiles(folder, "img")
    for split, names in FILES.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            samples.report.note(f"{split}: there is neither of " + ", ".join(names))
        else:
            _read(path, split, pictures, samples)
    samples.report.note("pictures that the files read do not list", pictures.unlisted())
    return samples.dataset("binary", CLASSES)


def _read(path: Path, split: str, pictures: PictureFiles, samples: Samples) -> None:
    """One split's rows of `id, img, label, text`."""
    for number, row in parse_json_rows(path):
        if row is None or not isinstance(row.get("img"), str):
            samples.skip(split, BROKEN_LINE, f"{path.name}:{number}")
            continue
        label = {"0": CLASSES[0], "1": CLASSES[1]}.get(str(row.get("label")).removesuffix(".0"))
        name, picture = str(row.get("id", Path(row["img"]).stem)), pictures.find(row["img"])
        if label is None and split == "test":
            samples.skip(split, NO_TEST_LABEL, name)
        else:
            samples.add(name, row.get("text"), picture, label, split, row["img"])
