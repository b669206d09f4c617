"""How to reach a collector: arguments first, then `OTEL_EXPORTER_OTLP_*` (a signal's own before the general one).

A wrong argument raises, a wrong variable becomes a problem of the `Environment`. An argument is never given up for a
variable, so nothing that was meant for TLS is sent in plain text. Opens no connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import grpc

from .._export.collector import GRPC, HTTP, RETRYABLE, Collector
from .._export.endpoint import Endpoint, header, headers, http_endpoint
from .._export.endpoint import endpoint as parse_endpoint
from .._export.signals import Signal
from .._export.tls_files import Pem, certificates, client_context, private_key
from .environment import (
    Environment,
    alternatives,
    argument,
    boolean,
    one_of,
    plugin,
    positive,
    timeout_seconds,
    whole_number,
)
from .otlp_variables import Names, OtlpVariables, variables_of
from .proxy import proxy_for

T = TypeVar("T")

MAX_EXPORT_BYTES = 4_000_000
"""Below the 4 MiB that gRPC servers take by default, with room for what gRPC adds."""
_COMPRESSIONS = {"gzip": True, "none": False}
_PROTOCOLS = {GRPC: GRPC, HTTP: HTTP}
_JSON = "http/json"  # a protocol of OTLP that OpenTelemetry Python does not speak
_DEFAULTS = {
    GRPC: Endpoint("localhost", "4317", plaintext=True),
    HTTP: Endpoint("localhost", "4318", plaintext=True),
}


class TlsFiles(NamedTuple):
    """The files for TLS: authorities to trust, and a key with its certificates."""

    certificate: Pem | None = None
    client_key: Pem | None = None
    client_certificate: Pem | None = None


NO_FILES = TlsFiles()


@dataclass(frozen=True)
class CollectorArguments:
    """The arguments of `configure()` that say how to reach a collector, checked. None is one that was left out."""

    protocol: str | None = None
    endpoint: Endpoint | None = None
    insecure: bool | None = None
    headers: dict[str, str] | None = None
    timeout: float | None = None
    gzip: bool | None = None
    tls: TlsFiles = NO_FILES
    max_bytes: int = MAX_EXPORT_BYTES

    @classmethod
    def checked(
        cls,
        *,
        protocol: str | None = None,
        endpoint: str | None = None,
        insecure: bool | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        compression: str | None = None,
        certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        max_export_bytes: int = MAX_EXPORT_BYTES,
    ) -> CollectorArguments:
        """Raises ValueError or TypeError with the name of the argument that is wrong."""
        where = _optional("endpoint", parse_endpoint, endpoint)
        plaintext = _optional("insecure", bool, insecure, bool)
        if where and None not in (where.plaintext, plaintext) and where.plaintext != plaintext:
            raise ValueError(f"insecure={plaintext} contradicts endpoint: 'http://' is plain text, 'https://' is TLS")
        given = cls(
            protocol=_optional("protocol", lambda text: one_of(text, _PROTOCOLS), protocol),
            endpoint=where,
            insecure=plaintext,
            headers=_optional("headers", _headers, headers, Mapping),
            timeout=_optional("timeout", positive, timeout, (int, float)),
            gzip=_optional("compression", lambda text: one_of(text, _COMPRESSIONS), compression),
            tls=_tls_files(certificate, client_key, client_certificate),
            max_bytes=argument("max_export_bytes", lambda number: whole_number(number, 1), max_export_bytes, int),
        )
        if plaintext or (where and where.plaintext):
            given.refuse_tls_files("insecure=True" if plaintext else "the endpoint, 'http://',")
        return given

    def refuse_tls_files(self, reason: str) -> None:
        """Raise ValueError if a file for TLS was given. `reason` is what says plain text."""
        for name in ("certificate", "client_key"):
            if getattr(self.tls, name):
                raise ValueError(
                    f"{name} is for TLS, and {reason} says plain text: write endpoint='https://...' or "
                    f"insecure=False, or leave {name} out"
                )


def _optional(name: str, parse: Callable[[Any], T], value: Any, types: type | tuple[type, ...] = str) -> T | None:
    return None if value is None else argument(name, parse, value, types)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    if not all(isinstance(text, str) for pair in given.items() for text in pair):
        raise TypeError("headers must map str to str")
    return dict(header(name, value) for name, value in given.items())


def _tls_files(certificate: Any, client_key: Any, client_certificate: Any) -> TlsFiles:
    if (client_key is None) != (client_certificate is None):
        raise ValueError("client_key and client_certificate must be given together")
    files = (str, os.PathLike)
    authorities = _optional("certificate", certificates, certificate, files)
    chain = _optional("client_certificate", certificates, client_certificate, files)
    key = _optional("client_key", partial(private_key, chain=chain), client_key, files)
    return TlsFiles(authorities, key, chain)


def collector(
    signal: Signal, given: CollectorArguments, environment: Environment, protocol: str | None = None
) -> Collector:
    """Where the OTLP exporter of one signal sends to. `protocol` is that of the exporter's name, if it has one."""
    names = variables_of(signal)
    protocol = protocol or given.protocol or _protocol(names, environment)
    where, own = _endpoint(names, given, environment, protocol)
    plaintext = _plaintext(names, given, environment, where)
    tls = _read_tls_files(names, given.tls, environment)
    if protocol == HTTP:
        path = where.path if own else where.path_for(signal, exchange=given.endpoint is not None)
        reached = _over_http(names, environment, where.url(plaintext, path), where.query, None if plaintext else tls)
    else:
        reached = _over_grpc(names, given, environment, where, plaintext, tls)
    return Collector(
        plaintext=plaintext,
        headers=_collector_headers(names, given, environment, where),
        timeout=given.timeout or timeout_seconds(environment, names.timeout, 10.0),
        gzip=_gzip(names, given, environment),
        max_bytes=given.max_bytes,
        protocol=protocol,
        **reached,
    )


def _protocol(names: OtlpVariables, environment: Environment) -> str:
    def parse(text: str) -> str:
        return _JSON if text.lower() == _JSON else one_of(text, _PROTOCOLS)

    used = environment.read(names.protocol, parse, GRPC)
    if used != _JSON:
        return used
    name = _set_name(environment, names.protocol)
    environment.note(name, f"must be {alternatives(_PROTOCOLS)}, not {_JSON!r}; {HTTP!r} is used instead")
    return HTTP


def _endpoint(
    names: OtlpVariables, given: CollectorArguments, environment: Environment, protocol: str
) -> tuple[Endpoint, bool]:
    """The endpoint, and whether it is meant for this signal alone."""
    if given.endpoint is not None:
        if protocol == HTTP and given.endpoint.grpc_only:
            raise ValueError(f"endpoint must be like 'http://collector:4318' for OTLP over HTTP, not {given.endpoint}")
        return given.endpoint, False
    parse = http_endpoint if protocol == HTTP else parse_endpoint
    where, text = environment.read(
        names.endpoint,
        lambda text: (parse(text), text),
        (_DEFAULTS[protocol], ""),
        lambda used: repr(str(used[0])),
    )
    return where, bool(text) and text == environment.text(names.endpoint[0])


def _over_grpc(
    names: OtlpVariables,
    given: CollectorArguments,
    environment: Environment,
    where: Endpoint,
    plaintext: bool,
    tls: TlsFiles,
) -> dict[str, Any]:
    if path := where.path.rstrip("/"):
        name = "endpoint" if given.endpoint else _set_name(environment, names.endpoint)
        environment.note(name, f"has a path, {path!r}: OTLP over gRPC has none, so it is not used")
    certificate, client_key, client_certificate = (pem and pem.content for pem in tls)
    return {
        "target": where.target(plaintext),
        "certificate": certificate,
        "client_key": client_key,
        "client_certificate": client_certificate,
        "credentials": None if plaintext or given.tls.certificate else _grpc_credentials(names, environment),
        "retryable": environment.read(
            "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", _status_codes, RETRYABLE, lambda _: "OTLP's list"
        ),
    }


def _over_http(
    names: OtlpVariables, environment: Environment, url: str, query: str, tls: TlsFiles | None
) -> dict[str, Any]:
    if used := next(filter(environment.text, names.http_credentials), None):
        environment.note(used, "is not read: there is no session of requests here; use certificates or headers")
    return {
        "target": url,
        "query": query,
        "tls": tls and client_context(*tls),
        "proxy": proxy_for(url, environment),
    }


def _plaintext(names: OtlpVariables, given: CollectorArguments, environment: Environment, where: Endpoint) -> bool:
    if given.insecure is not None:
        return given.insecure
    option, plaintext = names.endpoint, where.plaintext
    if plaintext is None:
        option = names.insecure
        plaintext = environment.read(option, boolean, where.local, str)
    if plaintext:
        given.refuse_tls_files(next(filter(environment.text, option), "the default"))
    return plaintext


def _gzip(names: OtlpVariables, given: CollectorArguments, environment: Environment) -> bool:
    if given.gzip is not None:
        return given.gzip
    return environment.read(
        names.compression,
        lambda text: one_of(text, _COMPRESSIONS),
        False,
        lambda used: "'gzip'" if used else "'none'",
    )


def _set_name(environment: Environment, names: Names) -> str:
    return next(name for name in names if environment.text(name))


def _collector_headers(
    names: OtlpVariables, given: CollectorArguments, environment: Environment, where: Endpoint
) -> tuple[tuple[str, str | bytes], ...]:
    found = given.headers
    if found is None:
        found, wrong = headers(environment.text(*names.headers) or "")
        if wrong:
            name = _set_name(environment, names.headers)
            environment.note(name, f"is used without what is wrong in it: {'; '.join(wrong)}")
    if where.authorization:
        found = {"authorization": where.authorization, **found}
    return tuple((name, value.encode() if name.endswith("-bin") else value) for name, value in found.items())


def _read_tls_files(names: OtlpVariables, given: TlsFiles, environment: Environment) -> TlsFiles:
    """The files of the arguments, and of the variables where an argument was left out."""

    def file(variables: Names, parse: Callable[[str], Pem], instead: str) -> Pem | None:
        return environment.read(variables, parse, None, lambda used: "it" if used else instead)

    authorities = given.certificate or file(
        names.certificate, certificates, "the list of authorities of this system or of gRPC"
    )
    if given.client_key:
        return TlsFiles(authorities, given.client_key, given.client_certificate)
    chain = file(names.client_certificate, certificates, "no client certificate")
    key = file(names.client_key, partial(private_key, chain=chain), "no client certificate")
    if key and chain:
        return TlsFiles(authorities, key, chain)
    missing = names.client_key if key is None else names.client_certificate
    if (key or chain) and not environment.text(*missing):
        environment.note(missing[1], "must be set together with its other half; no client certificate is used")
    return TlsFiles(authorities)


def _grpc_credentials(names: OtlpVariables, environment: Environment) -> Any:
    def load(text: str) -> Any:
        try:
            credentials = plugin("opentelemetry_otlp_credential_provider", text)()
        except Exception:
            credentials = None
        if not isinstance(credentials, grpc.ChannelCredentials):
            raise ValueError(f"must be an installed entry point that makes grpc.ChannelCredentials, not {text!r}")
        return credentials

    return environment.read(names.grpc_credentials, load, None, lambda _: "the certificate")


def _status_codes(text: str) -> frozenset[Any]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    codes = {code.name: code for code in grpc.StatusCode}
    if not all(name in codes for name in names):
        raise ValueError(f"must be names of gRPC status codes like 'UNAVAILABLE,ABORTED', not {text!r}")
    return frozenset(codes[name] for name in names)
