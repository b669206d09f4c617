"""The client side: `asgi_trace._client`, and the transports over httpx and httpx2."""
