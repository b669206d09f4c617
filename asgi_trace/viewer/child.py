"""A command that runs under the viewer: started with our streams, ended with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Event, Thread

_INTERRUPTED_ENDS_IN, _TERMINATED_ENDS_IN = 10.0, 5.0


class Child:
    """The running command. `ended` is set when it has ended. Raises OSError when it cannot be started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(list(command), env=dict(environment))  # noqa: S603 - the user's own command
        self.ended: Event = Event()
        Thread(target=self._wait, name="asgi-trace-command", daemon=True).start()

    def _wait(self) -> None:
        self._process.wait()
        self.ended.set()

    def stop(self) -> int:
        """End it: an interrupt first, as Ctrl-C gives it, then SIGTERM, then SIGKILL. Returns its exit code."""
        if not self.ended.is_set() and not _terminal_interrupts_it():
            self._process.send_signal(signal.SIGINT)
        for patience, last_resort in (
            (_INTERRUPTED_ENDS_IN, self._process.terminate),
            (_TERMINATED_ENDS_IN, self._process.kill),
        ):
            if self.ended.wait(patience):
                break
            last_resort()
        return self.exit_code()

    def exit_code(self) -> int:
        """Its exit code; that of a shell for one that a signal ended."""
        code = self._process.wait()
        return code if code >= 0 else 128 - code


def _terminal_interrupts_it() -> bool:
    """Has the terminal sent Ctrl-C to the command already, which is in our foreground group? A second one would be
    taken as impatience by many servers.
    """
    try:
        return os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False
