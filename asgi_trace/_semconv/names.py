"""The names that this package writes: attributes, span events, log events, metrics, and the fixed values among them.

The names of OpenTelemetry's conventions are those of version 1.44, stable ones only, except where a comment says
otherwise. Names of our own begin with `asgi_trace.`.
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions that the names are from."""

# Attributes of HTTP spans and metrics
METHOD = "http.request.method"
METHOD_ORIGINAL = "http.request.method_original"
RESEND_COUNT = "http.request.resend_count"
REQUEST_HEADER = "http.request.header."
"""Prefix: the name of the header follows, in lower case."""
RESPONSE_HEADER = "http.response.header."
STATUS_CODE = "http.response.status_code"
ROUTE = "http.route"
ERROR_TYPE = "error.type"
PATH = "url.path"
QUERY = "url.query"
SCHEME = "url.scheme"
URL_FULL = "url.full"
URL_TEMPLATE = "url.template"  # in development
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
PEER_ADDRESS = "network.peer.address"
PEER_PORT = "network.peer.port"
PROTOCOL_NAME = "network.protocol.name"
PROTOCOL_VERSION = "network.protocol.version"
USER_AGENT = "user_agent.original"

# Attributes of exceptions, as span events have them
CODE_FILE_PATH = "code.file.path"
CODE_FUNCTION_NAME = "code.function.name"
CODE_LINE_NUMBER = "code.line.number"
EXCEPTION_ESCAPED = "exception.escaped"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

# Attributes of spans around code

# Attributes of our own
CANCELLED = "asgi_trace.cancelled"
CLIENT_DISCONNECTED = "asgi_trace.client_disconnected"
CLOSE_CODE = "asgi_trace.websocket.close_code"
MESSAGES_RECEIVED = "asgi_trace.websocket.messages_received"
MESSAGES_SENT = "asgi_trace.websocket.messages_sent"

# Values with a meaning of their own
OTHER_METHOD = "_OTHER"
OTHER_ERROR = "_OTHER"
INCOMPLETE_RESPONSE = "incomplete_response"

# Log events, for exceptions
SERVER_EXCEPTION = "http.server.request.exception"
CLIENT_EXCEPTION = "http.client.request.exception"
BACKGROUND_EXCEPTION = "asgi_trace.background.exception"
TRACED_EXCEPTION = "asgi_trace.traced.exception"

# Metrics
SERVER_DURATION = "http.server.request.duration"
SERVER_ACTIVE_REQUESTS = "http.server.active_requests"
SERVER_REQUEST_SIZE = "http.server.request.body.size"
SERVER_RESPONSE_SIZE = "http.server.response.body.size"
CLIENT_DURATION = "http.client.request.duration"
CLIENT_ACTIVE_REQUESTS = "http.client.active_requests"
CLIENT_REQUEST_SIZE = "http.client.request.body.size"
CLIENT_RESPONSE_SIZE = "http.client.response.body.size"
