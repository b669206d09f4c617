"""How long the end of a process may take."""

STOP_SECONDS = 4.0
"""The longest that all stops together wait for a collector: with what else a stop takes, the process ends within 5
seconds. Kubernetes and Docker kill after 10 or 30; the SDK alone would wait for up to 30."""
