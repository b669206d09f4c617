"""The tests; their folders mirror the districts of the package."""
