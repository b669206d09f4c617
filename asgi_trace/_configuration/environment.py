"""Reading settings out of text: the `OTEL_*` variables as OpenTelemetry's specification means them.

An empty variable is unset. A wrong value never stops a service: it is noted, once, with the name of its variable and
with what is used instead. The parsers are shared with the arguments of `configure()`, where the same complaint is
raised: each says what to write. Knows nothing of the SDK.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

_MILLISECONDS_FROM = 1000.0


class Environment:
    """One reading of the environment. `problems` holds what was wrong with it, by the variable's name."""

    __slots__ = ("_variables", "problems")

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: dict[str, str] = {}

    def text(self, *names: str) -> str | None:
        """The first of these variables that is set to more than blanks, stripped."""
        return next((value for name in names if (value := self._value(name))), None)

    def read(
        self, names: str | tuple[str, ...], parse: Callable[[str], T], default: T, shown: Callable[[T], object] = repr
    ) -> T:
        """The first of these variables that is set and that `parse` takes, else `default`.

        A value that raises ValueError becomes a problem that ends with `shown(what is used)`.
        """
        wrong: dict[str, str] = {}
        result = default
        for name in (names,) if isinstance(names, str) else names:
            if text := self._value(name):
                try:
                    result = parse(text)
                    break
                except ValueError as exc:
                    wrong[name] = str(exc)
        for name, complaint in wrong.items():
            self.note(name, f"{complaint}; {shown(result)} is used instead")
        return result

    def note(self, name: str, complaint: str) -> None:
        """Keep what is wrong with a variable, unless that variable has been noted already."""
        self.problems.setdefault(name, f"{name} {complaint}")

    def _value(self, name: str) -> str:
        return self._variables.get(name, "").strip()


def argument(name: str, parse: Callable[[Any], T], value: Any, types: type | tuple[type, ...] = str) -> T:
    """An argument of the right type that `parse` takes. Raises TypeError, ValueError with the argument's name."""
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise TypeError(f"{name} must be {type_names(types)}, not {type(value).__name__}")
    try:
        return parse(value)
    except ValueError as exc:
        raise ValueError(f"{name} {exc}") from None


def type_names(types: type | tuple[type, ...]) -> str:
    """Types in a sentence."""
    return listed([kind.__name__ for kind in (types if isinstance(types, tuple) else (types,))])


def plugin(group: str, name: str) -> Any:
    """What an installed package offers under this entry point, or None."""
    found = next(iter(entry_points(group=group, name=name)), None)
    return None if found is None else found.load()


def boolean(text: str) -> bool:
    """`true` or `false`, in any case."""
    return one_of(text, {"true": True, "false": False})


def one_of(text: str, choices: Mapping[str, T]) -> T:
    """The choice of this name, in any case."""
    try:
        return choices[text.strip().lower()]
    except KeyError:
        raise ValueError(f"must be {alternatives(choices)}, not {text!r}") from None


def alternatives(names: Iterable[str]) -> str:
    """Names in a sentence: `'a', 'b' or 'c'`."""
    return listed([repr(name) for name in names])


def listed(words: Sequence[str]) -> str:
    """Words in a sentence: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def whole_number(text: str | int, least: int) -> int:
    """A whole number that is not below `least`."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"must be a whole number of at least {least}, not {text!r}")
    return number


def positive(text: str | float) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise ValueError(f"must be a number above 0, not {text!r}")
    return number


def ratio(text: str | float) -> float:
    """A share of all traces."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise ValueError(f"must be a number from 0 to 1, not {text!r}")
    return number


def _number(text: str | float) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def timeout_seconds(environment: Environment, names: tuple[str, ...], default: float) -> float:
    """The export timeout in seconds, the unit of OpenTelemetry Python.

    The specification means milliseconds: a value of 1000 or more can only be that, and is read so, with a problem.
    """

    def parse(text: str) -> float:
        seconds = positive(text)
        if seconds < _MILLISECONDS_FROM:
            return seconds
        name = next(name for name in names if environment.text(name) == text)
        environment.note(name, f"is in seconds; {text!r} is read as {seconds / 1000:g} seconds instead")
        return seconds / 1000

    return environment.read(names, parse, default, lambda seconds: f"{seconds:g} seconds")


def pairs(text: str) -> tuple[dict[str, str], list[str]]:
    """The `key=value` pairs of `OTEL_RESOURCE_ATTRIBUTES`, and those which are none."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    split = [item.partition("=") for item in items]
    good = {key.strip(): unquote(value.strip()) for key, separator, value in split if separator and key.strip()}
    return good, [key + separator + value for key, separator, value in split if not separator or not key.strip()]
