"""What must be made anew in a process that is forked off this one.

Only the forking thread goes on in the child: the threads that worked for us are gone, and a lock that one of them held
is held for good.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def in_child(method: Callable[[], object]) -> None:
    """Call a bound method in every process that is forked off this one, as long as its object lives."""
    if hasattr(os, "register_at_fork"):
        weak = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (found := weak()) and found())
