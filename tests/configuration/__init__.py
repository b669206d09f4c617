"""`configure()` and its variables."""
