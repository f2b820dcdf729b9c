"""What became of assets that a listing lacks: each is asked for, and the asking is checked.

Measured on Immich 2.7.5 and 3.1.0: an asset that was purged, moved to the locked folder or is no
longer shared answers 400 with one and the same text, and so does everything to a key that lost its
access. Hence the canaries: own assets that were listed a moment ago must still answer.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from mirror.core.evidence import Evidence, Verdict, left_window, with_videos
from mirror.core.filter import Query, Window, is_shown, needs_exif, queries, recheck, wanted
from mirror.core.model import Asset, LivePhotos, Owners, Row, Visibility
from mirror.errors import AccountError, NotImmichError, RequestError
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.immich.listing import Listing, Selection
from mirror.immich.walk import Walk

_MANY: Final = 50  # above, candidates are sought in whole listings before they are asked for singly
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ACCESS: Final = "Not found or no asset.read access"


class Witness:
    """Asks about candidates on behalf of one listing that was complete."""

    def __init__(self, client: Client, selection: Selection, listing: Listing) -> None:
        self._client = client
        self._selection = selection
        self._listing = listing
        self._queries = queries(selection.filter, now=listing.server_date)
        self.short: list[str] = []  # candidates that the filter selects after all

    async def testify(self, rows: Sequence[Row]) -> dict[str, Evidence]:
        """Evidence for each row, by asset id; read `short` afterwards.

        Raises:
            AccountError: the server does not answer, or refuses the key.
        """
        ids = {row.asset_id for row in rows}
        own = [row for row in rows if row.still_id not in ids]
        found = await self._in_bulk(own) if len(own) > _MANY else {}
        for row in own:
            if row.asset_id not in found:
                found[row.asset_id] = await self._ask(row)
        self.short = [row.asset_id for row in own if await self._is_selected(row, found)]
        return with_videos(rows, await self._believed(found))

    # -- one by one --------------------------------------------------------------------------------

    async def _ask(self, row: Row) -> Evidence:
        try:
            answer = await self._client.get(f"/assets/{row.asset_id}")
        except RequestError as error:
            if error.status != HTTPStatus.BAD_REQUEST or _NO_ACCESS not in error.why:
                return Evidence(Verdict.UNKNOWN)
            own = row.owner_id == self._selection.user_id
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
        aged = left_window(self._selection.filter, asset, self._listing.server_date)
        return Evidence(Verdict.UNMATCHED, asset, left_window=aged)

    async def _is_selected(self, row: Row, found: Mapping[str, Evidence]) -> bool:
        """Whether the mirror's own filter selects what the listing lacked."""
        evidence = found[row.asset_id]
        asset = evidence.asset
        if asset is None or evidence.verdict not in {Verdict.UNMATCHED, Verdict.TRASHED}:
            return False
        if row.still_id:
            return evidence.verdict is Verdict.UNMATCHED and await self._is_paired(row)
        if asset.id in self._listing.excluded:
            return False
        for query in self._queries:
            if await self._selects(query, asset):
                return True
        return False

    async def _selects(self, query: Query, asset: Asset) -> bool:
        own = asset.owner_id == self._selection.user_id
        if not own and self._selection.filter.owners is Owners.ME:
            return False
        if recheck(query, asset, own=own) is not None or not wanted(query, asset):
            return False
        if own and is_shown(query):  # whether others' are listed depends on how they share
            return True
        answer = await self._client.search({**query.body(), "id": asset.id, "size": 1})
        return bool(wire.rows(answer.json, "assets", "items"))

    async def _is_paired(self, row: Row) -> bool:
        """Whether a listed still has this video: then the listing of hidden assets was short."""
        if self._selection.live_photos is LivePhotos.STILL:
            return False
        try:
            still = _asset((await self._client.get(f"/assets/{row.still_id}")).json)
        except RequestError:
            return True  # the still was listed a moment ago: something is amiss
        return still is None or still.live_photo_video_id == row.asset_id

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
                    if asset.id in sought:
                        found[asset.id] = self._of(asset)
        return found

    async def _assets(self, query: Query) -> AsyncIterator[Asset]:
        exif = needs_exif(self._selection.filter)
        walk = Walk(client=self._client, query=query, with_exif=exif, own_only=False)
        async for page in walk.pages():
            for raw in page.rows:
                asset = _asset(raw)
                if asset is not None:
                    yield asset


def _asset(raw: object) -> Asset | None:
    """An asset as the server describes it; None where that is not understood."""
    try:
        return wire.parse_asset(raw) if isinstance(raw, dict) else None
    except NotImmichError:
        return None
