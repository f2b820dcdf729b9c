"""What an account holds, from memory and a look: two or three requests instead of a listing.

A look compares how many assets each month has with how many are remembered, and asks what was
changed since the last one. A month in which either differs is listed; what then does not add up is
listed in full. Measured on Immich 2.7.5 and 3.1.0: 622 looks between random changes found what a
full listing finds.
"""

import asyncio
import hashlib
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mirror.core.filter import ALWAYS, MILLISECOND, Query, Window, is_shown
from mirror.core.model import Asset, Visibility
from mirror.errors import NotImmichError, RequestError
from mirror.events import Event, emit
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.immich.memory import Looked, Memory, month_of, new_generation
from mirror.immich.walk import ZONE, Walk

# A row may be committed after rows with a later stamp, and clocks of replicas differ a little.
_OVERLAP: Final = timedelta(minutes=10)
_LISTED_EVERY: Final = timedelta(days=7)
_NOT_FAR: Final = timedelta(days=1)  # a question from so much earlier costs no page more
_SHORT: Final = timedelta(days=60)  # a listing of less than this needs no memory
_MOST_MONTHS: Final = 60  # more of them are sooner listed in full
_MOST_CHANGED: Final = 20_000
_MONTH: Final = re.compile(r"[1-9]\d\d\d-\d\d-01|0[1-9]\d\d-\d\d-01")
_EVERYTHING_SINCE: Final = (3, 0)  # without a visibility, an older server leaves some out


class _DoesNotAddUp(Exception):  # noqa: N818 (no error: the account is listed instead)
    """What a look found is not what the server counts."""


@dataclass(slots=True, kw_only=True)
class Catalogue:
    """One account's assets; the same for all mirrors of a command, which share one look.

    Nothing that goes wrong with its file stops a run: `recall` answers None then.
    """

    path: Path
    user_id: str
    dry: bool = False  # remember nothing
    relist: bool = False  # trust nothing that is remembered
    _memory: Memory | None = None
    _is_lost: bool = False
    _looked: dict[Visibility, bool] = field(default_factory=dict)
    _changed: dict[str, Asset] = field(default_factory=dict)  # of every visibility
    _changed_since: datetime | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def close(self) -> None:
        """Let go of the file."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self._is_lost = True

    def answers(self, query: Query, now: datetime) -> bool:
        """Whether rows alone tell what the query selects, and it selects from long ago."""
        if query.visibility is None or query.with_deleted or not is_shown(query):
            return False
        if query.updated != ALWAYS or query.fields.keys() & {"id", "checksum"}:
            return False
        return not any(
            window.after is not None and window.after > now - _SHORT
            for window in (query.taken, query.uploaded)
        )

    async def recall(self, client: Client, visibility: Visibility) -> Iterator[list[Asset]] | None:
        """Every own asset of a visibility, not those in the trash; None if they must be listed.

        What comes raises sqlite3.Error where the file is damaged: `lose` is to be told.

        Raises:
            AccountError: the server does not answer, or refuses.
        """
        async with self._lock:
            if visibility not in self._looked:
                self._looked[visibility] = await self._look(client, visibility)
        if not self._looked[visibility] or self._memory is None:
            return None
        return self._memory.assets(visibility, self.user_id)

    def generation(self, visibility: Visibility) -> str:
        """Another text whenever what is recalled is not the same; empty where nothing is."""
        if self._memory is None or not self._looked.get(visibility):
            return ""
        looked = self._memory.looked(visibility)
        return looked.generation if looked else ""

    # -- the file ----------------------------------------------------------------------------------

    async def _look(self, client: Client, visibility: Visibility) -> bool:
        try:
            memory = self._opened()
            if memory is None:
                return False
            return await _Look(self, client, memory, visibility).look()
        except (sqlite3.Error, OSError) as error:
            self.lose(error)
            return False

    def _opened(self) -> Memory | None:
        if self._memory is None and not self._is_lost and (self.path.exists() or not self.dry):
            self._memory = Memory(self.path, dry=self.dry)
        return self._memory

    def lose(self, error: Exception) -> None:
        """The file cannot be used: nothing is recalled any more."""
        self.close()
        if self.dry:
            return
        emit("warning", Event.CATALOGUE_LOST, path=str(self.path), reason=str(error))
        busy = isinstance(error, sqlite3.OperationalError)
        if isinstance(error, sqlite3.DatabaseError) and not busy:
            self.path.unlink(missing_ok=True)  # damaged

    # -- what was changed --------------------------------------------------------------------------

    def cursor(self, memory: Memory, visibility: Visibility, at: datetime) -> datetime:
        """From when on the look after one `at` that time asks for changes, never by our clock.

        What was changed last comes again then, unless it left or the server went back in time. The
        timeline speaks for the others where it was looked at too: what changed last among them
        may be years ago, and one question is asked for all.
        """
        seen = {visibility}
        if self._looked.get(Visibility.TIMELINE):
            seen.add(Visibility.TIMELINE)
        stamps = [stamp for each in seen if (stamp := memory.newest(each)) is not None]
        return min(at, max(stamps, default=at)) - _OVERLAP

    async def changed(
        self, client: Client, memory: Memory, visibility: Visibility, cursor: datetime
    ) -> dict[str, Asset]:
        """Own assets of a visibility that were changed since the cursor of its last look, by id.

        Those in the trash too, and perhaps those of other visibilities.
        """
        if self._changed_since is not None and self._changed_since <= cursor:
            return self._changed
        together = client.version >= _EVERYTHING_SINCE and visibility is Visibility.TIMELINE
        if not together:
            return await self._ask_changed(client, visibility, cursor)
        since = min(self._cursors(memory, cursor - _NOT_FAR))
        self._changed = await self._ask_changed(client, None, since)
        self._changed_since = since
        return self._changed

    def _cursors(self, memory: Memory, earliest: datetime) -> Iterator[datetime]:
        """Those that one question can serve."""
        for each in Visibility:
            looked = memory.looked(each)
            if looked is not None and looked.cursor >= earliest:
                yield looked.cursor

    async def _ask_changed(
        self, client: Client, visibility: Visibility | None, cursor: datetime
    ) -> dict[str, Asset]:
        query = Query(
            visibility=visibility, fields={"withDeleted": True}, updated=Window(cursor, None)
        )
        found: dict[str, Asset] = {}
        async for page in self.walk(client, query):
            found |= {asset.id: asset for asset in page}
            if len(found) > _MOST_CHANGED:
                raise _DoesNotAddUp("too much was changed to be remembered at once")
        return found

    async def walk(self, client: Client, query: Query) -> AsyncIterator[list[Asset]]:
        """Own rows of a query, some of them twice.

        Raises:
            _DoesNotAddUp: not all of them came, or could be understood.
        """
        walk = Walk(client=client, query=query)
        try:
            async for rows in walk.between_the_ends():
                assets = [wire.parse_asset(row) for row in rows]
                yield [asset for asset in assets if asset.owner_id == self.user_id]
        except NotImmichError as error:
            raise _DoesNotAddUp(error.what) from error
        if walk.problems:
            raise _DoesNotAddUp(walk.problems[0])


@dataclass(slots=True)
class Catalogues:
    """One for each account of a command, in files below `folder`."""

    folder: Path
    dry: bool = False
    relist: bool = False
    _found: dict[Path, Catalogue] = field(default_factory=dict)

    def of(self, client: Client, user_id: str) -> Catalogue:
        """The account's, the same each time."""
        # A server may be another one's copy, users and all.
        server = hashlib.sha256(client.url.encode()).hexdigest()[:8]
        path = self.folder / f"{user_id}-{server}.sqlite3"
        if path not in self._found:
            self._found[path] = Catalogue(
                path=path, user_id=user_id, dry=self.dry, relist=self.relist
            )
        return self._found[path]

    def close(self) -> None:
        """Let go of the files."""
        for catalogue in self._found.values():
            catalogue.close()


@dataclass(slots=True)
class _Look:
    """One look at one visibility."""

    catalogue: Catalogue
    client: Client
    memory: Memory
    visibility: Visibility
    _at: datetime = field(init=False)  # of its first answer, aware UTC

    async def look(self) -> bool:
        """Whether what is remembered is now what the server has."""
        counts = await self._counts()
        if counts is None:
            return False
        self.memory.begin()
        try:
            before = self.memory.looked(self.visibility)
            after = await self._caught_up(before, counts) or await self._listed()
            self.memory.note_looked(self.visibility, after)
        except (_DoesNotAddUp, ValueError, RequestError):
            # Listed in the usual way it will be told what is wrong, if anything is.
            self.memory.undo()
            return False
        except BaseException:
            self.memory.undo()
            raise
        finally:
            if not self.catalogue.dry:
                self.memory.commit()
        return True

    async def _counts(self) -> dict[str, int] | None:
        """None where a month has a name that no date has in JSON: years below 100, BC, infinity."""
        answer = await self.client.month_counts(self.visibility)
        if answer.server_date is None:
            return None
        self._at = answer.server_date
        counts = wire.bucket_counts(answer.json)
        return counts if all(map(_MONTH.fullmatch, counts)) else None

    # -- from memory -------------------------------------------------------------------------------

    async def _caught_up(self, before: Looked | None, counts: dict[str, int]) -> Looked | None:
        """The look, or None where everything has to be listed."""
        if before is None or not self._may_be_trusted(before):
            return None
        try:
            changed = await self.catalogue.changed(
                self.client, self.memory, self.visibility, before.cursor
            )
            if not self._came_back(before.cursor, changed):
                self.catalogue.relist = True  # perhaps all of it went back in time
                return None
            months = self._months(changed, counts)
            if len(months) > _MOST_MONTHS:
                return None
            for month in sorted(months):
                await self._list_month(month, counts.get(month, 0))
        except _DoesNotAddUp:
            return None
        generation = new_generation() if months else before.generation
        return self._as_looked(generation, before.listed_at)

    def _may_be_trusted(self, before: Looked) -> bool:
        since_listed = self._at - before.listed_at
        return (
            not self.catalogue.relist
            and before.server == str(self.client.version)
            and timedelta() <= since_listed < _LISTED_EVERY
            and self._at >= before.looked_at > self._at - _LISTED_EVERY  # no clock went back
        )

    def _came_back(self, cursor: datetime, changed: dict[str, Asset]) -> bool:
        """Whether all that was changed last is known with that change, or a later one.

        Otherwise it left, or the server went back in time.
        """
        due = self.memory.updated_since(self.visibility, cursor)
        return all(
            asset_id in changed and changed[asset_id].updated_at >= updated_at
            for asset_id, updated_at in due.items()
        )

    def _months(self, changed: dict[str, Asset], counts: dict[str, int]) -> set[str]:
        """Those that are not as they are remembered."""
        remembered = self.memory.counts(self.visibility)
        months = {
            month
            for month in counts.keys() | remembered.keys()
            if counts.get(month, 0) != remembered.get(month, 0)
        }
        stamps = self.memory.stamps(self.visibility, changed)
        for asset in changed.values():
            stamp, month = stamps.get(asset.id, (None, ""))
            if asset.is_trashed or asset.visibility is not self.visibility:
                months |= {month} - {""}
            elif stamp != asset.updated_at:
                months |= {month, month_of(asset)} - {""}
        return months

    async def _list_month(self, month: str, count: int) -> None:
        first = datetime.fromisoformat(month).replace(tzinfo=UTC)
        following = (first + timedelta(days=31)).replace(day=1)
        taken = Window(first - ZONE, following + ZONE - MILLISECOND)
        query = Query(visibility=self.visibility, taken=taken)
        found: dict[str, Asset] = {}
        async for page in self.catalogue.walk(self.client, query):
            found |= {asset.id: asset for asset in page if month_of(asset) == month}
        if len(found) != count:
            raise _DoesNotAddUp(f"{month}: {len(found)} assets, and the server counts {count}")
        self.memory.replace_month(self.visibility, month, found.values())

    # -- in full -----------------------------------------------------------------------------------

    async def _listed(self) -> Looked:
        self.memory.forget(self.visibility)
        async for page in self.catalogue.walk(self.client, Query(visibility=self.visibility)):
            self.memory.add(page)
        return self._as_looked(new_generation(), self._at)

    def _as_looked(self, generation: str, listed_at: datetime) -> Looked:
        return Looked(
            generation=generation,
            server=str(self.client.version),
            cursor=self.catalogue.cursor(self.memory, self.visibility, self._at),
            looked_at=self._at,
            listed_at=listed_at,
        )
