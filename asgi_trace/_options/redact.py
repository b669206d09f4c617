"""What may leave the process: values in a URL's query, credentials in a URL, values of captured headers.

The query keys are those of the HTTP semantic conventions, the header names those that carry credentials, and `redact=`
adds to both or replaces the rule. Queries are edited in place, never parsed and written again, so every byte that is
not a redacted value stays as it was sent. Server and client use the same object. Nothing here raises on bad input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote, unquote_plus

from .._guard import Guard
from .checks import plain_function, texts

__all__ = ["REDACTED", "STANDARD_HEADERS", "STANDARD_QUERY_KEYS", "Redaction"]

REDACTED = "REDACTED"
"""What the conventions put in the place of a value."""

STANDARD_QUERY_KEYS = frozenset(
    {
        "AWSAccessKeyId",
        "Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Goog-Signature",
        "sig",
    }
)
"""Query keys, case-sensitive, whose values the conventions redact by default."""

STANDARD_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})
"""Header names, in lower case, whose values are never recorded in the clear."""


class Redaction:
    """Masks what must not be recorded.

    `redact` is a name or names to add to the standard ones: query keys (case-sensitive) and header names (in any case)
    at once. Or it is a callable `(name, value) -> str`, which then is the whole rule for queries and headers: it gets
    the decoded query key and the value as it was sent, or the header name in lower case, and returns what to record.
    A callable that raises, or returns anything but text, redacts the value.
    Raises TypeError for anything else.
    """

    __slots__ = ("_candidate", "_headers", "_keys", "_own", "_rule")

    def __init__(self, redact: str | Iterable[str] | Callable[[str, str], str] = ()) -> None:
        self._rule = _fail_closed(redact) if callable(redact) else None
        names = frozenset[str]() if callable(redact) else _names(redact)
        self._keys = STANDARD_QUERY_KEYS | names
        self._headers = STANDARD_HEADERS | {name.lower() for name in names}
        spaced = frozenset(name.replace(" ", "+") for name in names if " " in name)  # as clients write a form's keys
        self._own = (*names, *spaced)
        # Most of the others hold neither a key's text nor an encoded key. `[^=&%]` keeps it linear.
        texts = "|".join(re.escape(key) for key in sorted(self._keys | spaced))
        self._candidate = re.compile(f"(?:{texts}|%[^=&%]*)=").search

    @property
    def is_standard(self) -> bool:
        """Whether names are the whole rule, and no function of the application is called."""
        return self._rule is None

    def query(self, query: str) -> str:
        """A query, without `?`, with its secret values masked. A key without `=` has no value and stays."""
        if self._rule is None:
            # Most queries hold nothing of all this, and a few searches for text say so fastest: each standard key has
            # an "ig" or an "A" in it, and an encoded one a "%".
            if not ("ig" in query or "A" in query or "%" in query):
                for name in self._own:
                    if name in query:
                        break
                else:
                    return query
            if self._candidate(query) is None:
                return query
        elif not query:
            return query
        return "&".join([self._pair(pair) for pair in query.split("&")])

    def url(self, url: str) -> str:
        """A URL with its credentials and the secret values of its query masked; its fragment stays."""
        if "@" in url:
            url = _without_credentials(url)
        elif self._rule is None and not ("ig" in url or "A" in url or "%" in url):
            for name in self._own:  # as in query(): what the whole URL does not hold is not in its query either
                if name in url:
                    break
            else:
                return url
        if "?" not in url:
            return url
        resource, hash_sign, fragment = url.partition("#")
        address, question_mark, query = resource.partition("?")
        return f"{address}{question_mark}{self.query(query)}{hash_sign}{fragment}"

    def header(self, name: str, value: str) -> str:
        """What to record as the value of the header `name`, in any case."""
        name = name.lower()
        if self._rule is not None:
            return self._rule(name, value)
        return REDACTED if name in self._headers else value

    def _pair(self, pair: str) -> str:
        key, equals, value = pair.partition("=")
        if not equals:
            return pair
        name = unquote(key)
        if self._rule is not None:
            return f"{key}={self._rule(name, value)}"
        secret = name in self._keys or ("+" in key and unquote_plus(key) in self._keys)
        return f"{key}={REDACTED}" if secret else pair


def _without_credentials(url: str) -> str:
    scheme, slashes, rest = url.partition("//")
    if not slashes:
        return url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority:
        return url
    host = authority.rpartition("@")[2]
    return f"{scheme}{slashes}{REDACTED}:{REDACTED}@{host}{rest[len(authority) :]}"


def _names(redact: str | Iterable[str]) -> frozenset[str]:
    names = texts("redact", redact, "query keys and header names like 'token'")
    if "" in names:
        raise TypeError("redact: '' is no name; write query keys and header names like 'token'")
    return frozenset(names)


def _fail_closed(rule: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """`rule`, whose failure redacts."""
    plain_function("redact", rule)
    guard = Guard()

    def closed(name: str, value: str) -> str:
        try:
            kept = rule(name, value)
            if isinstance(kept, str):
                return kept if kept.isascii() else kept.encode("utf-8", "replace").decode("utf-8")
            raise TypeError(f"redact returned {type(kept).__name__}, not str")
        except Exception:
            guard.report(f"{rule!r} (the value is redacted)")
            return REDACTED

    return closed
