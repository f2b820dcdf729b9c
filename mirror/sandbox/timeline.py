"""Counts and columns by month of the wall clock, and the counts of an account."""

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.sandbox import answers, dates
from mirror.sandbox.asking import Ask, Routes
from mirror.sandbox.records import Album, StoredAsset
from mirror.sandbox.refusals import Refusal, no_access, not_implemented
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()
_UNIMPLEMENTED = ("bbox", "orderBy", "withCoordinates", "key", "slug")


@ROUTES.add("GET", "/api/timeline/buckets", "asset.read")
def _buckets(ask: Ask) -> Reply:
    found = _Wanted.of_timeline(ask).find()
    return from_json(answers.months(found, ascending=ask.query.get("order") == "asc"))


@ROUTES.add("GET", "/api/timeline/bucket", "asset.read")
def _bucket(ask: Ask) -> Reply:
    """One month; assets without an exif row are missing (an inner join)."""
    month = ask.query.get("timeBucket")
    if month is None:
        raise ask.bad_query("timeBucket must be a string")
    found = [
        asset
        for asset in _Wanted.of_timeline(ask).find()
        if asset.exif is not None and dates.month_of(asset.local_date_time) == month
    ]
    found.sort(
        key=lambda asset: (asset.file_created_at, asset.id), reverse=ask.query.get("order") != "asc"
    )
    return from_json(answers.columns(ask.library, found, ask.user_id))


@ROUTES.add("GET", "/api/assets/statistics", "asset.statistics")
def _statistics(ask: Ask) -> Reply:
    """Own assets alone; without `visibility` timeline and archive."""
    found = list(_Wanted.of(ask, {ask.user_id}).find())
    videos = sum(asset.type.value == "VIDEO" for asset in found)
    images = sum(asset.type.value == "IMAGE" for asset in found)
    return from_json({"images": images, "videos": videos, "total": len(found)})


@dataclass(frozen=True)
class _Wanted:
    """What the query selects."""

    ask: Ask
    owners: set[str] | None  # None: everybody's, inside an album
    visibilities: set[str]
    favorite: bool | None
    trashed: bool
    tops_only: bool
    album: Album | None

    @classmethod
    def of(cls, ask: Ask, owners: set[str] | None, album: Album | None = None) -> "_Wanted":
        visibility = ask.visibility()
        return cls(
            ask=ask,
            owners=owners,
            visibilities={visibility} if visibility else {"timeline", "archive"},
            favorite=ask.flag("isFavorite"),
            trashed=ask.flag("isTrashed") or False,
            tops_only=ask.flag("withStacked") or False,
            album=album,
        )

    @classmethod
    def of_timeline(cls, ask: Ask) -> "_Wanted":
        """Own assets, unless the query names an album, a user, or asks for partners'."""
        for name in _UNIMPLEMENTED:
            if name in ask.query:
                raise not_implemented(f"the timeline parameter {name}")
        album = ask.album(ask.query["albumId"]) if "albumId" in ask.query else None
        return cls.of(ask, _owners(ask), album)

    def find(self) -> Iterator[StoredAsset]:
        """In no order."""
        return filter(self._takes, self.ask.library.assets.values())

    def _takes(self, asset: StoredAsset) -> bool:
        query = self.ask.query
        return (
            asset.visibility in self.visibilities
            and asset.trashed == self.trashed
            and (self.owners is None or asset.owner_id in self.owners)
            and self.favorite in {None, asset.is_favorite}
            and query.get("personId") in {None, *asset.person_ids}
            and query.get("tagId") in {None, *asset.tag_ids}
            and (not self.tops_only or self._tops_its_stack(asset))
            and (self.album is None or asset.id in self.album.asset_ids)
        )

    def _tops_its_stack(self, asset: StoredAsset) -> bool:
        stack_id = asset.stack_id
        return stack_id is None or self.ask.library.stacks[stack_id].primary_id == asset.id


def _owners(ask: Ask) -> set[str] | None:
    """Whose assets. Source: timeline.service.ts, measured with users and partners on both."""
    wanted, visibility = ask.query.get("userId"), ask.visibility()
    if wanted is not None:
        if wanted not in {ask.user_id, *ask.library.partners_of(ask.user_id)}:
            raise no_access("timeline.read")
        if wanted != ask.user_id and visibility == "archive":
            raise no_access("archive.read")
        return {wanted}
    if "albumId" in ask.query:
        return None
    if not ask.flag("withPartners"):
        return {ask.user_id}
    if visibility != "timeline" or ask.flag("isFavorite") or ask.flag("isTrashed"):
        text = "withPartners is only supported for non-archived, non-trashed, non-favorited assets"
        raise Refusal(400, text)
    return {ask.user_id, *ask.library.partners_of(ask.user_id, in_timeline=True)}
