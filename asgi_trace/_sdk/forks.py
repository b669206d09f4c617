"""What the SDK leaves as it was in a process that is forked off: the id of the instance, and what has been measured.

Private facts of the SDK, each looked up when it is needed; where one does not hold, the SDK's own behaviour stays.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 # pyright: ignore[reportUnusedImport] - before a provider is made
import threading
import uuid
from collections.abc import Iterable
from typing import Any

from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from .._guard import logger

# The SDK's providers use a thread pool in the child of a fork, to renew their resource. The module of that pool holds a
# lock during a fork, and what is registered first runs first in the child: where the module is imported only after a
# provider was made, as the lazy import of `concurrent.futures` allows, the provider waits for that lock for ever.


def renew_instance_id(resource: Resource) -> None:
    """Give the resource of this process a `service.instance.id` of its own. Newer SDKs do that in their providers."""
    if hasattr(sdk_trace.TracerProvider, "_update_resource"):
        return
    given: Any = resource
    attributes = {**resource.attributes, SERVICE_INSTANCE_ID: str(uuid.uuid4())}
    given._attributes = Resource(attributes)._attributes


def forget_measurements(meter_provider: object) -> None:
    """Let all instruments of the SDK's meter provider start at zero, so that nothing is exported by two processes."""
    provider: Any = meter_provider
    try:
        consumer = provider._measurement_consumer
        for storage in consumer._reader_storages.values():
            storage._instrument_view_instrument_matches.clear()
            storage._lock = threading.RLock()
        consumer._lock = threading.Lock()
    except AttributeError as exc:
        logger.debug("metrics of this forked process go on where its parent's were: %r", exc)


def renew_export_locks(readers: Iterable[object]) -> None:
    """Replace what a thread of the parent may have held: the SDK starts the readers' threads anew, and forgets this."""
    for reader in readers:
        if hasattr(reader, "_export_lock"):
            reader._export_lock = threading.Lock()  # pyright: ignore[reportAttributeAccessIssue]
