"""Cold CPU time: between two requests the caches are filled with something else, as on a server that also works.

Two megabytes of data are copied and unrelated code of the standard library runs, then one request is timed. The best
forecast of what a request costs on a real server.
"""

from __future__ import annotations

import ast
import csv
import decimal
import email
import io
import json
import re
import textwrap
import time

from ..traffic import Runner

_DATA = bytes(range(256)) * 8192
_buffer = bytearray(len(_DATA))
_DOCUMENT = {"orders": [{"id": number, "name": f"order {number}", "price": number / 7} for number in range(30)]}
_MAIL = "From: a@example.com\nTo: b@example.com\nSubject: hello\nContent-Type: text/plain\n\nA body of text.\n"
_WORDS = "the quick brown fox jumps over the lazy dog " * 12


def evict() -> None:
    """Fill the caches, of data and of instructions, with things that no request needs."""
    _buffer[:] = _DATA
    json.loads(json.dumps(_DOCUMENT))
    email.message_from_string(_MAIL).get_content_type()
    ast.parse("def f(a, b):\n    return [a + x for x in range(b) if x % 2]\n")
    textwrap.wrap(_WORDS, 40)
    list(csv.reader(io.StringIO("a,b,c\n1,2,3\n" * 10)))
    re.sub(r"(\w+) (\w+)", r"\2 \1", _WORDS)
    decimal.Decimal(2).sqrt()
    sum(_buffer[::64])


def samples(runner: Runner, units: int) -> list[float]:
    """CPU seconds of each of so many units, every one of them met cold."""
    taken = []
    for number in range(units):
        evict()
        taken.append(runner.run((number,), time.process_time))
    return taken
