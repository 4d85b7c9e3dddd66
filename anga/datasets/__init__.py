"""Data sets by name: `load_dataset("clipart-pairs")`. A new one is one file and one line in `LOADERS`."""

import inspect
from collections.abc import Callable
from pathlib import Path

from anga.datasets import clipart, food101, hatememes, mmimdb, table
from anga.datasets.dataset import SPLITS, Dataset
from anga.datasets.report import LoadReport, Unusable
from anga.datasets.roots import Layout, find_root
from anga.errors import AngaError

LOADERS: dict[str, Callable[..., Dataset]] = {
    "clipart-keywords": clipart.load_keywords,
    "clipart-folders": clipart.load_folders,
    "clipart-pairs": clipart.load_pairs,
    "hatememes": hatememes.load,
    "mmimdb": mmimdb.load,
    "food101": food101.load,
    "table": table.load,
}
LAYOUTS: dict[str, Layout] = {module.LAYOUT.name: module.LAYOUT for module in (hatememes, mmimdb, food101, table)}

__all__ = ["LAYOUTS", "LOADERS", "SPLITS", "Dataset", "LoadReport", "Unusable", "data_root", "load_dataset"]


def load_dataset(name: str, root: str | Path | None = None, **options) -> Dataset:
    """The data set called `name`, read from the folder `root` (None: see `data_root`).

    Options go to the loader (`seed` and `unimodal_cue` of clipart-pairs). AngaError names whatever is wrong.
    """
    if name not in LOADERS:
        raise AngaError(f"unknown data set '{name}': use one of {', '.join(sorted(LOADERS))}")
    known = [option for option in inspect.signature(LOADERS[name]).parameters if option != "root"]
    for option in options:
        if option not in known:
            allowed = f"use {', '.join(known)}" if known else "it takes none"
            raise AngaError(f"unknown option '{option}' for data set '{name}': {allowed}")
    return LOADERS[name](data_root(name, root), **options)


def data_root(name: str, root: str | Path | None = None) -> Path | None:
    """The folder of a data set: the given one, else `ANGA_DATA/<name>`; None for a data set in the package itself."""
    if name in LAYOUTS:
        return find_root(LAYOUTS[name], root)
    return None if root is None else Path(root)
