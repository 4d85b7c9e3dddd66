"""The single-file form of MM-IMDb: word numbers, genres and small posters in one HDF5 file, its words in another."""

import io
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anga.datasets.dataset import Dataset
from anga.datasets.samples import NO_LABEL, Samples
from anga.errors import AngaError

FILE, WORDS = "multimodal_imdb.hdf5", "metadata.npy"
BLUE_GREEN_RED = np.array([103.939, 116.779, 123.68])  # means that were taken from the pixels before they were stored
SPLITS = {"train": "train", "dev": "validation", "valid": "validation", "test": "test"}
# All that a dictionary of words, numbers and one array needs; a pickle could otherwise run whatever it likes.
PICKLED = {"_reconstruct", "ndarray", "dtype", "scalar", "encode", "OrderedDict"}
PICKLED_FROM = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs", "collections"}


@dataclass(frozen=True)
class Poster:
    """One poster of the open file; its stamp is the file's."""

    name: str
    stamp: str
    images: Any  # int32 [N, 3, 256, 160]
    row: int

    def read(self) -> bytes:
        """As a BMP: the same bytes whatever library writes them."""
        out = io.BytesIO()
        Image.fromarray(pixels(np.asarray(self.images[self.row]))).save(out, "bmp")
        return out.getvalue()


def load(folder: Path, samples: Samples) -> Dataset:
    """All films of the file into `samples`, and their Dataset.

    Raises:
        AngaError: h5py or the file of words is missing, or the file is not as it should be.
    """
    words = read_words(folder / WORDS)
    with open_file(folder / FILE) as file:
        try:
            classes = json.loads(file["genres"].attrs["target_names"])
            genres, ids = np.asarray(file["genres"][:]), np.asarray(file["imdb_ids"][:])
            spans = list(_spans(file.attrs["split"]))
            sequences, images = file["sequences"], file["images"]
        except (KeyError, ValueError) as error:
            raise AngaError(f"{folder / FILE}: lacks {error}; get the file anew.") from None
        found = (folder / FILE).stat()
        stamp = f"{found.st_size}-{found.st_mtime_ns}"
        for split, start, stop in spans:
            for row in range(start, stop):
                name = ids[row].decode() if isinstance(ids[row], bytes) else str(ids[row])
                text = " ".join(words.get(int(word), "_UNK_") for word in sequences[row])
                label = [classes[k] for k in np.flatnonzero(genres[row])]
                if label:
                    samples.add(name, text, Poster(f"{FILE}:{row}", stamp, images, row), label, split)
                else:
                    samples.skip(split, NO_LABEL, name)
        samples.report.note(
            f"texts and posters are {FILE}'s own: each film's longest plot in lower case, 160 x 256 pixels"
        )
        return samples.dataset("multilabel", classes)


def open_file(path: Path):
    """The open HDF5 file.

    Raises:
        AngaError: it cannot be opened, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        cure = "install it, by itself or as this package's extra hdf5 (pip install -e '.[hdf5]')"
        raise AngaError(f"{path}: reading this form of MM-IMDb needs h5py; {cure}.") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise AngaError(f"{path}: cannot be read ({error}); get the file anew.") from None


def pixels(stored: np.ndarray) -> np.ndarray:
    """RGB uint8 `[h, w, 3]` from `[3, h, w]` in the order blue, green, red, less each channel's mean.

    Fractions were cut off towards zero, so the exact pixel is one up from the mean on one side and one down on the
    other; only a stored zero leaves two pixels to choose from.
    """
    means = BLUE_GREEN_RED[:, None, None]
    exact = stored + np.where(stored < 0, np.floor(means), np.ceil(means))
    return exact.clip(0, 255).astype(np.uint8)[::-1].transpose(1, 2, 0)


def _spans(table) -> Iterator[tuple[str, int, int]]:
    """(split, start, stop) of the rows of each split, from the file's own table of splits and sources."""
    for row in table:
        split, source = (v.decode() if isinstance(v, bytes) else str(v) for v in (row["split"], row["source"]))
        if source == "images" and split in SPLITS:
            yield SPLITS[split], int(row["start"]), int(row["stop"])


def read_words(path: Path) -> dict[int, str]:
    """Which word each number stands for.

    Raises:
        AngaError: the file is missing, damaged, or holds more than plain values.
    """
    if not path.is_file():
        raise AngaError(f"{path}: not found; {FILE} holds numbers of words, and {WORDS} from the same page the words.")
    try:
        with open(path, "rb") as file:
            major, _ = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            header(file)
            return _PlainUnpickler(file).load().item()["ix_to_word"]
    except (OSError, ValueError, KeyError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise AngaError(f"{path}: cannot be read ({error}); get the file anew.") from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, words and arrays, and refuses anything else."""

    def find_class(self, module: str, name: str):
        if module not in PICKLED_FROM or name not in PICKLED:
            raise pickle.UnpicklingError(f"it wants to load {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
