"""The files to begin with on many machines are what they say, and start commands that there are."""

from __future__ import annotations

import configparser
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from ledger.settings import Settings

DEPLOY = Path(__file__).parents[2] / "runner" / "deploy"
UNIT_KEYS = {
    "Unit": {"Description", "After", "Wants"},
    "Service": {
        *("User", "WorkingDirectory", "EnvironmentFile", "ExecStart", "KillMode", "TimeoutStopSec"),
        *("Restart", "RestartSec"),
    },
    "Install": {"WantedBy"},
}
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def check_command(*words: str) -> None:
    """Fail unless the command takes these words: it says so before it looks at an application or a database."""
    command = [sys.executable, "-m", "runner.cli", *words, "--help"]
    found = subprocess.run(command, cwd=DEPLOY.parents[1], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_the_unit_has_keys_that_systemd_knows_and_starts_a_run() -> None:
    """Each key stands in the section it belongs to; the command takes its options."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string((DEPLOY / "workledger.service").read_text())

    assert {section: set(unit[section]) for section in unit.sections()} == UNIT_KEYS
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bin/workledger")
    check_command(*words)


def test_the_container_file_has_instructions_that_there_are_and_starts_a_run() -> None:
    """Entry point and command together are a command line; what is set in the environment is a setting."""
    lines = [line.split(maxsplit=1) for line in (DEPLOY / "Containerfile").read_text().splitlines() if line[0] != "#"]
    said = dict(lines)

    assert said.keys() == INSTRUCTIONS
    assert lines[0][0] == "FROM"
    name, _, value = said["ENV"].partition("=")
    assert Settings.model_validate({name.removeprefix("WORKLEDGER_").lower(): value})
    program, *words = [*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"])]
    assert program == "workledger"
    check_command(*words)


def test_the_deployment_is_one_that_selects_its_own_and_runs_what_there_is() -> None:
    """The selector fits the template; the container's words and the probe are commands; the URL comes from a secret."""
    found: dict[str, Any] = json.loads((DEPLOY / "kubernetes.json").read_text())
    spec = found["spec"]
    [container] = spec["template"]["spec"]["containers"]

    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "Deployment")
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert container["env"][0]["name"] == "WORKLEDGER_URL"
    assert "secretKeyRef" in container["env"][0]["valueFrom"]
    check_command(*container["args"])
    program, *words = container["readinessProbe"]["exec"]["command"]
    assert program == "workledger"
    check_command(*words)
