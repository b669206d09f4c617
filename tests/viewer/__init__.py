"""`asgi-trace view`."""
