"""OTLP out: how telemetry leaves the process."""
