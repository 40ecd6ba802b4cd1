"""Gather the settings of an installation: defaults < file < environment < flags, typed and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from ledger.errors import InvalidOption
from ledger.limits import check_most, check_scope
from ledger.values import check_name, shown
from ledger.zones import zone_named

PREFIX = "WORKLEDGER_"
DEFAULT_FILE = "workledger.toml"
PROJECT_FILE = "pyproject.toml"
"""Read for its table ``[tool.workledger]``."""
DEFAULT = "default"
OVERRIDE_KEYS = frozenset({"schedule", "timezone", "enabled"})
MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """What an installation may set. Each has a variable ``WORKLEDGER_<NAME>`` and a key in the file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    url: str | None = None
    """The ledger; None: the app's own, without an app ``sqlite:///workledger.db``."""
    app: str | None = None
    """``module:ledger``, where the tasks are declared."""
    code_version: str | None = None
    """Version of the app's code, as each attempt keeps it; None: the git revision or package version of its module."""
    workers: int = Field(default=1, ge=1, le=256)
    """Worker processes of `run`."""
    threads: int = Field(default=4, ge=1, le=256)
    """Threads of each worker."""
    queues: Annotated[tuple[str, ...], NoDecode] = ()
    """Only these queues; empty: all. In the environment separated by commas."""
    name: str = "worker"
    """Name of the workers in events and logs."""
    log_format: Literal["console", "json"] = "console"
    """Form of the workers' own logs."""
    beat_seconds: float = Field(default=5.0, ge=0.05, le=3_600)
    """Between two heartbeats of a worker."""
    lease_seconds: float = Field(default=30.0, ge=0.2, le=86_400)
    """A worker that shows no heartbeat for so long has lost its attempts; at least four heartbeats."""
    output: Literal["all", "failures", "none"] = "all"
    """What attempts print is kept: of all, of those that do not succeed, of none. A task may say otherwise."""
    output_keep: int = Field(default=8 * MEBIBYTE, ge=64 * 1024)
    """Bytes kept of what one attempt prints; of more the middle is dropped."""
    output_echo: bool = True
    """Whether what tasks print also goes to the worker's own standard output and error."""
    output_limit: int = Field(default=256 * MEBIBYTE, ge=1)
    """Characters that one attempt may print before `OutputLimit` is raised in it."""
    reports: bool = True
    """Whether a process beside the workers of a run keeps the report views; else they wait for whoever reads them."""
    prune: bool = True
    """Whether `run` declares the daily schedule `workledger.prune`, which deletes old output by the two rules below."""
    prune_days: float = Field(default=28, ge=0, le=36_500)
    """Output of attempts that began more than so many days ago goes."""
    prune_runs: int = Field(default=20, ge=0)
    """Of each task name the output of so many attempts is kept, the newest."""
    audit_reads: bool = False
    """Whether commands record who looks at which task's arguments, result or output, before they show it."""
    allow_shell: bool = False
    """Whether workers run the commands of imported crontabs. Who may queue a task may then run any command."""

    health_beat_warning: float = Field(default=120, gt=0)
    """`health`: seconds since the last sign of any worker. Each of these has a value that warns and one that alarms."""
    health_beat_critical: float = Field(default=86_400, gt=0)
    health_due_warning: float = Field(default=600, gt=0)
    """`health`: seconds for which the oldest due task waits."""
    health_due_critical: float = Field(default=14_400, gt=0)
    health_delay_warning: float = Field(default=300, gt=0)
    """`health`: the longest retry delay of a task that fails, in seconds."""
    health_delay_critical: float = Field(default=14_400, gt=0)
    health_running_warning: float = Field(default=43_200, gt=0)
    """`health` and `now`: seconds for which an attempt runs."""
    health_running_critical: float = Field(default=86_400, gt=0)
    health_lag_warning: int = Field(default=10_000, ge=0)
    """`health`: events that the views have not folded."""
    health_lag_critical: int = Field(default=100_000, ge=0)
    health_disk_warning: int = Field(default=1024 * MEBIBYTE, ge=0)
    """`health`: bytes free on the file system of the database; these are undercut, not exceeded."""
    health_disk_critical: int = Field(default=100 * MEBIBYTE, ge=0)
    health_wal_warning: int = Field(default=256 * MEBIBYTE, ge=0)
    """`health`: bytes of the write-ahead log."""
    health_wal_critical: int = Field(default=2048 * MEBIBYTE, ge=0)
    notice_intervals: int = Field(default=3, ge=0, le=10_000)
    """A schedule that has not succeeded for more than so many of its slots raises a notice; 0: never."""
    notice_command: tuple[str, ...] = ()
    """A command and its arguments, run for each notice with the notice as JSON on its standard input."""
    smtp_host: str | None = None
    """The server that takes mails on notices; None: none are sent."""
    smtp_port: int = Field(default=25, ge=1, le=65_535)
    smtp_from: str | None = None
    smtp_to: Annotated[tuple[str, ...], NoDecode] = ()
    """Who gets them; in the environment separated by commas."""
    smtp_starttls: bool = False
    """Whether the connection is encrypted before anything is said."""
    smtp_user: str | None = None
    """Who logs in, with the password of ``WORKLEDGER_SMTP_PASSWORD``; only with starttls."""

    timezone: str = "UTC"
    """Time zone of the schedules that are declared without one."""
    schedules_locked: bool = False
    """Whether schedules may not be changed: set, reset, enabled, disabled."""
    schedule_overrides: dict[str, str | dict[str, str | bool]] = Field(default_factory=dict)
    """By a schedule's name or a pattern with ``*``: five fields, or a table of schedule, timezone and enabled."""

    limits: dict[str, int | Literal["none"]] = Field(default_factory=dict)
    """By scope (``ledger``, ``queue:NAME``, ``task:NAME``, ``key:KEY``): how many tasks may run at once."""
    max_tasks_per_worker: int | None = Field(default=None, ge=1)
    """A worker is replaced by a new process after so many tasks."""
    max_memory_per_worker: int | None = Field(default=None, ge=1)
    """A worker is replaced by a new process when it takes more MiB of memory than this."""

    @field_validator("limits")
    @classmethod
    def _are_limits(cls, value: dict[str, Any]) -> dict[str, Any]:
        for scope, most in value.items():
            check_scope(scope)
            check_most(None if most == "none" else most)
        return value

    @field_validator("code_version")
    @classmethod
    def _is_told(cls, value: str | None) -> str | None:
        return None if value is None else check_name(value, "code_version")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        zone_named(value)
        return value

    @field_validator("schedule_overrides")
    @classmethod
    def _has_known_keys(cls, value: dict[str, Any]) -> Any:
        for pattern, given in value.items():
            if isinstance(given, dict) and (unknown := sorted(given.keys() - OVERRIDE_KEYS)):
                raise ValueError(f"{pattern!r} has {', '.join(unknown)}; allowed: {', '.join(sorted(OVERRIDE_KEYS))}")
        return value

    @field_validator("queues", "smtp_to", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("name", "queues")
    @classmethod
    def _is_named(cls, value: Any, info: Any) -> Any:
        for name in (value,) if isinstance(value, str) else value:
            check_name(name, str(info.field_name))
        return value

    @field_validator("smtp_from", "smtp_to")
    @classmethod
    def _is_address(cls, value: Any, info: Any) -> Any:
        for address in (value,) if isinstance(value, str) else value or ():
            check_name(address, str(info.field_name))
            if "@" not in address:
                raise ValueError(f"{shown(address)} is no mail address")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.smtp_host is not None and not (self.smtp_from and self.smtp_to):
            raise ValueError("smtp_host needs smtp_from and smtp_to beside it")
        if self.smtp_user is not None and not self.smtp_starttls:
            raise ValueError("smtp_user needs smtp_starttls = true: a password is only sent over TLS")
        return self

    @model_validator(mode="after")
    def _warns_before_it_alarms(self) -> Self:
        for name in type(self).model_fields:
            kind = name.removesuffix("_warning")
            if kind == name or not name.startswith("health_"):
                continue
            warning, critical = getattr(self, name), getattr(self, f"{kind}_critical")
            if warning < critical if kind == "health_disk" else warning > critical:
                raise ValueError(f"{name} is {warning:g} and {kind}_critical {critical:g}; the warning comes first")
        return self

    @field_validator("lease_seconds")
    @classmethod
    def _outlasts_beats(cls, value: float, info: Any) -> float:
        if value < 4 * info.data.get("beat_seconds", 0):
            raise ValueError("a lease lasts at least four heartbeats (beat_seconds)")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out what `load` does not name: no ``.env`` and no secrets directory is ever read."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where each came from: a flag, a variable, a file, or ``default``."""

    settings: Settings
    origins: Mapping[str, str]


def load(flags: dict[str, Any] | None = None, file: str | Path | None = None) -> Settings:
    """Return the settings as `gather` finds them."""
    return gather(flags, file).settings


def gather(
    flags: dict[str, Any] | None = None, file: str | Path | None = None, kind: type[Settings] = Settings
) -> Loaded:
    """Return the settings: *flags* that are not None, over the environment, over *file*, over the defaults.

    Without *file* it is ``workledger.toml`` in the working directory or the table ``[tool.workledger]`` of its
    ``pyproject.toml``, if there is one; of a *file* of that name it is this table.

    Raises:
        InvalidOption: A value is outside what is allowed, a key is unknown, the file is not there or no TOML, or both
            files have settings.
    """
    path, from_file = _from_file(file)
    try:
        environment = EnvSettingsSource(kind, env_prefix=PREFIX, env_ignore_empty=True)()
    except SettingsError as error:
        raise InvalidOption(f"environment: {error}") from error
    given = InitSettingsSource(kind, {k: v for k, v in (flags or {}).items() if v is not None})()
    origins = dict.fromkeys(kind.model_fields, DEFAULT)
    origins |= dict.fromkeys(from_file, path)
    origins |= {name: PREFIX + name.upper() for name in environment}
    origins |= {name: "flag --" + _FLAGS.get(name, name).replace("_", "-") for name in given}
    try:
        return Loaded(kind(**{**from_file, **environment, **given}), origins)
    except ValidationError as error:
        raise InvalidOption(_sentence(error, origins, kind)) from None


_FLAGS = {"queues": "queue"}
"""Settings whose flag has another name."""


def is_secret(kind: type[Settings], name: str) -> bool:
    """Return whether a setting's value may not be shown."""
    field = kind.model_fields.get(name)
    return field is not None and "Secret" in str(field.annotation)


def _from_file(file: str | Path | None) -> tuple[str, dict[str, Any]]:
    """Return what is to be said of the file, and its settings; empty where there is none."""
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise InvalidOption(f"there is no settings file {shown(str(file))}")
        if path.name != PROJECT_FILE:
            return str(path), _read(path)
        if (table := _of_project(path)) is None:
            raise InvalidOption(f"{path} has no table [tool.workledger]")
        return f"{path} [tool.workledger]", table
    own, project = Path(DEFAULT_FILE), Path(PROJECT_FILE)
    table = _of_project(project) if project.is_file() else None
    if not own.is_file():
        return f"{project} [tool.workledger]", table or {}
    if table is not None:
        raise InvalidOption(
            f"there are settings in {own} and in [tool.workledger] of {project}; keep them in one of the two, or name "
            "one with --config"
        )
    return str(own), _read(own)


def _of_project(path: Path) -> dict[str, Any] | None:
    table = _read(path).get("tool", {}).get("workledger")
    if table is not None and not isinstance(table, dict):
        raise InvalidOption(f"{path}: tool.workledger is {shown(table)}; it must be a table")
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidOption(f"{path}: {error}") from error


def _sentence(error: ValidationError, origins: Mapping[str, str], kind: type[Settings]) -> str:
    """Say of each wrong setting where it came from, what it is and what is allowed."""
    said = []
    for problem in error.errors():
        if not problem["loc"]:
            said.append(problem["msg"].removeprefix("Value error, "))
            continue
        name = str(problem["loc"][0])
        where = f"{'.'.join(map(str, problem['loc']))} ({origins.get(name, DEFAULT)})"
        if problem["type"] == "extra_forbidden":
            known = f"; there are: {', '.join(sorted(kind.model_fields))}" if len(problem["loc"]) == 1 else ""
            said.append(f"{where} is no setting{known}")
        else:
            value = "not allowed" if is_secret(kind, name) else shown(problem["input"])
            said.append(f"{where} is {value}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(said)
