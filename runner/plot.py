"""Draw statistics into an SVG or PNG file: attempts that ended, how many without success, waits and runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.errors import InvalidOption, StorageUnavailable
from projections.statistics import By, Total

FORMS = (".svg", ".png")
_SALT = "workledger"


def draw(found: Sequence[Total], by: By, path: str) -> None:
    """Write the picture of *found* to the file *path*, in the form that its name ends with.

    Raises:
        InvalidOption: The name ends otherwise, there is nothing to draw, or matplotlib is not installed.

        StorageUnavailable: The file cannot be written.
    """
    if Path(path).suffix not in FORMS:
        raise InvalidOption(f"--plot is {path!r}; its name ends with {' or '.join(FORMS)}")
    if not found:
        raise InvalidOption("there is nothing to draw: no hours of that kind")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidOption(f"--plot needs `pip install workledger[plot]` ({error})") from error
    figure = Figure(figsize=(10, 9), layout="constrained")
    with mpl.rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "none", "text.parse_math": False}):
        _fill(figure, found, by)
        try:
            figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
        except OSError as error:
            raise StorageUnavailable(f"{path}: {error.strerror}") from error


def _fill(figure: Any, found: Sequence[Total], by: By) -> None:
    counts, percents, durations = figure.subplots(3, 1, sharex=True)
    places = range(len(found))
    succeeded = [total.succeeded for total in found]
    counts.bar(places, succeeded, label="succeeded")
    counts.bar(places, [total.ended - total.succeeded for total in found], bottom=succeeded, label="without success")
    counts.set_ylabel("attempts that ended")
    counts.legend()
    percents.bar(places, [total.failure_percent or 0 for total in found], color="tab:red")
    percents.set_ylabel("without success, %")
    for name in ("wait_p50_ms", "wait_p95_ms", "run_p50_ms", "run_p95_ms"):
        values = [getattr(total, name) for total in found]
        said = name.removesuffix("_ms").replace("_", " ")
        durations.plot(places, [None if v is None else v / 1000 for v in values], marker="o", label=said)
    durations.set_yscale("symlog", linthresh=0.001)
    durations.set_ylabel("seconds")
    durations.set_xlabel(by.value)
    durations.set_xticks(places, [total.of for total in found], rotation=90 if len(found) > 6 else 0)
    durations.legend()
