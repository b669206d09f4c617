"""PEM files for TLS, read once and tried by OpenSSL, since gRPC keeps quiet about them until the first export fails.

A file that cannot work raises ValueError with what it must hold, never with what it holds.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from typing import NamedTuple


class Pem(NamedTuple):
    """A file and what was in it."""

    path: str | os.PathLike[str]
    content: bytes


def certificates(path: str | os.PathLike[str]) -> Pem:
    """A file with one certificate or more."""
    pem = _read(path)
    try:
        _trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem)
    except (ssl.SSLError, ValueError) as exc:
        hint = ", but of a private key" if b"PRIVATE KEY-----" in pem.content else ""
        raise ValueError(f"must be a file of certificates in PEM format, which {_name(path)} is not{hint}") from exc
    return pem


def private_key(path: str | os.PathLike[str], chain: Pem | None = None) -> Pem:
    """A file with a private key, that of the first certificate in `chain` if there is one."""
    pem = _read(path)
    if b"PRIVATE KEY-----" not in pem.content:
        hint = ", but of certificates" if b"CERTIFICATE-----" in pem.content else ""
        raise ValueError(f"must be a file of a private key in PEM format, which {_name(path)} is not{hint}")
    if chain and os.path.isfile(path) and os.path.isfile(chain.path):  # a pipe can be read once only
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with suppress(ssl.SSLError):
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong they must be is for the collector to say
        _identify(context, pem, chain)
    return pem


def client_context(authorities: Pem | None, key: Pem | None, chain: Pem | None) -> ssl.SSLContext:
    """What a client needs for TLS. Without `authorities` it trusts those of this system."""
    context = ssl.create_default_context() if authorities is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is not None:
        _trusting(context, authorities)
    if key and chain:
        _identify(context, key, chain)
    return context


def _trusting(context: ssl.SSLContext, pem: Pem) -> None:
    # Comments between the certificates may hold anything, and OpenSSL takes ASCII.
    context.load_verify_locations(cadata=pem.content.decode("ascii", "ignore"))


def _identify(context: ssl.SSLContext, key: Pem, chain: Pem) -> None:
    try:
        context.load_cert_chain(chain.path, key.path, password="")
    except (OSError, ValueError) as exc:
        raise ValueError(
            f"must be a private key without a password, of the first certificate in {_name(chain.path)}: "
            f"{_name(key.path)} cannot be used ({getattr(exc, 'reason', None) or exc})"
        ) from exc


def _read(path: str | os.PathLike[str]) -> Pem:
    try:
        with open(path, "rb") as file:
            return Pem(path, file.read())
    except OSError as exc:
        raise ValueError(f"must be a file that can be read: {exc}") from None


def _name(path: str | os.PathLike[str]) -> str:
    return repr(os.fspath(path))
