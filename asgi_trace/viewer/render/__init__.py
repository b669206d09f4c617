"""How a trace is shown: terminal, live page, saved page, JSON, SVG."""
