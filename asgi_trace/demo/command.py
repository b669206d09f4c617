"""What `asgi-trace demo` does: run the story, then print and write what it left behind."""

from __future__ import annotations

import json
import sys
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from .._version import VERSION
from ..viewer.analysis.cause import explain
from ..viewer.analysis.summary import from_histograms, from_spans
from ..viewer.analysis.timeline import Timeline, build
from ..viewer.command import write_out
from ..viewer.live import Live
from ..viewer.receive.ports import PortInUse
from ..viewer.receive.store import Store
from ..viewer.render.data import log_data, metrics_data, trace_data
from ..viewer.render.html import Page, write
from ..viewer.render.progress import Progress
from ..viewer.render.screen import Line, Part, Screen, to_text
from ..viewer.render.svg import picture
from ..viewer.render.terminal import metric_table, route_table, stray_log_table, trace_lines
from ..viewer.render.wording import Colours
from ..viewer.text import plural, wrap
from .scenario import STEPS, Scenario, ServiceFailed, StepFailed

_PICTURE_WIDTH = 110


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    output: Path
    picture: Path | None = None
    json: bool = False
    colour: bool = True
    keep_running: bool = False
    open_browser: bool = False

    @property
    def stays(self) -> bool:
        """Do the services and the live page stay up until Ctrl-C?"""
        return self.keep_running or self.open_browser


def run(options: Options) -> int:
    """Run the demo and return its exit code."""
    progress = Progress(sys.stderr, colour=options.colour)
    try:
        with Scenario(progress, page=options.stays) as scenario:
            for problem in scenario.problems:
                progress.warn(problem)
            scenario.start()
            scenario.drive()
            if options.stays:
                scenario.wait_for_traces()
                _show(scenario, options)
                _write(scenario, options, progress)
                _keep_running(scenario, options, progress)
            progress.doing("stopping the services")
            scenario.stop_services()
            progress.done("all services are stopped")
        if options.stays:
            _write_page(scenario, options)
        else:
            _show(scenario, options)
            _write(scenario, options, progress)
    except KeyboardInterrupt:
        progress.warn("interrupted; everything is stopped")
        return 130
    except (ServiceFailed, StepFailed, PortInUse) as exc:
        progress.warn(f"the demo failed: {exc}")
        return 1
    except BrokenPipeError:
        raise
    except OSError as exc:
        progress.warn(f"a file cannot be written: {exc}")
        return 1
    if scenario.forwarder is not None:
        tell = progress.warn if scenario.forwarder.lost else progress.done
        tell(scenario.forwarder.report())
    return 0


def timelines_of(store: Store, order: Sequence[str]) -> list[Timeline]:
    """The traces of the story in its order, then all others."""
    timelines = {trace.trace_id: build(trace) for trace in store.traces() if trace.spans}
    first = [timelines.pop(trace_id) for trace_id in order if trace_id in timelines]
    return first + list(timelines.values())


def _show(scenario: Scenario, options: Options) -> None:
    timelines = timelines_of(scenario.store, list(scenario.headings))
    if options.json:
        write_out(json.dumps(report(scenario, timelines, options.output), indent=2, default=str) + "\n")
        return
    screen, colours = Screen.of(sys.stdout, colour=options.colour), Colours()
    lines: list[Part] = []
    for timeline in timelines:
        lines += trace_lines(timeline, screen, colours, heading=scenario.headings.get(timeline.trace_id, ""))
    lines += route_table(from_spans(scenario.store.routes()), screen, colours)
    lines += metric_table(from_histograms(scenario.store.histograms()), screen, colours)
    lines += stray_log_table(scenario.store.stray_logs(), screen, colours)
    write_out(to_text([*lines, *_verdicts(timelines, screen.width)], screen))


def _verdicts(timelines: Sequence[Timeline], width: int) -> list[Line]:
    failed = [timeline for timeline in timelines if timeline.failed]
    causes = [cause.sentence for timeline in failed if (cause := explain(timeline))]
    lines: list[Line] = [[(f"{plural(len(timelines), 'request')}, {len(failed)} failed.", "bold")]]
    return lines + [[(part, "bad")] for cause in causes for part in wrap(cause, width)]


def report(scenario: Scenario, timelines: Sequence[Timeline], page: Path) -> dict[str, object]:
    """Everything that the demo found out, for `--json`."""
    return {
        "asgi_trace": VERSION,
        "page": str(page.resolve()),
        "traces": [trace_data(timeline, scenario.headings.get(timeline.trace_id, "")) for timeline in timelines],
        "metrics": metrics_data(scenario.store.histograms()),
        "logs_outside_requests": [log_data(log) for log in scenario.store.stray_logs()],
    }


def _write(scenario: Scenario, options: Options, progress: Progress) -> None:
    _write_page(scenario, options)
    progress.done(f"the same as a page: {options.output.resolve()}")
    if not options.stays:
        progress.done("the same as a live page: asgi-trace demo --open")
    if options.picture is not None:
        _write_picture(scenario, options.picture)
        progress.done(f"the failed request as a picture: {options.picture.resolve()}")


def _write_page(scenario: Scenario, options: Options) -> None:
    store = scenario.store
    page = Page(
        timelines_of(store, list(scenario.headings)),
        from_histograms(store.histograms()),
        store.stray_logs(),
        title="asgi-trace demo",
        headings=scenario.headings,
        remarks=["Three services in three processes: shop (FastAPI) calls orders (Starlette) calls inventory (ASGI)."],
    )
    write(page, options.output)


def _write_picture(scenario: Scenario, path: Path) -> None:
    timelines = timelines_of(scenario.store, list(scenario.headings))
    timeline = next((timeline for timeline in timelines if timeline.failed), timelines[0])
    lines = trace_lines(timeline, Screen(width=_PICTURE_WIDTH))[1:-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(lines, f"Timeline of {timeline.title} across {', '.join(timeline.services)}"), "utf-8")


def _keep_running(scenario: Scenario, options: Options, progress: Progress) -> None:
    """Show what the user sends, until Ctrl-C."""
    if scenario.page is not None:
        if options.open_browser:
            threading.Thread(target=webbrowser.open, args=(scenario.page.url,), daemon=True).start()
        progress.done(f"the live page with these traces: {scenario.page.url}")
    progress.done(f"the services stay up until Ctrl-C; the shop is {scenario.url}. Try:")
    for step in STEPS:
        progress.done(step.curl(scenario.url))
    screen = Screen.of(sys.stdout, colour=options.colour)
    live = Live(scenario.store, screen, (lambda text: None) if options.json else write_out)
    live.skip_what_is_here()
    try:
        live.run(Event())
    except KeyboardInterrupt:
        progress.clear()
