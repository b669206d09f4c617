"""The report: `benchmarks/RESULTS.md` and `benchmarks/overhead.svg`, from one run."""

from __future__ import annotations

from pathlib import Path

from .chart import svg
from .results import Results
from .tables import markdown, sections

HERE = Path(__file__).resolve().parent
RESULTS, CHART = HERE / "RESULTS.md", HERE / "overhead.svg"

_METHOD = """
Peers on OpenTelemetry run with one SDK provider, `ParentBased(ALWAYS_ON)`, a span processor that does nothing and no
meter provider; vendors with their own tracer and a transport that drops everything, each in an environment of its own.
asgi-trace has every feature on: trust, redaction, route and guard. It is measured twice: on that provider, and after
`configure()`, with the queue of its batch processor and an exporter that drops the spans. Each row is the CPU time, the
instructions or the memory *over the bare application* of the same round; rounds are shuffled and interleaved, and
spread over three generations of processes; ± is half of the distance between the quartiles of the rounds. A unit of
`stream-1000` and `websocket-1000` is a whole response or connection of 1,000 messages, a unit of `children-10` and
`traced-10` is ten spans. `-` is a row that a peer does not have: it does not trace it, or cannot be told to. Other
machines have other figures; the ratios are what to compare.
"""


def text(results: Results) -> str:
    """The whole of RESULTS.md."""
    parts = ["# What tracing costs", "![Overhead per request](overhead.svg)", _about(results), _METHOD.strip()]
    for heading, caption, table in sections(results):
        parts += [f"## {heading}", caption, markdown(table)]
    if results.skipped:
        parts += ["## Left out", "\n".join(f"- `{each.what}`: {each.why}" for each in results.skipped)]
    return "\n\n".join(parts) + "\n"


def _about(results: Results) -> str:
    meta = results.meta
    machine = ", ".join(str(value) for value in meta.get("machine", {}).values() if value)
    versions = ", ".join(f"{name} {version}" for name, version in meta.get("versions", {}).items())
    return f"{meta.get('date', '')}, {machine} cores. {versions}. {meta.get('rounds', '?')} rounds."


def write(results: Results) -> list[Path]:
    """Write both files; returns their paths."""
    RESULTS.write_text(text(results), encoding="utf-8")
    CHART.write_text(svg(results), encoding="utf-8")
    return [RESULTS, CHART]
