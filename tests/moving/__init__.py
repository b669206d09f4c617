"""Other tracing libraries beside ours: what the page about moving in says of them is what a run shows."""
