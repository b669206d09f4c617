"""OTLP in: the receiver, the records it makes, and the bounded store that holds them."""
