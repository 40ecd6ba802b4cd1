"""Call the command in this process: as typer's `CliRunner` does, which puts all its subcommands together for each call."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from typer.testing import CliRunner, Result

from runner.cli import command


def invoke(
    words: Sequence[str], stdin: str | bytes | None = None, env: Mapping[str, str | None] | None = None
) -> Result:
    """Run ``workledger WORDS`` and return what it printed and how it ended; also where it raised what it should not."""
    runner, error, code = CliRunner(), None, 0
    with runner.isolation(input=stdin, env=env) as streams:
        try:
            command().main(args=list(words), prog_name="workledger")
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
            error = exit_ if code else None
        except Exception as raised:
            code, error = 1, raised
        sys.stdout.flush()
        sys.stderr.flush()
        stdout, stderr, output = (stream.getvalue() for stream in streams)
    return Result(runner, stdout, stderr, output, None, code, error)
