"""Every peer by name: those that share this environment, and the vendors."""

from __future__ import annotations

from functools import cache

from .peers import OTHERS, OURS, Peer
from .vendors import VENDORS


@cache
def every() -> dict[str, Peer]:
    """All peers by name, ours first."""
    return {peer.name: peer for peer in (*OURS, *OTHERS, *VENDORS)}
