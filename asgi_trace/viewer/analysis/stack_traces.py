"""Where in the code an exception was raised: the place that a stack trace names, in the notation of six languages.

Python writes the innermost frame last; Node, Java, Go, Ruby and .NET write it first. Frames of libraries and of the
language's own runtime are passed over where the application has a frame of its own. Each line is matched on its own
with patterns that do not backtrack over each other, so that a megabyte of anything takes no more than its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

_MAX_LINE = 1_000


@dataclass(frozen=True)
class _Frame:
    path: str
    line: str
    function: str
    library: bool


_PYTHON = re.compile(r'[\s|+]*File "([^"]{1,500})", line (\d{1,9})(?:, in (.{1,200}))?$')
_NODE = re.compile(r"\s*at (?:async )?(?:([^()]{1,200}) \()?([^()\s][^()]{0,500}?):(\d{1,9})(?::\d{1,9})?\)?$")
_JAVA = re.compile(r"\s*at (?:[\w.@-]*/{1,2})*([\w.$<>]{1,300})\(([\w$-]{1,200}\.(?:java|kt|scala|groovy)):(\d{1,9})\)")
_GO_PLACE = re.compile(r"\s+(\S{1,500}\.go):(\d{1,9})(?: \+0x[0-9a-f]{1,16})?$")
_RUBY = re.compile(r"\s*(?:from )?(\S[^:]{0,500}\.(?:rb|ru|rake|erb)):(\d{1,9}):in [`'\"](.{1,200}?)['\"]")
_DOTNET = re.compile(r"\s*at ([^()]{1,300})\([^()]{0,300}\) in (.{1,500}):line (\d{1,9})$")

_PYTHON_LIBRARY = re.compile(r"[/\\](?:site-packages|dist-packages|lib[/\\]python3[^/\\]*)[/\\]|^<frozen ")
_NODE_LIBRARY = re.compile(r"(?:^|[/\\])node_modules[/\\]|^node:|^internal/|^native|^<anonymous>")
_JAVA_LIBRARY = re.compile(
    r"(?:java|javax|jakarta|jdk|sun|kotlin|kotlinx|scala|reactor|io\.(?:netty|opentelemetry|micrometer|vertx|undertow)|"
    r"org\.(?:springframework|apache|hibernate|eclipse|jboss|postgresql|junit)|com\.(?:sun|zaxxer|mysql|fasterxml))\."
)
_GO_LIBRARY = re.compile(r"[/\\](?:pkg[/\\]mod|vendor)[/\\]|[/\\]go[^/\\]*[/\\]src[/\\]|go\.opentelemetry\.io")
_RUBY_LIBRARY = re.compile(r"/gems/|/lib/ruby/|^<internal:")
_DOTNET_LIBRARY = re.compile(r"(?:System|Microsoft|OpenTelemetry|Npgsql)\.")


def where(stacktrace: str) -> str:
    """`file.py:12 in function`: where the exception was raised, empty when no frame is known.

    It is the innermost frame of the application's own code, or the innermost of all when there is none.
    """
    frames = _frames(stacktrace)
    own = next((frame for frame in frames if not frame.library), frames[0] if frames else None)
    if own is None:
        return ""
    name = own.path.replace("\\", "/").rpartition("/")[2]
    return f"{name}:{own.line} in {own.function}" if own.function else f"{name}:{own.line}"


def _frames(stacktrace: str) -> list[_Frame]:
    """The frames in the first notation that fits, the innermost first."""
    lines = [line[:_MAX_LINE].rstrip() for line in stacktrace.splitlines()]
    if python := [frame for line in lines if (frame := _python(line))]:
        return python[::-1]
    if dotnet := [frame for line in lines if (frame := _dotnet(line))]:
        return dotnet
    if java := [frame for line in _root_cause(lines) if (frame := _java(line))]:
        return java
    if node := [frame for line in lines if (frame := _node(line))]:
        return node
    if go := _go(lines):
        return go
    return [frame for line in lines if (frame := _ruby(line))]


def _python(line: str) -> _Frame | None:
    found = _PYTHON.match(line)
    return found and _Frame(found[1], found[2], found[3] or "", _PYTHON_LIBRARY.search(found[1]) is not None)


def _node(line: str) -> _Frame | None:
    found = _NODE.match(line)
    if found is None:
        return None
    function = (found[1] or "").removeprefix("Object.").removeprefix("new ")
    path = found[2].removeprefix("file://")
    return _Frame(path, found[3], "" if "<anonymous>" in function else function, bool(_NODE_LIBRARY.search(path)))


def _java(line: str) -> _Frame | None:
    found = _JAVA.match(line)
    if found is None:
        return None
    library = _JAVA_LIBRARY.match(found[1]) is not None
    return _Frame(found[2], found[3], found[1].rpartition(".")[2], library)


def _root_cause(lines: list[str]) -> list[str]:
    """The lines below the last `Caused by:`: in Java the exception that began it all; all lines without one.

    A cause without a frame of its own (`... 12 more`) leaves the choice to the lines above.
    """
    starts = [index for index, line in enumerate(lines) if line.startswith("Caused by:")]
    for start in reversed(starts):
        if any((frame := _java(line)) and not frame.library for line in lines[start:]):
            return lines[start:]
    return lines


def _dotnet(line: str) -> _Frame | None:
    found = _DOTNET.match(line)
    if found is None:
        return None
    return _Frame(found[2], found[3], found[1].rpartition(".")[2], _DOTNET_LIBRARY.match(found[1]) is not None)


def _go(lines: list[str]) -> list[_Frame]:
    """Go writes a function on one line and its place, indented, on the next."""
    frames = []
    for above, line in pairwise(lines):
        place = _GO_PLACE.match(line)
        if place is None or above.startswith(("created by", "goroutine")):
            continue
        function = above.strip().rpartition("(")[0] or above.strip()
        library = bool(_GO_LIBRARY.search(place[1]) or _GO_LIBRARY.search(function) or function in ("panic", "runtime"))
        frames.append(_Frame(place[1], place[2], function.rpartition("/")[2], library))
    return frames


def _ruby(line: str) -> _Frame | None:
    found = _RUBY.match(line)
    return found and _Frame(found[1], found[2], found[3], _RUBY_LIBRARY.search(found[1]) is not None)
