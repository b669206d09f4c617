"""The report: `benchmarks/RESULTS.md` and `benchmarks/overhead.svg`, from one run."""

from __future__ import annotations

from pathlib import Path

from .chart import svg
from .results import Results
from .table import CAPTIONS, TITLES, clock_table, end_to_end_table, markdown, target_table
from .targets import verdicts

HERE = Path(__file__).resolve().parent
RESULTS, CHART = HERE / "RESULTS.md", HERE / "overhead.svg"

_METHOD = """
Peers on OpenTelemetry run with one SDK provider, `ParentBased(ALWAYS_ON)`, a span processor that does nothing and no
meter provider; vendors with their own tracer and a transport that drops everything, each in an environment of its own.
asgi-trace has every feature on: trust, redaction, route and guard; `configure()` is the same with the provider that
`configure()` makes. Each row is the CPU time, the instructions or the memory *over the bare application* of the same
round; rounds are shuffled and interleaved, and spread over three generations of processes. Peers' cells are multiples
of asgi-trace's overhead in the same rounds, or plain figures where that is too small to be told from noise; ± is half
of the distance between the quartiles of the rounds. A unit of `stream-1000` and `websocket-1000` is a whole response or
connection of 1,000 messages. `-` is a row that a peer does not have: it does not trace it, or cannot be told to. Other
machines have other figures; the ratios are what to compare.
"""


def text(results: Results) -> str:
    """The whole of RESULTS.md."""
    parts = ["# What tracing costs", "![Overhead per request](overhead.svg)", _about(results), _METHOD.strip()]
    found = verdicts(results)
    if found:
        kept = sum(verdict.kept for verdict in found)
        parts += ["## Promises", f"{kept} of {len(found)} are kept.", markdown(target_table(results))]
    for clock in results.clocks():
        parts += [f"## {TITLES[clock]}", CAPTIONS[clock], markdown(clock_table(results, clock))]
    if results.end_to_end:
        parts += ["## End to end", _end_to_end_caption(results), markdown(end_to_end_table(results))]
    if results.skipped:
        lines = [f"- `{each.what}`: {each.why}" for each in results.skipped]
        parts += ["## Left out", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _about(results: Results) -> str:
    meta = results.meta
    machine = ", ".join(str(value) for value in meta.get("machine", {}).values() if value)
    versions = ", ".join(f"{name} {version}" for name, version in meta.get("versions", {}).items())
    return f"{meta.get('date', '')}, {machine} cores. {versions}. {meta.get('rounds', '?')} rounds."


def _end_to_end_caption(results: Results) -> str:
    load = results.meta.get("load", "a load generator")
    return (
        f"uvicorn on one core, the load ({load}, 16 connections) and an OTLP/gRPC receiver on the other, a Starlette "
        "application, `BatchSpanProcessor` with a queue of 65,536. CPU is that of the server's process over the bare "
        "server, spans flushed inside the measured time: on the event loop's thread (the request path), encoding spans "
        "for OTLP, and the rest of exporting them (serialising, gRPC, other threads)."
    )


def write(results: Results) -> list[Path]:
    """Write both files; returns their paths."""
    RESULTS.write_text(text(results), encoding="utf-8")
    CHART.write_text(svg(results), encoding="utf-8")
    return [RESULTS, CHART]
