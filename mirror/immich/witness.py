"""What became of assets that a listing lacks: each is asked for, and the asking is checked.

Measured on Immich 2.7.5 and 3.1.0: an asset that was purged, moved to the locked folder or is no
longer shared answers 400 with one and the same text, and so does everything to a key that lost its
access. Hence the canaries: own assets that were listed a moment ago must still answer.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from mirror.core.evidence import Evidence, Verdict, left_window, with_videos
from mirror.core.filter import (
    Query,
    Window,
    is_shown,
    later,
    needs_exif,
    queries,
    recheck,
    wanted,
)
from mirror.core.model import Asset, LivePhotos, Owners, Row, Visibility
from mirror.errors import AccountError, NotImmichError, RequestError
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.immich.listing import Listing, Selection
from mirror.immich.walk import PAGE_SIZE, Walk

_MANY: Final = 50  # above, candidates are sought in whole listings before they are asked for singly
# Each was tried again for up to a minute: thousands of them would take days.
_FAILURES_IN_A_ROW: Final = 3
_TOO_MANY: Final = HTTPStatus.TOO_MANY_REQUESTS
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ACCESS: Final = "Not found or no asset.read access"


class Witness:
    """Asks about candidates on behalf of one listing that was complete."""

    def __init__(
        self, client: Client, selection: Selection, listing: Listing, *, keeps_unmatched: bool
    ) -> None:
        """`keeps_unmatched`: what is there and does not match stays in any case."""
        self._client = client
        self._keeps_unmatched = keeps_unmatched
        self._selection = selection
        self._listing = listing
        self._queries = queries(selection.filter, now=listing.server_date)
        self._failures = 0  # of the server, in a row
        self.short: list[str] = []  # candidates that the filter selects after all

    async def testify(self, rows: Sequence[Row]) -> dict[str, Evidence]:
        """Evidence for each row, by asset id; read `short` afterwards.

        Raises:
            AccountError: the server does not answer, or refuses the key.
        """
        found = await self._in_bulk(rows) if len(rows) > _MANY else {}
        await self._ask_all({row.asset_id: row.owner_id for row in rows}, found)
        stills = {row.still_id: row.owner_id for row in rows if self._follows(row, found)}
        await self._ask_all(stills, found)
        sought = [row.asset_id for row in rows]
        sought += [one for one in stills.keys() - set(sought) if self._has_video(one, found)]
        self.short = [one for one in sought if await self._is_selected(found[one])]
        believed = await self._believed(found)
        for row in rows:
            believed[row.asset_id] = self._aged(row, believed[row.asset_id])
        return with_videos(rows, believed)

    async def uploaded_after(self, moment: datetime) -> Asset | None:
        """An own asset that was uploaded after a moment, whether the filter selects it or not.

        Raises:
            AccountError: as `testify`.
        """
        for visibility in Visibility:
            query = Query(visibility=visibility, uploaded=Window(later(moment), None))
            answer = await self._client.search({**query.body(), "size": PAGE_SIZE})
            for asset in map(_asset, wire.rows(answer.json, "assets", "items")):
                own = asset is not None and asset.owner_id == self._selection.user_id
                if asset is not None and own and asset.uploaded_at > moment:
                    return asset
        return None

    # -- one by one --------------------------------------------------------------------------------

    async def _ask_all(self, owners: Mapping[str, str], found: dict[str, Evidence]) -> None:
        """Ask for each that is not found yet; `owners` by asset id."""
        for asset_id, owner_id in owners.items():
            if asset_id not in found:
                found[asset_id] = await self._ask(asset_id, owner_id)

    async def _ask(self, asset_id: str, owner_id: str) -> Evidence:
        if self._failures >= _FAILURES_IN_A_ROW:
            return Evidence(Verdict.UNKNOWN)
        failures, self._failures = self._failures, 0
        try:
            answer = await self._client.get(f"/assets/{asset_id}")
        except RequestError as error:
            if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status == _TOO_MANY:
                self._failures = failures + 1
            if error.status != HTTPStatus.BAD_REQUEST or _NO_ACCESS not in error.why:
                return Evidence(Verdict.UNKNOWN)
            own = owner_id == self._selection.user_id
            return Evidence(Verdict.GONE if own else Verdict.UNSHARED)
        return self._of(_asset(answer.json))

    def _of(self, asset: Asset | None) -> Evidence:
        if asset is None:
            return Evidence(Verdict.UNKNOWN)
        # Offline first: an offline asset says that it is trashed, too (Immich 2.7.5 and 3.1.0).
        if asset.is_offline:
            return Evidence(Verdict.OFFLINE, asset)
        if asset.is_trashed:
            own = asset.owner_id == self._selection.user_id
            return Evidence(Verdict.TRASHED if own else Verdict.UNSHARED, asset)
        if asset.exif is None and needs_exif(self._selection.filter):
            return Evidence(Verdict.UNKNOWN, asset)  # its metadata is not extracted yet
        return Evidence(Verdict.UNMATCHED, asset)

    def _aged(self, row: Row, evidence: Evidence) -> Evidence:
        if evidence.verdict is not Verdict.UNMATCHED or evidence.asset is None:
            return evidence
        filter_, now = self._selection.filter, self._listing.server_date
        return replace(evidence, left_window=left_window(filter_, evidence.asset, row, now))

    def _follows(self, row: Row, found: Mapping[str, Evidence]) -> bool:
        """Whether the row is of a video that is there, and that no listed still has."""
        awaited = row.asset_id in self._listing.awaited
        return bool(row.still_id) and not awaited and _is_hidden(found[row.asset_id])

    def _has_video(self, still_id: str, found: Mapping[str, Evidence]) -> bool:
        """Whether a still that is no candidate itself has one of them for its video."""
        still = found[still_id].asset
        return (
            self._selection.live_photos is not LivePhotos.STILL
            and still is not None
            and still.live_photo_video_id in found
        )

    async def _is_selected(self, evidence: Evidence) -> bool:
        """Whether the mirror's own filter selects what the listing lacked."""
        asset = evidence.asset
        if asset is None or evidence.verdict not in {Verdict.UNMATCHED, Verdict.TRASHED}:
            return False
        if asset.id in self._listing.excluded:
            return False
        if _is_hidden(evidence) and asset.id in self._listing.awaited:
            return True
        # A question for each photo that stays, every night, would tell nothing that matters.
        asks = not (self._keeps_unmatched and evidence.verdict is Verdict.UNMATCHED)
        for query in self._queries:
            if await self._selects(query, asset, asks=asks):
                return True
        return False

    async def _selects(self, query: Query, asset: Asset, *, asks: bool) -> bool:
        own = asset.owner_id == self._selection.user_id
        if not own and self._selection.filter.owners is Owners.ME:
            return False
        if recheck(query, asset, own=own) is not None or not wanted(query, asset):
            return False
        if own and is_shown(query):  # whether others' are listed depends on how they share
            return True
        if not asks:
            return False
        answer = await self._client.search({**query.body(), "id": asset.id, "size": 1})
        return bool(wire.rows(answer.json, "assets", "items"))

    async def _believed(self, found: dict[str, Evidence]) -> dict[str, Evidence]:
        """A 400 means something only while own assets that are there answer 200."""
        refused = {Verdict.GONE, Verdict.UNSHARED}
        if not any(evidence.verdict in refused for evidence in found.values()):
            return found
        if await self._canaries_live():
            return found
        return {
            asset_id: Evidence(Verdict.UNKNOWN) if evidence.verdict in refused else evidence
            for asset_id, evidence in found.items()
        }

    async def _canaries_live(self) -> bool:
        canaries = self._listing.landmarks.canaries
        try:
            for asset_id in canaries:
                await self._client.get(f"/assets/{asset_id}")
        except AccountError:
            return False
        return bool(canaries) and not await self._client.in_maintenance()

    # -- many --------------------------------------------------------------------------------------

    async def _in_bulk(self, rows: Iterable[Row]) -> dict[str, Evidence]:
        """What two listings without the filter tell: of the trash, and of all that is there."""
        sought = {row.asset_id for row in rows}
        found: dict[str, Evidence] = {}
        for visibility in Visibility:
            trash = Query(visibility=visibility, trashed=Window(_EVER, None))
            for query in (trash, Query(visibility=visibility)):
                async for asset in self._assets(query):
                    if asset.id in sought and self._may_be_read(asset):
                        found[asset.id] = self._of(asset)
        return found

    def _may_be_read(self, asset: Asset) -> bool:
        """Immich 3.1.0 lists what a partner archived or trashed, and gives it to nobody."""
        own = asset.owner_id == self._selection.user_id
        return own or (asset.visibility is not Visibility.ARCHIVE and not asset.is_trashed)

    async def _assets(self, query: Query) -> AsyncIterator[Asset]:
        exif = needs_exif(self._selection.filter)
        walk = Walk(client=self._client, query=query, with_exif=exif, own_only=False)
        async for page in walk.pages():
            for raw in page.rows:
                asset = _asset(raw)
                if asset is not None:
                    yield asset


def _is_hidden(evidence: Evidence) -> bool:
    """Whether it is there, and only as the video of a still."""
    asset = evidence.asset
    hidden = asset is not None and asset.visibility is Visibility.HIDDEN
    return hidden and evidence.verdict is Verdict.UNMATCHED


def _asset(raw: object) -> Asset | None:
    """An asset as the server describes it; None where that is not understood."""
    try:
        return wire.parse_asset(raw) if isinstance(raw, dict) else None
    except NotImmichError:
        return None
