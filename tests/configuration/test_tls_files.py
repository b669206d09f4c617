"""Files for TLS: taken as they are, found wrong at once, and never given up for plain text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from asgi_trace._configuration.otlp_settings import CollectorArguments
from asgi_trace._export.tls_files import Pem

from ..support.configuration import read

OTLP = "OTEL_EXPORTER_OTLP_"


def given(**arguments: Any) -> CollectorArguments:
    """The arguments of `configure()`, checked."""
    return CollectorArguments.checked(**arguments)


def content(pem: Pem | None) -> bytes | None:
    return pem and pem.content


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PEM files: `roots`, `key` with its `chain`, another key, and some that are none."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    folder = tmp_path_factory.mktemp("pem")
    for name, content in {
        "roots": "# Zertifizierungsstelle f\u00fcr alle\n".encode() + authority.cert_pem.bytes(),
        "key": key,
        "chain": chain,
        "other key": authority.issue_cert("localhost").private_key_pem.bytes(),
        "broken key": key.replace(b"\nM", b"\nAAAA", 1),
        "broken roots": authority.cert_pem.bytes().replace(b"\nM", b"\nAAAA", 1),
        "cut off": chain[:40],
        "locked": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "junk": b"junk",
    }.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_client_certificate_needs_no_authority(pem: Path) -> None:
    """CLIENT_KEY and CLIENT_CERTIFICATE count without CERTIFICATE; one without the other is a problem."""
    key, chain, roots = str(pem / "key"), str(pem / "chain"), str(pem / "roots")
    found, problems = read({OTLP + "CLIENT_KEY": key, OTLP + "TRACES_CLIENT_CERTIFICATE": chain})
    assert (found.certificate, found.client_key) == (None, (pem / "key").read_bytes())
    assert (found.client_certificate, problems) == ((pem / "chain").read_bytes(), {})
    found, problems = read({OTLP + "CLIENT_KEY": key, OTLP + "CERTIFICATE": roots})
    assert (found.certificate, found.client_key, found.client_certificate) == (
        (pem / "roots").read_bytes(), None, None
    )  # fmt: skip
    assert list(problems) == [OTLP + "CLIENT_CERTIFICATE"]


WRONG_FILES = [
    ("certificate", "none", "must be a file that can be read"),
    ("certificate", "junk", "must be a file of certificates in PEM format, which '{file}' is not"),
    ("certificate", "cut off", "must be a file of certificates in PEM format, which '{file}' is not"),
    ("certificate", "key", "must be a file of certificates in PEM format, which '{file}' is not, but of a private key"),
    ("certificate", "broken roots", "must be a file of certificates in PEM format, which '{file}' is not"),
    ("client_certificate", "key", "must be a file of certificates in PEM format, which '{file}' is not, but of a"),
    ("client_key", "chain", "must be a file of a private key in PEM format, which '{file}' is not, but of cert"),
    ("client_key", "broken key", "must be a private key without a password, of the first certificate in '{chain}'"),
    ("client_key", "other key", "must be a private key without a password, of the first certificate in '{chain}'"),
    ("client_key", "locked", "must be a private key without a password, of the first certificate in '{chain}'"),
]


@pytest.mark.parametrize(("option", "name", "complaint"), WRONG_FILES)
def test_a_file_for_tls_that_cannot_work_is_found_at_once(option: str, name: str, complaint: str, pem: Path) -> None:
    """A file that is swapped, broken or no match raises as an argument, and is one problem as a variable."""
    names = {"client_key": "key", "client_certificate": "chain"} if option != "certificate" else {}
    files = {key: str(pem / file) for key, file in {**names, option: name}.items()}
    expected = f"{option} {complaint}".format(file=pem / name, chain=pem / "chain")
    with pytest.raises(ValueError, match="^" + re.escape(expected)):
        given(**files)
    found, problems = read({OTLP + key.upper(): file for key, file in files.items()})
    assert (found.certificate, found.client_key, found.client_certificate) == (None, None, None)
    assert list(problems) == [OTLP + option.upper()]


def test_files_for_tls_are_taken_as_they_are(pem: Path) -> None:
    """Files that fit are passed on byte for byte, a pipe that can be read once too."""
    arguments = CollectorArguments.checked(
        certificate=pem / "roots", client_key=pem / "key", client_certificate=pem / "chain"
    )
    assert content(arguments.tls.certificate) == (pem / "roots").read_bytes()
    assert content(arguments.tls.client_certificate) == (pem / "chain").read_bytes()
    reading, writing = os.pipe()
    os.write(writing, (pem / "key").read_bytes())
    os.close(writing)
    piped = given(client_key=f"/dev/fd/{reading}", client_certificate=pem / "chain")
    os.close(reading)
    assert content(piped.tls.client_key) == content(arguments.tls.client_key) == (pem / "key").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "variables", "who"),
    [
        ({"insecure": True}, {"ENDPOINT": "https://collector"}, "insecure=True"),
        ({"endpoint": "http://collector"}, {}, "the endpoint, 'http://',"),
        ({}, {"ENDPOINT": "http://me:hunter2@collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({}, {"TRACES_ENDPOINT": "http://collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"endpoint": "collector:1"}, {"INSECURE": "true"}, "OTEL_EXPORTER_OTLP_INSECURE"),
        ({"endpoint": "unix:/run/otel.sock"}, {}, "the default"),
        ({}, {}, "the default"),
    ],
)
def test_a_file_for_tls_is_never_given_up_for_plain_text(
    arguments: dict[str, Any], variables: dict[str, str], who: str, pem: Path
) -> None:
    """An argument that names a file for TLS, beside whatever says plain text, is an error that says what to write."""
    files: tuple[dict[str, Path], ...] = (
        {"certificate": pem / "roots"},
        {"client_key": pem / "key", "client_certificate": pem / "chain"},
    )
    for named in files:
        name = next(iter(named))
        with pytest.raises(ValueError, match=f"^{name} is for TLS, and {who} says plain text: write endpoint='https:"):
            read({OTLP + name: value for name, value in variables.items()}, **{**arguments, **named})
