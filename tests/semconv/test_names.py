"""The names that are written: OpenTelemetry's own wherever it has one, and ours as the pages say them."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import opentelemetry.semconv

from asgi_trace._semconv import names

STANDARD = {
    "METHOD": "http.request.method",
    "METHOD_ORIGINAL": "http.request.method_original",
    "RESEND_COUNT": "http.request.resend_count",
    "STATUS_CODE": "http.response.status_code",
    "ROUTE": "http.route",
    "ERROR_TYPE": "error.type",
    "PATH": "url.path",
    "QUERY": "url.query",
    "SCHEME": "url.scheme",
    "URL_FULL": "url.full",
    "SERVER_ADDRESS": "server.address",
    "SERVER_PORT": "server.port",
    "CLIENT_ADDRESS": "client.address",
    "PEER_ADDRESS": "network.peer.address",
    "PEER_PORT": "network.peer.port",
    "PROTOCOL_NAME": "network.protocol.name",
    "PROTOCOL_VERSION": "network.protocol.version",
    "USER_AGENT": "user_agent.original",
    "EXCEPTION_ESCAPED": "exception.escaped",
    "EXCEPTION_TYPE": "exception.type",
    "EXCEPTION_MESSAGE": "exception.message",
    "EXCEPTION_STACKTRACE": "exception.stacktrace",
    "SERVER_DURATION": "http.server.request.duration",
    "CLIENT_DURATION": "http.client.request.duration",
}
"""Those that OpenTelemetry's own package has as constants."""

BESIDE = {
    # of the conventions: templates, values, names of events, and what is in development
    "REQUEST_HEADER": "http.request.header.",
    "RESPONSE_HEADER": "http.response.header.",
    "URL_TEMPLATE": "url.template",
    "CODE_FILE_PATH": "code.file.path",
    "CODE_FUNCTION_NAME": "code.function.name",
    "CODE_LINE_NUMBER": "code.line.number",
    "OTHER_METHOD": "_OTHER",
    "OTHER_ERROR": "_OTHER",
    "SERVER_EXCEPTION": "http.server.request.exception",
    "CLIENT_EXCEPTION": "http.client.request.exception",
    "SERVER_ACTIVE_REQUESTS": "http.server.active_requests",
    "SERVER_REQUEST_SIZE": "http.server.request.body.size",
    "SERVER_RESPONSE_SIZE": "http.server.response.body.size",
    "CLIENT_ACTIVE_REQUESTS": "http.client.active_requests",
    "CLIENT_REQUEST_SIZE": "http.client.request.body.size",
    "CLIENT_RESPONSE_SIZE": "http.client.response.body.size",
    # our own
    "CANCELLED": "asgi_trace.cancelled",
    "CLIENT_DISCONNECTED": "asgi_trace.client_disconnected",
    "CLOSE_CODE": "asgi_trace.websocket.close_code",
    "MESSAGES_RECEIVED": "asgi_trace.websocket.messages_received",
    "MESSAGES_SENT": "asgi_trace.websocket.messages_sent",
    "INCOMPLETE_RESPONSE": "incomplete_response",
    "BACKGROUND_EXCEPTION": "asgi_trace.background.exception",
    "TRACED_EXCEPTION": "asgi_trace.traced.exception",
}


def test_the_names_are_what_dashboards_ask_for() -> None:
    """Queries and alerts outside of this package are written with these texts."""
    assert {constant: getattr(names, constant) for constant in (*STANDARD, *BESIDE)} == {**STANDARD, **BESIDE}


def test_every_name_is_in_a_table_here() -> None:
    """No name is written without a reader having been told."""
    written = {key for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}
    assert written == {*STANDARD, *BESIDE, "SCHEMA_URL"}


def test_the_conventions_have_the_standard_names() -> None:
    """Each is the value of a constant in the package of the conventions, outside of its `_incubating`."""
    stable = [
        module.name
        for module in pkgutil.walk_packages(opentelemetry.semconv.__path__, "opentelemetry.semconv.")
        if "_incubating" not in module.name
    ]
    theirs = {value for name in stable for key, value in vars(import_module(name)).items() if key.isupper()}
    assert set(STANDARD.values()) - theirs == set()


def test_the_schema_is_that_of_the_version_in_the_docstring() -> None:
    """The URL that telemetry carries names the version of the conventions that the module says it follows."""
    version = names.SCHEMA_URL.removeprefix("https://opentelemetry.io/schemas/")
    assert version.count(".") == 2
    assert f"version {version.rpartition('.')[0]}," in str(names.__doc__)
