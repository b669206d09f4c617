"""`traced`: spans around functions, coroutines and generators."""
