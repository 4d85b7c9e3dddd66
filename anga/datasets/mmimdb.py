"""MM-IMDb: which genres has a film? Its poster and its plot. Multi-label, F1-micro."""

from collections import Counter
from pathlib import Path

from anga.datasets import mmimdb_hdf5
from anga.datasets.dataset import Dataset
from anga.datasets.files import PictureFiles, read_json
from anga.datasets.roots import Layout
from anga.datasets.samples import Samples
from anga.errors import AngaError

LAYOUT = Layout(
    name="mmimdb",
    markers=("split.json", mmimdb_hdf5.FILE),
    tree="""
  mmimdb/
    dataset/0000008.json, dataset/0000008.jpeg ...   (or images/0000008.jpeg and labels/0000008.json)
    split.json                                       (train, dev, test: lists of ids)
  or
  mmimdb/
    multimodal_imdb.hdf5
    metadata.npy
""",
    source="the MM-IMDb page of the Universidad Nacional de Colombia (mmimdb.tar.gz); mirrored by the Internet Archive",
)
EXPECTED = {"train": 15552, "validation": 2608, "test": 7799}
SPLIT_NAMES = {"train": ("train",), "validation": ("dev", "val", "validation"), "test": ("test",)}
# From the commonest to the rarest, the order of the authors' own file.
GENRES = [
    *("Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary", "Mystery"),
    *("Sci-Fi", "Fantasy", "Family", "Biography", "War", "History", "Music", "Animation", "Musical", "Western"),
    *("Sport", "Short", "Film-Noir"),
]
DESCRIPTIONS = ("dataset", "labels", "")  # folders that may hold the descriptions
NO_FILE, BROKEN_FILE, NO_GENRE, OTHER_GENRES = (
    "description missing",
    "description cannot be read",
    "without genre",
    "no genre of the paper's 23",
)


def load(root: Path) -> Dataset:
    """`mmimdb` from a folder as described in LAYOUT; the folder of films where both forms are there."""
    folder = LAYOUT.locate(root)
    samples = Samples(LAYOUT.name, root, EXPECTED, len(GENRES))
    if not (folder / "split.json").is_file():
        return mmimdb_hdf5.load(folder, samples)
    pictures = PictureFiles(folder, "dataset", "images")
    films = {split: _films(folder, ids, split, samples) for split, ids in _split(folder / "split.json").items()}
    present = Counter(genre for part in films.values() for _, film in part for genre in film["genres"])
    classes = choose_genres(present)
    for split, part in films.items():
        for name, film in part:
            _add(name, film, split, set(classes), pictures, samples)
    outside = [f"{genre} ({present[genre]})" for genre in sorted(present.keys() - set(classes))]
    samples.report.note("genres outside the paper's 23, not counted as labels", outside)
    samples.report.note("posters that go with no film read", pictures.unlisted())
    return samples.dataset("multilabel", classes)


def choose_genres(present: Counter) -> list[str]:
    """The paper's genres that occur, in their order; a copy with fewer than two of them brings its own, sorted."""
    known = [genre for genre in GENRES if present[genre]]
    return known if len(known) > 1 else sorted(present)


def _split(path: Path) -> dict[str, list[str]]:
    """Ids of each split.

    Raises:
        AngaError: the file holds no such lists.
    """
    lists = read_json(path)
    if not isinstance(lists, dict) or not all(isinstance(ids, list) for ids in lists.values()):
        raise AngaError(f"{path}: expected lists of ids under train, dev and test; get the file anew.")
    return {split: [str(i) for name in names for i in lists.get(name, [])] for split, names in SPLIT_NAMES.items()}


def _films(folder: Path, ids: list[str], split: str, samples: Samples) -> list[tuple[str, dict]]:
    """Id, text and genres of each film of one split that has a readable description."""
    films = []
    for name in ids:
        path = next((p for p in (folder / d / f"{name}.json" for d in DESCRIPTIONS) if p.is_file()), None)
        if path is None:
            samples.skip(split, NO_FILE, f"{name}.json")
            continue
        try:
            film = read_json(path)
        except AngaError:
            film = None
        if isinstance(film, dict):
            films.append((name, {"text": plot(film), "genres": _genres(film)}))
        else:
            samples.skip(split, BROKEN_FILE, path.relative_to(folder).as_posix())
    return films


def plot(film: dict) -> str | None:
    """The plot outline, else the first plot that is not blank: one text per film, never one sample per plot."""
    plots = film.get("plot")
    texts = [film.get("plot outline"), *(plots if isinstance(plots, list) else [plots])]
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)


def _genres(film: dict) -> list[str]:
    genres = film.get("genres")
    return [genre for genre in genres if isinstance(genre, str)] if isinstance(genres, list) else []


def _add(name: str, film: dict, split: str, classes: set[str], pictures: PictureFiles, samples: Samples) -> None:
    label = [genre for genre in film["genres"] if genre in classes]
    image = f"dataset/{name}.jpeg"
    picture = pictures.find(image, f"images/{name}.jpeg")
    if not label:
        samples.skip(split, OTHER_GENRES if film["genres"] else NO_GENRE, name)
    else:
        samples.add(name, film["text"], picture, label, split, image)
