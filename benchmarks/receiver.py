"""An OTLP/gRPC receiver that counts: `python -m benchmarks.receiver CORE`, a process of its own.

Says its port in the first line that it prints. Answers every line that it reads with how many spans have arrived since
the last one. Batches are kept as bytes until then, so that counting never falls into a measurement.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def pin(core: int) -> None:
    """Keep this process on one core; -1 leaves it alone."""
    if core >= 0:
        os.sched_setaffinity(0, {core})


def main(core: int) -> None:
    """Receive until stdin closes."""
    grpc: Any = import_module("grpc")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    pin(core)
    batches: list[bytes] = []

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(keep) if details.method == _METHOD else None

    def keep(request: bytes, context: Any) -> bytes:
        batches.append(request)
        return b""

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    for _ in sys.stdin:
        spans = 0
        for batch in batches:
            for resource in ExportTraceServiceRequest.FromString(batch).resource_spans:
                spans += sum(len(scope.spans) for scope in resource.scope_spans)
        batches.clear()
        print(json.dumps({"spans": spans}), flush=True)
    server.stop(None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
