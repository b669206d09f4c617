"""The options that both sides share."""
