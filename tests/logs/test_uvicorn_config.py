"""`uvicorn_log_config()`: uvicorn's own logging with the ids, and nothing of the user's replaced."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import logging.handlers
from io import StringIO

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace.logging import JSONFormatter, uvicorn_log_config
from asgi_trace.testing import CapturedSpans

from ..support.log_capture import (
    get,
    ids_of,
    loggers_restored,
    raw,
    shop,
)


def test_uvicorns_configuration_leaves_the_users_logging_alone(spans: CapturedSpans) -> None:
    """Handlers, filters, formatters and the record factory of the application are what they were."""
    root = logging.getLogger()
    factory, log = logging.getLogRecordFactory(), StringIO()
    own = logging.StreamHandler(log)
    own.setFormatter(logging.Formatter("mine: %(message)s"))
    shop.addHandler(own)
    handlers, filters, level = root.handlers[:], root.filters[:], root.level
    with loggers_restored("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.config.dictConfig(uvicorn_log_config())
        assert (root.handlers, root.filters, root.level) == (handlers, filters, level)
        assert logging.getLogRecordFactory() is factory
        assert (shop.handlers, shop.disabled, own.filters) == ([own], False, [])
        shop.warning("still here")
    shop.removeHandler(own)
    assert log.getvalue() == "mine: still here\n"


def test_a_users_own_logger_joins_the_configuration(spans: CapturedSpans) -> None:
    """The configuration is a fresh dict: a logger that is added to it writes through handlers with the ids."""
    config = uvicorn_log_config(json=True, service_name="orders")
    log = StringIO()
    config["handlers"]["default"]["stream"] = log
    config["loggers"]["shop"] = {"handlers": ["default"], "level": "INFO"}
    with loggers_restored("shop", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.config.dictConfig(config)
        asyncio.run(get(TraceMiddleware(raw)))
    line = json.loads(log.getvalue())
    assert (line["trace_id"], line["span_id"]) == ids_of(spans.server)
    assert (line["message"], line["service.name"]) == ("raw", "orders")
    assert "shop" not in uvicorn_log_config()["loggers"]


@pytest.mark.parametrize("json_lines", [False, True])
@pytest.mark.parametrize("use_colors", [None, True, False])
def test_uvicorns_option_use_colors_works_with_either_format(json_lines: bool, use_colors: bool | None) -> None:
    """Uvicorn writes its option into both formatters, whatever they are."""
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn_log_config(json=json_lines)
    with loggers_restored("uvicorn", "uvicorn.error", "uvicorn.access"):
        uvicorn.Config(raw, log_config=config, use_colors=use_colors)
        [handler] = logging.getLogger("uvicorn.access").handlers
        assert isinstance(handler.formatter, JSONFormatter) is json_lines
    assert config["formatters"]["access"].get("use_colors") is use_colors
