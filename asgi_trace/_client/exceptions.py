"""Exceptions that quote a header, without what is secret in it: no credential leaves the process with a span.

A library that refuses to send a header says which, with its value. The caller gets that exception as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from .._options.redact import Redaction
from .._otel.exceptions import MOST_LINKS, chain
from .._semconv.http import is_group
from .._types import Headers

_DEEPEST = 8  # causes and members behind an exception: what is further away is left out, unread


def without_secrets(exc: BaseException, raw_headers: Headers, redaction: Redaction) -> BaseException:
    """`exc` itself, or where a `LocalProtocolError` in it quotes a secret of `raw_headers`, a copy that does not.

    That may be the exception itself, a cause behind it, or a member of a group. Where so much is behind `exc` that one
    may be further away than is looked, it is taken to be there.
    """
    links = list(chain(exc))
    if len(links) < MOST_LINKS and not any(type(link).__name__ == "LocalProtocolError" for link in links):
        return exc
    secrets = sorted(_quotations(raw_headers, redaction), key=lambda pair: len(pair[0]), reverse=True)
    return _without(exc, secrets, _DEEPEST) if secrets else exc


def _quotations(raw_headers: Headers, redaction: Redaction) -> Iterator[tuple[str, str]]:
    """How an exception's text would quote each secret value, and what to write instead."""
    for name, value in raw_headers:
        secret = value.strip()
        text = secret.decode("latin-1")
        instead = redaction.header(name.decode("latin-1"), text)
        if secret and instead != text:
            yield text, instead
            yield repr(secret)[2:-1], instead


def _without(exc: BaseException, secrets: list[tuple[str, str]], depth: int) -> BaseException:
    """`exc` with each secret of its text replaced, and so on for `depth` causes behind it; itself when it has none.

    What is behind the last of them is left out, with whatever it quotes.
    """
    text = str(exc)
    for secret, instead in secrets:
        text = text.replace(secret, instead)
    links = [(name, getattr(exc, name)) for name in ("__cause__", "__context__")]
    instead_of = {
        name: _without(link, secrets, depth - 1) if depth else None for name, link in links if link is not None
    }
    parts: tuple[BaseException, ...] = exc.exceptions if is_group(exc) else ()  # type: ignore[attr-defined]
    members = [_without(part, secrets, depth - 1) if depth else Exception("left out") for part in parts]
    same_members = all(member is part for member, part in zip(members, parts, strict=True))
    if text == str(exc) and same_members and all(instead_of[name] is link for name, link in links if link is not None):
        return exc
    if members:
        like: BaseException = exc.derive(members)  # type: ignore[attr-defined]
    else:
        like = copy(exc)
        like.args = (text,)
    like.__traceback__ = exc.__traceback__
    like.__cause__, like.__context__ = instead_of.get("__cause__"), instead_of.get("__context__")
    like.__suppress_context__ = exc.__suppress_context__
    return like
