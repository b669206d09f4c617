"""From an ASGI scope to the template of the route that matched it (`http.route`)."""
