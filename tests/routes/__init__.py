"""One test module for each framework."""
