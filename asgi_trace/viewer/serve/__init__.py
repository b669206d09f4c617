"""HTTP: OTLP in on one port, the page and the API on another. Starlette and uvicorn are known in here only."""
