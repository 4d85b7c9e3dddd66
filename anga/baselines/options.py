"""A compared method's own hyper-parameters: a frozen dataclass per method, filled from the config's method_options."""

from dataclasses import fields
from typing import Any, TypeVar

from anga.config import Config
from anga.errors import AngaError, noting, refuse

T = TypeVar("T")


def read_options(kind: type[T], config: Config) -> T:
    """An `Options` object with the given values in the place of the published ones.

    Raises:
        AngaError: unknown names, wrong types, and values that the class refuses, a line each.
    """
    known, values, complaints = {field.name: field.type for field in fields(kind)}, {}, []
    for name, value in config.method_options:
        with noting(complaints):
            values[name] = _checked(config.method, name, value, known)
    complaints += [f"method_options of {config.method}: {said}" for said in _refused(kind, values)]
    refuse(complaints)
    return kind(**values)


def _refused(kind: type, values: dict[str, Any]) -> list[str]:
    """What a class says of values; one that refuses several names only the first, so each is tried alone as well."""
    try:
        kind(**values)
    except ValueError as error:
        alone = [{name: value} for name, value in values.items()] if len(values) > 1 else []
        return [str(error), *(said for one in alone for said in _refused(kind, one))]
    return []


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
