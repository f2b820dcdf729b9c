"""Every row that one query selects, by keyset and never by page numbers.

Page numbers lose rows while others write (measured: in 45 of 45 listings). Here each request asks
`takenAfter` = the last row's fileCreatedAt, inclusive; rows may come twice, and none is skipped.
Measured on Immich 2.7.5 and 3.1.0.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from mirror.core.filter import MILLISECOND, Query, Window, cut, later
from mirror.errors import NotImmichError, RequestError
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.immich.wire import Row

# Outside of these the server's JSON cannot be trusted: years 1 to 99 are printed as 20xx and 19xx,
# and a page that holds an impossible date (BC, infinity, a year above 9999) is a 500.
FIRST: Final = datetime(100, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)

PAGE_SIZE: Final = 1000  # the most that Immich gives
_MOST_SOUGHT: Final = 1000  # one request each
# So often a request has to get its turn until it is sent; who looks at a page gives none.
_STEPS_TO_SEND: Final = 3
ZONE: Final = timedelta(hours=26)  # no wall clock is further from UTC


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows; `dated` is False where the server prints their dates wrongly."""

    rows: list[Row]
    dated: bool = True


@dataclass(slots=True, kw_only=True)
class Walk:
    """One walk through one query; `problems` says, afterwards, why it may lack rows."""

    client: Client
    query: Query
    with_exif: bool = False
    own_only: bool = True  # rows of other owners do not matter
    page_size: int = PAGE_SIZE
    problems: list[str] = field(default_factory=list)

    async def pages(self) -> AsyncIterator[Page]:
        """All rows, some of them twice.

        Raises:
            AccountError: the server does not answer, or refuses the query.
        """
        async for page in self._end(Window(None, FIRST), "before the year 100"):
            yield Page(page, dated=False)
        async for page in self.between_the_ends():
            yield Page(page)
        async for page in self._end(Window(LAST, None), "after the year 9999"):
            yield Page(page)

    # -- between the ends --------------------------------------------------------------------------

    async def between_the_ends(self) -> AsyncIterator[list[Row]]:
        """The same without the years in which no photo was taken: two requests less."""
        cursor = max(self.query.taken.after or FIRST, FIRST)
        last = min(self.query.taken.before or LAST, LAST)
        asking = asyncio.ensure_future(self._ask(taken=Window(cursor, last)))
        try:
            while True:
                rows, more = await asking
                reached = self._reached(rows, cursor) if more else last
                if reached == cursor and more:
                    # A whole page of one instant: only the time of upload can divide it.
                    async for tied in self._tie(cursor):
                        yield tied
                    more, reached = cursor < last, later(cursor)
                if not more or reached < cursor:
                    yield rows
                    return
                # The server finds the next page while the caller looks at this one.
                cursor = reached
                asking = asyncio.ensure_future(self._ask(taken=Window(cursor, last)))
                for _ in range(_STEPS_TO_SEND):
                    await asyncio.sleep(0)
                yield rows
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _reached(self, rows: list[Row], cursor: datetime) -> datetime:
        """The latest date of a page; before `cursor` when the server does not go by dates."""
        stamps = [_taken(row) for row in rows]
        if any(after < before for before, after in itertools.pairwise([cursor, *stamps])):
            self._problem("the server gave rows that are not in order of their dates")
        return max(stamps)

    async def _tie(self, instant: datetime) -> AsyncIterator[list[Row]]:
        seen: set[str] = set()
        paged = False
        async for cell in self._cells(Window(instant, instant)):
            paged = paged or cell.paged
            seen.update(str(row.get("id")) for row in cell.rows)
            yield cell.rows
        if paged:
            yield await self._missed(instant, seen)

    # -- an instant, or an end, divided by time of upload ------------------------------------------

    async def _cells(self, taken: Window) -> AsyncIterator["_Cell"]:
        cells = [self.query.uploaded]
        while cells:
            window = cells.pop()
            rows, more = await self._ask(taken=taken, uploaded=window)
            yield _Cell(rows)
            if not more:
                continue
            parts = _divided(window, rows)
            cells += parts
            if not parts:
                async for page in self._by_page(taken, window):
                    yield _Cell(page, paged=True)

    async def _by_page(self, taken: Window, uploaded: Window) -> AsyncIterator[list[Row]]:
        number, more = 1, True
        while more:
            number += 1
            rows, more = await self._ask(taken=taken, uploaded=uploaded, page=number)
            yield rows

    async def _missed(self, instant: datetime, seen: set[str]) -> list[Row]:
        """What pages without a defined order have lost, by the list of ids of the months around."""
        known = await self._known_at(instant)
        if known is None or len(known - seen) > _MOST_SOUGHT:
            self._problem(
                f"more than {self.page_size} assets were uploaded at once with the date {instant}, "
                "and may not all be listed"
            )
            return []
        found = []
        for missing in sorted(known - seen):
            rows, _ = await self._ask(taken=Window(instant, instant), asset_id=missing)
            found += rows
        return found

    async def _known_at(self, instant: datetime) -> set[str] | None:
        """Ids of all own assets of one instant, whatever the filter; None if that is not known."""
        visibility = self.query.visibility
        if not self.own_only or self.query.with_deleted or visibility is None:
            return None
        place = {"visibility": visibility.value}
        try:
            counts = wire.bucket_counts((await self.client.get("/timeline/buckets", place)).json)
            known: set[str] = set()
            for month in sorted({f"{instant + zone:%Y-%m}-01" for zone in (-ZONE, ZONE)}):
                ids = await self._bucket({**place, "timeBucket": month})
                if len(ids) != counts.get(month, 0):
                    return None  # an asset without metadata is counted and not listed
                known.update(one for one, taken in ids.items() if taken == instant)
        except NotImmichError:
            return None
        return known

    async def _bucket(self, params: dict[str, str]) -> dict[str, datetime | None]:
        answer = (await self.client.get("/timeline/bucket", params)).json
        stamps = [wire.instant(text) for text in wire.column(answer, "fileCreatedAt")]
        cuts = [None if stamp is None else cut(stamp) for stamp in stamps]
        return dict(zip(wire.column(answer, "id"), cuts, strict=True))

    # -- the ends ----------------------------------------------------------------------------------

    async def _end(self, end: Window, name: str) -> AsyncIterator[list[Row]]:
        within = _overlap(end, self.query.taken)
        if within is None:
            return
        try:
            async for cell in self._cells(within):
                if cell.paged:
                    self._problem(f"too many assets {name} were uploaded at once")
                yield cell.rows
        except RequestError as error:
            if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            self._problem(f"the server cannot list assets dated {name}: {error.why}")

    # -- one request -------------------------------------------------------------------------------

    async def _ask(
        self,
        *,
        taken: Window,
        uploaded: Window | None = None,
        page: int | None = None,
        asset_id: str | None = None,
    ) -> tuple[list[Row], bool]:
        """Rows, and whether there may be more."""
        query = replace(self.query, taken=taken, uploaded=uploaded or self.query.uploaded)
        body = query.body() | {"order": "asc", "size": self.page_size}
        if self.with_exif:
            body["withExif"] = True
        if page is not None:
            body["page"] = page
        if asset_id is not None:
            body["id"] = asset_id
        answer = (await self.client.search(body)).json
        rows = wire.rows(answer, "assets", "items")
        following = wire.member(answer, "assets", dict).get("nextPage")
        if not rows and following is not None:
            self._problem("the server gave an empty page and said that more follows")
        return rows, len(rows) >= self.page_size or (bool(rows) and following is not None)

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


@dataclass(frozen=True, slots=True)
class _Cell:
    rows: list[Row]
    paged: bool = False


def _taken(row: Row) -> datetime:
    stamp = wire.instant(row.get("fileCreatedAt"))
    if stamp is None:
        raise NotImmichError(f"asset {row.get('id')} has no date that can be read")
    return stamp


def _uploaded(row: Row) -> datetime | None:
    stamp = wire.instant(row.get("createdAt"))
    return None if stamp is None else cut(stamp)


def _divided(window: Window, rows: list[Row]) -> list[Window]:
    """Smaller windows that make up this one; none when it is a single millisecond.

    Windows are of shown values: their requests overlap by the millisecond that the server hides.
    """
    stamps = sorted(time for row in rows if (time := _uploaded(row)) and time in window)
    if not stamps or (window.after is not None and window.after == window.before):
        return []
    middle = stamps[(len(stamps) - 1) // 2]
    if middle < stamps[-1]:
        return [Window(window.after, middle), Window(later(middle), window.before)]
    around = [Window(middle, middle)]
    if window.after is None or window.after < middle:
        around.append(Window(window.after, middle - MILLISECOND))
    if window.before is None or window.before > middle:
        around.append(Window(later(middle), window.before))
    return around


def _overlap(end: Window, taken: Window) -> Window | None:
    after = max((time for time in (end.after, taken.after) if time), default=None)
    before = min((time for time in (end.before, taken.before) if time), default=None)
    if after is not None and before is not None and after > before:
        return None
    return Window(after, before)
