"""From a scope to a route."""
