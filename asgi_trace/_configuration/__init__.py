"""`configure()`: the OpenTelemetry SDK from arguments and `OTEL_*` variables. Needs the extra `otlp`."""
