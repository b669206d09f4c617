"""One request or WebSocket on the server's side, from the decision to trace it to the end of its span."""
