"""What terminal and page say in the same words: severities, remarks on a row, and one colour for each service."""

from __future__ import annotations

from ..analysis.timeline import Row
from ..receive.records import LogRecord
from ..text import duration, one_line

SERVICE_COLOURS = 6


class Colours:
    """Gives every service a colour number below `SERVICE_COLOURS`, in order of appearance, the same in every trace."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, service: str) -> int:
        return self._numbers.setdefault(service, len(self._numbers)) % SERVICE_COLOURS


def severity_of(record: LogRecord) -> str:
    """The severity in at most five letters."""
    return one_line(record.level)


def outcome_style(failed: bool | None) -> str:
    """`good`, `bad`, or `warn` for what is not known yet."""
    return "warn" if failed is None else "bad" if failed else "good"


def took(nanoseconds: float | None) -> str:
    """A duration, or `?` where a span has no end."""
    return "?" if nanoseconds is None else duration(nanoseconds)


def remarks_on(row: Row) -> list[str]:
    """What is unusual about where a row stands: no parent, or a link in a parent's place."""
    remarks = [row.note] if row.note else []
    if not row.is_timed:
        remarks.append("its end is not known" if row.span.end <= 0 else "its end lies before its start")
    if row.parent < 0 and not row.span.parent_id:
        foreign = [link.trace_id for link in row.span.links if link.trace_id != row.span.trace_id]
        remarks += [f"a new trace: the caller's {trace_id} is linked, not continued" for trace_id in foreign[:1]]
    return remarks
