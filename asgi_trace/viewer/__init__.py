"""See traces without a backend: an OTLP/gRPC receiver, a bounded store, and the timeline in terminal, HTML or SVG.

The package knows OTLP and the semantic conventions, not who sent the spans: any service that exports OTLP over gRPC
shows up, ours or not. Needs the extra `otlp`.
"""
