"""How fast a run may download, by the hour of the week, in the words of rclone's `--bwlimit`.

Source: rclone's documentation and `fs/bwtimetable.go` (1.71): a rate without a suffix is in KiB/s,
all suffixes are powers of 1024, "off" and 0 are no limit, and the last entry of a week holds until
the first.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * _DAY_MINUTES
_KIB: Final = 1024
_UNITS: Final = {"b": 0, "": 1, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_RATE: Final = re.compile(r"(\d+\.?\d*|\.\d+)(?:(b)|([kmgtp])(?:i|ib)?|)", re.IGNORECASE)
_ENTRY: Final = re.compile(r"(?:([a-z]+)-)?(\d\d):(\d\d),(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates by the minute of the week, from Monday on, on a local clock."""

    text: str
    slots: tuple[tuple[int, float | None], ...]  # from which minute on; bytes/s, None: any

    def rate_at(self, local: datetime) -> float | None:
        """Bytes per second at a local time; None is no limit."""
        minute = local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute
        # Before the first entry of the week the last one still holds: index -1.
        return self.slots[bisect_right(self.slots, minute, key=lambda slot: slot[0]) - 1][1]


def parse_timetable(text: str) -> Timetable:
    """One rate for always, or entries of a time and a rate, with days or for every day.

    Raises:
        ValueError: it is neither.
    """
    words = re.split(r"[\s;]+", text.strip())
    if len(words) == 1 and "," not in text:
        return Timetable(text.strip(), ((0, _rate(words[0])),))
    slots: dict[int, float | None] = {}
    for word in words:
        slots.update(_entry(word))
    return Timetable(" ".join(words), tuple(sorted(slots.items())))


def _entry(word: str) -> dict[int, float | None]:
    found = _ENTRY.fullmatch(word)
    if found is None:
        raise ValueError(f'{word!r} should be a time and a rate, such as "08:00,2M"')
    day, hours, minutes, rate = found.groups()
    if int(hours) > 23 or int(minutes) > 59:  # noqa: PLR2004 (a day's)
        raise ValueError(f"{word!r} has a time that no day has")
    days = range(7) if day is None else [_day(day)]
    minute = int(hours) * 60 + int(minutes)
    return {number * _DAY_MINUTES + minute: _rate(rate) for number in days}


def _day(name: str) -> int:
    for number, known in enumerate(_DAYS):
        if name.lower() in {known, known[:3]}:
            return number
    raise ValueError(f"{name!r} is no day; they are Mon, Tue, Wed, Thu, Fri, Sat, Sun")


def _rate(text: str) -> float | None:
    text = text.rpartition(":")[2]  # of a pair the second is for downloads
    if text.lower() == "off":
        return None
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} should be a rate, such as "512k", "10M" or "off"')
    number, byte, unit = found.groups()
    return float(number) * _KIB ** _UNITS[(byte or unit or "").lower()] or None
