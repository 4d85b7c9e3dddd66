"""Command line: python -m anga.datasets check NAME [PATH]."""

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from anga.datasets import LOADERS, Dataset, Unusable, load_dataset
from anga.errors import AngaError


def main(arguments: list[str] | None = None) -> int:
    """Entry point; 0 if the data set can serve, 1 if it cannot."""
    options = parser().parse_args(arguments)
    try:
        with warnings_off():  # the report says it all
            dataset = load_dataset(options.name, options.path)
    except Unusable as error:
        print(f"{error.report}\n")
        print(f"anga: {error}", file=sys.stderr)
        return 1
    except AngaError as error:
        print(f"anga: {error}", file=sys.stderr)
        return 1
    print(account(dataset))
    return 0


@contextmanager
def warnings_off() -> Iterator[None]:
    """The package's own warnings are not logged meanwhile."""
    logger = logging.getLogger("anga")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def account(dataset: Dataset) -> str:
    """What was found, expected and skipped, and what the data set is like."""
    counts = dataset.describe().to_string()
    about = f"{dataset.name}: {dataset.task}, {len(dataset.classes)} classes, content {dataset.content_hash[:16]}"
    report = f"{dataset.report}\n\n" if dataset.report is not None else ""
    return f"{report}{about}\n{counts}"


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    root = argparse.ArgumentParser(prog="python -m anga.datasets", description="Data sets on disk.")
    commands = root.add_subparsers(required=True, metavar="command")
    check = commands.add_parser(
        "check",
        help="count what is found, expected and skipped, and why; decode all pictures once",
        description="Counts what is found, expected and skipped per split, with reasons and the first names for each; "
        "decodes all pictures once. Exits 1 if the data set cannot serve.",
    )
    check.add_argument("name", choices=sorted(LOADERS), metavar="NAME", help=", ".join(sorted(LOADERS)))
    check.add_argument("path", nargs="?", metavar="PATH", help="its folder; default: ANGA_DATA/NAME")
    return root


if __name__ == "__main__":
    sys.exit(main())
