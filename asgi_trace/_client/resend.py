"""What a request carries from one send to the next, and how a second send at the same time gets a request of its own.

One request object may be sent many times: by redirects, auth flows and retries, one after the other, or by the
application at the same time.
"""

from __future__ import annotations

from typing import Any

HISTORY = "asgi_trace.sends"
"""Our key in a request's `extensions`, which redirects copy to the next request."""


class History:
    """How often one request was sent, and which transports are sending it now.

    `url` is that of the first send: a later one to another URL is a redirect. `senders` are the configurations of those
    transports that are sending it and may have another one of ours behind them.
    """

    __slots__ = ("count", "senders", "url")

    def __init__(self, url: Any) -> None:
        self.url = url
        self.count = 0
        self.senders: list[Any] = []

    def has_other_sender(self, config: Any) -> bool:
        """Is a transport with another configuration sending the request, so that the one of `config` is behind it?"""
        return bool(self.senders) and any(sender is not config for sender in self.senders)


def copy_of(request: Any, history: History) -> Any:
    """Another request object of the same content and history."""
    same = object.__new__(type(request))
    same.__dict__.update(request.__dict__)  # the library's own copy() leaves out body and extensions
    same.extensions = {**request.extensions, HISTORY: history}
    return same
