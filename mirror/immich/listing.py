"""The assets one filter selects, and whether that is all of them.

A listing that may lack an asset says so in `problems` and is not complete. What it yields is always
what was asked: own assets, none that is excluded, each once.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mirror.core.evidence import Landmarks
from mirror.core.filter import (
    ALWAYS,
    Query,
    SearchError,
    by_album,
    check_search,
    needs_exif,
    queries,
    recheck,
    typed_key,
    wanted,
)
from mirror.core.model import Asset, AssetType, Filter, Listed, LivePhotos, Owners, Visibility
from mirror.errors import (
    NotImmichError,
    OtherAccountError,
    PermissionMissingError,
    ProfileError,
    RequestError,
)
from mirror.immich import wire
from mirror.immich.catalogue import Catalogue
from mirror.immich.client import Client
from mirror.immich.walk import PAGE_SIZE, Page, Walk

_BAD_REQUEST: Final = 400
_UNCLEAR: Final = "are not understood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to list: people, albums and tags of the filters are ids."""

    filter: Filter
    user_id: str | None  # the key's own; None: not known
    exclude: tuple[Filter, ...] = ()
    live_photos: LivePhotos = LivePhotos.BOTH
    needs_exif: bool = False  # the layout reads exif


class Listing:
    """Iterate once, then read `complete`, `problems` and `count`."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        *,
        watched_id: str = "",
        catalogue: Catalogue | None = None,
        page_size: int = PAGE_SIZE,
    ) -> None:
        """`watched_id`: the asset whose `updatedAt` tells whether the server went back in time.

        `catalogue`: what is remembered of the account; None: everything is listed.
        """
        self.complete: bool | None = None  # None until the end was reached
        self.problems: list[str] = []
        self.count = 0
        self.landmarks = Landmarks(selection.user_id, watched_id)
        self.excluded: set[str] = set()  # ids of what stays out
        self._client = client
        self._selection = selection
        self._catalogue = catalogue
        self._page_size = page_size
        self._server_date: datetime | None = None
        self._seen: set[str] = set()
        self._recalled_as: dict[str, str] = {}  # generations by visibility
        self._was_asked = False  # for what cannot be recalled
        self._late: list[Asset] = []  # uploaded since the exclusions were listed
        self._failures: Counter[str] = Counter()
        self._unclear = ""
        self._live = _LivePhotos(selection.live_photos)

    @property
    def server_date(self) -> datetime:
        """The server's clock at the first answer, aware UTC."""
        if self._server_date is None:
            raise RuntimeError("iterate first")
        return self._server_date

    @property
    def awaited(self) -> set[str]:
        """Ids of videos that were not listed, although a listed still has them."""
        return self._live.awaited

    @property
    def generations(self) -> dict[str, str]:
        """Texts by visibility that are others whenever the listing may be; none: nobody knows."""
        return {} if self._was_asked or not self.complete else dict(self._recalled_as)

    async def is_as_it_was(self, generations: Mapping[str, str], count: int) -> bool:
        """Whether it would list what it listed when these were its `generations`, `count` assets.

        It need not be iterated then.

        Raises:
            AccountError: as when it is iterated.
        """
        if self._catalogue is None or not generations:
            return False
        self._server_date = await _date(self._client)
        for visibility in Visibility:
            generation = generations.get(visibility.value)
            if generation is None:
                continue
            if await self._catalogue.recall(self._client, visibility) is None:
                return False
            if self._catalogue.generation(visibility) != generation:
                return False
        self._recalled_as = dict(generations)
        self.complete, self.count = True, count
        return True

    async def __aiter__(self) -> AsyncIterator[list[Listed]]:
        """Pages of what is selected; none is empty.

        Raises:
            ProfileError: the filter cannot be asked of this server.
            AccountError: the server does not answer, or refuses; what came so far is not all.
        """
        self._server_date = await _date(self._client)
        asked = self._queries(self._selection.filter)
        if not await self._exclude(asked):
            # Nothing at all rather than a photo that was to stay out.
            self.complete = False
            return
        async for page in self._all(asked):
            if page:
                self.count += len(page)
                for listed in page:
                    self.landmarks.see(listed.asset)
                yield page
        self._close()

    async def _all(self, asked: list[Query]) -> AsyncIterator[list[Listed]]:
        if self._lacks_others(self._selection.filter):
            self.problems.append(_OTHERS_OF_ALBUMS)
        exif = self._selection.needs_exif or needs_exif(self._selection.filter)
        for query in asked:
            async for assets in self._walk(query, with_exif=exif):
                fresh = [asset for asset in assets if self._is_new(asset)]
                yield [Listed(asset) for asset in fresh if self._live.takes(asset)]
        if self._late and await self._exclude(asked):
            late = [asset for asset in self._late if asset.id not in self.excluded]
            yield [Listed(asset) for asset in late if self._live.takes(asset)]
        if self._live.wants_videos:
            # Without the filter: a video's date may differ from its still's, and nobody tags it.
            hidden = Query(visibility=Visibility.HIDDEN)
            async for assets in self._walk(hidden):
                pairs = [self._live.pair(asset) for asset in assets if self._may_list(asset)]
                yield [pair for pair in pairs if pair is not None]
        yield self._live.left_over()

    def _is_new(self, asset: Asset) -> bool:
        if asset.id in self._seen or not self._may_list(asset):
            return False
        self._seen.add(asset.id)
        if self._selection.exclude and asset.uploaded_at >= self.server_date:
            # Perhaps uploaded into an excluded album, after that was listed.
            self._late.append(asset)
            return False
        return True

    def _may_list(self, asset: Asset) -> bool:
        return asset.id not in self.excluded and not _is_extracted(asset)

    def _close(self) -> None:
        self._tell_failures()
        self.complete = not self.problems
        self._seen.clear()

    def _tell_failures(self) -> None:
        for what, count in sorted(self._failures.items()):
            example = f", first {self._unclear}" if what == _UNCLEAR else ""
            self.problems.append(f"rows of the server that {what}: {count}{example}")
        self._failures.clear()

    # -- what stays out ----------------------------------------------------------------------------

    async def _exclude(self, asked: list[Query]) -> bool:
        """Collect the ids that stay out; False when they may not be all."""
        try:
            for filter_ in _subtracted(self._selection, asked):
                self.excluded |= await self._ids(filter_)
        except RequestError as error:
            self.problems.append(f"{error.what} {error.why}".strip())
        self._tell_failures()
        if self.problems:
            self.problems.insert(
                0, "what is excluded cannot be listed in full, so nothing is listed"
            )
        return not self.problems

    async def _ids(self, filter_: Filter) -> set[str]:
        if self._lacks_others(filter_):
            self.problems.append(_OTHERS_OF_ALBUMS)
        ids: set[str] = set()
        for query in self._queries(filter_):
            async for assets in self._walk(query, with_exif=needs_exif(filter_)):
                ids.update(asset.id for asset in assets)
        return ids - await self._ids(without) if (without := _in_no_album(filter_)) else ids

    def _lacks_others(self, filter_: Filter) -> bool:
        # Immich 2.x leaves other people's assets out of an albumIds search.
        anyone = self._selection.filter.owners is Owners.ANYONE
        return anyone and by_album(filter_) and self._client.version < (3,)

    def _queries(self, filter_: Filter) -> list[Query]:
        try:
            check_search(filter_.search, self._client.version)
            return queries(filter_, now=self.server_date)
        except SearchError as error:
            raise ProfileError(f"filter: {error.key}: {error.what}", hint=error.hint) from error

    # -- one query ---------------------------------------------------------------------------------

    async def _walk(self, query: Query, *, with_exif: bool = False) -> AsyncIterator[list[Asset]]:
        catalogue = self._catalogue
        recalled = None if with_exif else await self._recalled(query)
        if catalogue is not None and recalled is not None:
            try:
                for assets in recalled:
                    yield [
                        asset
                        for asset in assets
                        if recheck(query, asset, own=True) is None and wanted(query, asset)
                    ]
                    await asyncio.sleep(0)
            except sqlite3.Error as error:
                catalogue.lose(error)  # what came is asked for again, and comes once
            else:
                return
        self._was_asked = True
        async for assets in self._asked(query, with_exif=with_exif):
            yield assets

    async def _recalled(self, query: Query) -> Iterator[list[Asset]] | None:
        """Own assets of the query's visibility, from memory and a look; None: to be listed."""
        catalogue, selection = self._catalogue, self._selection
        if catalogue is None or selection.filter.owners is not Owners.ME:
            return None
        if catalogue.user_id != selection.user_id or query.visibility is None:
            return None
        if not catalogue.answers(query, self.server_date):
            return None
        recalled = await catalogue.recall(self._client, query.visibility)
        if recalled is not None:
            self._recalled_as[query.visibility] = catalogue.generation(query.visibility)
        return recalled

    async def _asked(self, query: Query, *, with_exif: bool) -> AsyncIterator[list[Asset]]:
        walk = Walk(
            client=self._client,
            query=query,
            with_exif=with_exif,
            own_only=self._selection.filter.owners is Owners.ME,
            page_size=self._page_size,
        )
        try:
            async for page in walk.pages():
                yield [asset for asset in self._parsed(page) if self._passes(asset, query, page)]
        except RequestError as error:
            raise _explained(error, query) from error
        self.problems += [text for text in walk.problems if text not in self.problems]

    def _parsed(self, page: Page) -> Iterator[Asset]:
        for row in page.rows:
            try:
                yield wire.parse_asset(row)
            except NotImmichError as error:
                self._unclear = self._unclear or error.why
                self._failures[_UNCLEAR] += 1

    def _passes(self, asset: Asset, query: Query, page: Page) -> bool:
        user_id = self._selection.user_id
        own = asset.owner_id == user_id
        if not own and self._selection.filter.owners is Owners.ME:
            if user_id is None:
                self._failures["have an owner, and it is not known who the key's user is"] += 1
            return False
        if not own and user_id is not None and _is_withheld(asset, query):
            return False
        if not page.dated:
            query = replace(query, taken=ALWAYS)
        failing = recheck(query, asset, own=own)
        if failing is not None:
            self._failures[f"are not what was asked for by {failing}"] += 1
            return False
        return wanted(query, asset)


_OTHERS_OF_ALBUMS: Final = (
    "Immich 2.x does not list what others put into an album: "
    'use owners = "me", or update the server to 3.x'
)


class _LivePhotos:
    """Stills wait here for their videos, each video for its smallest still by (uploaded, id)."""

    def __init__(self, mode: LivePhotos) -> None:
        self._mode = mode
        self._stills: dict[str, Asset] = {}  # by the video's id
        self._held: dict[str, list[Asset]] = {}

    @property
    def wants_videos(self) -> bool:
        return bool(self._stills) and self._mode is not LivePhotos.STILL

    @property
    def awaited(self) -> set[str]:
        """Videos that stills still wait for; none where nobody wants them."""
        return set(self._stills) if self.wants_videos else set()

    def takes(self, asset: Asset) -> bool:
        """Whether the asset is listed now and by itself."""
        if asset.visibility is Visibility.HIDDEN and asset.id in self._stills:
            return False
        video_id = asset.live_photo_video_id
        if video_id is None:
            return True
        still = self._stills.setdefault(video_id, asset)
        self._stills[video_id] = min(still, asset, key=lambda one: (one.uploaded_at, one.id))
        if self._mode is LivePhotos.VIDEO:
            self._held.setdefault(video_id, []).append(asset)
            return False
        return True

    def pair(self, video: Asset) -> Listed | None:
        """The video with its still, once; None if no still has it."""
        still = self._stills.pop(video.id, None)
        self._held.pop(video.id, None)
        return None if still is None else Listed(video, still)

    def left_over(self) -> list[Listed]:
        """Stills whose video did not come."""
        return [Listed(still) for stills in self._held.values() for still in stills]


def _is_withheld(asset: Asset, query: Query) -> bool:
    """Whether another's asset is listed and yet no key may read it.

    Source: Immich 3.1.0 lists what a partner archived or trashed and answers 404 for its original;
    what is archived in a shared album can be read.
    """
    return asset.is_trashed or (
        asset.visibility is Visibility.ARCHIVE and "albumIds" not in query.fields
    )


def _is_extracted(asset: Asset) -> bool:
    """Whether the server cut this video out of a still, whose original holds it anyway.

    Source: Immich 2.0 to 3.1 stores it as `encoded-video/.../<id>-MP.mp4`.
    """
    path = asset.original_path
    hidden = asset.type is AssetType.VIDEO and asset.visibility is Visibility.HIDDEN
    return hidden and "/encoded-video/" in path and path.endswith("-MP.mp4")


def _subtracted(selection: Selection, asked: list[Query]) -> list[Filter]:
    subtracted = [_widened(exclude, selection.filter, asked) for exclude in selection.exclude]
    without = _in_no_album(selection.filter)
    return [*subtracted, without] if without else subtracted


def _in_no_album(filter_: Filter) -> Filter | None:
    """What `in_album = true` has to leave out: the server has no predicate for it."""
    if not filter_.in_album or by_album(filter_):
        return None
    return replace(filter_, in_album=False)


def _widened(exclude: Filter, main: Filter, asked: list[Query]) -> Filter:
    """The exclusion over everything that the main filter may list.

    An exclusion that names no visibility means all: an archived photo of a private album stays out
    too. One that says nothing but `timeline` means just that.
    """
    search = dict(exclude.search)
    if any(query.with_deleted for query in asked):
        search.setdefault("withDeleted", True)
    visibility = exclude.visibility
    if visibility == Filter().visibility and exclude != Filter():
        visibility = tuple({query.visibility: None for query in asked if query.visibility})
    return replace(exclude, search=search, visibility=visibility, owners=main.owners)


def _explained(error: RequestError, query: Query) -> RequestError:
    words = error.why
    keys = sorted({typed_key(name) for name in query.fields if name in words})
    if "album.read" in words:
        keys = ["albums"]
    blamed = " and ".join(keys or sorted(typed_key(name) for name in query.fields))
    if error.status != _BAD_REQUEST or not blamed:
        return error
    return RequestError(
        f"the server refuses the filter: {blamed}", status=error.status, why=words, hint=error.hint
    )


async def _date(client: Client) -> datetime:
    # Whose key it is was asked just now.
    date = client.server_date or (await client.get("/server/version")).server_date
    if date is None:
        raise NotImmichError(
            "the server's answer lacks the header Date",
            hint="a proxy in front of Immich must pass it on",
        )
    return date


# -- whose key is it? ------------------------------------------------------------------------------

_TRIES: Final = 5  # a bucket may be counted and list nothing: assets without metadata
_PLACES: Final[tuple[dict[str, str], ...]] = (
    *({"visibility": visibility.value} for visibility in Visibility),
    {"isTrashed": "true"},
)


async def user_id(client: Client, remembered: str | None = None) -> str | None:
    """The id of the key's user; None if the key may not ask and the account holds nothing.

    Raises:
        OtherAccountError: it is not the remembered one.
    """
    async with client.finding_out:
        found = client.user_id or await _found_id(client, remembered)
        client.user_id = found
    if found is None and remembered is not None:
        await _check_remembered(client, remembered)
        return remembered
    if found is not None and remembered is not None and found != remembered:
        raise _other_account(remembered, found)
    return found


async def _found_id(client: Client, remembered: str | None) -> str | None:
    # Whose assets there are says it too, and a look needs their months anyway.
    owner = None if remembered is None else await _owner_in(client, Visibility.TIMELINE)
    return owner or await _own_id(client) or await _owner_of_something(client)


async def _own_id(client: Client) -> str | None:
    try:
        return wire.member((await client.get("/users/me")).json, "id", str)
    except PermissionMissingError:
        return None


async def _owner_in(client: Client, visibility: Visibility) -> str | None:
    counts = (await client.month_counts(visibility, keep=True)).json
    return await _owner_of_one(client, {"visibility": visibility.value}, counts)


async def _owner_of_something(client: Client) -> str | None:
    for place in _PLACES:
        counts = (await client.get("/timeline/buckets", place)).json
        if owner := await _owner_of_one(client, place, counts):
            return owner
    return None


async def _owner_of_one(client: Client, place: dict[str, str], counts: object) -> str | None:
    # Buckets are of own assets only, unlike a search, which lists partners' too.
    by_size = sorted((count, month) for month, count in wire.bucket_counts(counts).items())
    for _, month in by_size[:_TRIES]:
        bucket = await client.get("/timeline/bucket", {**place, "timeBucket": month})
        owners = wire.column(bucket.json, "ownerId")
        if owners:
            return owners[0]
    return None


async def _check_remembered(client: Client, remembered: str) -> None:
    # 400 for whoever is neither the key's user nor shares with it.
    try:
        await client.get("/timeline/buckets", {"userId": remembered})
    except RequestError as error:
        if error.status != _BAD_REQUEST:
            raise
        raise _other_account(remembered, "a user without photos") from error


def _other_account(remembered: str, found: str) -> OtherAccountError:
    return OtherAccountError(
        "the API key belongs to another user than this mirror",
        why=f"the mirror is of user {remembered}, the key of {found}",
        hint="use the right key, or --rebind to give the mirror to the other user",
    )
