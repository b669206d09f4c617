"""One adapter for each framework that keeps the matched route to itself, in a module named after it.

An adapter reports the template from the framework's own public hook, and the exceptions that the framework answers
itself. Importing this package imports no framework.
"""

from __future__ import annotations

from .._server.current import report_exception

__all__ = ["report_exception"]
