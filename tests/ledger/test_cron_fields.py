"""What may stand in the five fields, what it means, and what is refused with which words."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cron import Fields, Rule, check_fields, field_values, parse_expression, resolve
from ledger.errors import InvalidInput, InvalidSchedule, NeverFires
from ledger.zones import zone_named


def no_random(low: int, high: int) -> int:
    raise AssertionError("nothing here is random")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("30 2 * * 1-5", ("30", "2", "*", "*", "1-5")),
        ("  30\t2  * *   1-5 \n", ("30", "2", "*", "*", "1-5")),
        ("0 1, 3 * * mon , fri", ("0", "1,3", "*", "*", "mon,fri")),
        ("R H * * R", ("R", "H", "*", "*", "R")),
        ("@hourly", ("0", "*", "*", "*", "*")),
        ("@daily", ("0", "0", "*", "*", "*")),
        ("@midnight", ("0", "0", "*", "*", "*")),
        ("@weekly", ("0", "0", "*", "*", "0")),
        ("@Monthly", ("0", "0", "1", "*", "*")),
        ("@yearly", ("0", "0", "1", "1", "*")),
        ("@annually", ("0", "0", "1", "1", "*")),
    ],
)
def test_expressions(text: str, fields: tuple[str, ...]) -> None:
    """Five fields in the order of cron, or a name for five."""
    assert parse_expression(text) == fields


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 fields; it needs 5"),
        ("* * * *", "4 fields; it needs 5"),
        ("0 0 * * * *", "6 fields; it needs 5"),
        ("0 1 3 * * *", "6 fields; it needs 5"),
        ("@reboot", "allowed after @ are @hourly"),
        ("* " * 600, "at most 1000"),
        (None, "must be text"),
        (5, "must be text"),
    ],
)
def test_expressions_that_are_refused(text: str, words: str) -> None:
    """Another number of fields, unknown names, no text: each is said."""
    with pytest.raises(InvalidSchedule, match=words):
        parse_expression(text)


@pytest.mark.parametrize(
    ("field", "text", "values"),
    [
        ("minute", "0 30", [0, 30]),
        ("minute", "0, 30", [0, 30]),
        ("minute", " 0 ,30\t45 ", [0, 30, 45]),
        ("minute", "5/20", [5, 25, 45]),
        ("minute", "59/1", [59]),
        ("minute", "*/59", [0, 59]),
        ("minute", "00,05", [0, 5]),
        ("minute", "45-15", list(range(15, 46))),
        ("minute", "1,1,1", [1]),
        ("hour", "*/23", [0, 23]),
        ("hour", "23/1", [23]),
        ("hour", "0-23/6,1", [0, 1, 6, 12, 18]),
        ("day", "*/31", [1]),
        ("day", "31-29", [29, 30, 31]),
        ("month", "jan", [1]),
        ("month", "JAN,Dec", [1, 12]),
        ("month", "jan-mar,11-dec", [1, 2, 3, 11, 12]),
        ("month", "feb/5", [2, 7, 12]),
        ("dayofweek", "mon-fri", [1, 2, 3, 4, 5]),
        ("dayofweek", "Fri-Sun", [0, 5, 6]),
        ("dayofweek", "sun-tue", [0, 1, 2]),
        ("dayofweek", "sun-sun", [0]),
        ("dayofweek", "5-7", [0, 5, 6]),
        ("dayofweek", "0-7", [0, 1, 2, 3, 4, 5, 6]),
        ("dayofweek", "6/1", [0, 6]),
        ("dayofweek", "7/1", [0]),
        ("dayofweek", "*/3", [0, 3, 6]),
        ("dayofweek", "*/7", [0]),
        ("dayofweek", "*,3", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_a_field_means(field: str, text: str, values: list[int]) -> None:
    """Names, lists, ranges, steps, and 7 for Sunday."""
    assert list(field_values(field, text)) == values


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("minute", "60", "60 is outside its range; allowed are 0 to 59"),
        ("minute", "-1", "'-1' is none of"),
        ("minute", "*/60", "its step 60 is outside 1 to 59"),
        ("minute", "*/0", "its step 0 is outside 1 to 59"),
        ("minute", "5-10/60", "its step 60"),
        ("minute", "", "it is empty"),
        ("minute", "  ", "it is empty"),
        ("minute", "1,,2", "an item of its list is empty"),
        ("minute", "1,", "an item of its list is empty"),
        ("minute", ",1", "an item of its list is empty"),
        ("minute", "1-", "'1-' is none of"),
        ("minute", "1/", "'1/' is none of"),
        ("minute", "1-2-3", "'1-2-3' is none of"),
        ("minute", "1/2/3", "'1/2/3' is none of"),
        ("minute", "*-5", "is none of"),
        ("minute", "**", "is none of"),
        ("minute", "5x", "'5x' is none of"),
        ("minute", "?", "L, W, # and \\? have no meaning"),
        ("minute", "mon", "'mon' is no value of it"),
        ("minute", "1.5", "is none of"),
        ("minute", "٣", "is none of"),
        ("minute", "9" * 900, "9999 is outside its range"),
        ("minute", "1," * 600, "at most 1000"),
        ("minute", "R", "R and H stand alone"),
        ("minute", "R,5", "R and H stand alone"),
        ("minute", "H(0-29)", "is none of"),
        ("hour", "24", "24 is outside its range; allowed are 0 to 23"),
        ("hour", "*/24", "its step 24 is outside 1 to 23"),
        ("day", "0", "0 is outside its range; allowed are 1 to 31"),
        ("day", "32", "32 is outside its range"),
        ("day", "L", "'L' is no value of it"),
        ("day", "15W", "'15W' is none of"),
        ("month", "0", "allowed are 1 to 12 or jan to dec"),
        ("month", "*/13", "its step 13 is outside 1 to 12"),
        ("month", "januar", "'januar' is no value of it"),
        ("month", "nov-feb", "the range 'nov-feb' runs backwards"),
        ("dayofweek", "8", "allowed are 0 to 7 or sun to sat"),
        ("dayofweek", "5L", "is none of"),
        ("dayofweek", "mon#2", "is none of"),
        ("dayofweek", "sat-mon", "the range 'sat-mon' runs backwards"),
        ("dayofweek", 1, "dayofweek is of type int; it must be text"),
        ("dayofweek", ["1"], "dayofweek is of type list; it must be text"),
    ],
)
def test_fields_that_are_refused(field: str, text: str, words: str) -> None:
    """A refusal names the field, what was wrong with it and what is allowed, here and in a whole set of fields."""
    for check in (lambda: field_values(field, text), lambda: Rule(Fields()._replace(**{field: text}), "UTC")):
        with pytest.raises(InvalidSchedule, match=words) as refused:
            check()
        assert str(refused.value).startswith(f"{field} ")
    if text not in ("R",):
        with pytest.raises(InvalidSchedule, match=words):
            check_fields(Fields()._replace(**{field: text}))


@given(st.sampled_from(Fields._fields), st.text(alphabet="0123456789*/-, RHLW#?monjasu", max_size=12))
def test_any_text_has_values_or_a_typed_refusal(field: str, text: str) -> None:
    """Whatever is written, it means at least one value in its range or is refused by a typed error."""
    try:
        values = field_values(field, text)
    except InvalidSchedule:
        return
    low, high = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "dayofweek": (0, 6)}[field]
    assert values
    assert low <= values[0] <= values[-1] <= high
    assert list(values) == sorted(set(values))


# R and H


def test_r_takes_one_random_value_of_its_range() -> None:
    """Each R is drawn once, low and high included, from the range of its field."""
    asked: list[tuple[int, int]] = []

    def highest(low: int, high: int) -> int:
        asked.append((low, high))
        return high

    assert resolve(Fields("R", "R", "R", "R", "R"), "name", highest) == ("59", "23", "28", "12", "6")
    assert asked == [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)]
    assert resolve(Fields("R/15", "*", "5,7"), "name", highest) == ("14-59/15", "*", "5,7", "*", "*")


def test_h_follows_from_the_name_for_ever() -> None:
    """H gives these values for these names in every version, so that no schedule moves by an upgrade."""
    drawn = Fields("H", "H", "H", "H", "H")
    assert resolve(drawn, "core.backup", no_random) == ("5", "3", "25", "10", "0")
    assert resolve(drawn, "core.cleanup", no_random) == ("32", "5", "21", "4", "6")
    assert resolve(Fields("H/15"), "core.backup", no_random).minute == "5-59/15"


def test_h_spreads_over_its_range() -> None:
    """A thousand names meet every minute, hour, day to the 28th, month and weekday, and nothing else."""
    drawn = [resolve(Fields("H", "H", "H", "H", "H"), f"task {n}", no_random) for n in range(1_000)]
    for name, low, high in zip(Fields._fields, (0, 0, 1, 1, 0), (59, 23, 28, 12, 6), strict=True):
        assert {int(getattr(fields, name)) for fields in drawn} == set(range(low, high + 1))


@given(st.sampled_from("RH"), st.sampled_from(Fields._fields), st.integers(1, 59), st.text(), st.randoms())
def test_settled_fields_can_be_evaluated(letter: str, field: str, step: int, name: str, chance: random.Random) -> None:
    """What R, H and their steps become is always a field that is allowed, with the steps asked for."""
    highest = {"minute": 59, "hour": 23, "day": 31, "month": 12, "dayofweek": 7}[field]
    step = min(step, highest)
    fields = Fields()._replace(**{field: f"{letter}/{step}"})
    check_fields(fields)

    values = field_values(field, getattr(resolve(fields, name, chance.randint), field))

    assert {later - earlier for earlier, later in pairwise(values)} <= {step}


@pytest.mark.parametrize("text", ["R/0", "R/60", "H/99999", "r", "h", "R-5", "RR"])
def test_r_and_h_are_refused_where_they_mean_nothing(text: str) -> None:
    """Steps out of range, small letters and ranges of R and H are refused before anything is drawn."""
    with pytest.raises(InvalidSchedule, match=r"^minute is "):
        resolve(Fields(text), "name", no_random)


# Whole rules


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * 30-31 feb *"])
def test_a_schedule_that_never_fires_is_refused(text: str) -> None:
    """A day that no month has is refused, as a bad input that says so."""
    with pytest.raises(NeverFires, match=r"never fires: no month .* has a day") as refused:
        Rule(parse_expression(text), "UTC")
    assert isinstance(refused.value, InvalidInput)


@pytest.mark.parametrize("text", ["0 0 29 2 *", "0 0 30 2 1", "0 0 31 1,2 *"])
def test_a_schedule_that_fires_seldom_is_not(text: str) -> None:
    """Leap days, and a day that does not exist beside a weekday that does, are fine."""
    Rule(parse_expression(text), "UTC")


@pytest.mark.parametrize(
    "name",
    ["Mars/Olympus", "europe/paris", "Europe", "", "../etc/passwd", "/etc/localtime", "localtime", "Europe/Paris\0"],
)
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    """A name that the time zone data do not have is refused, files and paths of the machine too."""
    with pytest.raises(InvalidSchedule, match="which is unknown; allowed are names such as Europe/Paris"):
        Rule(Fields(), name)
    with pytest.raises(InvalidSchedule, match="must be text"):
        Rule(Fields(), None)  # type: ignore[arg-type]


def test_missing_time_zone_data_are_said() -> None:
    """On a machine without time zone data the refusal says so, and what to install."""
    program = "from ledger.cron import Fields, Rule\nRule(Fields(), 'Europe/Paris')"
    # tzdata set to None in sys.modules is how Python itself marks a package that cannot be imported.
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['tzdata'] = None\n{program}"],
        env={"PYTHONTZPATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("ledger.errors.InvalidSchedule: the time zone is 'Europe/Paris', but")
    assert "install the package tzdata" in ran.stderr


def test_rules_are_values() -> None:
    """Equal fields and zones make equal rules with equal hashes; a zone is found once."""
    one, other = (Rule(parse_expression("30 2 * * *"), "Europe/Paris") for _ in range(2))
    assert one == other
    assert len({one, other, Rule(Fields("30", "2"), "UTC")}) == 2
    assert zone_named("Europe/Paris") is zone_named("Europe/Paris")
