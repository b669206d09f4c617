"""What another library shows, row by row, in a process of its own environment: only the standard library is needed.

    ROWS = Rows()


    @ROWS("`service_name`")
    def service_name() -> object: ...


    if __name__ == "__main__":
        ROWS.main()

The program prints one JSON object: the versions, and what each row showed. Each row runs in a process of its own, since
such a library is set up once for a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import Any

Row = Callable[[], object]
NOT_INSTALLED = "not installed"
"""What a row shows that needs a package which is not there."""


class Rows:
    """Functions by the first cell of their row, each with the variables of the process that it needs."""

    def __init__(self) -> None:
        self._functions: dict[str, tuple[Row, dict[str, str]]] = {}

    def __call__(self, title: str, **variables: str) -> Callable[[Row], Row]:
        def register(function: Row) -> Row:
            self._functions[title] = (function, variables)
            return function

        return register

    def main(self, *packages: str) -> None:
        """Run the row that the command line names, or all of them."""
        if len(sys.argv) > 1:
            print("\n" + json.dumps(self._functions[sys.argv[1]][0]()))
            return
        with ThreadPoolExecutor(2) as pool:
            runs = {title: pool.submit(self._shown, title, run[1]) for title, run in self._functions.items()}
        shown = {title: run.result() for title, run in runs.items()}
        versions = {package: metadata.version(package) for package in packages}
        print(json.dumps({"versions": versions, "rows": shown}, indent=1, ensure_ascii=False))

    def _shown(self, title: str, variables: dict[str, str]) -> object:
        command = [sys.executable, sys.argv[0], title]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{title}\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def receiving() -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """An HTTP server on the loopback that takes whatever it is sent: its URL, and path and headers of each request."""
    seen: list[tuple[str, dict[str, str]]] = []

    class Receiver(BaseHTTPRequestHandler):
        def _take(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = _take

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
