"""A compared method's own hyper-parameters: a frozen dataclass per method, filled from the config's method_options."""

from dataclasses import fields
from typing import Any, TypeVar

from anga.config import Config
from anga.errors import AngaError

T = TypeVar("T")


def read_options(kind: type[T], config: Config) -> T:
    """An `Options` object with the given values in the place of the published ones.

    Raises:
        AngaError: an unknown name, a wrong type, or a value that the class refuses.
    """
    known = {field.name: field.type for field in fields(kind)}
    values = {name: _checked(config.method, name, value, known) for name, value in config.method_options}
    try:
        return kind(**values)
    except ValueError as error:
        raise AngaError(f"method_options of {config.method}: {error}") from None


def _checked(method: str, name: str, value: Any, known: dict[str, type]) -> Any:
    if name not in known:
        names = ", ".join(known) or "none"
        raise AngaError(f"method_options: {method} has no option {name}; its options are {names}.")
    kind = known[name]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        found = type(value).__name__
        raise AngaError(f"method_options: {name} of {method} must be of type {kind.__name__}, not {found} ({value!r}).")
    return value
