"""OTLP in: protocols and files, the records they make, and the bounded store that holds them."""
