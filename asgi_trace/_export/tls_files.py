"""PEM files for TLS: read once, and tried before gRPC does, which keeps quiet until the first export fails.

A file without a usable certificate or key raises ValueError with what it must hold, never with what it holds.
"""

from __future__ import annotations

import os
import re
import ssl
from contextlib import suppress
from typing import NamedTuple

_CERTIFICATE = re.compile(rb"-----BEGIN ((?:X509 )?CERTIFICATE)-----.+?-----END \1-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


class Pem(NamedTuple):
    """A file and what was in it."""

    path: str | os.PathLike[str]
    content: bytes


def certificates(path: str | os.PathLike[str]) -> Pem:
    """One certificate or more."""
    content = _read(path)
    found = [match[0].decode("ascii", "replace") for match in _CERTIFICATE.finditer(content)]
    if not found:
        raise ValueError(f"must be a file of certificates in PEM format, which {_named(path, content)} is not")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(found))
    except (ssl.SSLError, ValueError) as exc:
        raise ValueError(f"must be a file of certificates in PEM format: {_named(path)} has a broken one") from exc
    return Pem(path, content)


def private_key(path: str | os.PathLike[str], chain: Pem | None = None) -> Pem:
    """A private key, that of the first certificate in `chain` if there is one."""
    content = _read(path)
    match = _KEY.search(content)
    if match is None:
        raise ValueError(f"must be a file of a private key in PEM format, which {_named(path, content)} is not")
    if b"ENCRYPTED" in match[0]:
        raise ValueError(f"must be a private key without a password, for which nobody is asked: {_named(path)} has one")
    if chain and os.path.isfile(path) and os.path.isfile(chain.path):  # a pipe can be read once only
        _check_pair(path, chain.path)
    return Pem(path, content)


def _check_pair(key: str | os.PathLike[str], chain: str | os.PathLike[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError):
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong they must be is for the collector to say
    try:
        context.load_cert_chain(chain, key, password="")  # or OpenSSL would ask for one on the terminal
    except (OSError, ValueError) as exc:
        if "MISMATCH" in str(exc):
            raise ValueError(f"must be the key of the first certificate in {_named(chain)}") from exc
        raise ValueError(f"must be a private key in PEM format: {_named(key)} has a broken one") from exc


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise ValueError(f"must be a file that can be read: {exc}") from None


def _named(path: str | os.PathLike[str], content: bytes = b"") -> str:
    swapped = _KEY.search(content) or _CERTIFICATE.search(content)
    what = f", with a {swapped[1].decode().lower()} in it," if swapped else ""
    return f"{os.fspath(path)!r}{what}"
