"""`configure(logs=...)`: the log records of a real process arrive at a real collector, with the ids of their spans."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ..support.collectors import GRPC, HTTP, PROTOCOLS, FaultyCollector
from ..support.otlp_receiver import Receiver, plain
from ..support.subprocess import check, run

ONE_LINE = """
    import logging
    from asgi_trace import configure

    configure("shop"{arguments})
    logging.getLogger("shop").warning("stock is low")
"""


def bodies(records: Sequence[LogRecord]) -> list[str]:
    return [record.body.string_value for record in records]


@pytest.mark.parametrize(
    ("arguments", "variables", "arrives"),
    [
        (", logs=True", {}, True),
        (", logs='otlp'", {}, True),
        (", logs=['otlp']", {}, True),
        ("", {"OTEL_LOGS_EXPORTER": "otlp"}, True),
        (", logs=True", {"OTEL_LOGS_EXPORTER": "otlp"}, True),
        (", logs='otlp'", {"OTEL_LOGS_EXPORTER": "none"}, True),
        ("", {}, False),
        ("", {"OTEL_LOGS_EXPORTER": "none"}, False),
        ("", {"OTEL_LOGS_EXPORTER": ""}, False),
        (", logs=()", {"OTEL_LOGS_EXPORTER": "otlp"}, False),
        (", logs=True", {"OTEL_LOGS_EXPORTER": "none"}, False),
        (", logs='none'", {"OTEL_LOGS_EXPORTER": "otlp"}, False),
        (", logs=True", {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_who_decides_whether_logs_are_exported(arguments: str, variables: dict[str, str], arrives: bool) -> None:
    """The argument, and without one the variable; without both no log is exported."""
    with Receiver() as receiver:
        check(ONE_LINE.format(arguments=arguments), OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **variables)
        assert bodies(receiver.logs) == (["stock is low"] if arrives else [])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_logs_arrive_over_both_protocols(protocol: str) -> None:
    """With the same arguments as spans, and all three signals at once."""
    with FaultyCollector(protocol) as collector:
        check(
            f"""
            import logging
            from asgi_trace import configure

            tracing = configure("shop", endpoint={collector.endpoint!r}, protocol={protocol!r}, logs=True)
            with tracing.tracer_provider.get_tracer("test").start_as_current_span("order"):
                logging.getLogger("shop").warning("stock is low")
            assert tracing.force_flush()
            assert dict(tracing.lost) == {{"spans": 0, "logs": 0, "data points": 0}}
            """
        )
        report = collector.report()
    assert (report["logs"], report["spans"]) == (["stock is low"], ["order"])


SERVED = """
    import http.client
    import logging
    import threading
    import time

    import uvicorn

    from asgi_trace import TraceMiddleware, configure
    from asgi_trace.logging import uvicorn_log_config

    tracing = configure("shop", endpoint={endpoint!r}, logs=True)

    async def app(scope, receive, send):
        if scope["type"] == "http":
            logging.getLogger("shop").warning("at " + scope["path"], extra={{"order.id": 7}})
            if scope["path"] == "/broken":
                raise ValueError("no stock")
            await send({{"type": "http.response.start", "status": 200, "headers": []}})
            await send({{"type": "http.response.body", "body": b""}})

    config = uvicorn.Config(TraceMiddleware(app), port=0, lifespan="off", log_config=uvicorn_log_config())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    for path in ("/fine", "/broken"):
        connection = http.client.HTTPConnection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        connection.request("GET", path)
        connection.getresponse().read()
        connection.close()
    server.should_exit = True
    thread.join()
    assert tracing.force_flush()
"""


def test_lines_of_uvicorn_and_of_the_application_have_the_ids_of_the_exported_span() -> None:
    """Access lines, the traceback of a failed request and the application's own lines; on the wire as in the text."""
    with Receiver() as receiver:
        done = run(SERVED.format(endpoint=receiver.endpoint))
        assert done.returncode == 0, done.stderr
        spans = {plain(span.attributes)["url.path"]: span for span in receiver.spans}
        records = list(receiver.logs)

    assert set(spans) == {"/fine", "/broken"}
    for path, span in spans.items():
        mine = [record for record in records if (record.trace_id, record.span_id) == (span.trace_id, span.span_id)]
        found = bodies(mine)
        assert f"at {path}" in found
        assert any(f'"GET {path} HTTP/1.1"' in body for body in found)
        assert ("Exception in ASGI application\n" in found) is (path == "/broken")
        (access_line,) = (line for line in done.stdout.splitlines() if f"GET {path} " in line)
        assert f"trace_id={span.trace_id.hex()} span_id={span.span_id.hex()}" in access_line
        (line,) = (record for record in mine if record.body.string_value == f"at {path}")
        assert plain(line.attributes)["order.id"] == 7
    (traceback,) = (record for record in records if record.body.string_value.startswith("Exception in"))
    assert plain(traceback.attributes)["exception.type"] == "ValueError"
    assert plain(traceback.attributes)["exception.message"] == "no stock"
    assert any(body.startswith("Started server process") for body in bodies(records))


def test_an_exception_of_the_request_is_a_log_record_where_the_variable_says_so() -> None:
    """`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs` sends it to the provider that `configure()` has set."""
    source = SERVED.format(endpoint="ENDPOINT")
    with Receiver() as receiver:
        check(
            source.replace("ENDPOINT", receiver.endpoint),
            OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN="logs",
        )
        events = [record.event_name for record in receiver.logs if record.event_name]
        assert events == ["http.server.request.exception"]
        assert not any(span.events for span in receiver.spans)


def test_the_environment_sets_limits_and_batches() -> None:
    """`OTEL_LOGRECORD_*`, before `OTEL_ATTRIBUTE_*`, and `OTEL_BLRP_*`."""
    with Receiver() as receiver:
        check(
            """
            import logging
            from asgi_trace import configure

            tracing = configure("shop", logs=True)
            for number in range(10):
                logging.getLogger("shop").warning("sold %d", number, extra={"text": "abcdefgh"})
            assert tracing.force_flush()
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="3",
            OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT="5",
            OTEL_BLRP_MAX_EXPORT_BATCH_SIZE="2",
        )
        assert {plain(record.attributes)["text"] for record in receiver.logs} == {"abcde"}
        assert len(receiver.logs) == 10
        assert receiver.batches >= 5  # two records at most in each


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_LOGS_EXPORTER", "jaeger"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "-1"),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "-3"),
        ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "carrier pigeon"),
    ],
)
def test_a_wrong_variable_is_one_warning(variable: str, value: str) -> None:
    """It never stops a service: the logs arrive, and the warning names the variable."""
    with Receiver() as receiver:
        done = run(
            """
            import logging
            from asgi_trace import configure

            logging.basicConfig()
            configure("shop", logs=True)
            logging.getLogger("shop").warning("stock is low")
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            **{variable: value},
        )
        assert done.returncode == 0, done.stderr
        assert "stock is low" in bodies(receiver.logs)
    assert done.stderr.count(variable) == 1


@pytest.mark.parametrize("logs", ["42", "[object()]", "'jaeger'", "None", "['otlp', 1.5]"])
def test_a_wrong_argument_raises(logs: str) -> None:
    """The message names the argument and says what to write."""
    done = run(f"from asgi_trace import configure\nconfigure('shop', exporter='none', logs={logs})")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].split()[1] == "logs"


def test_exporters_and_processors_of_ones_own() -> None:
    """A LogRecordExporter gets batches and its losses are counted; a LogRecordProcessor is taken as it is."""
    out = check(
        """
        import json
        import logging
        from opentelemetry.sdk._logs import LogRecordProcessor
        from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
        from asgi_trace import configure

        class Failing(LogRecordExporter):
            def export(self, batch):
                return LogRecordExportResult.FAILURE
            def force_flush(self, timeout_millis=10000):
                return True
            def shutdown(self):
                print("exporter down")

        class Seeing(LogRecordProcessor):
            def on_emit(self, log_record):
                print("seen", log_record.log_record.body)
            def shutdown(self):
                print("processor down")
            def force_flush(self, timeout_millis=30000):
                return True

        logging.basicConfig(handlers=[logging.NullHandler()])
        tracing = configure("shop", exporter="none", logs=[Failing(), Seeing()])
        logging.getLogger("shop").warning("stock is low")
        assert not tracing.force_flush()
        print(json.dumps(dict(tracing.lost)))
        tracing.shutdown()
        """
    )
    assert "seen stock is low" in out
    assert json.loads(next(line for line in out.splitlines() if line.startswith("{")))["logs"] >= 1
    assert {"exporter down", "processor down"} <= set(out.splitlines())


def test_handlers_stay_and_the_export_ends_with_the_shutdown() -> None:
    """Before, while and after it the user's handlers are the user's; after `shutdown()` nothing of ours is left."""
    check(
        """
        import io
        import logging
        from asgi_trace import configure

        text = io.StringIO()
        call_handlers = logging.Logger.callHandlers
        logging.basicConfig(stream=text, format="%(levelname)s %(message)s")
        handlers = logging.getLogger().handlers[:]
        tracing = configure("shop", exporter="none", logs="console")
        logging.getLogger("shop").warning("one")
        assert logging.getLogger().handlers == handlers
        tracing.shutdown()
        logging.getLogger("shop").warning("two")
        assert text.getvalue() == "WARNING one\\nWARNING two\\n"
        assert logging.Logger.callHandlers is call_handlers
        """
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_collector_refuses_is_counted(protocol: str) -> None:
    """Rejected records count as lost, and the flush says so."""
    with FaultyCollector(protocol, always="INVALID_ARGUMENT" if protocol == GRPC else 400) as collector:
        out = check(
            f"""
            import logging
            from asgi_trace import configure

            logging.basicConfig(handlers=[logging.NullHandler()])
            tracing = configure(
                "shop", endpoint={collector.endpoint!r}, protocol={protocol!r}, exporter="none", logs="otlp"
            )
            for number in range(5):
                logging.getLogger("shop").warning("sold %d", number)
            print(tracing.force_flush(), tracing.lost["logs"] >= 5)
            """
        )
    assert out.split() == ["False", "True"]


def test_an_export_that_logs_does_not_feed_itself() -> None:
    """With gRPC, HTTP and our own loggers at DEBUG the export ends, and none of their lines from within it arrives."""
    with FaultyCollector(HTTP) as collector:
        check(
            f"""
            import logging
            from asgi_trace import configure

            logging.basicConfig(level=logging.DEBUG, handlers=[logging.NullHandler()])
            tracing = configure("shop", endpoint={collector.endpoint!r}, protocol="http/protobuf", logs=True)
            logging.getLogger("shop").warning("sold")
            for _ in range(3):
                assert tracing.force_flush()
            """
        )
        report = collector.report()
    assert [body for body in report["logs"] if body == "sold"] == ["sold"]
    assert not [body for body in report["logs"] if "127.0.0.1" in body]


def test_a_forked_child_exports_its_own_lines() -> None:
    """Each line once: the parent's queue is not the child's."""
    with Receiver() as receiver:
        check(
            f"""
            import logging
            import os
            from asgi_trace import configure

            logging.basicConfig(handlers=[logging.NullHandler()])
            tracing = configure("shop", endpoint={receiver.endpoint!r}, exporter="none", logs="otlp")
            logging.getLogger("shop").warning("parent")
            child = os.fork()
            if child == 0:
                logging.getLogger("shop").warning("child")
                assert tracing.force_flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert tracing.force_flush()
            """,
            PYTHONWARNINGS="default",
        )
        assert sorted(bodies(receiver.logs)) == ["child", "parent"]


def test_importing_the_sdks_logs_runs_no_resource_detector() -> None:
    """Detectors run once, for the resource of `configure()`, and not for a default value inside the SDK."""
    out = check(
        """
        import os
        from opentelemetry.sdk import resources

        detect = resources.ProcessResourceDetector.detect
        seen = []
        def counting(self):
            seen.append("process")
            return detect(self)
        resources.ProcessResourceDetector.detect = counting

        from asgi_trace import configure
        configure("shop", exporter="none", logs="console")
        print(seen.count("process"), os.environ["OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"])
        """,
        OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="process",
    )
    assert out.split() == ["1", "process"]


def test_another_librarys_logger_provider_stays() -> None:
    """One warning says that records are not exported; the spans are ours."""
    done = run(
        """
        import logging
        from opentelemetry import trace
        from opentelemetry._logs import get_logger_provider, set_logger_provider
        from opentelemetry.sdk._logs import LoggerProvider
        from asgi_trace import configure

        logging.basicConfig()
        theirs = LoggerProvider()
        set_logger_provider(theirs)
        tracing = configure("shop", exporter="none", logs="console")
        logging.getLogger("shop").warning("stock is low")
        assert get_logger_provider() is theirs
        assert trace.get_tracer_provider() is tracing.tracer_provider
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("log records are not exported") == 1
