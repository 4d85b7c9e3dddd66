"""A store of pictures: decoded and shrunk once, in parallel, into one file that is memory-mapped ever after.

The blob holds the encoded pictures one behind the other; a journal has one JSON line for each: name, stamp (size and
time of the source file), place, checksum, and a hash of the source. Both only grow, the blob always first, so whatever
the journal names is whole: a killed build goes on where it stopped, and a changed source is decoded again.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from filelock import FileLock
from PIL import UnidentifiedImageError
from tqdm import tqdm

from anga.datasets.decoding import to_stored
from anga.errors import AngaError

FORMAT = 1  # raise it when what is stored changes: older stores are then made anew
BLOCK_PER_CORE = 16  # pictures in memory at a time


class Source(Protocol):
    """One picture somewhere: `name` tells it from others, `stamp` changes when it does."""

    name: str
    stamp: str

    def read(self) -> bytes:
        """The encoded picture; OSError if it cannot be had."""


class Entry(NamedTuple):
    """A journal line; `error` says why there is no picture, and is empty otherwise."""

    name: str
    stamp: str
    offset: int = 0
    length: int = 0
    checksum: int = 0
    source_hash: str = ""
    error: str = ""


class PictureStore(Sequence):
    """The encoded pictures of a data set, in order; each is read from the blob when it is asked for.

    Args:
        blob: the file that holds them.
        entries: their places, none of them with an error.
    """

    def __init__(self, blob: Path, entries: Iterable[Entry]):
        entries = list(entries)
        self.blob = Path(blob)
        self.places = np.array([(e.offset, e.length, e.checksum) for e in entries], np.int64).reshape(-1, 3)
        known = json.dumps([FORMAT, [entry.source_hash for entry in entries]])
        self.content_hash = hashlib.sha256(known.encode()).hexdigest()  # of the sources, whoever decoded them

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number):
        """The bytes of one picture, or a list of them for a slice.

        Raises:
            AngaError: the blob is not what the journal says.
        """
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        offset, length, checksum = (int(value) for value in self.places[number])
        try:  # a window of its own for each: nothing to share between processes, and no page stays in memory
            data = np.memmap(self.blob, np.uint8, "r", offset, (length,)).tobytes()
        except (OSError, ValueError):
            raise self._damaged("ends too early or cannot be read") from None
        if zlib.crc32(data) != checksum:
            raise self._damaged(f"is damaged at picture {number}")
        return data

    def _damaged(self, how: str) -> AngaError:
        return AngaError(f"{self.blob}: {how}; delete the folder '{self.blob.parent}', it is then made again.")


class Journal:
    """Blob and journal in a cache folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.blob = self.folder / f"pictures-v{FORMAT}.blob"
        self.path = self.folder / f"pictures-v{FORMAT}.jsonl"

    def read(self) -> dict[str, Entry]:
        """What is whole, by name: lines cut short, garbage, and places beyond the blob's end do not count."""
        try:
            lines, size = self.path.read_bytes().split(b"\n")[:-1], self.blob.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return {}
        entries = (parse(line) for line in lines)
        return {e.name: e for e in entries if e is not None and e.offset + e.length <= size}

    def entries(self, sources: Sequence[Source], title: str = "pictures") -> list[Entry]:
        """One entry per source; what is not there yet, or has changed, is decoded now.

        Raises:
            AngaError: something has to be decoded and the folder cannot be written.
        """
        try:
            known = self.read()
            if any(not _holds(known, source) for source in sources):
                known = self._completed(sources, title)
        except OSError as error:
            raise AngaError(
                f"{self.folder}: the picture cache cannot be written ({error.strerror or error}); "
                "set ANGA_CACHE to a folder that can, with room for it."
            ) from error
        return [known[source.name] for source in sources]

    def _completed(self, sources: Sequence[Source], title: str) -> dict[str, Entry]:
        """The journal after what it lacks was added, by one process at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "pictures.lock"):
            known = self.read()  # another process may just have made it all
            self._rewrite(known.values())
            return known | self._append([s for s in sources if not _holds(known, s)], title)

    def _rewrite(self, entries: Iterable[Entry]) -> None:
        """Drop what does not count, lest a growing blob make it look whole."""
        partial = self.path.with_suffix(".part")
        partial.write_bytes(b"".join(map(line_of, entries)))
        os.replace(partial, self.path)

    def _append(self, sources: list[Source], title: str) -> dict[str, Entry]:
        """Decode, write and note every source; a file that cannot be read at all is tried again next time."""
        made, cores = {}, _cores()
        bar = tqdm(total=len(sources), desc=title, unit="picture")
        with open(self.blob, "ab") as blob, open(self.path, "ab") as lines, ThreadPoolExecutor(cores) as pool, bar:
            block = cores * BLOCK_PER_CORE
            for start in range(0, len(sources), block):
                for entry, data in pool.map(decode, sources[start : start + block]):
                    entry = entry._replace(offset=blob.tell())
                    if data or entry.source_hash:
                        blob.write(data)
                        blob.flush()
                        lines.write(line_of(entry))
                        lines.flush()
                    made[entry.name] = entry
                    bar.update()
        return made


def decode(source: Source) -> tuple[Entry, bytes]:
    """What becomes of one source: its entry, as yet without a place, and the bytes to store (none after an error)."""
    entry = Entry(source.name, source.stamp)
    try:
        data = source.read()
    except OSError as error:
        return entry._replace(error=f"cannot be read ({error.strerror or error})"), b""
    entry = entry._replace(source_hash=hashlib.sha256(data).hexdigest())
    try:
        stored = to_stored(data)
    except MemoryError:
        raise
    except Exception as error:  # for damaged files Pillow raises nearly anything; each one is named and counted
        return entry._replace(error=_cause(error)), b""
    return entry._replace(length=len(stored), checksum=zlib.crc32(stored)), stored


def line_of(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def parse(line: bytes) -> Entry | None:
    """An entry from its line; None if the line is damaged."""
    try:
        values = json.loads(line)
        good = len(values) == len(Entry._fields) and [type(v) for v in values] == [str, str, int, int, int, str, str]
    except (ValueError, TypeError):
        return None
    return Entry(*values) if good else None


def _holds(known: dict[str, Entry], source: Source) -> bool:
    return source.name in known and known[source.name].stamp == source.stamp


def _cause(error: Exception) -> str:
    """What is wrong with a picture, in few words."""
    if isinstance(error, UnidentifiedImageError):
        return "is no picture"
    return " ".join(str(error).split())[:80] or type(error).__name__


def _cores() -> int:
    """Cores that this process may use; Pillow decodes, resizes and encodes outside Python's lock."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
