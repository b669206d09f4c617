"""How a trace is shown: terminal, HTML page, SVG."""
