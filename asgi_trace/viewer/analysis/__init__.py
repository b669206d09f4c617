"""What a trace says: its tree, its failures and their cause, what to show of it, how it compares. Pure functions."""
