"""`traced`: a span around a function, a coroutine or a generator of the application."""
