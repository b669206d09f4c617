"""`python -m asgi_trace`: the same as the command `asgi-trace`."""

from __future__ import annotations

import sys

from .cli import main

code: int = main()
# CPython remembers a KeyboardInterrupt that passed through `exec` of a string (dataclasses do that while a module is
# imported), though it was handled further up, and after `-m` dies of SIGINT whatever the exit code. Running another
# string makes it forget.
exec("")  # noqa: S102
sys.exit(code)
