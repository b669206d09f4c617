"""The options that the middleware and the transports share, checked and parsed once, at construction."""
