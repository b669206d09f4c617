"""See traces without a backend: OTLP in over gRPC and HTTP, and the timeline in the terminal and on a live page.

`receive` turns exports into records in a bounded store; `analysis` says what a trace means, in pure functions;
`render` draws it; `serve` is HTTP. The package knows OTLP and the semantic conventions, not the sender: the
traces of any OpenTelemetry service are shown. Needs the extra `view`.
"""
