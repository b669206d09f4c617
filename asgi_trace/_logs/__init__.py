"""Log records of the standard library as OpenTelemetry's: what `configure(logs=True)` exports."""
