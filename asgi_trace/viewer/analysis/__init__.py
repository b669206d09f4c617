"""What a trace says: its tree, its failures, their cause, and the figures of each route. Pure functions."""
