"""How a folder takes another's place: whole or not at all, and one process at a time."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from anga.errors import AngaError

SCRATCH = (".saving", ".old")  # ends of the names of a folder that is being written, and of one that gives way to it


@contextmanager
def named_if_not_made(path: Path) -> Iterator[None]:
    """An error of the operating system, such as a full disk's, becomes one that says what was to be made."""
    try:
        yield
    except OSError as error:
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error.strerror or error
        raise AngaError(
            f"{path}: could not be made ({reason}); make room if the disk is full, and call it again."
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time may write into the folder, such as that of all reports."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


@contextmanager
def in_place_of(folder: Path, keep: bool) -> Iterator[Path]:
    """A folder beside another, which it replaces if all goes well; with `keep` it begins as a copy of that one."""
    new, old = scratch = [folder.with_name(f"{folder.name}{end}") for end in SCRATCH]
    _clear(folder, *scratch)
    try:
        if keep and folder.exists():
            shutil.copytree(folder, new)
        new.mkdir(exist_ok=True)
        yield new
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    finally:
        _clear(folder, *scratch)


def _clear(folder: Path, new: Path, old: Path) -> None:
    """Take away what an exchange of folders has left, or undo one that stopped halfway."""
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
