"""Offer the commands that look at schedules."""

from __future__ import annotations

import typer

from runner import cli_schedule_times

schedules = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at schedules.")
schedules.command("preview")(cli_schedule_times.preview)


@schedules.callback()
def group() -> None:
    """Look at schedules."""
