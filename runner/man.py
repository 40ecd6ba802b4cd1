"""Write the manual of the command line from the commands themselves, into runner/README.md: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.main import get_command

from ledger.errors import (
    Conflict,
    InvalidInput,
    LedgerError,
    NotFound,
    StorageUnavailable,
)

COMMAND = "workledger"
README = Path(__file__).with_name("README.md")
BEGIN = "<!-- written by `make docs` from the commands themselves: change those -->"
END = "<!-- until here -->"
EXIT_CODES = {
    0: "It did what was asked.",
    LedgerError.exit_code: "It did, and found what the exit code is asked for: an attempt that raised, damage, a "
    "difference. Or something failed that no other code stands for.",
    InvalidInput.exit_code: "The request can never be carried out as written: unknown command or option, bad value, bad "
    "setting. Nothing was stored.",
    NotFound.exit_code: "There is no such task, schedule or component.",
    Conflict.exit_code: "The state does not allow it. Nothing was stored.",
    StorageUnavailable.exit_code: "The database cannot be used now. Nothing was stored.",
}


def manual(app: Any) -> str:
    """Return the whole section: an index, what all commands share, and a page for each."""
    root = get_command(app)
    pages = list(_commands(root, ()))
    index = [f"| [{' '.join(path)}](#{_anchor(path)}) | {_cell(_summary(command))} |" for path, command in pages]
    return "\n".join(
        [
            BEGIN,
            "",
            "| command | what it does |",
            "|---|---|",
            *index,
            "",
            "### Options of all commands",
            "",
            "These stand before the command: `--url sqlite:///work.db now`.",
            "",
            *_parameters(root),
            "",
            "### Exit codes",
            "",
            "| code | meaning |",
            "|---|---|",
            *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
            "",
            *(line for path, command in pages for line in _page(path, command)),
            END,
        ]
    )


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that can be run, with its words, in the order of the alphabet."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name in sorted(inner):
        if not inner[name].hidden:
            yield from _commands(inner[name], (*path, name))


def _page(path: tuple[str, ...], command: Any) -> list[str]:
    words = " ".join(path)
    texts, examples = _paragraphs(command)
    arguments = [_synopsis(one) for one in command.params if one.param_type_name == "argument"]
    options = any(one.param_type_name == "option" for one in _shown(command))
    synopsis = " ".join([COMMAND, "[GLOBAL OPTIONS]", words, *["[OPTIONS]"] * options, *arguments])
    lines = [f"### {COMMAND} {words}", "", "```text", synopsis, "```", ""]
    for text in texts:
        lines += [text, ""]
    if table := _parameters(command):
        lines += [*table, ""]
    if examples:
        lines += ["```sh", *examples, "```", ""]
    one = re.search(r"exit 1 if ([^.;]+)", " ".join(texts))
    return [*lines, f"Exit codes: [0 to 5](#exit-codes){f'; 1 if {one[1]}' if one else ''}.", ""]


def _shown(command: Any) -> list[Any]:
    return [one for one in command.params if not getattr(one, "hidden", False) and "--help" not in one.opts]


def _parameters(command: Any) -> list[str]:
    """Return the table of a command's arguments and options, empty if it has none but --help."""
    rows = [f"| {_names(one)} | {_default(one)} | {_cell(one.help or '')} |" for one in _shown(command)]
    return ["| argument or option | default | meaning |", "|---|---|---|", *rows] if rows else []


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_cell(_metavar(parameter))}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} `{_cell(_metavar(parameter))}`"


_KINDS = {str: "TEXT", int: "INTEGER", float: "NUMBER"}


def _metavar(parameter: Any) -> str:
    """Return what stands for the value: a name of its own, the choices there are, or its kind."""
    kind = parameter.type_descriptor.annotation
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    if parameter.metavar:
        return str(parameter.metavar)
    if issubclass(kind, Enum):
        return "|".join(one.value for one in kind)
    return _KINDS.get(kind, str(kind.__name__).upper())


def _synopsis(argument: Any) -> str:
    name = _metavar(argument) + "..." * (argument.nargs == -1)
    return name if argument.required else f"[{name}]"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    return "" if value is None or value is False or callable(value) else f"`{value}`"


def _paragraphs(command: Any) -> tuple[list[str], list[str]]:
    """Return the text of a command's help, and the examples in it."""
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", command.help or "") if part.strip()]
    texts = [text for text in found if not text.startswith("Example: ")]
    return texts, [text.removeprefix("Example: ") for text in found if text not in texts]


def _summary(command: Any) -> str:
    return next(iter(_paragraphs(command)[0]), "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(path: tuple[str, ...]) -> str:
    return "-".join((COMMAND, *path))


def put_into(text: str, section: str) -> str:
    """Return *text* with *section* in the place of the one between the two marks.

    Raises:
        ValueError: The marks are not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README.name} has not both marks, {BEGIN} and {END}")
    return head + section + tail


def main() -> None:
    """Bring the README to the commands as they are."""
    from runner.cli import app

    README.write_text(put_into(README.read_text(encoding="utf-8"), manual(app)), encoding="utf-8")


if __name__ == "__main__":
    main()
