"""Take over the cron functions of old modules: one schedule each, so that none can hold up or break the others.

An old system calls `forum_cron()` of its module `forum` and those of all others one after the other in one process. Here
each becomes a task with a schedule of its own, in the component `legacy`, until it is declared by hand.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Unpack

from ledger.errors import InvalidOption, InvalidSchedule
from ledger.functions import TaskFunction
from ledger.options import RunOptions, split
from ledger.values import check_name, is_number, shown

if TYPE_CHECKING:
    from ledger.api import Ledger

COMPONENT = LABEL = "legacy"
EVERY_MINUTE = "* * * * *"
MINUTE, HOUR, DAY = 60, 3_600, 86_400
_MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_HOURS = (1, 2, 3, 4, 6, 8, 12)
_MOST_DAYS = 14
"""A longer interval in days has no even step within a month: it is run once a month."""


class LegacyCronFailed(Exception):
    """The cron function returned False, by which old ones say that they did not succeed."""


@dataclass(frozen=True, slots=True)
class LegacyCron:
    """A cron function that was taken over: the schedule it got, and why that is not quite what it asked for."""

    name: str
    schedule: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LegacyProblem:
    """A module, function or class that could not be taken over, and why."""

    name: str
    why: str


class Legacy:
    """What `Ledger.legacy` is: the way to register the cron functions of old modules."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.registered: list[LegacyCron] = []
        self.problems: list[LegacyProblem] = []

    def register(
        self, package: ModuleType | str, /, *, component: str = COMPONENT, **options: Unpack[RunOptions]
    ) -> list[LegacyCron]:
        """Give each cron function in the modules of *package* a schedule of its own, named ``<module>.<function>``.

        *package* is a module or its dotted name; all modules in it are imported. Taken is, in a module ``…forum``, the
        function ``forum_cron`` without required arguments and the class ``forum_cron`` or ``ForumCron`` with ``run()``,
        of which each run makes a new instance. The module's ``cron_interval`` (seconds, or a schedule) says how often,
        by default every minute. *options* are those of its runs. A function declared by hand is left to that.

        Each gets a DeprecationWarning. What cannot be taken over is warned of and kept in `problems`; it holds up
        nothing else.

        Raises:
            InvalidOption: *package* is no module or cannot be imported, or an option is outside what is allowed.
        """
        check_name(component, "component")
        split({"max_attempts": None, **options}, RunOptions)  # what is wrong with them is no fault of a module
        root = _imported(package)
        found = [one for module in _modules(root) for one in self._take(module, component, options)]
        if not found:
            found = [LegacyProblem(root.__name__, "no module in it has a cron function")]
        taken = [one for one in found if isinstance(one, LegacyCron)]
        problems = [one for one in found if isinstance(one, LegacyProblem)]
        self.registered += taken
        self.problems += problems
        for problem in problems:
            text = f"legacy cron: {problem.name} is not taken over: {problem.why}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        for one in taken:
            warnings.warn(_advice(one), DeprecationWarning, stacklevel=2)
        return taken

    def _take(
        self, module: ModuleType | LegacyProblem, component: str, options: RunOptions
    ) -> Iterator[LegacyCron | LegacyProblem]:
        if isinstance(module, LegacyProblem):
            yield module
            return
        for name, found in _cron_functions(module):
            try:
                yield self._declare(module, name, found, component, options)
            except (ValueError, TypeError) as error:  # refused, or somebody's callable that has no signature
                yield LegacyProblem(f"{module.__name__}.{name}", str(error))

    def _declare(self, module: ModuleType, name: str, found: Any, component: str, options: RunOptions) -> LegacyCron:
        schedule, note = schedule_of(getattr(module, "cron_interval", None))
        full = f"{module.__name__}.{name}"
        given: RunOptions = {**options, "labels": [*options.get("labels", ()), LABEL]}
        self._ledger.schedule(schedule, name=full, component=component, **given)(_task_of(found, full))
        return LegacyCron(full, schedule, note)


def _modules(module: ModuleType) -> Iterator[ModuleType | LegacyProblem]:
    """Yield the module and those in it, by name; of one that cannot be imported, why."""
    yield module
    for info in sorted(pkgutil.iter_modules(getattr(module, "__path__", ())), key=lambda one: one.name):
        if info.name == "__main__":  # a program, not a module: to import it would run it
            continue
        name = f"{module.__name__}.{info.name}"
        try:
            inner = import_module(name)
        except (Exception, SystemExit) as error:  # it is somebody's old code: whatever it raises
            yield LegacyProblem(name, f"importing it raised {_told(error)}")
            continue
        yield from _modules(inner)


def _imported(package: ModuleType | str) -> ModuleType:
    if isinstance(package, ModuleType):
        return package
    if not isinstance(package, str):
        raise InvalidOption(f"{shown(package)} is no package; give the module itself or its dotted name")
    try:
        return import_module(package)
    except (Exception, SystemExit) as error:
        raise InvalidOption(f"importing {package} raised {_told(error)}") from error


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _cron_functions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the module's own cron function and cron class; one declared by hand is left alone."""
    short = module.__name__.rpartition(".")[2]
    for name, found in list(vars(module).items()):
        if isinstance(found, TaskFunction) or getattr(found, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(found):
            if name == f"{short}_cron":
                yield name, found
        elif inspect.isclass(found):
            is_named = name.lower().replace("_", "") == f"{short}cron".lower().replace("_", "")
            if is_named and callable(getattr(found, "run", None)):
                yield name, found


def _task_of(found: Any, name: str) -> Callable[[], Any]:
    """Return the function that a run calls: without arguments or result, and failing where the old one says False.

    Raises:
        InvalidOption: The old one needs arguments.
    """
    is_class = inspect.isclass(found)
    needed = [*_required(found), *(_required(found.run)[1:] if is_class else ())]
    if needed:
        raise InvalidOption(f"it needs arguments ({', '.join(needed)}), and cron gives none")
    if inspect.iscoroutinefunction(found.run if is_class else found):

        async def run_async() -> None:
            _check(await (found().run() if is_class else found()), name)

        run: Callable[[], Any] = run_async
    else:

        def run_plain() -> None:
            _check(found().run() if is_class else found(), name)

        run = run_plain
    run.__doc__ = inspect.getdoc(found) or f"Run {name}."
    return run


def _required(function: Any) -> list[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.default is one.empty and one.kind not in kinds]


def _check(result: object, name: str) -> None:
    if result is False:
        raise LegacyCronFailed(f"{name} returned False")


def _advice(one: LegacyCron) -> str:
    note = f" ({one.note})" if one.note else ""
    decorator = f'@ledger.schedule("{one.schedule}", name="{one.name}")'
    return f"legacy cron: {one.name} runs by {one.schedule!r}{note}; {decorator} keeps its history when you move off"


def schedule_of(interval: object) -> tuple[str, str | None]:
    """Return the schedule of a ``cron_interval``, and a note where it can only come near: never more often than asked.

    Seconds become the next longer step that divides an hour, a day or, nearly, a month, begun at a minute that follows
    from the name. A text is a schedule itself.

    Raises:
        InvalidSchedule: It is neither a number of seconds above 0 nor text.
    """
    if interval is None:
        return EVERY_MINUTE, None
    if isinstance(interval, str):
        return interval, None
    if not is_number(interval) or interval <= 0:
        raise InvalidSchedule(f"cron_interval is {shown(interval)}; allowed are seconds above 0, or a schedule as text")
    seconds = max(math.ceil(interval), MINUTE)
    steps = [(m * MINUTE, f"H/{m} * * * *" if m > 1 else EVERY_MINUTE) for m in _MINUTES]
    steps += [(h * HOUR, f"H H/{h} * * *" if h > 1 else "H * * * *") for h in _HOURS]
    steps += [(DAY, "H H * * *"), (7 * DAY, "H H * * H")]
    steps += [(d * DAY, f"H H H/{d} * *") for d in range(2, _MOST_DAYS + 1) if d != 7]
    steps.append((31 * DAY, "H H H * *"))
    length, schedule = min((step for step in steps if step[0] >= seconds), default=steps[-1])
    if "/" in schedule.split()[2]:
        return schedule, f"instead of every {interval:,} s, by the days of each month"
    return schedule, None if length == seconds else f"instead of every {interval:,} s"
