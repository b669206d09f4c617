"""What may leave the process: queries, fragments, URLs, texts and headers lose their secrets and nothing else."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_trace._options.redact import STANDARD_QUERY_KEYS, Redaction

CONVENTIONAL = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
]
COMMON = [
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "api_key",
    "apikey",
    "password",
    "passwd",
    "pwd",
    "secret",
    "client_secret",
    "signature",
    "session",
    "sessionid",
    "auth",
]


def test_the_standard_keys_are_those_of_the_conventions_and_common_ones() -> None:
    """The seven keys that any release of the conventions has named, and what services commonly call their secrets."""
    assert {key.lower() for key in (*CONVENTIONAL, *COMMON)} == STANDARD_QUERY_KEYS


@pytest.mark.parametrize("key", [*CONVENTIONAL, *COMMON])
def test_names_are_compared_without_regard_to_case(key: str) -> None:
    """However a client writes a name, its value is masked and its spelling stays."""
    for spelling in (key, key.lower(), key.upper(), key.title(), key.swapcase()):
        assert Redaction().query(f"page=2&{spelling}=abc") == f"page=2&{spelling}=REDACTED"
        assert Redaction().url(f"http://h.test/?{spelling}=abc&b=1") == f"http://h.test/?{spelling}=REDACTED&b=1"


@pytest.mark.parametrize("key", sorted(STANDARD_QUERY_KEYS))
def test_each_standard_key_loses_its_value_and_keeps_its_name(key: str) -> None:
    """A standard key's value becomes REDACTED wherever the key stands, in the query and in a URL."""
    redaction = Redaction()
    assert redaction.query(f"{key}=abc") == f"{key}=REDACTED"
    assert redaction.query(f"a=1&{key}=abc&b=2") == f"a=1&{key}=REDACTED&b=2"
    assert redaction.url(f"https://h.test/p?{key}=abc#top") == f"https://h.test/p?{key}=REDACTED#top"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("q=a&sig=x", "q=a&sig=REDACTED"),
        ("sig=x&sig=y", "sig=REDACTED&sig=REDACTED"),
        ("b=2&a=1&b=3&sig=x&blank=&a=+%20%2B", "b=2&a=1&b=3&sig=REDACTED&blank=&a=+%20%2B"),
        ("&&sig=x&&", "&&sig=REDACTED&&"),
        ("sig=a=b==", "sig=REDACTED"),
        ("sig=", "sig=REDACTED"),
        ("sig", "sig"),
        ("sig&sig=1", "sig&sig=REDACTED"),
        ("=sig", "=sig"),
        ("==", "=="),
        ("SIG=x&Sig=y&signature=z", "SIG=REDACTED&Sig=REDACTED&signature=REDACTED"),
        ("TOKEN=x&Tok%45n=y", "TOKEN=REDACTED&Tok%45n=REDACTED"),
        ("type=token&kind=secret", "type=token&kind=secret"),
        ("tokens=1&my_token=2&token[]=3", "tokens=1&my_token=2&token[]=3"),
        ("next=%2Fp%3Ftoken=1", "next=%2Fp%3Ftoken=1"),
        ("design=x&sigs=y&asig=z", "design=x&sigs=y&asig=z"),
        ("%73ig=x", "%73ig=REDACTED"),
        ("s%69%67=x", "s%69%67=REDACTED"),
        ("X%2DAmz%2dSignature=x", "X%2DAmz%2dSignature=REDACTED"),
        ("%2573ig=x", "%2573ig=x"),
        ("%zz=1&%=2&%e4=3&sig=x", "%zz=1&%=2&%e4=3&sig=REDACTED"),
        ("a=1;sig=x&b=2", "a=1;sig=x&b=2"),
        ("sig=1;b=2&c=3", "sig=REDACTED&c=3"),
        ("a=\udc80\x00&sig=\udcff", "a=\udc80\x00&sig=REDACTED"),
        ("q=%73ig=x", "q=%73ig=x"),
    ],
)
def test_a_query_is_edited_in_place(query: str, expected: str) -> None:
    """Order, duplicates, blanks, escapes and separators stay byte for byte; only a redacted value is replaced."""
    assert Redaction().query(query) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.test/", "https://h.test/"),
        ("https://user:pass@h.test/p", "https://REDACTED:REDACTED@h.test/p"),
        ("https://user@h.test/p", "https://REDACTED:REDACTED@h.test/p"),
        ("https://:pass@h.test", "https://REDACTED:REDACTED@h.test"),
        ("https://a@b:c@h.test:8443?x=1", "https://REDACTED:REDACTED@h.test:8443?x=1"),
        ("https://u:p@[::1]:8080/p", "https://REDACTED:REDACTED@[::1]:8080/p"),
        ("//u:p@h.test/p", "//REDACTED:REDACTED@h.test/p"),
        ("https://h.test/@alice", "https://h.test/@alice"),
        ("https://h.test?next=//u:p@x.test", "https://h.test?next=//u:p@x.test"),
        ("mailto:a@h.test", "mailto:a@h.test"),
        (
            "https://u:p@h.test/a%20b?b=2&sig=s&a=+#f?sig=1",
            "https://REDACTED:REDACTED@h.test/a%20b?b=2&sig=REDACTED&a=+#f?sig=REDACTED",
        ),
        ("https://h.test/#a?sig=1", "https://h.test/#a?sig=REDACTED"),
        ("https://h.test/cb#access_token=a.b&state=7", "https://h.test/cb#access_token=REDACTED&state=7"),
        ("https://h.test/?page=2#ID_TOKEN=a", "https://h.test/?page=2#ID_TOKEN=REDACTED"),
        ("/#/reset?Token=a#b", "/#/reset?Token=REDACTED"),
        ("https://h.test/#top", "https://h.test/#top"),
        ("https://h.test/?a=1?sig=1&sig=2", "https://h.test/?a=1?sig=1&sig=REDACTED"),
        ("?sig=1", "?sig=REDACTED"),
        ("", ""),
    ],
)
def test_a_url_loses_its_credentials_and_secrets_only(url: str, expected: str) -> None:
    """User and password become REDACTED:REDACTED, the query is redacted, the rest of the URL stays."""
    assert Redaction().url(url) == expected


def test_names_are_added_to_the_standard_ones() -> None:
    """Names of the user's own count for queries and for headers, in any case, beside the standard ones."""
    redaction = Redaction(("Badge", "X-Door", "größe"))
    assert redaction.query("badge=1&BADGE=2&sig=3&x=4") == "badge=REDACTED&BADGE=REDACTED&sig=REDACTED&x=4"
    assert redaction.query("gr%C3%B6%C3%9Fe=1&größe=2") == "gr%C3%B6%C3%9Fe=REDACTED&größe=REDACTED"
    assert redaction.header("x-door", "1") == "REDACTED"
    assert redaction.header("X-DOOR", "1") == "REDACTED"
    assert redaction.header("Authorization", "Bearer x") == "REDACTED"
    assert redaction.header("x-id", "1") == "1"


def test_a_bare_string_is_one_name() -> None:
    """`redact="badge"` means the one name, not its letters."""
    redaction = Redaction("badge")
    assert redaction.query("b=1&badge=2") == "b=1&badge=REDACTED"


def test_a_name_is_text_not_a_pattern() -> None:
    """A name with the letters of a regular expression matches itself and nothing else."""
    redaction = Redaction("a.b[]")
    assert redaction.query("a.b[]=1&axb[]=2&a.b=3") == "a.b[]=REDACTED&axb[]=2&a.b=3"


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "proxy-authorization",
        "www-authenticate",
        "cookie",
        "set-cookie",
        "x-api-key",
        "apikey",
        "x-apikey-2",
        "x-auth-request-user",
        "x-amz-security-token",
        "x-csrf-token",
        "x-client-secret",
        "x-password-hint",
        "x-session-id",
        "x-credentials",
        "x-hub-signature-256",
    ],
)
def test_credentials_in_headers_are_masked(name: str) -> None:
    """The value of a header whose name says that it carries credentials is never recorded."""
    for spelling in (name, name.title(), name.upper()):
        assert Redaction().header(spelling, "secret") == "REDACTED"


@pytest.mark.parametrize("name", ["x-request-id", "accept", "x-api-version", "key", "x-pass", "traceparent", "etag"])
def test_other_headers_are_shown(name: str) -> None:
    """A name that says nothing of credentials keeps its value."""
    assert Redaction().header(name, "v1") == "v1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "Location",
            "https://u:p@h.test/cb?token=1&page=2#id_token=3",
            "https://REDACTED:REDACTED@h.test/cb?token=REDACTED&page=2#id_token=REDACTED",
        ),
        ("location", "/next?sig=a b'c\"d", "/next?sig=REDACTED"),
        ("content-location", "//u@h.test/x", "//REDACTED:REDACTED@h.test/x"),
        ("referer", "http://h.test/?Password=1", "http://h.test/?Password=REDACTED"),
        ("link", "<https://h.test/?token=1>; rel=next", "<https://h.test/?token=REDACTED>; rel=next"),
        ("x-original-uri", "/p?secret=1 HTTP/1.1", "/p?secret=REDACTED HTTP/1.1"),
        ("x-note", "what? a=1 #2", "what? a=1 #2"),
    ],
)
def test_a_url_in_a_header_loses_its_secrets(name: str, value: str, expected: str) -> None:
    """Where a header is a URL, or has one in it, that is masked as any other URL."""
    assert Redaction().header(name, value) == expected


TEXTS = [
    ("", ""),
    ("no such order: 7", "no such order: 7"),
    (
        "Client error '403' for url 'https://h.test/o?token=a.b-c&page=2'\nFor more: https://mdn.test/403",
        "Client error '403' for url 'https://h.test/o?token=REDACTED&page=2'\nFor more: https://mdn.test/403",
    ),
    (
        "could not connect to postgres://app:s3cr3t@db.test:5432/x",
        "could not connect to postgres://REDACTED:REDACTED@db.test:5432/x",
    ),
    ('GET "/reset?Token=1" failed (#12)', 'GET "/reset?Token=REDACTED" failed (#12)'),
    (
        "['http://h.test/?sig=1', 'http://h.test/?sig=2']",
        "['http://h.test/?sig=REDACTED', 'http://h.test/?sig=REDACTED']",
    ),
    ("<a href=https://h.test/?auth=1>x</a>", "<a href=https://h.test/?auth=REDACTED>x</a>"),
    ("b'https://h.test/?password=it's1&a=2'", "b'https://h.test/?password=REDACTED&a=2'"),
    (
        "back to https://h.test/cb#access_token=1&state=2 now",
        "back to https://h.test/cb#access_token=REDACTED&state=2 now",
    ),
    ("two: http://a:b@h.test http://h.test/?pwd=1", "two: http://REDACTED:REDACTED@h.test http://h.test/?pwd=REDACTED"),
    ("why? because a=b and c@d", "why? because a=b and c@d"),
    ("redis://:hunter2@cache.test/0: timeout", "redis://REDACTED:REDACTED@cache.test/0: timeout"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_a_url_in_a_text_loses_its_secrets(text: str, expected: str) -> None:
    """A message keeps its words; each URL in it, whole or relative, is masked as one that stands alone."""
    assert Redaction().text(text) == expected
    assert Redaction().text(expected) == expected


def test_a_callable_decides_about_urls_in_texts_too() -> None:
    """The whole rule is the whole rule for a URL in a message as well; credentials are masked all the same."""
    redaction = Redaction(lambda name, value: "***" if name == "card" else value)
    assert (
        redaction.text("at http://u:p@h.test/?card=4&token=5") == "at http://REDACTED:REDACTED@h.test/?card=***&token=5"
    )
    assert redaction.header("location", "http://u:p@h.test/?card=4") == "http://REDACTED:REDACTED@h.test/?card=***"


def test_a_query_that_was_clean_once_is_not_mistaken_for_another() -> None:
    """What is remembered of clean queries never stands for one with a secret, in a query, a URL or a fragment."""
    redaction = Redaction()
    for _ in range(2):
        assert redaction.query("a=1&b=2") == "a=1&b=2"
        assert redaction.query("a#token=b") == "a#token=b"
        assert redaction.url("http://h.test/?a#token=b") == "http://h.test/?a#token=REDACTED"
        assert redaction.url("http://h.test/?a=1&b=2") == "http://h.test/?a=1&b=2"
        assert redaction.url("http://h.test/?a=1&b=2&sig=3") == "http://h.test/?a=1&b=2&sig=REDACTED"


def test_clean_queries_are_remembered_within_bounds() -> None:
    """Ten thousand different queries leave a thousand or so behind, and no long one."""
    redaction = Redaction()
    for number in range(10_000):
        redaction.query(f"page={number}")
    redaction.query("page=" + "1" * 10_000)
    assert 0 < len(redaction._clean) <= 1024
    assert max(map(len, redaction._clean)) <= 128


def test_a_callable_is_the_whole_rule() -> None:
    """A callable decides over every pair and header, standard ones included; credentials in a URL go regardless."""
    seen: list[tuple[str, str]] = []

    def rule(name: str, value: str) -> str:
        seen.append((name, value))
        return value[:1] + "…" if name == "card" else value

    redaction = Redaction(rule)
    assert redaction.query("sig=x&c%61rd=4%201&flag&card=") == "sig=x&c%61rd=4…&flag&card=…"
    assert redaction.header("Authorization", "Bearer x") == "Bearer x"
    assert redaction.url("https://u:p@h.test/?card=42") == "https://REDACTED:REDACTED@h.test/?card=4…"
    assert seen == [("sig", "x"), ("card", "4%201"), ("card", ""), ("authorization", "Bearer x"), ("card", "42")]


def raising(name: str, value: str) -> str:
    raise LookupError(name)


def returning_none(name: str, value: str) -> Any:
    return None


@pytest.mark.parametrize("rule", [raising, returning_none])
def test_a_callable_that_fails_redacts(rule: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A rule that raises or returns no text redacts the value; the first failure is logged as ERROR, then DEBUG."""
    redaction = Redaction(rule)
    with caplog.at_level(logging.DEBUG, logger="asgi_trace"):
        assert redaction.query("a=1&b=2") == "a=REDACTED&b=REDACTED"
        assert redaction.header("x-id", "1") == "REDACTED"
    assert [record.levelname for record in caplog.records] == ["ERROR", "DEBUG", "DEBUG"]
    assert all(record.name == "asgi_trace" for record in caplog.records)


async def coroutine_rule(name: str, value: str) -> str:
    return value


@pytest.mark.parametrize("redact", [None, 7, b"token", ("a", 1), ("",), "", coroutine_rule])
def test_what_is_no_rule_is_refused_at_construction(redact: Any) -> None:
    """Anything but names or a plain callable raises TypeError that says what to write."""
    with pytest.raises(TypeError, match="redact"):
        Redaction(redact)


@pytest.mark.parametrize("unit", ["%", "%2", "sig", "=", "&", "%=", "a%b", "://", "?", "#", "'a", "@", "//@", "?#"])
def test_the_search_is_linear(unit: str) -> None:
    """200,000 hostile characters are read in linear time; in quadratic time they would take minutes."""
    text = unit * (200_000 // len(unit))
    redaction = Redaction()
    started = time.process_time()
    redaction.query(text)
    redaction.url(text)
    redaction.text(text)
    assert time.process_time() - started < 5


texts = st.text(alphabet=st.sampled_from("sig%73=&;+#?@/:aü\udc80\x00 "), max_size=30)


@given(texts)
def test_any_text_is_a_query(query: str) -> None:
    """No text raises; redaction is idempotent and keeps every pair that it does not redact."""
    redaction = Redaction()
    redacted = redaction.query(query)
    assert redaction.query(redacted) == redacted
    for before, after in zip(query.split("&"), redacted.split("&"), strict=True):
        assert before == after or after == before.partition("=")[0] + "=REDACTED"


@given(texts)
def test_any_text_is_a_url(url: str) -> None:
    """No text raises; redaction is idempotent; a URL's query fares as one that stands alone."""
    redaction = Redaction()
    redacted = redaction.url(url)
    assert redaction.url(redacted) == redacted
    if "@" not in url and "#" not in url:
        before_fragment, hash_sign, fragment = url.partition("#")
        address, question_mark, query = before_fragment.partition("?")
        assert redacted == f"{address}{question_mark}{redaction.query(query)}{hash_sign}{fragment}"


@given(st.text(min_size=1, max_size=8).filter(lambda key: key.isprintable()), st.text(max_size=8))
def test_an_encoded_key_is_the_key(key: str, value: str) -> None:
    """A key of the user's own is found in its percent-encoded spelling."""
    encoded = quote(key, safe="")
    assert Redaction([key]).query(f"{encoded}={quote(value)}") == f"{encoded}=REDACTED"


@pytest.mark.parametrize("spelling", ["api key", "api+key", "api%20key", "%61pi+key", "api%2bkey"])
def test_a_blank_in_a_key_has_three_spellings(spelling: str) -> None:
    """A key with a blank in it is found as clients write it, `+` or `%20`; an encoded plus is no blank."""
    expected = "SECRET" if "%2b" in spelling else "REDACTED"
    assert Redaction("api key").query(f"a=1&{spelling}=SECRET") == f"a=1&{spelling}={expected}"
    assert Redaction("a+b").query("a+b=1&a%2Bb=1&a%20b=1") == "a+b=REDACTED&a%2Bb=REDACTED&a%20b=1"


def test_what_a_rule_returns_can_be_exported() -> None:
    """Lone surrogates in the answer of a callable, which no exporter can encode, are replaced."""
    redaction = Redaction(lambda name, value: value + "\udc80ü")
    assert redaction.header("x-id", "7") == "7?ü"
    assert redaction.query("a=1") == "a=1?ü"
