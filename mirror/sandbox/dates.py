"""Dates as the server stores and as it shows them.

Stored: aware UTC datetimes with microseconds. `localDateTime` too: the wall clock with a false Z.
"""

from datetime import UTC, datetime, timedelta

_CENTURY = 100
_HALF_CENTURY = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown(moment: datetime) -> str:
    """As most of the API shows a date: milliseconds and a Z, cut, not rounded.

    Years 1 to 99 come out as 20xx and 19xx in every JSON date (measured, 2.7.5 and 3.1.0).
    """
    year = moment.year
    if year < _CENTURY:
        year += 2000 if year < _HALF_CENTURY else 1900
    milliseconds = moment.microsecond // 1000
    return f"{year:04d}-{moment:%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def from_database(moment: datetime) -> str:
    """As rows that the database itself turned into JSON: an offset, as many digits as needed."""
    return bare(moment) + "+00:00"


def bare(moment: datetime) -> str:
    """As timeline columns: no zone, as many digits as needed."""
    digits = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{digits}"


def day_of(moment: datetime) -> str:
    """`YYYY-MM-DD`, four digits of year on every platform."""
    return f"{moment.year:04d}-{moment:%m-%d}"


def month_of(moment: datetime) -> str:
    """The name of a timeline bucket."""
    return f"{moment.year:04d}-{moment:%m}-01"


def parse(text: str) -> datetime:
    """An aware UTC datetime; a text without a zone is taken as UTC.

    Raises:
        ValueError: it is no date.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def milliseconds(moment: datetime) -> int:
    """Since 1970; negative before."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
