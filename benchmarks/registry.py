"""Every peer by name: those that share this environment, and the vendors."""

from __future__ import annotations

from functools import cache

from .peers import (
    BARE,
    OURS,
    AsgiTraceConfigured,
    Contrib,
    ContribQuiet,
    FastAPINative,
    FastAPIStripped,
    Peer,
    StarletteOwn,
)
from .vendors import VENDORS


@cache
def every() -> dict[str, Peer]:
    """All peers by name, ours first."""
    on_opentelemetry = (
        AsgiTraceConfigured(),
        StarletteOwn(),
        Contrib(),
        ContribQuiet(),
        FastAPINative(),
        FastAPIStripped(),
    )
    return {peer.name: peer for peer in (OURS, *on_opentelemetry, *VENDORS, BARE)}
