"""The place that a stack trace names, in six languages, and in texts that only look like one."""

from __future__ import annotations

import time

import pytest

from asgi_trace.viewer.analysis.stack_traces import where

PYTHON = """Traceback (most recent call last):
  File "/srv/app/stock.py", line 31, in take
    run(statement)
  File "/usr/lib/python3.11/site-packages/sqlite/thing.py", line 7, in run
    raise
sqlite3.IntegrityError: CHECK constraint failed
"""
PYTHON_GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/srv/app/main.py", line 5, in gather
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/app/worker.py", line 9, in work
    | ValueError: x
"""
NODE = """Error: no stock
    at new Stock (/app/node_modules/orm/index.js:10:5)
    at async take (/app/src/stock.js:31:11)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
"""
NODE_MODULE = "TypeError: x\n    at file:///app/server.mjs:4:9\n    at node:internal/main/run_main_module:23:47\n"
NODE_METHOD = "Error: x\n    at Object.take [as run] (C:\\app\\stock.js:7:3)\n"
JAVA = """java.lang.IllegalStateException: no stock
\tat java.base/java.util.Optional.orElseThrow(Optional.java:403)
\tat app//com.acme.stock.StockService.take(StockService.java:31)
\tat org.springframework.web.servlet.DispatcherServlet.doDispatch(DispatcherServlet.java:1072)
"""
JAVA_CAUSE = """jakarta.servlet.ServletException: request failed
\tat com.acme.web.Controller.post(Controller.java:12)
Caused by: java.sql.SQLException: constraint
\tat org.postgresql.core.v3.QueryExecutorImpl.receive(QueryExecutorImpl.java:2733)
\tat com.acme.stock.Repository$Inner.lambda$save$0(Repository.java:44)
\t... 40 more
"""
KOTLIN = "java.lang.Error: x\n\tat com.acme.MainKt.main(Main.kt:3)\n"
GO = """goroutine 7 [running]:
go.opentelemetry.io/otel/sdk/trace.recordStackTrace()
\t/root/go/pkg/mod/go.opentelemetry.io/otel/sdk@v1.24.0/trace/span.go:455 +0x4c
panic({0x6b1a40?, 0x7a8f50?})
\t/usr/local/go/src/runtime/panic.go:884 +0x212
main.(*Stock).Take(0xc000010000, 0x3)
\t/app/stock.go:31 +0x1d
created by net/http.(*Server).Serve in goroutine 1
\t/usr/local/go/src/net/http/server.go:3086 +0x5cb
"""
RUBY = """/app/models/stock.rb:31:in `take': no stock (RuntimeError)
\tfrom /usr/lib/ruby/gems/3.2.0/gems/rack-3.0/lib/rack/builder.rb:10:in `call'
"""
RUBY_34 = "/var/gems/x.rb:1:in 'Array#each': no (KeyError)\n\tfrom /app/stock.rb:8:in 'Stock#take'\n"
DOTNET = """System.InvalidOperationException: no stock
   at System.Linq.ThrowHelper.ThrowNoElementsException() in /_/src/libraries/System.Linq/ThrowHelper.cs:line 9
   at Acme.Stock.StockService.Take(String sku, Int32 count) in C:\\src\\StockService.cs:line 31
   at Microsoft.AspNetCore.Mvc.Infrastructure.ActionMethodExecutor.Execute()
"""


@pytest.mark.parametrize(
    ("stacktrace", "place"),
    [
        (PYTHON, "stock.py:31 in take"),
        (PYTHON_GROUP, "worker.py:9 in work"),
        (NODE, "stock.js:31 in take"),
        (NODE_MODULE, "server.mjs:4"),
        (NODE_METHOD, "stock.js:7 in take [as run]"),
        (JAVA, "StockService.java:31 in take"),
        (JAVA_CAUSE, "Repository.java:44 in lambda$save$0"),
        (KOTLIN, "Main.kt:3 in main"),
        (GO, "stock.go:31 in main.(*Stock).Take"),
        (RUBY, "stock.rb:31 in take"),
        (RUBY_34, "stock.rb:8 in Stock#take"),
        (DOTNET, "StockService.cs:31 in Take"),
        (PYTHON.replace("\n", "\r\n"), "stock.py:31 in take"),
        ("Error: x\n    at run (/app/node_modules/a/b.js:1:2)\n", "b.js:1 in run"),
        ("no trace at all", ""),
        ("", ""),
        ("   at nothing", ""),
    ],
)
def test_the_place_of_an_exception(stacktrace: str, place: str) -> None:
    """The innermost frame of the application's own code is named, whichever language wrote it."""
    assert where(stacktrace) == place


@pytest.mark.parametrize(
    "piece", ["    at (", "\tat a.", '  File "', "x.rb:1:in `", "(" * 50, ":" * 50, " at a in ", "\t"]
)
def test_no_text_takes_long(piece: str) -> None:
    """A stack trace made to be slow costs no more than reading it."""
    begun = time.process_time()
    where((piece * 4_000)[:32_768])
    where("\n".join([piece * 30] * 1_000))
    assert time.process_time() - begun < 5
