"""The four clocks, and memory: one file each, with what a measuring process does and how the parent asks for it."""
