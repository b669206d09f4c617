"""`asgi-trace demo`."""
