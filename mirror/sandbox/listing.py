"""Which assets there are: searches, counts, the timeline."""

from collections.abc import Iterator

from mirror.sandbox import answers, dates, search, validation
from mirror.sandbox.asking import Ask, Routes
from mirror.sandbox.faults import Faults
from mirror.sandbox.library import Library
from mirror.sandbox.records import LOCKED, StoredAsset
from mirror.sandbox.refusals import Refusal, no_access, not_implemented
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()


@ROUTES.add("POST", "/api/search/metadata", "asset.read")
def _search(ask: Ask) -> Reply:
    fields = validation.read(ask.object, modern=ask.modern)
    found = search.page(ask.library, ask.user_id, fields)
    rows = list(_as_listed(found.assets, ask.faults))
    items = [
        answers.listed(
            ask.library,
            asset,
            ask.user_id,
            with_exif=bool(fields.get("withExif")),
            with_people=bool(fields.get("withPeople")),
        )
        for asset in rows
    ]
    following = None if found.next_page is None or ask.faults.short_pages else str(found.next_page)
    page = {"total": len(items), "count": len(items), "items": items, "facets": []}
    none = {"total": 0, "count": 0, "items": [], "facets": []}
    return from_json({"albums": none, "assets": page | {"nextPage": following}})


def _as_listed(assets: list[StoredAsset], faults: Faults) -> Iterator[StoredAsset]:
    """A page as it arrives, which is not always as it should be."""
    for asset in assets[: len(assets) - faults.short_pages]:
        if asset.id not in faults.hidden:
            yield from [asset] * (2 if asset.id in faults.repeated else 1)


@ROUTES.add("POST", "/api/search/statistics", "asset.statistics")
def _search_statistics(ask: Ask) -> Reply:
    """The flat filters without withDeleted; never the exemption of albums from the owner scope."""
    fields = validation.read(ask.object, modern=ask.modern)
    fields.pop("withDeleted", None)
    owners = {ask.user_id, *ask.library.partners_of(ask.user_id, in_timeline=True)}
    found = search.find(ask.library, ask.user_id, fields)
    return from_json({"total": sum(asset.owner_id in owners for asset in found)})


@ROUTES.add("GET", "/api/assets/statistics", "asset.statistics")
def _statistics(ask: Ask) -> Reply:
    """Own assets alone; without `visibility` timeline and archive."""
    found = list(_own_in_timeline(ask, ask.user_id))
    videos = sum(asset.type.value == "VIDEO" for asset in found)
    images = sum(asset.type.value == "IMAGE" for asset in found)
    return from_json({"images": images, "videos": videos, "total": len(found)})


@ROUTES.add("GET", "/api/timeline/buckets", "asset.read")
def _buckets(ask: Ask) -> Reply:
    assets = _timeline(ask)
    return from_json(answers.months(assets, ascending=ask.query.get("order") == "asc"))


@ROUTES.add("GET", "/api/timeline/bucket", "asset.read")
def _bucket(ask: Ask) -> Reply:
    """One month; assets without an exif row are missing (an inner join)."""
    month = ask.query.get("timeBucket", "")
    found = [
        asset
        for asset in _timeline(ask)
        if asset.exif is not None and dates.month_of(asset.local_date_time) == month
    ]
    found.sort(key=lambda asset: (asset.file_created_at, asset.id), reverse=True)
    if ask.query.get("order") == "asc":
        found.reverse()
    return from_json(answers.columns(ask.library, found, ask.user_id))


_TIMELINE_UNIMPLEMENTED = ("bbox", "orderBy", "withCoordinates", "key", "slug")


def _timeline(ask: Ask) -> Iterator[StoredAsset]:
    for name in _TIMELINE_UNIMPLEMENTED:
        if name in ask.query:
            raise not_implemented(f"the timeline parameter {name}")
    owners = _timeline_owners(ask)
    for asset in ask.library.assets.values():
        if _in_timeline(ask, asset) and (owners is None or asset.owner_id in owners):
            yield asset


def _timeline_owners(ask: Ask) -> set[str] | None:
    """Whose assets; None: everybody's, inside an album."""
    wanted = ask.query.get("userId")
    partners = ask.library.partners_of(ask.user_id)
    if wanted is not None:
        if wanted not in {ask.user_id, *partners}:
            raise no_access("timeline.read")
        if wanted != ask.user_id and ask.query.get("visibility") == "archive":
            raise no_access("archive.read")
        return {wanted}
    if "albumId" in ask.query:
        ask.album(ask.query["albumId"])
        return None
    if not ask.flag("withPartners"):
        return {ask.user_id}
    if ask.query.get("visibility") != "timeline" or ask.flag("isFavorite") or ask.flag("isTrashed"):
        text = "withPartners is only supported for non-archived, non-trashed, non-favorited assets"
        raise Refusal(400, text)
    return {ask.user_id, *ask.library.partners_of(ask.user_id, in_timeline=True)}


def _own_in_timeline(ask: Ask, user_id: str) -> Iterator[StoredAsset]:
    return (asset for asset in ask.library.own(user_id) if _in_timeline(ask, asset))


def _in_timeline(ask: Ask, asset: StoredAsset) -> bool:
    """What the query of buckets and of statistics selects, whoever owns it."""
    visibility = ask.query.get("visibility")
    if visibility == LOCKED:
        raise Refusal(401, "Elevated permission is required")
    favorite = ask.flag("isFavorite")
    return (
        asset.visibility in ({visibility} if visibility else {"timeline", "archive"})
        and asset.trashed == (ask.flag("isTrashed") or False)
        and (favorite is None or asset.is_favorite == favorite)
        and ask.query.get("personId") in {None, *asset.person_ids}
        and ask.query.get("tagId") in {None, *asset.tag_ids}
        and (ask.flag("withStacked") is not True or _tops_its_stack(ask.library, asset))
        and ("albumId" not in ask.query or _held(ask, asset))
    )


def _tops_its_stack(library: Library, asset: StoredAsset) -> bool:
    return asset.stack_id is None or library.stacks[asset.stack_id].primary_id == asset.id


def _held(ask: Ask, asset: StoredAsset) -> bool:
    return asset.id in ask.library.albums[ask.query["albumId"]].asset_ids
