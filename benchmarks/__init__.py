"""What asgi-trace and other tracing libraries cost per request, measured side by side in one run.

`python -m benchmarks --help` shows the commands.
"""
