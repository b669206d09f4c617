"""What is measured: the rows of the ladder, by name.

A row is `side/shape/state`: `server/fastapi-100/sampled`. The side is the middleware or the client, the shape is what
stands behind it, and the state is what tracing has to do. How a row is driven is in `traffic`, who is measured in
`peers`; this file imports neither, so that every process agrees on the names at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

NO_PROVIDER = "no-provider"
UNSAMPLED = "unsampled"
SAMPLED = "sampled"
NO_PARENT = "no-parent"
EXCLUDED = "excluded"

SERVER_STATES = (NO_PROVIDER, UNSAMPLED, SAMPLED, NO_PARENT, EXCLUDED)
CLIENT_STATES = (NO_PROVIDER, UNSAMPLED, SAMPLED)

BARE = "bare"
STARLETTE = "starlette"
HEADERS = "headers-40"
STREAM = "stream-1000"
WEBSOCKET = "websocket-1000"
EXCEPTION = "exception"
IN_FLIGHT = "in-flight"
ROUTES = {"fastapi-1": 1, "fastapi-100": 100, "fastapi-1000": 1000}
SERVER_SHAPES = (BARE, STARLETTE, *ROUTES, HEADERS, STREAM, WEBSOCKET, EXCEPTION, IN_FLIGHT)

TRANSPORT = "transport"
GET = "get"
GET_STREAMED = "get-streamed"
CLIENT_SHAPES = (TRANSPORT, GET, GET_STREAMED)

MESSAGES = 1000
"""Chunks of a streamed response, and messages (half of them each way) of a WebSocket."""


@dataclass(frozen=True)
class Case:
    """One row of the ladder."""

    side: str
    shape: str
    state: str

    @property
    def name(self) -> str:
        """`side/shape/state`, as `--case` matches it."""
        return f"{self.side}/{self.shape}/{self.state}"

    @property
    def routes(self) -> int:
        """How many routes the FastAPI application has; 0 for the other shapes."""
        return ROUTES.get(self.shape, 0)

    @property
    def long(self) -> bool:
        """Is one unit of this row a thousand messages?"""
        return self.shape in (STREAM, WEBSOCKET)


def parse(name: str) -> Case:
    """The row of that name. Raises KeyError for a name that is no row."""
    return _BY_NAME[name]


def matching(pattern: str) -> list[Case]:
    """The rows whose name matches a glob; a pattern without a wildcard is found anywhere in the name."""
    glob = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    return [case for case in CASES if fnmatchcase(case.name, glob)]


CASES = tuple(
    [Case("server", shape, state) for shape in SERVER_SHAPES for state in SERVER_STATES]
    + [Case("client", shape, state) for shape in CLIENT_SHAPES for state in CLIENT_STATES]
)
_BY_NAME = {case.name: case for case in CASES}

QUICK = frozenset(
    {case.name for case in CASES if case.shape in (BARE, TRANSPORT)}
    | {f"server/fastapi-100/{state}" for state in (UNSAMPLED, SAMPLED)}
    | {f"server/{shape}/{SAMPLED}" for shape in (STARLETTE, HEADERS, STREAM, WEBSOCKET, EXCEPTION)}
    | {f"server/{STREAM}/{UNSAMPLED}", f"client/{GET}/{SAMPLED}"}
)
"""The rows of `--quick`."""

QUICK_COUNTED = frozenset(name for name in QUICK if not any(shape in name for shape in (STREAM, WEBSOCKET, "fastapi")))
"""Those of them whose instructions are counted: the others take callgrind too long."""
