"""Files of a data set as people have them: picture names found whatever their case, texts read whatever their bytes."""

import json
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anga.datasets.roots import CACHE
from anga.errors import AngaError

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
LEFTOVERS = (CACHE, "__MACOSX")  # folders that hold no pictures of the data set


@dataclass(frozen=True)
class PictureFile:
    """One picture file; its stamp is its size and time of change.

    name: path relative to the data set's folder, with forward slashes.
    """

    name: str
    path: Path
    stamp: str

    def read(self) -> bytes:
        return self.path.read_bytes()


class PictureFiles:
    """The picture files under some folders of `root` (default: all of it), listed once."""

    def __init__(self, root: Path, *folders: str):
        self.root = root
        paths = (path for folder in folders or (".",) for path in walk(root / folder))
        self.exact = {path.relative_to(root).as_posix(): path for path in paths if path.suffix.lower() in SUFFIXES}
        self.folded = {fold(name): name for name in reversed(self.exact)}
        self.used: set[str] = set()

    def find(self, *names: str) -> PictureFile | None:
        """The first of some relative names that exists, if need be in another case or as jpg for jpeg; None if none."""
        for name in names:
            name = name.replace("\\", "/").removeprefix("./")
            known = name if name in self.exact else self.folded.get(fold(name))
            path = self.exact[known] if known else self.root / name
            if known or path.is_file():
                self.used.add(known or name)
                return _stamped(known or name, path)
        return None

    def unlisted(self) -> list[str]:
        """Pictures on disk that nobody asked for."""
        return sorted(self.exact.keys() - self.used)


def _stamped(name: str, path: Path) -> PictureFile | None:
    try:
        found = path.stat()
    except OSError:  # a link to nowhere is as good as no file
        return None
    return PictureFile(name, path, f"{found.st_size}-{found.st_mtime_ns}")


def fold(name: str) -> str:
    """A name with what file systems change on the way taken out: case, accents' encoding, jpeg for jpg."""
    name = unicodedata.normalize("NFC", name).casefold()
    return name.removesuffix(".jpeg") + ".jpg" if name.endswith(".jpeg") else name


def walk(folder: Path) -> Iterator[Path]:
    """All files under a folder, links followed (each folder once), in sorted order; hidden ones left out."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in LEFTOVERS)
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def read_text(path: Path) -> str:
    """A whole text file: byte-order mark dropped; a line that is no UTF-8 is read as Latin-1.

    Raises:
        AngaError: the file cannot be read.
    """
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise AngaError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return b"\n".join(map(_as_utf8, data.split(b"\n"))).decode()


def _as_utf8(line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()
    return line


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank, without its line end, Windows' or other."""
    lines = read_text(path).split("\n")
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]


def read_json(path: Path):
    """The value in a JSON file.

    Raises:
        AngaError: the file cannot be read or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise AngaError(f"{path}: is no valid JSON (line {error.lineno}: {error.msg}); get it anew.") from None


def parse_json_rows(path: Path) -> Iterator[tuple[int, dict | None]]:
    """(line number, row) for each line of a JSONL file; None for a line that is no JSON object."""
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        yield number, row if isinstance(row, dict) else None
