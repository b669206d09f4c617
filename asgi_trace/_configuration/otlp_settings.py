"""How to reach a collector: arguments first, then `OTEL_EXPORTER_OTLP_*` (a signal's own before the general one).

A wrong argument raises, a wrong variable becomes a problem of the `Environment`. An argument is never given up for a
variable, so nothing that was meant for TLS is sent in plain text. A connection is opened by nobody here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc

from .._export.collector import RETRYABLE, Collector
from .._export.endpoint import Endpoint, header, headers
from .._export.endpoint import endpoint as parse_endpoint
from .._export.tls_files import Pem, certificates, private_key
from .environment import Environment, argument, boolean, one_of, otlp_names, plugin, positive, timeout_seconds

T = TypeVar("T")

_COMPRESSIONS = {"gzip": True, "none": False}


@dataclass(frozen=True)
class CollectorArguments:
    """The arguments of `configure()` that say how to reach a collector, checked."""

    endpoint: Endpoint | None
    insecure: bool | None
    headers: dict[str, str] | None
    timeout: float | None
    gzip: bool | None
    certificate: bytes | None
    client_key: bytes | None
    client_certificate: bytes | None

    @classmethod
    def checked(
        cls,
        *,
        endpoint: str | None,
        insecure: bool | None,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        compression: str | None,
        certificate: str | os.PathLike[str] | None,
        client_key: str | os.PathLike[str] | None,
        client_certificate: str | os.PathLike[str] | None,
    ) -> CollectorArguments:
        """Raises ValueError or TypeError with the name of the argument that is wrong."""

        def optional(
            name: str, parse: Callable[[Any], T], value: Any, types: type | tuple[type, ...] = str
        ) -> T | None:
            return None if value is None else argument(name, parse, value, types)

        files = (str, os.PathLike)
        where = optional("endpoint", parse_endpoint, endpoint)
        plaintext = optional("insecure", bool, insecure, bool)
        if where and None not in (where.plaintext, plaintext) and where.plaintext != plaintext:
            raise ValueError(f"insecure={plaintext} contradicts endpoint: 'http://' is plain text, 'https://' is TLS")
        if (client_key is None) != (client_certificate is None):
            raise ValueError("client_key and client_certificate must be given together")
        authority = optional("certificate", certificates, certificate, files)
        chain = optional("client_certificate", certificates, client_certificate, files)
        key = optional("client_key", partial(private_key, chain=chain), client_key, files)
        given = cls(
            endpoint=where,
            insecure=plaintext,
            headers=optional("headers", _headers, headers, Mapping),
            timeout=optional("timeout", positive, timeout, (int, float)),
            gzip=optional("compression", lambda text: one_of(text, _COMPRESSIONS), compression),
            certificate=authority and authority.content,
            client_key=key and key.content,
            client_certificate=chain and chain.content,
        )
        if plaintext or (where and where.plaintext):
            given.refuse_tls_files("insecure=True" if plaintext else "the endpoint, 'http://',")
        return given

    def refuse_tls_files(self, who: str) -> None:
        """Raise ValueError if a file for TLS was given. `who` says plain text."""
        for name in ("certificate", "client_key"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} is for TLS, and {who} says plain text: write endpoint='https://...' or insecure=False, "
                    f"or leave {name} out"
                )


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    if not all(isinstance(text, str) for pair in given.items() for text in pair):
        raise TypeError("headers must map str to str")
    return dict(header(name, value) for name, value in given.items())


def collector(signal: str, given: CollectorArguments, environment: Environment) -> Collector:
    """Where the `OTLP` exporter of one signal (`TRACES`, `METRICS`) sends to."""
    environment.read(otlp_names(signal, "PROTOCOL"), lambda text: one_of(text, {"grpc": "grpc"}), "grpc")
    where = given.endpoint or environment.read(
        otlp_names(signal, "ENDPOINT"),
        parse_endpoint,
        Endpoint("localhost", "4317", plaintext=True),
        lambda used: repr(str(used)),
    )
    if where.path:
        name = "endpoint" if given.endpoint else _name_of(environment, otlp_names(signal, "ENDPOINT"))
        environment.note(name, f"has a path, {where.path!r}: OTLP over gRPC has none, so it is not used")
    plaintext = _plaintext(signal, given, environment, where)
    gzip = given.gzip
    if gzip is None:
        gzip = environment.read(
            otlp_names(signal, "COMPRESSION"),
            lambda text: one_of(text, _COMPRESSIONS),
            False,
            lambda used: "'gzip'" if used else "'none'",
        )
    certificate, client_key, client_certificate = _certificates(signal, given, environment)
    return Collector(
        target=where.target(plaintext),
        plaintext=plaintext,
        headers=tuple(_collector_headers(signal, given, environment, where).items()),
        timeout=given.timeout or timeout_seconds(environment, signal, 10.0),
        gzip=gzip,
        certificate=certificate,
        client_key=client_key,
        client_certificate=client_certificate,
        credentials=None if plaintext or given.certificate else _credentials(signal, environment),
        retryable=environment.read(
            "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", _status_codes, RETRYABLE, lambda _: "OTLP's list"
        ),
    )


def _plaintext(signal: str, given: CollectorArguments, environment: Environment, where: Endpoint) -> bool:
    if given.insecure is not None:
        return given.insecure
    option, plaintext = "ENDPOINT", where.plaintext
    if plaintext is None:
        option = "INSECURE"
        plaintext = environment.read(otlp_names(signal, option), boolean, where.local, str)
    if plaintext:
        given.refuse_tls_files(next(filter(environment.text, otlp_names(signal, option)), "the default"))
    return plaintext


def _name_of(environment: Environment, names: tuple[str, ...]) -> str:
    return next(name for name in names if environment.text(name))


def _collector_headers(
    signal: str, given: CollectorArguments, environment: Environment, where: Endpoint
) -> dict[str, str | bytes]:
    found = given.headers
    names = otlp_names(signal, "HEADERS")
    if found is None:
        found, wrong = headers(environment.text(*names) or "")
        if wrong:
            environment.note(_name_of(environment, names), f"is used without what is wrong in it: {'; '.join(wrong)}")
    if where.authorization:
        found = {"authorization": where.authorization, **found}
    return {name: value.encode() if name.endswith("-bin") else value for name, value in found.items()}


def _certificates(
    signal: str, given: CollectorArguments, environment: Environment
) -> tuple[bytes | None, bytes | None, bytes | None]:
    def file(option: str, parse: Callable[[str], Pem], instead: str) -> Pem | None:
        return environment.read(otlp_names(signal, option), parse, None, lambda used: "it" if used else instead)

    authority = None
    if not given.certificate:
        authority = file("CERTIFICATE", certificates, "the list of authorities that gRPC brings along")
    certificate = authority.content if authority else given.certificate
    if given.client_key:
        return certificate, given.client_key, given.client_certificate
    chain = file("CLIENT_CERTIFICATE", certificates, "no client certificate")
    key = file("CLIENT_KEY", partial(private_key, chain=chain), "no client certificate")
    if key and chain:
        return certificate, key.content, chain.content
    missing = otlp_names(signal, "CLIENT_KEY" if key is None else "CLIENT_CERTIFICATE")
    if (key or chain) and not environment.text(*missing):
        environment.note(missing[1], "must be set together with its other half; no client certificate is used")
    return certificate, None, None


def _credentials(signal: str, environment: Environment) -> Any:
    def load(text: str) -> Any:
        try:
            credentials = plugin("opentelemetry_otlp_credential_provider", text)()
        except Exception:
            credentials = None
        if not isinstance(credentials, grpc.ChannelCredentials):
            raise ValueError(f"must be an installed entry point that makes grpc.ChannelCredentials, not {text!r}")
        return credentials

    prefix = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_"
    names = (f"{prefix}{signal}_CREDENTIAL_PROVIDER", f"{prefix}CREDENTIAL_PROVIDER")
    return environment.read(names, load, None, lambda _: "the certificate")


def _status_codes(text: str) -> frozenset[Any]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    codes = {code.name: code for code in grpc.StatusCode}
    if not all(name in codes for name in names):
        raise ValueError(f"must be names of gRPC status codes like 'UNAVAILABLE,ABORTED', not {text!r}")
    return frozenset(codes[name] for name in names)
