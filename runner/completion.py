"""Complete command lines in shells: the scripts that shells load, and the names that a ledger can offer.

The shell asks the command itself at every TAB. It is told only what can be typed as it stands, never raised at, and no
ledger is made. Code is imported only where the flag or the variable of the shell itself names an app.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.store import Snapshot

COMMAND = "workledger"
VARIABLE = "_WORKLEDGER_COMPLETE"
MOST_IDS = 100
_SAFE = re.compile(r"[\w.:@/+-]+", re.ASCII)
"""What a shell takes as it stands. Names come from the log, and completion scripts evaluate what they are given."""

# Typer's own script for bash takes the words as bash splits them, at colons too, which module:ledger and URLs have.
_BASH = """
_workledger_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix IFS=$'\\n'
    word="${line##*[[:space:]]}"
    [[ -z $word ]] && line+="''"
    COMPREPLY=( $(env COMP_WORDS="$line" COMP_CWORD=-1 _WORKLEDGER_COMPLETE=complete_bash "$1" 2>/dev/null) )
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        prefix="${word%"${word##*:}"}"
        COMPREPLY=( "${COMPREPLY[@]#"$prefix"}" )
    fi
}

complete -o default -F _workledger_completion workledger
""".strip()


class Shell(StrEnum):
    """The shells that can be served."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the script by which a shell completes commands, options, and the names that the ledger has.

    For bash add to ~/.bashrc: eval "$(workledger completion bash)". For zsh, after compinit: eval "$(workledger
    completion zsh)". For fish: workledger completion fish > ~/.config/fish/completions/workledger.fish

    Example: workledger completion bash
    """
    print(script_of(shell))


def script_of(shell: Shell) -> str:
    """Return the script for *shell*."""
    if shell is Shell.bash:
        return _BASH
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return str(get_completion_script(prog_name=COMMAND, complete_var=VARIABLE, shell=shell.value))


def answer_if_asked() -> None:
    """Make ready to answer a shell, where it is one that calls: Typer does so itself only with options of its own."""
    if os.environ.get(VARIABLE):
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def schedules(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of declared schedules."""
    from projections.schedules import all_states

    return _offered(context, incomplete, lambda snapshot, _: (state.name for state in all_states(snapshot)))


def components(context: typer.Context, incomplete: str) -> list[str]:
    """Return the components that schedules belong to."""
    from projections.schedules import all_states

    return _offered(
        context, incomplete, lambda snapshot, _: (state.component for state in all_states(snapshot) if state.component)
    )


def queues(context: typer.Context, incomplete: str) -> list[str]:
    """Return the queues of the newest live tasks, and those that a worker is for."""
    from runner.heartbeat import all_of

    def find(snapshot: Snapshot, _: Ledger) -> Iterable[str]:
        import orjson

        of_workers = [queue for worker in all_of(snapshot) for queue in orjson.loads(worker.queues)]
        return [queue for _, queue in snapshot.rows(_reading("newest_names"))] + of_workers

    return _offered(context, incomplete, find)


def task_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the task names that workers, schedules, the newest live tasks and the app know."""
    from projections.schedules import all_states
    from runner.heartbeat import all_of

    def find(snapshot: Snapshot, ledger: Ledger) -> Iterable[str]:
        import orjson

        of_workers = [name for worker in all_of(snapshot) for name in orjson.loads(worker.names)]
        of_schedules = [state.task for state in all_states(snapshot)]
        waiting = [name for name, _ in snapshot.rows(_reading("newest_names"))]
        return [*of_workers, *of_schedules, *waiting, *ledger.functions]

    return _offered(context, incomplete, find)


def task_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the newest tasks that begin so."""
    from ledger.ids import TASK_PREFIX

    sql = _reading("newest_ids")
    bounds = (TASK_PREFIX + incomplete, TASK_PREFIX + incomplete + "~", MOST_IDS)
    return _offered(
        context,
        incomplete,
        lambda snapshot, _: (row[0].removeprefix(TASK_PREFIX) for row in snapshot.rows(sql, bounds)),
    )


def _reading(name: str) -> str:
    from ledger.statements import statements

    return statements("projections", "sql/sqlite/reading.sql")[name]


def _offered(context: typer.Context, incomplete: str, find: Callable[[Snapshot, Ledger], Iterable[str]]) -> list[str]:
    """Return what *find* has that begins with *incomplete*; nothing where the ledger cannot tell, whatever the reason."""
    found: Iterable[str] = ()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), suppress(Exception):
        ledger = _ledger(context)
        with ledger.store.read() as snapshot:
            found = list(find(snapshot, ledger))
    return sorted({name for name in found if name.startswith(incomplete) and _SAFE.fullmatch(name)})


def _ledger(context: typer.Context) -> Ledger:
    """Return the ledger that the line so far names, as the command would find it."""
    from ledger.settings import DEFAULT, PREFIX, gather
    from runner.session import Session

    given = context.find_root().params
    loaded = gather({"url": given.get("url"), "app": given.get("app_")}, given.get("config"))
    origin = loaded.origins.get("app", DEFAULT)
    # A file of whatever directory the shell stands in shall not run code at a press of TAB.
    may_import = origin.startswith(("flag", PREFIX))
    session = Session(loaded.settings if may_import else loaded.settings.model_copy(update={"app": None}))
    return session.app_ledger() if session.app else session.ledger()
