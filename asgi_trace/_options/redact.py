"""What may leave the process: secret values in queries and fragments, credentials in URLs, values of captured headers.

The query keys are those of the HTTP semantic conventions and those that commonly carry secrets; the headers are those
whose names say that they carry credentials. `redact=` adds names to both, or replaces the rule. Text is edited in
place, never parsed and written again, so that every byte that is not a redacted value stays as it was sent. Server and
client use the same object. Nothing here raises on bad input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote, unquote_plus

from .._guard import Guard
from .checks import plain_function, texts
from .text import recordable

__all__ = ["REDACTED", "STANDARD_QUERY_KEYS", "Redaction", "masked"]

REDACTED = "REDACTED"
"""What the conventions write in the place of a value."""

STANDARD_QUERY_KEYS = frozenset(
    {
        # those of the conventions
        "awsaccesskeyid",
        "sig",
        "signature",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
        "x-goog-signature",
        # others that commonly carry a secret
        "access_token",
        "api_key",
        "apikey",
        "auth",
        "client_secret",
        "id_token",
        "passwd",
        "password",
        "pwd",
        "refresh_token",
        "secret",
        "session",
        "sessionid",
        "token",
    }
)
"""Query keys, in lower case, whose values are redacted by default."""

_SECRET_HEADER = re.compile("api-?key|auth|cookie|credential|password|secret|session|signature|token")
"""Found in the lower-case name of a header whose value is never recorded in the clear."""

_URL_HEADERS = frozenset({"content-location", "location", "referer"})

# Queries that nothing was masked in are remembered, since most services see the same few again and again: the search of
# a query costs 4,000 instructions, 2 % of a sampled request, and looking it up a tenth of that.
_MOST_QUERIES = 1024
_LONGEST_QUERY = 128

_ENCODED_KEY = re.compile("%[^=&%]*=")  # written so that it is linear

# A URL inside of text: from its `://`, or from the `?` or `#` of a relative one, to a blank or a quotation mark. An
# apostrophe is a part of it where more of it follows. Written so that no text makes it backtrack.
_URL_IN_TEXT = re.compile(r"(?:://|[?#])[^\s\"'<>`]*(?:'(?=[\w%&=])[^\s\"'<>`]*)*")


class Redaction:
    """Masks what must not be recorded.

    `redact` is a name or names to add to the standard ones, for query keys and header names at once and in any case.
    Or it is a callable `(name, value) -> str`, which then is the whole rule for queries and headers: it gets the
    decoded query key and the value as it was sent, or the header name in lower case, and returns what to record. A
    callable that raises, or returns anything but a string, redacts the value. Credentials in URLs are masked always.
    Raises TypeError for anything else.
    """

    __slots__ = ("_clean", "_headers", "_keys", "_rule", "_words")

    def __init__(self, redact: str | Iterable[str] | Callable[[str, str], str] = ()) -> None:
        self._rule = _fail_closed(redact) if callable(redact) else None
        self._headers = frozenset[str]() if callable(redact) else _names(redact)
        self._keys = STANDARD_QUERY_KEYS | self._headers
        self._words = self._keys | {name.replace(" ", "+") for name in self._headers}  # as forms write a blank
        self._clean: set[str] = set()

    @property
    def is_standard(self) -> bool:
        """Whether names are the whole rule, and no function of the application is called."""
        return self._rule is None

    def query(self, query: str) -> str:
        """A query, without `?`, with its secret values masked. A key without `=` has no value and stays."""
        if query in self._clean:
            return query
        if self._rule is None:
            # Four calls that run in C tell of all pairs at once that none has a secret key; a value that is like a key
            # costs a second look. It takes half of the time of a regular expression for all the names.
            words = query.lower().replace("=", "&").split("&")
            if self._words.isdisjoint(words) and not ("%" in query and _ENCODED_KEY.search(query)):
                if len(query) <= _LONGEST_QUERY and "#" not in query:  # in a URL a fragment would begin there
                    if len(self._clean) >= _MOST_QUERIES:
                        self._clean.clear()
                    self._clean.add(query)
                return query
        return "&".join([self._pair(pair) for pair in query.split("&")])

    def url(self, url: str) -> str:
        """A URL with its credentials and the secret values of its query and its fragment masked."""
        if "@" in url:
            url = _without_credentials(url)
        start = url.find("?") + 1
        if start and url[start:] in self._clean:
            return url
        if "#" in url:
            resource, _, fragment = url.partition("#")
            route, question_mark, query = fragment.partition("?")  # as in `#/orders?token=`, or `#token=` alone
            return f"{self.url(resource)}#{self.query(route)}{question_mark}{self.query(query)}"
        return url[:start] + self.query(url[start:]) if start else url

    def text(self, text: str) -> str:
        """Any text, such as an exception's message, with every URL in it masked as `url()` does."""
        if "=" in text or "@" in text:  # else there is neither a value with a name nor a password
            return _URL_IN_TEXT.sub(self._match, text)
        return text

    def header(self, name: str, value: str) -> str:
        """What to record as the value of the header `name`, in any case. A URL in it is masked as `url()` does."""
        return self.of_header(name.lower())(value)

    def of_header(self, name: str) -> Callable[[str], str]:
        """The function from a value of a header to what is recorded of it; `name` is in lower case."""
        show = self.url if name in _URL_HEADERS else self.text
        rule = self._rule
        if rule is not None:
            return lambda value: rule(name, show(value))
        return masked if name in self._headers or _SECRET_HEADER.search(name) else show

    def _match(self, match: re.Match[str]) -> str:
        return self.url(match[0])

    def _pair(self, pair: str) -> str:
        key, equals, value = pair.partition("=")
        if not equals:
            return pair
        name = unquote(key) if "%" in key else key
        if self._rule is not None:
            return f"{key}={self._rule(name, value)}"
        secret = name.lower() in self._keys or ("+" in key and unquote_plus(key).lower() in self._keys)
        return f"{key}={REDACTED}" if secret else pair


def masked(_: str) -> str:
    """What is recorded of a secret value."""
    return REDACTED


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
        raise TypeError("redact: '' is not a name; write query keys and header names like 'token'")
    return frozenset(name.lower() for name in names)


def _fail_closed(rule: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """`rule`, whose failure redacts the value."""
    plain_function("redact", rule)
    guard = Guard()

    def closed(name: str, value: str) -> str:
        try:
            kept = rule(name, value)
            if isinstance(kept, str):
                return recordable(kept)
            raise TypeError(f"redact returned {type(kept).__name__}, not str")
        except Exception:
            guard.report(f"{rule!r} (the value is redacted)")
            return REDACTED

    return closed
