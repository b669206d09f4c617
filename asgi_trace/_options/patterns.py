"""Lists of regular expressions: as an option, where a wrong one raises, and in the environment, where it does not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from .._guard import logger
from .checks import texts

__all__ = ["compile_patterns", "environment_patterns"]


def compile_patterns(
    option: str, patterns: str | Iterable[str], advice: str, example: str, flags: int = 0
) -> list[re.Pattern[str]]:
    """The patterns of an option. Raises ValueError for one that does not compile, TypeError for anything but strings.

    The errors say what to write: `advice` what the option takes, `example` how a pattern looks.
    """
    compiled = []
    for pattern in texts(option, patterns, advice):
        try:
            compiled.append(re.compile(pattern, flags))
        except re.error as exc:
            raise ValueError(
                f"{option}: {pattern!r} is not a regular expression ({exc}); write it like {example}"
            ) from None
    return compiled


def environment_patterns(*variables: str, flags: int = 0) -> list[re.Pattern[str]]:
    """The patterns of all these variables together: comma-separated lists, as elsewhere in OpenTelemetry.

    One that does not compile counts as the plain text that it is, with one warning that names the variable: what is
    meant to be excluded or masked stays so.
    """
    compiled = []
    for variable in variables:
        for pattern in filter(None, map(str.strip, os.environ.get(variable, "").split(","))):
            try:
                compiled.append(re.compile(pattern, flags))
            except re.error as exc:
                logger.warning(
                    "%s: %r is not a regular expression (%s); it is searched for as plain text", variable, pattern, exc
                )
                compiled.append(re.compile(re.escape(pattern), flags))
    return compiled
