"""Long runs that are started by name, `python -m pytest -m campaign tests/campaigns`: real servers under load, faults.

`-k` chooses rows, for example `-k "uvicorn and SIGTERM"`. Each campaign ends by itself, stays on loopback and prints a
table at its end.
"""
