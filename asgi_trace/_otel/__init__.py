"""How this package talks to OpenTelemetry's API: context, tracers, instruments, exceptions."""
