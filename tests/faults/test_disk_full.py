"""A disk that is full: a clear error, nothing half-written, and work that goes on by itself when space returns."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.setup import APP, LEASES, Site, wait_until, workers_of

BYTES = 24 * 1024 * 1024


class SmallDisk:
    """A file system of its own in memory, which a file can fill."""

    error = "StorageFull"
    says = "the disk is full"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", directory], check=True)

    def fill(self, _: list[int]) -> None:
        with (self.directory / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"x" * 4_096)

    def free(self, _: list[int]) -> None:
        (self.directory / "filler").unlink()

    def start_full(self, site: Site, *words: str) -> subprocess.Popen[bytes]:
        """Start the command on the full disk."""
        self.fill([])
        return site.command(*words)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.directory], check=True)


class LimitedFiles:
    """The processes' own limit to the size of files: needs no rights, but SQLite calls it an error of the disk."""

    error = "StorageUnavailable"
    says = "SQLITE_IOERR|the disk is full"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, processes: list[int]) -> None:
        self._limit(processes, max(path.stat().st_size for path in self.directory.iterdir()))

    def free(self, processes: list[int]) -> None:
        self._limit(processes, resource.RLIM_INFINITY)

    def _limit(self, processes: list[int], size: int) -> None:
        for pid in processes:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def start_full(self, site: Site, *words: str) -> subprocess.Popen[bytes]:
        """Start the command in a process that can write next to nothing into files."""
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)); from runner.cli import main; main()"
        return site.start("-c", limit, "--app", APP, *words)

    def close(self) -> None: ...


def can_mount() -> bool:
    """Whether this user may mount file systems here."""
    here = Path(os.environ.get("TMPDIR", "/tmp")) / f"workledger-mount-{os.getpid()}"
    here.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", here], capture_output=True, check=False).returncode
        if mounted == 0:
            subprocess.run(["umount", here], check=True)
        return mounted == 0
    except OSError as error:
        assert error.errno == errno.ENOENT  # there is no such command
        return False
    finally:
        here.rmdir()


@pytest.fixture(params=[LimitedFiles, SmallDisk] if can_mount() else [LimitedFiles])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk | LimitedFiles]:
    directory = tmp_path / "disk"
    directory.mkdir()
    disk = request.param(directory)
    yield disk
    disk.close()


@pytest.fixture
def full_site(disk: SmallDisk | LimitedFiles, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, disk.directory / "work.db", **LEASES)
    yield site
    site.close()


def lines(site: Site, name: str) -> list[dict[str, str]]:
    path = site.directory / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_work_goes_on_when_space_returns(full_site: Site, disk: SmallDisk | LimitedFiles) -> None:
    """While the disk is full, enqueue is refused and a worker's death cannot be recorded; then all goes on unaided."""
    site = full_site
    site.enqueue(*[("hold", ("go",))] * 2)
    run = site.command("run", "--workers", "3")
    wait_until(lambda: site.begun() == 2, "the long ones have begun", site)
    producer = site.start("-m", "tests.faults.persist")
    wait_until(lambda: len(lines(site, "persist.acknowledged")) > 50, "tasks are queued", site)
    for cycle in range(2):
        refused, queued = len(lines(site, "persist.refused")), len(lines(site, "persist.acknowledged"))
        disk.fill([run.pid, producer.pid, *workers_of(run)])
        wait_until(lambda refused=refused: len(lines(site, "persist.refused")) > refused, "enqueue is refused", site)
        if cycle == 0:
            [holder, *_] = holders = {int(path.stem) for path in site.directory.glob("*.effects")} & {*workers_of(run)}
            assert holders
            os.kill(holder, signal.SIGKILL)
        at_least = len(lines(site, "persist.refused")) + 150  # one in 10 ms
        wait_until(lambda at_least=at_least: len(lines(site, "persist.refused")) > at_least, "a lease is over", site)
        disk.free([run.pid, producer.pid, *workers_of(run)])
        wait_until(
            lambda queued=queued: len(lines(site, "persist.acknowledged")) > queued + 50, "tasks are queued", site
        )
    (site.directory / "stop").touch()
    assert site.finish(producer) == 0
    (site.directory / "go").touch()
    wait_until(lambda: site.count("TaskSucceeded") == site.count("TaskQueued"), "all is done", site)
    run.send_signal(signal.SIGTERM)

    assert site.finish(run) in (0, 1), site.logs()
    assert {line["type"] for line in lines(site, "persist.refused")} == {disk.error}
    lost = site.rows(
        "SELECT DISTINCT json_extract(state, '$.worker') FROM stored_events WHERE topic = 'AttemptLost.v1'"
    )
    assert len(lost) <= 1, "only the killed worker lost something"
    site.check()


@pytest.mark.parametrize("exists", [True, False], ids=["a ledger", "no ledger yet"])
def test_a_new_process_on_a_full_disk_is_told(full_site: Site, disk: SmallDisk | LimitedFiles, exists: bool) -> None:
    """A command that finds the disk full ends with exit code 5 and a line that says so; nothing of it is stored."""
    site = full_site
    if exists:
        site.enqueue(("work", (0,)))
    command = disk.start_full(site, "enqueue", "work", "--args", '{"milliseconds": 0}')
    assert site.finish(command) == 5
    [line] = site.logs().splitlines()[1:]
    assert line.startswith("error: ") and re.search(disk.says, line)
    disk.free([])
    assert site.count("TaskQueued") == int(exists)
    assert site.finish(site.command("enqueue", "work", "--args", '{"milliseconds": 0}')) == 0
    site.drain()

    site.check()
