"""The benchmarks' own machinery: names, drivers, tables, the load and the gate. No figure is measured here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("rich")

from benchmarks import __main__ as command
from benchmarks import callgrind, cases, chart, end_to_end, environments, gate, report, tables
from benchmarks.cases import Case
from benchmarks.children import Child, ChildError
from benchmarks.peers import BARE, OTHERS, OURS, Peer, provider
from benchmarks.registry import every
from benchmarks.results import COLD, CONFIGURED, HOT, INSTRUCTIONS, EndToEnd, Measurement, Results, ratio
from benchmarks.traffic import Requests, drive

from .support.versions import installed

WITH_SDK, AFTER_CONFIGURE = OURS
SDK = next(peer for peer in OTHERS if peer.name == "sdk")
DRIVEN = [case for case in cases.CASES if case.shape not in (cases.IN_FLIGHT, "fastapi-1000")]


def results(ours: float = 20.0) -> Results:
    """A run as `--json` keeps it."""
    row = f"server/{cases.BARE}/{cases.SAMPLED}"
    return Results(
        meta={
            "date": "2026-11-23",
            "machine": {"python": "CPython 3.11"},
            "versions": {"starlette": "1.0"},
            "rounds": 3,
        },
        measurements=[
            Measurement(clock, row, peer, 2.0, [over - 1, over, over + 1])
            for clock in (HOT, COLD)
            for peer, over in (("asgi-trace", ours), ("starlette", 60.0), ("contrib", 120.0))
        ]
        + [Measurement(INSTRUCTIONS, row, "asgi-trace", 28_000, [250_000.0])]
        + [
            Measurement(INSTRUCTIONS, f"server/{shape}/{cases.SAMPLED}", CONFIGURED, 28_000, [over])
            for shape, over in ((cases.BARE, 100_000.0), (cases.TRACESTATE, 115_000.0))
        ],
        end_to_end=[
            EndToEnd("bare", 0.0, 28_000.0, 34.0, 0.5, 34.0, 0.0, 235_000.0),
            EndToEnd("asgi-trace", 1.0, 7_000.0, 101.5, 2.0, 60.0, 1.0, 180_000.0),
        ],
    )


@pytest.mark.parametrize("case", DRIVEN, ids=lambda case: case.name)
def test_every_row_runs_for_us_and_for_the_bare_application(case: Case) -> None:
    """Every row runs one unit in this process, without suspending, for us and for the bare application."""
    if case.name.startswith("client/get") and installed("httpx") < (0, 28):
        pytest.skip("httpx before 0.28 does not run without an event loop, which would be measured too")
    measured = [peer for peer in (WITH_SDK, SDK, BARE) if peer.measures(case)]
    assert BARE in measured
    assert len(measured) > 1 or case.shape == cases.FULL_QUEUE
    for peer in measured:
        assert peer.runner(case).run(range(2), lambda: 1.0) == 0.0


def test_a_thousand_routes_are_built_and_the_last_one_answers() -> None:
    """The row with a thousand routes reaches an endpoint."""
    case = cases.parse("server/fastapi-1000/sampled")
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    app = BARE.server(case)
    requests = Requests(case, lambda scope, receive, _: app(scope, receive, send))
    drive(requests(0))
    assert [message["status"] for message in sent if "status" in message] == [200]  # type: ignore[operator, index]


@pytest.mark.parametrize(
    ("state", "spans"), [("sampled", 1), ("no-parent", 1), ("unsampled", 0), ("excluded", 0), ("no-provider", 0)]
)
def test_each_state_records_what_it_says(state: str, spans: int) -> None:
    """A row records one span where its name says so, and none elsewhere."""
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    ended: list[ReadableSpan] = []

    class Counting(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)

    provider().add_span_processor(Counting())
    WITH_SDK.runner(cases.parse(f"server/starlette/{state}")).run(range(3))
    assert len(ended) == 3 * spans
    assert {span.attributes["http.route"] for span in ended if span.attributes} == (
        {"/items/{item_id}"} if spans else set()
    )


def test_every_request_is_fresh() -> None:
    """Two requests share neither scope nor header bytes, so nothing a middleware keeps can speed the next one up."""
    scopes = []

    async def app(scope: object, receive: object, send: object) -> None:
        scopes.append(scope)

    requests = Requests(cases.parse("server/headers-40/sampled"), app)
    drive(requests(0))
    drive(requests(1))
    first, second = scopes
    assert len(first["headers"]) == 40  # type: ignore[index]
    assert first["headers"][0][0] is not second["headers"][0][0]  # type: ignore[index]
    assert first["headers"][-1] != second["headers"][-1]  # type: ignore[index]


def test_a_suspending_unit_is_refused() -> None:
    """A coroutine that waits for something cannot be driven without an event loop, and says so."""
    import asyncio

    with pytest.raises(RuntimeError, match="suspended"):
        drive(asyncio.sleep(0, None))


def test_requests_in_flight_are_weighed() -> None:
    """The memory clock finds that a request in flight holds something, in a process that has not grown before."""
    program = (
        "import asyncio;"
        "from benchmarks import cases, worker;"
        "from benchmarks.peers import OURS;"
        "case = cases.parse('server/in-flight/sampled');"
        "print(asyncio.run(worker.bytes_in_flight(OURS[0], case, 2_000)))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 500


def test_rows_are_found_by_glob() -> None:
    """A pattern with a wildcard matches a whole name; a word is found anywhere in it."""
    assert [case.name for case in cases.matching("client/get/*")] == [
        "client/get/no-provider",
        "client/get/unsampled",
        "client/get/sampled",
    ]
    assert {case.shape for case in cases.matching("fastapi")} == set(cases.ROUTES)
    assert cases.chosen([]) == list(cases.CASES)
    for patterns in cases.GROUPS.values():
        assert all(cases.matching(pattern) for pattern in patterns)


def test_the_command_line_parses() -> None:
    """Every command and option is understood, and a wrong one is refused."""
    options = command.arguments().parse_args(
        ["--quick", "--case", "server/bare/*", "--json", "-", "--rounds", "3", "--clock", "hot", "--group", "extras"]
    )
    assert (options.quick, options.case, options.json) == (True, ["server/bare/*"], "-")
    assert (options.rounds, options.clock, options.group) == (3, ["hot"], ["extras"])
    assert command.arguments().parse_args(["gate", "--update"]).update
    assert command.arguments().parse_args(["report", "--from", "run.json"]).source == "run.json"
    assert command.arguments().parse_args(["install-peers", "sentry-sdk"]).names == ["sentry-sdk"]
    with pytest.raises(SystemExit):
        command.arguments().parse_args(["--rounds", "0"])


def test_a_run_survives_its_file() -> None:
    """What `--json` keeps is read back as it was."""
    assert Results.from_json(results().to_json()) == results()


def test_ratios_are_paired_by_round() -> None:
    """A round that was slow for everybody does not widen the spread of a ratio."""
    ours = Measurement(HOT, "row", "asgi-trace", 2.0, [10.0, 20.0, 10.0])
    peer = Measurement(HOT, "row", "contrib", 2.0, [50.0, 100.0, 50.0])
    assert ratio(peer, ours) == (5.0, 0.0)
    assert ratio(peer, Measurement(HOT, "row", "asgi-trace", 2.0, [-1.0, 0.0, 0.0])) is None


def test_tables_show_figures_and_our_share_of_them() -> None:
    """Each cell is a figure with its spread; a peer's cell holds our share of it, unless it is lost in the noise."""
    _, row = tables.clock_table(results(), HOT)
    assert row[2] == "20.0 ±0.50"
    assert row[3].startswith("60.0 ±0.50 (0.333 ±0.0")
    assert row[4].startswith("120 ±0.50 (0.167 ±0.0")
    lost = Measurement(HOT, "row", "contrib", 2.0, [-1.0, 1.0, 3.0])
    assert tables._cell(lost, Measurement(HOT, "row", "asgi-trace", 2.0, [1.0, 1.0, 1.0])) == "1.00 ±1.00"


def test_one_thing_more_is_the_difference_to_the_plain_row() -> None:
    """What a header, a metric or a query costs is what its row costs more than the row without it."""
    assert tables.extras_table(results())[1:] == [["tracestate-1", "+15,000", "-"]]


def test_a_peer_end_to_end_is_shown_with_our_share() -> None:
    """CPU and instructions of a peer's server have the share that asgi-trace with `configure()` takes behind them."""
    served = [("bare", 34.0, 200_000.0), (CONFIGURED, 20.0, 90_000.0), ("starlette", 100.0, 900_000.0)]
    found = Results(end_to_end=[EndToEnd(name, 1.0, 5_000.0, cpu, 1.0, cpu, 1.0, count) for name, cpu, count in served])
    _, _, ours, peer = tables.end_to_end_table(found)
    assert (ours[3], ours[5]) == ("+20.0 ±1.00", "+90,000")
    assert (peer[3], peer[5]) == ("+100 ±1.00 (0.200)", "+900,000 (0.100)")


def test_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A run is shown on the console, each row on one line, with what was left out and why."""
    found = results()
    found.skip("sentry", "not [bold]installed[/bold]")
    tables.show(found)
    printed = capsys.readouterr().out
    assert any("server/bare/sampled" in line and "0.333" in line for line in printed.splitlines())
    assert "sentry: not [bold]installed[/bold]" in printed


def test_the_report_holds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RESULTS.md has a table for each clock and the server, no verdicts; the chart is well-formed and names peers."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(report, "CHART", tmp_path / "overhead.svg")
    kept = tmp_path / "run.json"
    kept.write_text(results().to_json())
    assert command.main(["report", "--from", str(kept)]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    for heading in ("## Hot CPU time", "## Cold CPU time", "## Instructions", "## One thing more", "## End to end"):
        assert heading in text
    assert "+102 ±2.00" in text
    assert "+180,000" in text
    assert "PASS" not in text
    drawn = ElementTree.fromstring((tmp_path / "overhead.svg").read_text())
    words = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"asgi-trace", "Starlette's own", "contrib"} <= words


def counts(ours: float, peer: float = 400_000.0) -> gate.Counts:
    return {"server/bare/sampled": {"bare": 28_000.0, "asgi-trace": ours, CONFIGURED: 100_000.0, "starlette": peer}}


@pytest.mark.parametrize(("growth", "kept"), [(1.03, False), (1.01, True), (0.5, True)])
def test_the_gate_fails_on_three_per_cent_and_passes_on_one(growth: float, kept: bool) -> None:
    """On the baseline's own build, more than two per cent more instructions in one row is a regression."""
    ours, configured = gate.compare(counts(250_000.0), counts(250_000.0 * growth), same_build=True)
    assert ours.kept is kept
    assert ours.growth == pytest.approx(growth - 1)
    assert (configured.peer, configured.kept, configured.growth) == (CONFIGURED, True, 0.0)


@pytest.mark.parametrize(("ours", "kept"), [(300_000.0, False), (264_000.0, True)])
def test_on_another_build_shares_of_a_peer_are_compared(ours: float, kept: bool) -> None:
    """What makes every library dearer is not a regression of ours; what makes us dearer than the peer is."""
    change, _ = gate.compare(counts(250_000.0), counts(ours * 1.5, 600_000.0), same_build=False)
    assert change.kept is kept


def test_the_gate_judges_by_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same build is held to the baseline, another one to its share of a peer, and an unknown one is let through."""
    now = counts(250_000.0)
    build = {"python": "3.11.7", "starlette": "1.0"}
    said: list[str] = []
    baseline = tmp_path / "baseline.json"
    monkeypatch.setattr(callgrind, "missing", lambda: None)
    monkeypatch.setattr(environments, "missing", lambda peer: None)
    monkeypatch.setattr(environments, "build", lambda: dict(build))
    monkeypatch.setattr(gate, "count", lambda: now)

    def run(update: bool = False) -> int:
        return gate.run(said.append, update, baseline)

    assert run(update=True) == 0
    assert json.loads(baseline.read_text())["entries"] == [{"build": build, "rows": now}]
    assert run() == 0
    now = counts(262_000.0)
    assert run() == 1
    build["starlette"] = "1.1"
    assert run() == 0
    assert any("another build" in line for line in said)
    build["python"] = "3.14.0"
    assert run() == 0
    assert "skipped" in said[-1]


@pytest.mark.parametrize(
    ("counter", "package", "status"), [("valgrind is not installed", None, 0), (None, "broken", 1)]
)
def test_the_gate_is_skipped_without_a_counter_but_not_without_us(
    monkeypatch: pytest.MonkeyPatch, counter: str | None, package: str | None, status: int
) -> None:
    """Without valgrind the gate says so and passes; a package that cannot be imported fails it."""
    said: list[str] = []
    monkeypatch.setattr(callgrind, "missing", lambda: counter)
    monkeypatch.setattr(environments, "missing", lambda peer: package)
    assert gate.run(said.append) == status
    assert (counter or package or "") in said[0]


def test_a_dump_of_callgrind_is_read(tmp_path: Path) -> None:
    """The label and the instructions come out of a dump, divided by the units."""
    dump = tmp_path / "out.1"
    dump.write_text(
        "desc: Trigger: Client Request: server/bare/sampled asgi-trace 10\nevents: Ir\n"
        "fn=(1) start\n16 4\ncfn=(2) _PyObject_Malloc\ncalls=30 0\n16 900\ntotals: 5000\n"
    )
    assert callgrind.dumps(str(tmp_path)) == {"server/bare/sampled asgi-trace": 500.0}


def test_peers_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A vendor whose environment was never made is left out by name, with the command that makes it."""
    monkeypatch.setenv("ASGI_TRACE_BENCH_CACHE", str(tmp_path))
    reason = environments.missing(every()["sentry"])
    assert reason is not None
    assert "install-peers" in reason


def test_an_installation_that_fails_is_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A vendor that cannot be installed is reported, and counts as missing."""
    monkeypatch.setenv("ASGI_TRACE_BENCH_CACHE", str(tmp_path))
    failure = subprocess.CompletedProcess([], 1, "", "no such package")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failure)
    said: list[str] = []
    assert not environments.install(["ddtrace"], said.append)
    assert "no such package" in said[-1]
    assert environments.python("ddtrace") is None


def test_a_measuring_process_answers_and_says_what_went_wrong() -> None:
    """A process answers with a figure, with the error of a row that it cannot run, and is missed when it has ended."""
    with Child("benchmarks.worker", "main/configured") as worker:
        assert worker.ask(clock="hot", peer=CONFIGURED, case="spans/children-10/sampled")["found"] > 0
        assert worker.ask(clock="cold", peer=CONFIGURED, case="server/bare/sampled")["found"] > 0
        with pytest.raises(ChildError, match="KeyError"):
            worker.ask(clock="hot", peer=CONFIGURED, case="server/nothing/sampled")
    with Child("benchmarks.nothing") as missing, pytest.raises(ChildError, match="No module named"):
        missing.ask()


def test_a_queue_that_is_full_stays_full() -> None:
    """The row with a full queue finds it full: its exporter never returns, and nothing empties it."""
    with Child("benchmarks.worker", "main/full-queue") as worker:
        assert worker.ask(clock="hot", peer=CONFIGURED, case="server/full-queue/sampled")["found"] > 0


def test_a_server_is_measured_end_to_end() -> None:
    """Real servers under load: the bare one makes no span, and one with `configure()` exports one for each request."""
    found = Results()
    end_to_end.measure([CONFIGURED], 1, 0.1, found, sampling=(1.0,), count=False)
    assert [(each.peer, round(each.spans, 2)) for each in found.end_to_end] == [("bare", 0.0), (CONFIGURED, 1.0)]
    assert all(each.requests_per_second > 0 and each.cpu != 0 for each in found.end_to_end)
    assert found.skipped == []


def test_every_peer_says_what_it_measures() -> None:
    """Peers have distinct names, and each measures some rows."""
    peers: list[Peer] = list(every().values())
    assert len({peer.title for peer in peers}) == len(peers)
    assert all(any(peer.measures(case) for case in cases.CASES) for peer in peers)
    assert chart.svg(Results()).startswith("<svg")
