"""The OTLP exporters."""
