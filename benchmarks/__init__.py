"""The ladder: what asgi-trace and its peers cost per request, side by side in one run.

`python -m benchmarks --help`.
"""
