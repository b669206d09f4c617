"""The semantic conventions: names, and what a scope or a request becomes."""
