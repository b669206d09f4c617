"""One adapter for each framework that does not put the matched route into the scope, in a module named after it.

An adapter reports the template from the framework's own public hook, and the exceptions that the framework answers
itself. Importing this package imports no framework.
"""

from __future__ import annotations

from .._server.current import report_exception

__all__ = ["report_exception"]
