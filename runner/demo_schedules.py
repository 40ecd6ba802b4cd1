"""Show schedules on real input: what the scheduled tasks of a Moodle installation will do in the coming 24 hours."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ledger import Ledger
from ledger.cron import Fields
from ledger.cron_forecast import forecast
from ledger.cron_words import describe
from ledger.schedule import ScheduleState, in_force
from ledger.slots import rule_of
from projections.queue import catch_up_all
from projections.schedules import all_states
from runner.render import command_name

TIMEZONE = "Australia/Perth"
DAY = timedelta(days=1)
MOODLE = """
core.session_cleanup                   * * * * *
core.delete_unconfirmed_users          0 * * * *
core.delete_incomplete_users           5 * * * *
core.backup_cleanup                    10 * * * *
core.tag_cron                          R 3 * * *
core.context_cleanup                   25 * * * *
core.cache_cleanup                     30 * * * *
core.messaging_cleanup                 35 * * * *
core.send_new_user_passwords           * * * * *
core.send_failed_login_notifications   * * * * *
core.create_contexts                   0 0 * * *
core.legacy_plugin_cron                * * * * *
core.grade_cron                        * * * * *
core.events_cron                       * * * * *
core.completion_regular                * * * * *
core.completion_daily                  R R * * *
core.portfolio_cron                    * * * * *
core.plagiarism_cron                   * * * * *
core.calendar_cron                     * * * * *
core.blog_cron                         * * * * *
core.question_cron                     * * * * *
core.registration_cron                 R R * * R
core.check_for_updates                 0 */2 * * *
core.cache_cron                        50 * * * *
core.automated_backup                  50 * * * *
core.badges_cron                       */5 * * * *
core.file_temp_cleanup                 55 */6 * * *
core.file_trash_cleanup                55 */6 * * *
core.stats_cron                        0 * * * *
core.password_reset_cleanup            0 */6 * * *
"""
"""The default schedule of Moodle's core: name, then minute, hour, day, month and day of week."""


def declare(ledger: Ledger) -> None:
    """Declare the schedules with *ledger*; their task only says its name."""
    for line in MOODLE.strip().splitlines():
        name, expression = line.split(maxsplit=1)
        ledger.schedule(expression, name=name, timezone=TIMEZONE, component="core")(_nothing)


def _nothing() -> None:
    """Stand for the work of the task."""


def show(console: Console, database: Path) -> None:
    """Declare the schedules in a ledger of their own beside the demo's, and print their coming 24 hours."""
    beside = database.with_name(f"{database.stem}-schedules{database.suffix}")
    ledger = Ledger(f"sqlite:///{beside.absolute()}")
    declare(ledger)
    ledger.schedules.sync(app="demo", reason="demo: a Moodle installation")
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        states, now = all_states(snapshot), snapshot.now
    ledger.close()
    console.print()
    console.print(_table(states, now, console.width))
    hours = forecast({state.name: rule_of(state) for state in states}, now, now + DAY)
    runs = [hour.runs for hour in hours[1:-1]]
    total = sum(rule_of(state).count(now, now + DAY) for state in states)
    console.print(f"{total:,} runs in all, {min(runs)} to {max(runs)} in a full hour. Look closer:")
    print_commands(console, beside, "schedule list", "schedule next core.stats_cron -n 20")


def print_commands(console: Console, database: Path, *commands: str) -> None:
    """Print commands to copy that look at the ledger in *database*: its URL is long, so it goes to the environment."""
    for line in (
        f"export WORKLEDGER_URL={shlex.quote(f'sqlite:///{database.absolute()}')}",
        *(f"{command_name()} {command}" for command in commands),
    ):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _table(states: list[ScheduleState], now: datetime, width: int) -> Table:
    title = f"The coming 24 hours of a Moodle installation in {TIMEZONE}: {len(states)} scheduled tasks"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    rows, room = _rows(states, now), width
    for column, *cells in zip(("task", "schedule", "runs", "first (UTC)", "in words"), *rows, strict=True):
        widest = max(map(len, (column, *cells)))
        if column == "in words":  # these alone give way where the terminal is narrow
            widest = max(min(widest, room), len(column))
        room -= widest + 2
        justify: Literal["left", "right"] = "right" if column == "runs" else "left"
        table.add_column(column, no_wrap=True, width=widest, overflow="ellipsis", justify=justify)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _rows(states: list[ScheduleState], now: datetime) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    upto = now + DAY
    for state in sorted(states, key=lambda one: (rule_of(one).next_after(now) or upto, one.name)):
        rule = rule_of(state)
        first, runs = rule.next_after(now), rule.count(now, upto)
        when = f"{first:%a %H:%M}" if first else "never"
        force = in_force(state)
        rows.append((state.name, " ".join(force.resolved), f"{runs:,}", when, describe(Fields(*force.resolved))))
    return rows
