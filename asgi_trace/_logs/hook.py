"""The one place where this package reaches into `logging`: each record is shown once, after its logger has let it pass.

A handler on the root logger would be in the way: with it, `logging.basicConfig()` does nothing, `dictConfig()` removes
it, `logging.lastResort` no longer prints warnings, and the loggers of uvicorn, which do not propagate, pass it by.
`Logger.callHandlers` is where the handlers of a record are found. It is called as before, after the export.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

_SERVERS = frozenset({"_granian", "granian", "gunicorn", "hypercorn", "uvicorn"})
"""The loggers of ASGI servers, and those below them: they do not propagate, so that the server can format its lines."""


def watch(show: Callable[[logging.LogRecord], None]) -> Callable[[], None]:
    """Call `show` with each record that the root logger would get, and with those of ASGI servers.

    Levels and filters of the loggers decide first, as for any handler. Returns a function that ends it.
    """
    call_handlers = logging.Logger.callHandlers
    watching = True

    def shown(logger: logging.Logger, record: logging.LogRecord) -> None:
        if watching and _is_seen(logger):
            show(record)
        call_handlers(logger, record)

    def end() -> None:
        nonlocal watching
        watching = False
        if logging.Logger.callHandlers is shown:  # else another library has put itself around it since
            logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]

    logging.Logger.callHandlers = shown  # type: ignore[method-assign,assignment]
    return end


def _is_seen(logger: logging.Logger) -> bool:
    if logger.name.partition(".")[0] in _SERVERS:
        return True
    above: logging.Logger | None = logger
    while above is not None:
        if above.parent is not None and not above.propagate:
            return False
        above = above.parent
    return True
