"""W3C Baggage, in and out: what passes unharmed, what is coded how, and the limits."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
from opentelemetry import baggage
from opentelemetry.baggage import get_all

from ..support.propagation import extract, inject, lines, with_baggage

BAGGAGE = [
    # header, what the application reads, what leaves when it changes another entry
    ("a=1", {"a": "1"}, "a=1"),
    (" a \t=\t 1 \t,b=2 ", {"a": "1", "b": "2"}, "a=1,b=2"),
    ("a=", {"a": ""}, "a="),
    ("a=b=c==", {"a": "b=c=="}, "a=b%3Dc%3D%3D"),
    ("a=%20x%20", {"a": " x "}, "a=%20x%20"),
    ("a=x+y", {"a": "x+y"}, "a=x%2By"),
    ("a=x+y%20z", {"a": "x+y z"}, "a=x%2By%20z"),
    ("a=x%2By", {"a": "x+y"}, "a=x%2By"),
    ("a=%C3%A9%2C%3B%22", {"a": 'é,;"'}, "a=%C3%A9%2C%3B%22"),
    ("a=%c3%a9", {"a": "é"}, "a=%C3%A9"),
    ("a=%FF", {"a": "\ufffd"}, "a=%FF"),
    ("a=%zz%", {"a": "%zz%"}, "a=%25zz%25"),
    ("a=1;p1;p2=x", {"a": "1"}, "a=1;p1;p2=x"),
    ("a = 1 ; p1 ; p2 = x%3D= ", {"a": "1"}, "a = 1 ; p1 ; p2 = x%3D="),
    ("a=;p", {"a": ""}, "a=;p"),
    ("a%20b=1", {"a%20b": "1"}, "a%20b=1"),
    ("a!#$%&'*+-.^_`|~Z9=1", {"a!#$%&'*+-.^_`|~Z9": "1"}, "a!#$%&'*+-.^_`|~Z9=1"),
    ("a=!#$&'()*+-./:<=>?@[]^_`{|}~", {"a": "!#$&'()*+-./:<=>?@[]^_`{|}~"},
     "a=%21%23%24%26%27%28%29%2A%2B-.%2F%3A%3C%3D%3E%3F%40%5B%5D%5E_%60%7B%7C%7D~"),
    # a bad member is dropped alone
    ("a=1,bad key=2,c=3", {"a": "1", "c": "3"}, "a=1,c=3"),
    ('a=1,b="2",c=3', {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1,b=\\,c=3", {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1,b=\xe9,c=3", {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1,b,c=3,=4,;p", {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1;,b=2;;p,c=3;=x,d=4;p q", {}, ""),
    ("a=x y", {}, ""),
    ("", {}, ""),
    (" , ,\t,", {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("header", "entries", "rewritten"), BAGGAGE)
def test_baggage_passes_unharmed(header: str, entries: dict[str, str], rewritten: str) -> None:
    """Legal members are read by the specification, leave as they came, and stay what they are beside new entries."""
    context = extract(lines(("baggage", header)))
    assert baggage.get_all(context) == entries
    untouched = [
        member.strip(" \t") for member in header.split(",") if member.partition("=")[0].strip(" \t") in entries
    ]
    assert inject(context).get("baggage", "") == ",".join(untouched)
    changed = baggage.set_baggage("new", "x", context)
    assert inject(changed)["baggage"] == (f"{rewritten},new=x" if rewritten else "new=x")


def test_a_received_value_is_text() -> None:
    """What the application reads is a `str` that compares, copies and pickles as one, with or without properties."""
    context = extract(lines(("baggage", "a=1;p,b=2")))
    for value, expected in ((baggage.get_baggage("a", context), "1"), (baggage.get_baggage("b", context), "2")):
        assert isinstance(value, str)
        assert value == expected == copy.deepcopy(value) == pickle.loads(pickle.dumps(value))
    assert copy.deepcopy(dict(context)) == dict(context)


def test_a_new_value_drops_the_old_properties() -> None:
    """Properties describe the value that they came with; moving a value to another key leaves them behind too."""
    context = extract(lines(("baggage", "a=1;p,ab=2;q")))
    assert inject(baggage.set_baggage("a", "1", context))["baggage"] == "a=1,ab=2;q"
    moved = baggage.set_baggage("a", baggage.get_baggage("ab", context), context)
    assert inject(moved)["baggage"] == "a=2,ab=2;q"
    assert inject(baggage.remove_baggage("a", context))["baggage"] == "ab=2;q"


@pytest.mark.parametrize(
    ("key", "value", "sent"),
    [
        ("k", "a b", "k=a%20b"),
        ("k", "a+b", "k=a%2Bb"),
        ("k", "50%", "k=50%25"),
        ("k", ' é,;="\\\r\n', "k=%20%C3%A9%2C%3B%3D%22%5C%0D%0A"),
        ("k", "\ud800", "k=%3F"),
        ("k", "", "k="),
        ("k", None, "k=None"),
        ("k", 7, "k=7"),
        ("k+%!", "v", "k+%!=v"),
        ("k e y", "v", "k%20e%20y=v"),
        ("!#$&'*+-.^_`|~ %", "v", "!#$&'*+-.^_`|~%20%25=v"),
        ("kéy=", "v", "k%C3%A9y%3D=v"),
    ],
)
def test_the_applications_own_entries_are_coded_by_the_specification(key: str, value: object, sent: str) -> None:
    """Values are percent-encoded UTF-8 with `%20` for a space; keys are tokens, and made ones where they are not."""
    assert inject(with_baggage({key: value})) == {"baggage": sent}


def test_baggage_limits() -> None:
    """All of 8,192 bytes and of 180 members passes; beyond, whole members go and the others stay."""
    exact = f"a={'v' * 5000},b={'w' * 3187}"
    assert len(exact) == 8192
    assert inject(extract(lines(("baggage", exact))))["baggage"] == exact
    assert inject(extract(lines(("baggage", exact[:5002]), ("baggage", exact[5003:]))))["baggage"] == exact
    assert inject(extract(lines(("baggage", exact + "w"))))["baggage"] == exact[:5002]
    assert inject(extract(lines(("baggage", f"big={'v' * 9000},c=1"))))["baggage"] == "c=1"
    many = [f"k{n}=v" for n in range(200)]
    assert inject(extract(lines(("baggage", ",".join(many)))))["baggage"].split(",") == many[:180]
    own = {f"k{n}": "v" for n in range(200)}
    assert inject(with_baggage(own))["baggage"].split(",") == many[:180]
    assert inject(with_baggage({"a": "v" * 5000, "b": "w" * 3187}))["baggage"] == exact
    assert inject(with_baggage({"a": "v" * 5000, "b": "w" * 3188}))["baggage"] == exact[:5002]
    assert inject(with_baggage({"a": "v" * 5000, "b": "w" * 5000, "c": "1"}))["baggage"] == f"a={'v' * 5000},c=1"


@pytest.mark.parametrize(
    "hostile",
    [
        f"a={' ' * 60000}x",
        f"a{' ' * 60000}x",
        f'a={" " * 8000}"',
        f'a=1;p{" " * 8000}"',
        f'a=1;p={" " * 8000}"',
        "a=1" + ";p=1" * 2000 + '"',
        "a=" + "x" * 8000 + '"',
        "," * 60000,
        " ," * 30000,
        "a," * 30000,
    ],
    ids=range(10),
)
def test_hostile_baggage_costs_no_backtracking(hostile: str) -> None:
    """Long runs of blanks, commas and properties are refused in time that grows with their length alone."""
    started = time.process_time()
    assert get_all(extract(lines(("baggage", hostile)))) == {}
    assert time.process_time() - started < 0.25
