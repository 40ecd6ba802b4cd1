"""What tasks print also goes to the worker's own streams: whole lines, all of them, and no reader can fail a task."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ledger.clock import SystemClock
from ledger.output import Stream
from runner.echo import MOST_CHARACTERS, MOST_LINES, Echo
from runner.recorder import Recorder


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to bring something about."""
    clock = SystemClock()
    deadline = clock.monotonic() + 30
    while not condition():
        assert clock.monotonic() < deadline, "it did not come about"
        clock.sleep(0.01)


def both(stream: io.TextIOWrapper) -> dict[Stream, io.TextIOWrapper]:
    return {"stdout": stream, "stderr": stream}


def test_lines_of_attempts_on_several_threads_stay_whole(tmp_path: Path) -> None:
    """Four attempts print at once, each line in parts: in the worker's stream no line is mixed, and none is missing."""
    with (tmp_path / "out").open("w") as stream:
        echo = Echo(both(stream))

        def attempt(name: str) -> None:
            recorder = Recorder(1_000_000, SystemClock(), echo.put)
            for number in range(2_000):
                for part in (name, " ", str(number), "\n"):
                    recorder.write("stdout", part)
            recorder.write("stderr", f"{name} ends")
            recorder.close(is_kept=True)

        threads = [threading.Thread(target=attempt, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        echo.close(30)
    text = (tmp_path / "out").read_text()
    for name in "abcd":
        assert text.count(f"{name} ends") == 1
        text = text.replace(f"{name} ends", "")
    lines = text.splitlines()

    assert sorted(lines) == sorted(f"{name} {number}" for name in "abcd" for number in range(2_000))
    assert [line for line in lines if line[0] == "a"] == [f"a {number}" for number in range(2_000)]


def test_a_slow_reader_holds_up_who_prints_and_loses_nothing() -> None:
    """While nobody reads, what waits is bounded; once somebody does, every line comes, in order."""
    reader, writer = os.pipe()
    # The reader is closed first: where the test fails, nobody waits for it any more.
    with open(writer, "w", encoding="utf-8") as stream, open(reader, encoding="utf-8") as source:
        echo = Echo(both(stream))
        put: list[int] = []

        def prints() -> None:
            for number in range(10 * MOST_LINES):
                echo.put("stdout", f"{number:0100}\n")
                put.append(number)
            echo.put("stdout", "x" * 2 * MOST_CHARACTERS + "\n")
            put.append(-1)

        thread = threading.Thread(target=prints, daemon=True)
        thread.start()
        until(lambda: len(echo._lines) > MOST_LINES)
        held = len(put)
        found = [int(source.readline()) for _ in range(10 * MOST_LINES)]
        assert held <= 4 * MOST_LINES and len(source.readline()) == 2 * MOST_CHARACTERS + 1
        thread.join(30)

    assert found == list(range(10 * MOST_LINES)) and put[-1] == -1


def test_a_reader_that_is_gone_or_knows_less_is_no_failure() -> None:
    """A closed pipe takes nothing; a stream without the letters gets them escaped."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    gone = Echo(both(stream))
    gone.put("stdout", "nobody is there\n")
    gone.close(30)
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    plain = Echo(both(narrow))
    plain.put("stderr", "grün\n")
    plain.close(30)

    assert raw.getvalue() == b"gr\\xfcn\n"
    assert not gone._thread.is_alive()
    try:
        stream.close()
    except BrokenPipeError:
        pass
