"""The server side: `TraceMiddleware` and all below it."""
