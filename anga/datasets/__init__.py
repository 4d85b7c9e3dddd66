"""Data sets by name: `load_dataset("clipart-pairs")`. A new one is one file and one line in `LOADERS`."""

import inspect
from collections.abc import Callable
from pathlib import Path

from anga.datasets import clipart
from anga.datasets.dataset import SPLITS, Dataset
from anga.errors import AngaError

LOADERS: dict[str, Callable[..., Dataset]] = {
    "clipart-keywords": clipart.load_keywords,
    "clipart-folders": clipart.load_folders,
    "clipart-pairs": clipart.load_pairs,
}

__all__ = ["LOADERS", "SPLITS", "Dataset", "load_dataset"]


def load_dataset(name: str, root: str | Path | None = None, **options) -> Dataset:
    """The data set called `name`, read from the folder `root` (None: the copy in the package, if there is one).

    Options go to the loader (`seed` and `unimodal_cue` of clipart-pairs). AngaError names whatever is wrong.
    """
    if name not in LOADERS:
        raise AngaError(f"unknown data set '{name}': use one of {', '.join(sorted(LOADERS))}")
    known = [option for option in inspect.signature(LOADERS[name]).parameters if option != "root"]
    for option in options:
        if option not in known:
            allowed = f"use {', '.join(known)}" if known else "it takes none"
            raise AngaError(f"unknown option '{option}' for data set '{name}': {allowed}")
    return LOADERS[name](None if root is None else Path(root), **options)
