"""The family's page: what is backed up, how fresh, and what is missing and why.

One document that asks nothing of any network: style, script and chart are in it, and its own
policy forbids everything else. Made from what `status` knows, without asking a server.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import groupby
from typing import Final

from mirror import __version__
from mirror.core.model import Mirror
from mirror.page import words
from mirror.page.chart import chart, series
from mirror.page.elements import Element, as_html, element, source
from mirror.page.words import Asked, Lacking, Mood, Verdict, counted, number
from mirror.profile import Profile
from mirror.sizes import size
from mirror.status import Status
from mirror.status_text import Asked as AskedOfStatus
from mirror.status_text import status_lines

_CLASSES: Final = {Mood.WELL: "well", Mood.LOOK: "look", Mood.BAD: "bad"}
_FRESH: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class _Backup:
    """One mirror with its copies."""

    mirror: Mirror
    copies: tuple[Status, ...]
    verdicts: tuple[Verdict, ...]
    place: str  # the anchor of its section

    @property
    def worst(self) -> Verdict:
        return max(self.verdicts, key=lambda verdict: verdict.mood)

    @property
    def mood(self) -> Mood:
        """One good copy of several is a backup; that the others are not needs a look."""
        moods = [verdict.mood for verdict in self.verdicts]
        return max(moods) if min(moods) is max(moods) else min(max(moods), Mood.LOOK)

    @property
    def state(self) -> str:
        return self.worst.short if self.mood is self.worst.mood else "needs a look"

    @property
    def fullest(self) -> Status:
        """The copy that tells the most."""
        return max(self.copies, key=lambda copy: copy.stored.files if copy.stored else -1)

    @property
    def last_success_at(self) -> datetime | None:
        """Of any copy."""
        return max((at for copy in self.copies if (at := copy.last_success_at)), default=None)

    @property
    def is_unknown(self) -> bool:
        """Whether one of the copies may have been complete once, and nobody can tell."""
        return any(copy.is_unknown for copy in self.copies)

    @property
    def photos(self) -> int | None:
        """Photos and videos, a live photo with its video as one; None: not known."""
        months = self.fullest.months
        return None if months is None else sum(months.values())


def page(profile: Profile, statuses: Sequence[Status], asked: Asked) -> str:
    """The document; `statuses` are those of `status.look`, with their months counted."""
    backups = list(_backups(profile, statuses, asked))
    script = _own("page.js")
    return as_html(
        element(
            "html",
            _head(_headline(backups), script),
            element("body", _main(backups, asked), source("script", script)),
            lang="en",
        )
    )


def headline(profile: Profile, statuses: Sequence[Status], asked: Asked) -> str:
    """What the page says first."""
    return _headline(list(_backups(profile, statuses, asked)))


def _headline(backups: Sequence[_Backup]) -> str:
    empty = all(backup.photos == 0 for backup in backups)
    return words.headline([backup.mood for backup in backups], empty=empty)


def _backups(profile: Profile, statuses: Iterable[Status], asked: Asked) -> Iterator[_Backup]:
    mirrors = {mirror.name: mirror for mirror in profile.mirrors}
    grouped = groupby(statuses, key=lambda status: status.mirror)
    for place, (name, group) in enumerate(grouped, 1):
        copies = tuple(group)
        verdicts = tuple(words.verdict(copy, asked) for copy in copies)
        yield _Backup(mirrors[name], copies, verdicts, f"backup-{place}")


# -- the frame -------------------------------------------------------------------------------------


def _own(name: str) -> str:
    return files("mirror.page").joinpath(name).read_text(encoding="utf-8")


def _head(title: str, script: str) -> Element:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("link", rel="icon", href="data:,"),  # or browsers ask the server for one
        element("title", title),
        source("style", _own("page.css")),
    )


def _main(backups: Sequence[_Backup], asked: Asked) -> Element:
    moods = [backup.mood for backup in backups]
    return element(
        "main",
        _old(asked),
        element("p", f"As of {words.moment(asked.now)}", class_="eyebrow"),
        element("h1", _headline(backups), class_=_CLASSES[max(moods)]),
        _lead(backups),
        _list(backups) if len(backups) > 1 else None,
        *(_section(backup, asked) for backup in backups),
        _footer(),
    )


def _old(asked: Asked) -> Element:
    """Shown by the page itself when nobody makes a new one any more."""
    return element(
        "p",
        "This page is ",
        element("b"),
        " days old. Whether there were backups since, it cannot tell.",
        id="old",
        class_="bad",
        role="alert",
        hidden="hidden",
        data_made=asked.now.isoformat(timespec="seconds"),
        data_limit=f"{asked.max_age.total_seconds() * 1000:.0f}",
    )


def _lead(backups: Sequence[_Backup]) -> Element:
    known = [backup.photos for backup in backups if backup.photos is not None]
    if not known:
        return element("p", "How many photos are in it is not known at the moment.", class_="lead")
    kept = sum(
        backup.fullest.stored.size_bytes for backup in backups if backup.fullest.stored is not None
    )
    photos = counted(sum(known), "photo or video", "photos and videos")
    where = f"in {len(backups)} backups, " if len(backups) > 1 else ""
    if not sum(known):
        return element("p", "No photo or video is in it so far.", class_="lead")
    told = f"{photos} {_lie(sum(known))} here as plain files, {where}{size(kept)} in all."
    unknown = len(backups) - len(known)
    more = f" {counted(unknown, 'backup')} could not be counted." if unknown else ""
    return element("p", told + more, class_="lead")


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"


def _list(backups: Iterable[_Backup]) -> Element:
    return element(
        "ul",
        *(
            element(
                "li",
                element("a", backup.mirror.name, href=f"#{backup.place}"),
                element("span", _success(backup), class_="quiet"),
                _state(backup),
            )
            for backup in backups
        ),
        class_="list",
    )


def _success(backup: _Backup) -> str:
    at = backup.last_success_at
    if at:
        return f"complete on {words.day(at)}"
    return "not known" if backup.is_unknown else "never complete"


def _state(backup: _Backup) -> Element:
    mark = element("span", class_="mark", aria_hidden="true")
    return element("span", mark, backup.state, class_=f"state {_CLASSES[backup.mood]}")


def _footer() -> Element:
    return element(
        "footer",
        element(
            "p",
            "Every copy was compared with the checksum of its original before it got its name."
            " What the settings leave out is not counted here, and the photo server was not asked"
            " for this page: it tells what the backups found when they ran.",
        ),
        element("p", f"immich-mirror {__version__}"),
    )


# -- a backup --------------------------------------------------------------------------------------


def _section(backup: _Backup, asked: Asked) -> Element:
    several = len(backup.copies) > 1
    months = backup.fullest.months
    return element(
        "section",
        element("header", element("h2", backup.mirror.name), _state(backup)),
        *([] if several else _whys(backup.verdicts[0])),
        element("p", words.selection(backup.mirror), class_="quiet"),
        _facts(backup, asked),
        _copies(backup) if several else None,
        *_all_lacking(backup),
        chart(series(months, asked.now)) if months else None,
        _aside(backup.fullest),
        _technical(backup, asked),
        id=backup.place,
    )


def _whys(verdict: Verdict) -> list[Element]:
    told = [element("p", why) for why in verdict.why]
    return told or [element("p", "Everything that belongs to it has been copied.")] * (
        verdict.mood is Mood.WELL
    )


def _facts(backup: _Backup, asked: Asked) -> Element:
    return element("dl", *(_fact(*fact) for fact in _told(backup, asked)), class_="facts")


def _fact(name: str, figure: str, more: str) -> Element:
    told = element("span", figure, class_="figure")
    return element(
        "div",
        element("dt", name),
        element("dd", told, element("span", more, class_="quiet") if more else None),
    )


def _told(backup: _Backup, asked: Asked) -> Iterator[tuple[str, str, str]]:
    at = backup.last_success_at
    if at:
        yield "Last complete backup", words.short_day(at), _when(at, asked)
    else:
        yield "Last complete backup", "not known" if backup.is_unknown else "never", ""
    stored = backup.fullest.stored
    if stored is None:
        return
    photos = backup.photos
    if photos is not None:
        live = f"in {counted(stored.files, 'file')}, " if stored.files != photos else ""
        yield "Photos and videos", number(photos), f"{live}{size(stored.size_bytes)}"
    if stored.newest_uploaded_at is not None:
        yield "Newest upload in it", words.short_day(stored.newest_uploaded_at), ""
    if stored.files:
        yield (
            "Compared with originals",
            f"{int(stored.verified_share * 1000) / 10:g} %",
            (
                f"the first of them on {words.short_day(stored.oldest_verified_at)}"
                if stored.oldest_verified_at
                else ""
            ),
        )


def _when(at: datetime, asked: Asked) -> str:
    age = asked.now - at
    clock = f"at {at.astimezone():%H:%M}"
    if age < timedelta():
        return clock
    if age < _FRESH:
        return f"{clock}, just before this page was made"
    return f"{clock}, {words.span(age)} before this page was made"


def _copies(backup: _Backup) -> Element:
    """Each of several copies, and how it is."""
    return element(
        "ul",
        *(
            element(
                "li",
                element("strong", copy.destination),
                ": ",
                element("span", verdict.short, class_=f"state {_CLASSES[verdict.mood]}"),
                *(element("div", why, class_="quiet") for why in verdict.why),
            )
            for copy, verdict in zip(backup.copies, backup.verdicts, strict=True)
        ),
        class_="plain",
    )


def _all_lacking(backup: _Backup) -> Iterator[Element]:
    """What is missing, once where several copies lack the same."""
    found = dict.fromkeys(each for copy in backup.copies for each in words.lacking(copy))
    for each in found:
        yield element(
            "div",
            element("h3", each.what),
            element("p", each.why, class_="quiet"),
            _files(each) if each.files else None,
            class_="lacking",
        )


def _files(lacking: Lacking) -> Element:
    more = f"and {number(lacking.more)} more" if lacking.more else None
    return element(
        "details",
        element("summary", "Which ones"),
        element(
            "ul",
            *(element("li", f"{path}: {why}") for path, why in lacking.files),
            element("li", more) if more else None,
            class_="files",
        ),
    )


def _aside(copy: Status) -> Element | None:
    stored = copy.stored
    if stored is None:
        return None
    told = []
    if stored.retained_files:
        are = "is" if stored.retained_files == 1 else "are"
        files_ = counted(stored.retained_files, "file")
        told.append(f"{files_} {are} no longer selected on the server; the copies stay here.")
    if stored.quarantined_files:
        waits = "waits" if stored.quarantined_files == 1 else "wait"
        files_ = counted(stored.quarantined_files, "file")
        told.append(
            f"{files_} that had to leave {waits} in quarantine ({size(stored.quarantined_bytes)})."
        )
    if copy.is_running:
        told.append("A backup was under way when this page was made.")
    return (
        element("ul", *(element("li", one) for one in told), class_="plain quiet") if told else None
    )


def _technical(backup: _Backup, asked: Asked) -> Element:
    technical = AskedOfStatus(asked.now)
    lines = [line for copy in backup.copies for line in status_lines(copy, technical)]
    return element(
        "details",
        element("summary", "For whoever looks after the backup"),
        *(element("pre", line) for line in lines),
    )
