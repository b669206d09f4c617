"""Where the SDK is not as our way of measuring needs it, the SDK's own is used, and one record says so."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asgi_trace import TraceMiddleware
from asgi_trace._otel import metrics

from ..support.asgi import OK, drive, http_scope


def test_an_sdk_that_is_not_as_expected_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Several middlewares measure with the SDK's own instruments, and one INFO record gives the reason."""

    def absent(name: str) -> object:
        raise ImportError(f"{name} needs another SDK")

    monkeypatch.setattr(metrics, "import_module", absent)
    caplog.set_level("INFO", "asgi_trace")
    for _ in range(3):
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], shutdown_on_exit=False)
        drive(TraceMiddleware(OK, meter_provider=provider, metrics=["http.server.request.duration"]), http_scope())
        data = reader.get_metrics_data()
        assert data is not None
        assert data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].count == 1  # type: ignore[union-attr]
    said = [record.levelname for record in caplog.records if "own way of measuring" in record.getMessage()]
    assert said == ["INFO"]
