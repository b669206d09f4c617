"""The records of the standard library reach a LoggerProvider once each, whatever the user does with handlers."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import context
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from asgi_trace import TraceMiddleware
from asgi_trace._configuration.logs import record_limits
from asgi_trace._export.suppression import suppressed
from asgi_trace._logs.export import LogExport
from asgi_trace._logs.hook import watch
from asgi_trace.testing import CapturedSpans

from ..support.asgi import drive, http_scope

Bodies = list[object]


def memory() -> InMemoryLogRecordExporter:
    return InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]


class Exported:
    """What has been exported so far."""

    def __init__(self) -> None:
        self._memory = memory()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self._memory))

    @property
    def records(self) -> Sequence[ReadWriteLogRecord]:
        return self._memory.get_finished_logs()  # type: ignore[return-value]

    @property
    def bodies(self) -> Bodies:
        return [record.log_record.body for record in self.records]


@pytest.fixture(autouse=True)
def plain_logging() -> Iterator[None]:
    """A `logging` as a new process has it: no handler, no level but the root's; as before afterwards."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    named = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [(each, each.level, each.disabled) for each in (root, *named)]
    for each, _, _ in before:
        each.setLevel(logging.WARNING if each is root else logging.NOTSET)
        each.disabled = False
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    for each, level, disabled in before:
        each.setLevel(level)
        each.disabled = disabled


@pytest.fixture
def exported() -> Iterator[Exported]:
    found = Exported()
    end = watch(LogExport(found.provider, LogRecordLimits()))
    yield found
    end()


def basic_config() -> None:
    logging.basicConfig(level=logging.INFO, force=True, handlers=[logging.NullHandler()])


def dict_config() -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"none": {"class": "logging.NullHandler"}},
            "root": {"handlers": ["none"], "level": "INFO"},
        }
    )


def no_handlers() -> None:
    logging.getLogger().handlers.clear()


@pytest.mark.parametrize("change", [basic_config, dict_config, no_handlers, lambda: None])
def test_a_line_is_exported_once_whatever_changes_the_handlers(exported: Exported, change: object) -> None:
    """Handlers that come, go and are replaced neither end the export nor double it."""
    logging.getLogger("shop").warning("before")
    change()  # type: ignore[operator]
    logging.getLogger("shop").warning("after")

    assert exported.bodies == ["before", "after"]


def test_without_handlers_warnings_still_reach_standard_error(
    exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    """`logging.lastResort` prints what nothing else does, as without us."""
    no_handlers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "lastResort", logging.StreamHandler())
        logging.getLogger("shop").warning("stock is low")

    assert capsys.readouterr().err == "stock is low\n"
    assert exported.bodies == ["stock is low"]


def test_basic_config_still_works(exported: Exported) -> None:
    """It adds its handler: there is none of ours in its way."""
    no_handlers()
    logging.basicConfig(handlers=[logging.NullHandler()])
    assert len(logging.getLogger().handlers) == 1


@pytest.mark.parametrize(
    ("level", "name_level", "seen"),
    [
        (logging.WARNING, logging.NOTSET, False),
        (logging.INFO, logging.NOTSET, True),
        (logging.WARNING, logging.DEBUG, True),
        (logging.DEBUG, logging.ERROR, False),
    ],
)
def test_the_loggers_levels_decide(exported: Exported, level: int, name_level: int, seen: bool) -> None:
    """The export has no level of its own."""
    logger = logging.getLogger("shop.levels")
    logging.getLogger().setLevel(level)
    logger.setLevel(name_level)
    logger.info("sold")
    logger.setLevel(logging.NOTSET)

    assert exported.bodies == (["sold"] if seen else [])


def test_a_filter_of_the_logger_decides(exported: Exported) -> None:
    """What a logger's own filter holds back is not exported."""
    logger = logging.getLogger("shop.filtered")
    logger.addFilter(lambda record: "secret" not in record.getMessage())
    logger.warning("a secret")
    logger.warning("a word")

    assert exported.bodies == ["a word"]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("uvicorn", True),
        ("uvicorn.access", True),
        ("uvicorn.error", True),
        ("hypercorn.access", True),
        ("gunicorn.error", True),
        ("granian.access", True),
        ("_granian", True),
        ("audit", False),
        ("audit.below", False),
        ("uvicornlike", False),
    ],
)
def test_loggers_that_do_not_propagate(exported: Exported, name: str, seen: bool) -> None:
    """Those of servers are exported; any other keeps to itself, as it does from the root logger's handlers."""
    top = logging.getLogger(name.partition(".")[0])
    logger = logging.getLogger(name)
    before = top.propagate, logger.propagate
    top.propagate = False
    logger.warning("words")
    top.propagate, logger.propagate = before

    assert exported.bodies == (["words"] if seen else [])


def test_the_scope_is_the_loggers_name(exported: Exported) -> None:
    """Each logger's records have its name as the instrumentation scope."""
    logging.getLogger("shop.orders").warning("a")
    logging.getLogger().warning("b")

    scopes = [record.instrumentation_scope for record in exported.records]
    assert [scope.name for scope in scopes if scope is not None] == ["shop.orders", "root"]


def test_a_record_belongs_to_the_current_span(exported: Exported, spans: CapturedSpans) -> None:
    """Within a request it has the ids of the SERVER span; after a failed one, the server's line has them, too."""

    async def app(scope: object, receive: object, send: object) -> None:
        logging.getLogger("shop").warning("inside")
        raise ValueError("no stock")

    served = drive(TraceMiddleware(app), http_scope())
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=served.exception)
    logging.getLogger("shop").warning("outside")

    (span,) = spans
    assert span.context is not None
    inside, failed, outside = (record.log_record for record in exported.records)
    for found in (inside, failed):
        assert (found.trace_id, found.span_id) == (span.context.trace_id, span.context.span_id)
    assert outside.span_id == 0


def test_nothing_is_exported_from_within_an_export(exported: Exported) -> None:
    """What any logger says while an exporter works stays out: it would be exported again and again."""
    with suppressed():
        for name in ("opentelemetry.sdk", "grpc", "httpx", "httpcore", "asgi_trace", "an.exporter.of.yours"):
            logging.getLogger(name).warning("exporting")
    logging.getLogger("opentelemetry.sdk").warning("outside")

    assert exported.bodies == ["outside"]


def test_nothing_is_exported_from_within_an_emit() -> None:
    """A processor that logs for each record does not start over."""
    found = Exported()
    seen: list[str] = []

    class Talking(SimpleLogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            seen.append(str(log_record.log_record.body))
            logging.getLogger("talking").warning("seen a record")

    found.provider.add_log_record_processor(Talking(memory()))
    end = watch(LogExport(found.provider, LogRecordLimits()))
    logging.getLogger("shop").warning("sold")
    end()

    assert (found.bodies, seen) == (["sold"], ["sold"])


def test_a_processor_that_raises_harms_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line is written as without us; the failure is said once."""
    found = Exported()

    class Broken(SimpleLogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            raise RuntimeError("broken")

    found.provider.add_log_record_processor(Broken(memory()))
    end = watch(LogExport(found.provider, LogRecordLimits()))
    with caplog.at_level(logging.WARNING):
        logging.getLogger().addHandler(caplog.handler)
        logging.getLogger("shop").warning("one")
        logging.getLogger("shop").warning("two")
    end()

    assert [message for message in caplog.messages if message in {"one", "two"}] == ["one", "two"]
    errors = [record for record in caplog.records if record.name == "asgi_trace" and record.levelno == logging.ERROR]
    assert [error.getMessage() for error in errors] == ["exporting a log record failed; the request goes on without it"]


def test_limits_cut_and_count(exported: Exported, recwarn: pytest.WarningsRecorder) -> None:
    """The limits of the export hold, not those of the environment."""
    end = watch(LogExport(exported.provider, record_limits(128, 4)))
    logging.getLogger("shop").warning("sold", extra={"sku": "abcdefgh"})
    end()

    values = [dict(record.log_record.attributes or {})["sku"] for record in exported.records]
    assert sorted(map(str, values)) == ["abcd", "abcdefgh"]


def test_the_end_takes_everything_back() -> None:
    """Afterwards `logging` is what it was, and nothing is exported."""
    before = logging.Logger.callHandlers
    found = Exported()
    end = watch(LogExport(found.provider, LogRecordLimits()))
    assert logging.Logger.callHandlers is not before
    end()
    logging.getLogger("shop").warning("after")

    assert logging.Logger.callHandlers is before
    assert found.bodies == []


def test_what_another_library_has_put_around_it_stays() -> None:
    """A hook that came later keeps working, and ours passes records on without exporting them."""
    before = logging.Logger.callHandlers
    found = Exported()
    end = watch(LogExport(found.provider, LogRecordLimits()))
    ours = logging.Logger.callHandlers
    seen: list[str] = []

    def theirs(logger: logging.Logger, record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        ours(logger, record)

    try:
        logging.Logger.callHandlers = theirs  # type: ignore[method-assign,assignment]
        end()
        assert logging.Logger.callHandlers is theirs
        logging.getLogger("shop").warning("after")
    finally:
        logging.Logger.callHandlers = before  # type: ignore[method-assign]

    assert (seen, found.bodies) == (["after"], [])


def test_a_suppressed_http_call_is_no_export(exported: Exported) -> None:
    """`suppress_http_instrumentation` silences HTTP instrumentations, not the application's own words."""
    token = context.attach(context.set_value("suppress_http_instrumentation", True))
    logging.getLogger("shop").warning("sold")
    context.detach(token)

    assert exported.bodies == ["sold"]
