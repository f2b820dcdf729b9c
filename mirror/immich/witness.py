"""What becomes of assets that a listing lacks: each is asked for, and the asking is checked."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from mirror.core.evidence import Verdict
from mirror.core.filter import Query, Window, queries
from mirror.core.model import Row, Visibility
from mirror.errors import AccountError, MaintenanceError, RequestError
from mirror.immich import wire
from mirror.immich.client import Client
from mirror.immich.listing import Listing, Selection
from mirror.immich.walk import Walk

_MANY: Final = 50  # above, candidates are sought in whole listings before they are asked for singly
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ACCESS: Final = "Not found or no asset.read access"


class Witness:
    """Asks about candidates on behalf of one listing that was complete."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        listing: Listing,
        *,
        canaries: Sequence[str],
    ) -> None:
        """`canaries`: ids of own assets that the listing has, the newest among them."""
        self._client = client
        self._selection = selection
        self._listing = listing
        self._canaries = canaries
        self.short: list[str] = []  # candidates that the filter selects after all

    async def verdicts(self, rows: Sequence[Row]) -> dict[str, Verdict]:
        """A verdict for each row, by id; read `short` afterwards.

        Raises:
            AccountError: the server does not answer, or refuses the key.
        """
        found = await self._in_bulk(rows) if len(rows) > _MANY else {}
        for row in rows:
            if row.asset_id not in found:
                found[row.asset_id] = await self._ask(row)
        unmatched = {id_ for id_, verdict in found.items() if verdict is Verdict.UNMATCHED}
        self.short = sorted(await self._selected(unmatched - self._listing.excluded))
        return await self._believed(found)

    # -- one by one --------------------------------------------------------------------------------

    async def _ask(self, row: Row) -> Verdict:
        try:
            answer = await self._client.get(f"/assets/{row.asset_id}")
        except MaintenanceError:
            raise
        except RequestError as error:
            if error.status != HTTPStatus.BAD_REQUEST or _NO_ACCESS not in error.why:
                return Verdict.UNKNOWN
            return Verdict.GONE if row.owner_id == self._selection.user_id else Verdict.UNSHARED
        return _of(answer.json)

    async def _selected(self, asset_ids: set[str]) -> set[str]:
        """Those that the mirror's own filter finds: then the listing was short."""
        asked = queries(self._selection.filter, now=self._listing.server_date)
        found: set[str] = set()
        for query in asked:
            if len(asset_ids) > _MANY:
                found |= {str(raw["id"]) async for raw in self._rows(query)} & asset_ids
                continue
            for asset_id in asset_ids - found:
                if query.fields.get("id", asset_id) != asset_id:
                    continue
                body = {**query.body(), "id": asset_id, "size": 1}
                if wire.rows((await self._client.search(body)).json, "assets", "items"):
                    found.add(asset_id)
        return found

    async def _believed(self, found: dict[str, Verdict]) -> dict[str, Verdict]:
        """A 400 means something only while own assets that are there answer 200."""
        if Verdict.GONE not in found.values() or await self._canaries_live():
            return found
        return {
            asset_id: Verdict.UNKNOWN if verdict is Verdict.GONE else verdict
            for asset_id, verdict in found.items()
        }

    async def _canaries_live(self) -> bool:
        try:
            for asset_id in self._canaries:
                await self._client.get(f"/assets/{asset_id}")
            config = await self._client.get("/server/config")
        except AccountError:
            return False
        # Immich before 2.3 has no maintenance mode, and does not speak of it.
        told = config.json if isinstance(config.json, dict) else {}
        return bool(self._canaries) and told.get("maintenanceMode") is not True

    # -- many --------------------------------------------------------------------------------------

    async def _in_bulk(self, rows: Sequence[Row]) -> dict[str, Verdict]:
        wanted = {row.asset_id for row in rows}
        found: dict[str, Verdict] = {}
        for visibility in Visibility:
            trash = Query(visibility=visibility, trashed=Window(_EVER, None))
            for query in (trash, Query(visibility=visibility)):
                async for raw in self._rows(query):
                    if raw.get("id") in wanted:
                        found[str(raw["id"])] = _of(raw)
        return found

    async def _rows(self, query: Query) -> AsyncIterator[wire.Row]:
        walk = Walk(client=self._client, query=query, own_only=False)
        async for page in walk.pages():
            for raw in page.rows:
                yield raw


def _of(answer: object) -> Verdict:
    """Offline first: an offline asset says that it is trashed, too (Immich 2.7.5 and 3.1.0)."""
    if wire.member(answer, "isOffline", bool):
        return Verdict.OFFLINE
    return Verdict.TRASHED if wire.member(answer, "isTrashed", bool) else Verdict.UNMATCHED
