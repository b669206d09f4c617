"""`python -m asgi_trace`: the same as the command `asgi-trace`."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
