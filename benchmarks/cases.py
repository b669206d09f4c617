"""The rows of the benchmark, by name: `side/shape/state`, for example `server/fastapi-100/sampled`.

The side is the server's middleware, the client's transport or the application's own spans. The shape is what is traced.
The state says what tracing has to do with it. How a row is driven stands in `traffic`, and which library is measured in
`peers`. This module imports neither of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

SERVER, CLIENT, SPANS = "server", "client", "spans"

NO_PROVIDER = "no-provider"
UNSAMPLED = "unsampled"
SAMPLED = "sampled"
NO_PARENT = "no-parent"
EXCLUDED = "excluded"
SERVER_STATES = (NO_PROVIDER, UNSAMPLED, SAMPLED, NO_PARENT, EXCLUDED)
OTHER_STATES = (NO_PROVIDER, UNSAMPLED, SAMPLED)

BARE = "bare"
STARLETTE = "starlette"
HEADERS = "headers-40"
STREAM = "stream-1000"
WEBSOCKET = "websocket-1000"
EXCEPTION = "exception"
IN_FLIGHT = "in-flight"
ROUTES = {"fastapi-1": 1, "fastapi-100": 100, "fastapi-1000": 1000}
SERVER_SHAPES = (BARE, STARLETTE, *ROUTES, HEADERS, STREAM, WEBSOCKET, EXCEPTION, IN_FLIGHT)

TRACESTATE = "tracestate-1"
BAGGAGE = "baggage-8k"
QUERY = "query-10"
METRIC = "metric"
CAPTURED = "captured-header"
FULL_QUEUE = "full-queue"
EXTRAS = (TRACESTATE, BAGGAGE, QUERY, METRIC, CAPTURED, FULL_QUEUE)
"""The shape `bare` with one thing more. What that costs is the difference to `bare`."""

TRANSPORT = "transport"
GET = "get"
GET_STREAMED = "get-streamed"
CLIENT_SHAPES = (TRANSPORT, GET, GET_STREAMED)

CHILDREN = "children-10"
TRACED = "traced-10"
SPAN_SHAPES = (CHILDREN, TRACED)

MESSAGES = 1000
"""Chunks of a streamed response, and messages (half of them each way) of a WebSocket."""


@dataclass(frozen=True)
class Case:
    """One row."""

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
        """True where one unit of the row is a thousand messages."""
        return self.shape in (STREAM, WEBSOCKET)


CASES = tuple(
    [Case(SERVER, shape, state) for shape in SERVER_SHAPES for state in SERVER_STATES]
    + [Case(SERVER, shape, state) for shape in EXTRAS for state in (UNSAMPLED, SAMPLED)]
    + [Case(CLIENT, shape, state) for shape in CLIENT_SHAPES for state in OTHER_STATES]
    + [Case(SPANS, shape, state) for shape in SPAN_SHAPES for state in OTHER_STATES]
)
_BY_NAME = {case.name: case for case in CASES}

GROUPS = {
    "requests": [f"server/{shape}/*" for shape in (BARE, HEADERS, "fastapi-1", EXCEPTION, STREAM)],
    "extras": [f"server/{BARE}/*sampled", *(f"server/{shape}/*" for shape in EXTRAS)],
    "client": ["client/*"],
    "spans": ["spans/*"],
    "quick": [
        *(f"server/{BARE}/*", f"client/{TRANSPORT}/*", f"spans/*/{SAMPLED}"),
        *(f"server/{shape}/{SAMPLED}" for shape in (STARLETTE, "fastapi-1", HEADERS, EXCEPTION)),
    ],
}
"""Rows that are often wanted together, for `--group`."""


def parse(name: str) -> Case:
    """The row of that name. Raises KeyError for a name that is not a row."""
    return _BY_NAME[name]


def matching(pattern: str) -> list[Case]:
    """The rows whose name matches a glob; a pattern without a wildcard is found anywhere in the name."""
    glob = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    return [case for case in CASES if fnmatchcase(case.name, glob)]


def chosen(patterns: list[str]) -> list[Case]:
    """The rows that match any of the patterns, in their usual order; all of them without a pattern."""
    wanted = {case for pattern in patterns for case in matching(pattern)}
    return [case for case in CASES if case in wanted or not patterns]
