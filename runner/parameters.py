"""Declare the arguments and options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from runner import completion
from runner.render import Output

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.", autocompletion=completion.task_ids)]
Reason = Annotated[str, typer.Option(help="Why; kept in the log.")]
Form = Annotated[Output, typer.Option("-o", "--output", help="How to print it.")]
