"""How the package talks to OpenTelemetry's API."""
