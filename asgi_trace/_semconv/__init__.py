"""OpenTelemetry's semantic conventions for HTTP: names, and the values of a scope or a request as attributes."""
