"""Where a data set lies, where its cache goes, and what to tell whoever points at the wrong folder."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from anga.errors import AngaError

CACHE = "anga-cache"


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    name: as `load_dataset` knows it.  markers: paths of which one at least tells its folder.
    tree: the expected files, for people.  source: where they get them.
    """

    name: str
    markers: tuple[str, ...]
    tree: str
    source: str

    def locate(self, root: Path) -> Path:
        """The folder with the files: the root itself or one folder directly in it (archives unpack into one).

        Raises:
            AngaError: neither holds them; the message shows the expected tree.
        """
        if root.is_dir():
            inner = sorted(path for path in root.iterdir() if path.is_dir() and path.name != CACHE)
            for folder in [root, *inner]:
                if any((folder / marker).exists() for marker in self.markers):
                    return folder
        found = "holds none of " + ", ".join(self.markers) if root.is_dir() else "is no folder"
        raise AngaError(f"{self.name}: '{root}' {found}.\n{self.help()}")

    def help(self) -> str:
        """The expected tree, where people get the files, and how to say where they are."""
        return f"Expected:{self.tree}Where to get it: {self.source}\n{HOW_TO_SAY}"


HOW_TO_SAY = (
    "Say where it is by `root: FOLDER` in the parameter file, or keep all data sets in one folder, each under its "
    "name, and give that folder as ANGA_DATA or --root."
)


def find_root(layout: Layout, root: str | Path | None) -> Path:
    """The given root, else `ANGA_DATA/<name>`.

    Raises:
        AngaError: neither is given.
    """
    if root is not None:
        return Path(root).expanduser()
    if data := os.environ.get("ANGA_DATA"):
        return Path(data).expanduser() / layout.name
    raise AngaError(f"{layout.name}: no folder given.\n{layout.help()}")


def cache_folder(name: str, root: Path) -> Path:
    """`<root>/anga-cache`, or a folder of its own under `ANGA_CACHE`; it need not exist yet."""
    if chosen := os.environ.get("ANGA_CACHE"):
        key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()
        return Path(chosen).expanduser() / f"{name}-{key[:12]}"
    return root / CACHE
