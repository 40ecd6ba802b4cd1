"""Offer the commands that look back: history of attempts, statistics, and the timeline of one task."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger.ids import task_stream
from ledger.reads import OUTPUT
from projections import statistics
from projections.history import Asked
from projections.history import history as entries
from projections.reports import Reports
from projections.statistics import By, Total
from runner.at import At, past_of
from runner.parameters import Form, TaskId
from runner.render import Output, clean, print_line, print_list
from runner.timeline import spans

CHART_WIDTH = 40
_HISTORY_COLUMNS = ("claimed_at", "name", "attempt", "outcome", "ran", "waited", "run_as", "task", "position", "error")
_STATS_COLUMNS = (
    "queued",
    "started",
    "succeeded",
    "failed",
    "retried",
    "failure_percent",
    "wait_p50_ms",
    "wait_p95_ms",
    "run_p50_ms",
    "run_p95_ms",
    "run_max_ms",
)

Since = Annotated[str | None, typer.Option(metavar="AGE|ISO", help="Only from then on: 24h, 7d, 2031-05-01.")]
Until = Annotated[str | None, typer.Option(metavar="AGE|ISO", help="Only before then.")]


def history(
    context: typer.Context,
    filter_: Annotated[
        str, typer.Option("--filter", metavar="TERMS", help="Only those: outcome:failed name:mail.* args.user_id:5.")
    ] = "",
    since: Since = None,
    until: Until = None,
    text: Annotated[
        str | None,
        typer.Option("--grep", metavar="TEXT", help="Only attempts that printed this text, running ones too."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    after: Annotated[
        int | None, typer.Option(min=1, metavar="POSITION", help="Go on after the last attempt of the page before.")
    ] = None,
    output: Form = Output.table,
) -> None:
    """Show what attempts did, newest first: when, how long, as whom, and how they ended.

    Example: workledger history --filter "outcome:failed name:mail.* run:>1s" --since 24h
    """
    ledger = context.obj.existing()
    reports = Reports(ledger)
    asked = Asked(filter=_bounded(filter_, since, until), text=text, limit=limit, after=after)
    rows = [entry._asdict() for entry in entries(reports, asked)]
    columns = _HISTORY_COLUMNS if text is None else (*_HISTORY_COLUMNS, "line")
    if text is not None:
        context.obj.note_read(ledger, (row["id"] for row in rows), OUTPUT)
    if output is Output.table:
        for row in rows:
            said = row["error_type"] and f"{row['error_type']}: {row['error_message']}"
            row.update(task=row["id"], ran=_seconds(row["run_ms"]), waited=_seconds(row["wait_ms"]))
            row["error"] = said or row["cause"]
    print_list(rows, columns, output, "no attempts")


def stats(
    context: typer.Context,
    by: Annotated[By, typer.Option(help="What to add up by.")] = By.name,
    filter_: Annotated[str, typer.Option("--filter", metavar="TERMS", help="Only those: name:mail.* queue:mail.")] = "",
    since: Since = None,
    until: Until = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw it into this file (needs matplotlib).")
    ] = None,
    output: Form = Output.table,
) -> None:
    """Add up whole hours of the past: throughput, failure rate, waits and runs, by name, queue, hour or day.

    Example: workledger stats --by hour --since 24h
    """
    reports = Reports(context.obj.existing())
    found = statistics.statistics(reports, by, _bounded(filter_, since, until))
    if plot is not None:
        from runner.plot import draw  # its library is an extra

        draw(found, by, plot)
        print_line(clean(f"{plot}: {len(found)} {by.value}s drawn"))
        return
    rows: list[dict[str, Any]] = [
        {by.value: total.of, **{n: getattr(total, n) for n in Total._fields[1:]}} for total in found
    ]
    print_list(rows, (by.value, *_STATS_COLUMNS), output, "no hours")
    if output is Output.table and found:
        _chart("attempts that ended", found, [float(total.ended) for total in found], "")
        _chart("of them without success", found, [total.failure_percent for total in found], " %")


def timeline(context: typer.Context, task_id: TaskId, at: At = None, output: Form = Output.table) -> None:
    """Draw the life of one task: its waits, attempts and retries to scale, and who did what.

    Example: workledger task timeline 01890a5d-ac96-774b-bcce-b302099a8057
    """
    ledger = context.obj.existing()
    if at is not None:
        past = past_of(context.obj, at)
        state, found = past.get(task_id).state, spans(task_id, past.events(task_id), past.at)
    else:
        state = ledger.get(task_id).record.state
        with ledger.store.read() as snapshot:
            found = spans(task_id, snapshot.stream(task_stream(task_id)), snapshot.now)
    if output is not Output.table:
        print_list([span._asdict() for span in found], (), output, "")
        return
    print_line(clean(f"{state.name}, {state.status}, task {task_id}"))
    begin = found[0].begin
    scale = CHART_WIDTH / max((max(span.end for span in found) - begin).total_seconds(), 1e-6)
    width = max(len(span.what) for span in found)
    for span in found:
        left = min(round((span.begin - begin).total_seconds() * scale), CHART_WIDTH - 1)
        length = max(round((span.end - begin).total_seconds() * scale) - left, 1)
        bar = " " * left + span.mark * length
        seconds = (span.end - span.begin).total_seconds()
        said = "  ".join(filter(None, (f"{seconds:.3f} s" if seconds else "", clean(span.said))))
        print_line(f"{clean(span.begin)}  {span.what:<{width}}  |{bar:<{CHART_WIDTH}}|  {said}".rstrip())


def _bounded(filter_: str, since: str | None, until: str | None) -> str:
    """Return the filter with the moments of the flags behind it, so that the columns of its errors stay."""
    bounds = [f'{name}:"{value}"' for name, value in (("since", since), ("until", until)) if value is not None]
    return " ".join((filter_, *bounds))


def _seconds(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds / 1000:.3f} s"


def _chart(title: str, found: list[Total], values: list[float | None], unit: str) -> None:
    """Print a bar for each of *values*, the longest as wide as the chart."""
    most = max((value for value in values if value is not None), default=0.0)
    width = max(len(clean(total.of)) for total in found)
    print_line("")
    print_line(title)
    for total, value in zip(found, values, strict=True):
        bar = "█" * round(CHART_WIDTH * value / most) if value and most else ""
        said = "" if value is None else f"{value:g}{unit}"
        print_line(f"{clean(total.of):<{width}}  {bar:<{CHART_WIDTH}}  {said}".rstrip())
