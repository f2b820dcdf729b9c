"""What is known of backups, in words for a parent: what is well, what is missing and why.

Pure but for the time zone of this machine, in which times are told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from mirror.core.layout import DAYS, MONTHS
from mirror.core.model import Filter, Mirror, Owners, Visibility
from mirror.core.report import Outcome
from mirror.errors import ExitCode
from mirror.last_run import LastRun
from mirror.page.elements import THIN_SPACE
from mirror.status import Status


class Mood(IntEnum):
    """How a backup is; the larger, the worse."""

    WELL = 0
    LOOK = 1  # up to date, but for something
    BAD = 2  # not up to date, or never was


@dataclass(frozen=True, slots=True)
class Verdict:
    """A mood, in two or three words, and the sentences that say why."""

    mood: Mood
    short: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lacking:
    """Something that is not as it should be: what, why, and the files it is about, if known."""

    what: str
    why: str
    files: tuple[tuple[str, str], ...] = ()  # path, why
    more: int = 0  # files whose names are not known


@dataclass(frozen=True, slots=True)
class Asked:
    """When the page is made, and how old a backup may be."""

    now: datetime
    max_age: timedelta


# -- numbers and times -----------------------------------------------------------------------------


def number(count: int) -> str:
    """With narrow spaces between thousands."""
    return f"{count:,}".replace(",", THIN_SPACE)


def counted(count: int, one: str, many: str = "") -> str:
    """A number and what is counted; `many` by default with an "s"."""
    return f"{number(count)} {one if count == 1 else many or f'{one}s'}"


def day(at: datetime) -> str:
    """A date, as in "26 November 2026"."""
    local = at.astimezone()
    return f"{local.day} {MONTHS[local.month - 1]} {local.year}"


def short_day(at: datetime) -> str:
    """The same with a short month."""
    local = at.astimezone()
    return f"{local.day} {MONTHS[local.month - 1][:3]} {local.year}"


def moment(at: datetime) -> str:
    """A day of the week, a date and a time."""
    local = at.astimezone()
    return f"{DAYS[local.weekday()]}, {day(at)}, {local:%H:%M}"


def span(time: timedelta) -> str:
    """Roughly how long: in whole days, hours or minutes."""
    minutes = int(time.total_seconds() // 60)
    if minutes >= 48 * 60:
        return counted(minutes // (24 * 60), "day")
    if minutes >= 2 * 60:
        return counted(minutes // 60, "hour")
    return counted(max(minutes, 0), "minute")


# -- how one copy is -------------------------------------------------------------------------------

# Why a run could not be, or a destination cannot be looked at, by the code of its error.
_WHY: Final[Mapping[str, str]] = {
    "server-unreachable": (
        "The photo server did not answer. It may have been switched off, or the connection to it"
        " was down."
    ),
    "not-immich": "Something other than the photo server answered at its address.",
    "unknown-server": (
        "The photo server was updated to a version that the backup does not know yet."
    ),
    "maintenance": "The photo server was closed for maintenance.",
    "key-refused": "The photo server no longer accepts the backup's key. It needs a new one.",
    "permission-missing": "The backup's key may not do all that is needed.",
    "other-account": (
        "The backup's key belongs to somebody else than before. To be safe, nothing was changed."
    ),
    "not-mounted": "The disk with the copies is not connected, or another one is in its place.",
    "not-ours": "The folder for the copies belongs to something else. Nothing in it was touched.",
    "no-space": "The disk for the copies is full.",
    "unwritable": "The disk with the copies cannot be read or written.",
    "index": (
        "The list of what was copied cannot be read. The next backup makes it anew; no photo is"
        " lost by that."
    ),
    "unknown-name": "The settings name a person, an album or a tag that does not exist.",
    "ambiguous-name": "The settings name a person, an album or a tag of which there are several.",
    "internal": "The backup program made a mistake.",
}
_WHY_BY_EXIT: Final[Mapping[int, str]] = {
    ExitCode.PARTIAL: "Not everything could be copied.",
    ExitCode.USAGE: "The settings of the backup are not right.",
    ExitCode.ACCOUNT: "The photo server could not be used.",
    ExitCode.DESTINATION: "The disk for the copies could not be used.",
    ExitCode.HELD: "Some changes wait for a person to look at them. Nothing was deleted.",
    ExitCode.DAMAGED: "Damage was found.",
    ExitCode.LOCKED: "Another backup was still at work.",
    ExitCode.LIMIT: (
        "The backup reached the limit that was set for it. The next one goes on from there."
    ),
    ExitCode.INTERRUPTED: (
        "The backup was stopped before its end. The next one goes on from there."
    ),
}


def verdict(status: Status, asked: Asked) -> Verdict:
    """How one copy of one mirror is."""
    success, last = status.last_success_at, status.last
    fresh = not status.is_older(asked.max_age, asked.now)
    if status.error is None and last is None and success is None:
        return Verdict(Mood.BAD, "no backup yet", ("No backup has been made yet.",))
    why = list(_reasons(status))
    if success is None:
        why.append(
            "Whether there ever was a complete backup is not known."
            if status.is_unknown
            else "There has been no complete backup yet."
        )
        return Verdict(Mood.BAD, "not complete", tuple(why))
    if success > asked.now and not fresh:
        why.append("By the clock of this machine, the last backup lies in the future.")
        return Verdict(Mood.BAD, "clock is wrong", tuple(why))
    if not fresh:
        why.append(f"The last complete backup is {span(asked.now - success)} old.")
        return Verdict(Mood.BAD, "not up to date", tuple(why))
    if why or any(True for _ in lacking(status)):
        return Verdict(Mood.LOOK, "needs a look", tuple(why))
    return Verdict(Mood.WELL, "up to date")


def _reasons(status: Status) -> Iterator[str]:
    if status.error is not None:
        yield _WHY.get(status.error.code) or _WHY_BY_EXIT[status.error.exit_code]
        if status.error.code == "not-mounted":
            yield "Its photos cannot be counted until it is back. Nothing is lost by that."
    last = status.last
    if last is None or last.exit_code == ExitCode.OK:
        return
    code = (last.error or "").partition(":")[0]
    if status.error is not None and code == status.error.code:
        return  # said already
    if last.exit_code == ExitCode.PARTIAL and not last.error:
        return  # what is missing says it
    yield _WHY.get(code) or _WHY_BY_EXIT.get(last.exit_code, "The last backup did not end well.")


# -- what is missing, and why ----------------------------------------------------------------------

# Why a file did not come, by the code of its error.
_WHY_NOT: Final[Mapping[str, str]] = {
    "checksum-mismatch": "it arrives damaged from the server",
    "transfer": "it broke off on the way",
    "unavailable": "the server lists it, but does not hand it out",
    "conflict": "no name is free for it in its folder",
}


def lacking(status: Status) -> Iterator[Lacking]:
    """What is missing or waits, the gravest first."""
    last = status.last
    if last is None:
        return
    yield from _failed(last)
    damaged = last.counts.get(Outcome.KNOWN, 0)
    if damaged:
        yield Lacking(
            f"{counted(damaged, 'original')} {_are(damaged)} damaged on the photo server",
            "What the server sends is not what it says that it has. No good copy can be made"
            " until that is repaired there; where an earlier good copy exists, it is kept.",
        )
    if not last.complete:
        yield Lacking(
            "The photo server did not show its whole list",
            "Photos may be missing that it did not show. Nothing was taken for deleted.",
        )
    for hold in last.holds:
        yield Lacking(
            "Some changes wait for a person",
            f"The backup found something unusual and stopped short: {hold['reason']}. Nothing was"
            " deleted. Whoever looks after the backup can let it through.",
        )
    postponed = last.counts.get(Outcome.POSTPONED, 0)
    if postponed:
        yield Lacking(
            f"{counted(postponed, 'deleted photo')} {_are(postponed)} still here",
            "They are put away when everything else has been copied.",
        )


def _failed(last: LastRun) -> Iterator[Lacking]:
    failed = last.counts.get(Outcome.FAILED, len(last.failures))
    if failed:
        files = tuple((told["path"], _why_not(told["error"])) for told in last.failures)
        yield Lacking(
            f"{counted(failed, 'photo or video', 'photos or videos')} could not be copied",
            "The next backup tries again.",
            files,
            max(0, failed - len(files)),
        )


def _why_not(error: str) -> str:
    return _WHY_NOT.get(error.partition(":")[0], "it could not be copied")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


# -- all together ----------------------------------------------------------------------------------


def headline(moods: Sequence[Mood], *, empty: bool) -> str:
    """The one sentence that everybody reads; `empty`: all were counted, and hold nothing."""
    if empty and max(moods) is Mood.WELL:
        return "There are no photos to back up yet."
    one = len(moods) == 1
    bad = sum(mood is Mood.BAD for mood in moods)
    look = sum(mood is Mood.LOOK for mood in moods)
    if bad:
        return (
            "Your photos are not backed up as they should be."
            if bad == len(moods)
            else f"{bad} of {len(moods)} backups {_are(bad)} not up to date."
        )
    if look:
        return (
            "Your photos are backed up, but something needs a look."
            if one or look == len(moods)
            else f"Your photos are backed up; {look} of {len(moods)} backups"
            f" {'needs' if look == 1 else 'need'} a look."
        )
    return "Your photos are backed up."


# -- what is selected ------------------------------------------------------------------------------

_CHOSEN_BY: Final[Mapping[str, str]] = {
    "people": "people",
    "albums": "albums",
    "in_album": "albums",
    "tags": "tags",
    "type": "kind",
    "favorite": "favourites",
    "rating": "rating",
    "city": "place",
    "state": "place",
    "country": "place",
    "make": "camera",
    "model": "camera",
    "file_name": "file name",
    "search": "other rules",
}


def selection(mirror: Mirror) -> str:
    """Which photos a backup is about, and which it leaves out."""
    chosen = mirror.filter
    whose = "your own photos and videos" if chosen.owners is Owners.ME else "photos and videos"
    archive = Visibility.ARCHIVE in chosen.visibility
    timeline = Visibility.TIMELINE in chosen.visibility
    places = " and ".join(
        name for name, shown in (("the timeline", timeline), ("the archive", archive)) if shown
    )
    by = list(dict.fromkeys(_rules(chosen)))
    some = f", chosen by {_listed(by)}" if by else ""
    but = ", except those that the settings leave out" if mirror.exclude else ""
    every = "Some of" if by else "All"
    left = [*([] if archive else ["the archive"]), "the trash", "the locked folder"]
    if chosen.owners is Owners.ME:
        left.append("what others share with you")
    return f"{every} {whose} in {places}{some}{but}. Not in this backup: {_listed(left)}."


def _rules(chosen: Filter) -> Iterator[str]:
    nothing = Filter()
    for field in fields(Filter):
        if field.name in ("visibility", "owners"):
            continue
        if getattr(chosen, field.name) != getattr(nothing, field.name):
            yield _CHOSEN_BY.get(field.name, "date")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
