"""The one exception for what a user can put right; the command line prints it without a traceback."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class AngaError(ValueError):
    """What was found, what was expected and what to do, in one sentence."""


@contextmanager
def noting(complaints: list[str], where: str = "") -> Iterator[None]:
    """Note what is wrong, a line each that begins with `where`, and go on behind this block."""
    try:
        yield
    except AngaError as error:
        complaints += [f"{where}{line}" for line in str(error).splitlines()]


def refuse(complaints: Sequence[str]) -> None:
    """Raise all that was noted, each line once; nothing noted: go on."""
    if complaints:
        raise AngaError("\n".join(dict.fromkeys(complaints)))
