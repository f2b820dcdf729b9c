"""What the sample server holds, who may see it, and what can happen to it while it runs."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mirror.sandbox import media
from mirror.sandbox.content import Content, Fixed
from mirror.sandbox.dialect import Dialect
from mirror.sandbox.records import (
    LOCKED,
    Album,
    Key,
    Partner,
    Person,
    Stack,
    StoredAsset,
    Tag,
    User,
)
from mirror.sandbox.refusals import no_access

_TICK = timedelta(microseconds=1)
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The clock of a library that is given no other."""
    return datetime.now(UTC)


def random_id() -> str:
    """The ids of a library that is given no others."""
    return str(uuid.uuid4())


@dataclass
class Library:
    """The whole state of one sample server.

    `owner_id` is the user whose keys are handed out. `clock` stamps changes and is what the
    server's `Date` header says.
    """

    dialect: Dialect
    owner_id: str
    users: dict[str, User]
    keys: list[Key]
    partners: list[Partner] = field(default_factory=list)
    assets: dict[str, StoredAsset] = field(default_factory=dict)
    albums: dict[str, Album] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    tags: dict[str, Tag] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)
    clock: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = random_id
    erased: set[str] = field(default_factory=set)  # ids whose file is gone from the server's disk
    _stamped: datetime = _LONG_AGO

    # -- looking -----------------------------------------------------------------------------------

    def own(self, user_id: str | None = None) -> Iterator[StoredAsset]:
        """The assets of one user, `owner_id` by default."""
        user_id = user_id or self.owner_id
        return (asset for asset in self.assets.values() if asset.owner_id == user_id)

    def named(self, original_file_name: str) -> StoredAsset:
        """The first asset with this name.

        Raises:
            LookupError: there is none.
        """
        for asset in self.assets.values():
            if asset.original_file_name == original_file_name:
                return asset
        raise LookupError(original_file_name)

    def partners_of(self, user_id: str, *, in_timeline: bool = False) -> set[str]:
        """Who shares with a user; with `in_timeline` only those whom the user shows."""
        return {
            partner.from_id
            for partner in self.partners
            if partner.to_id == user_id and (partner.in_timeline or not in_timeline)
        }

    def albums_of(self, user_id: str) -> Iterator[Album]:
        """Every album that a user made or is in."""
        return (
            album
            for album in self.albums.values()
            if user_id == album.owner_id or user_id in album.members
        )

    def stills_of(self, video_id: str) -> Iterator[StoredAsset]:
        """The stills of a live photo's video."""
        return (asset for asset in self.assets.values() if asset.live_photo_video_id == video_id)

    def readable(self, asset_id: str, user_id: str, permission: str) -> StoredAsset:
        """An asset that a user may read with an API key.

        Source: server/src/utils/access.ts (3.1.0; the same idea in 2.x), measured on both.

        Raises:
            Refusal: it is unknown, gone, locked, or not theirs to see: one text for all.
        """
        asset = self.assets.get(asset_id)
        if asset is None or asset.visibility == LOCKED or not self._shares(asset, user_id):
            raise no_access(permission)
        return asset

    def _shares(self, asset: StoredAsset, user_id: str) -> bool:
        if asset.owner_id == user_id:
            return True
        if asset.trashed:
            return False
        by_partner = asset.owner_id in self.partners_of(user_id)
        if by_partner and asset.visibility in {"timeline", "hidden"}:
            return True
        return self._in_album_of(asset, user_id)

    def _in_album_of(self, asset: StoredAsset, user_id: str) -> bool:
        ids = {asset.id, *(still.id for still in self.stills_of(asset.id))}
        return any(not ids.isdisjoint(album.asset_ids) for album in self.albums_of(user_id))

    # -- happening ---------------------------------------------------------------------------------

    def now(self) -> datetime:
        """A stamp later than every one before it, as the database gives."""
        self._stamped = max(self.clock(), self._stamped + _TICK)
        return self._stamped

    def jump(self, by: timedelta) -> None:
        """The clock is wrong by so much more from now on, and with it `Date` and every stamp."""
        clock = self.clock
        self.clock = lambda: clock() + by
        self._stamped = _LONG_AGO

    def touch(self, asset: StoredAsset) -> None:
        """Any change of an asset's own row moves its `updated_at`."""
        asset.updated_at = self.now()

    def upload(
        self,
        name: str,
        content: Content | bytes,
        *,
        taken_at: datetime | None = None,
        offset: timedelta = timedelta(),
        owner_id: str | None = None,
        live_photo_video_id: str | None = None,
        file_modified_at: datetime | None = None,
        visibility: str = "timeline",
        is_favorite: bool = False,
    ) -> StoredAsset:
        """A new asset, or the one of the same owner that holds the same bytes already.

        `offset` is the photographer's distance from UTC.
        """
        content = Fixed(content) if isinstance(content, bytes) else content
        owner_id = owner_id or self.owner_id
        twin = self.twin(owner_id, content.sha1)
        if twin is not None:
            return twin
        now = self.now()
        asset = new_asset(
            name,
            content,
            asset_id=self.new_id(),
            owner_id=owner_id,
            taken_at=taken_at or now.replace(microsecond=0),
            offset=offset,
            created_at=now,
        )
        asset.file_modified_at = file_modified_at or asset.file_created_at
        asset.visibility, asset.is_favorite = visibility, is_favorite
        self.assets[asset.id] = asset
        if live_photo_video_id is not None:
            self.link_live_photo(asset.id, live_photo_video_id)
        return asset

    def twin(self, owner_id: str, sha1: bytes) -> StoredAsset | None:
        """The upload of an owner with these bytes, in the trash or not."""
        for asset in self.own(owner_id):
            if not asset.path_checksum and asset.content.sha1 == sha1:
                return asset
        return None

    def link_live_photo(self, still_id: str, video_id: str) -> None:
        """Make a live photo: its video leaves the timeline by itself."""
        still, video = self.assets[still_id], self.assets[video_id]
        still.live_photo_video_id = video.id
        video.visibility = "hidden"
        self.touch(video)
        self.touch(still)

    def trash(self, *asset_ids: str) -> None:
        """Move to the trash; a live photo's video stays where it is."""
        for asset in self._each(asset_ids):
            asset.deleted_at = self.now()
            self.touch(asset)

    def restore(self, *asset_ids: str) -> None:
        """Back from the trash."""
        for asset in self._each(asset_ids):
            asset.deleted_at = None
            self.touch(asset)

    def delete(self, *asset_ids: str) -> None:
        """For good; nothing is left, as after the purge. A video goes with its last still."""
        for asset in list(self._each(asset_ids)):
            del self.assets[asset.id]
            self.erased.add(asset.id)
            for album in self.albums.values():
                album.asset_ids = [kept for kept in album.asset_ids if kept != asset.id]
            video_id = asset.live_photo_video_id
            if video_id in self.assets and not any(self.stills_of(video_id)):
                self.delete(video_id)

    def archive(self, *asset_ids: str) -> None:
        """Out of the timeline."""
        self.set_visibility("archive", *asset_ids)

    def lock(self, *asset_ids: str) -> None:
        """Into the locked folder: no API key sees them any more."""
        self.set_visibility(LOCKED, *asset_ids)

    def set_visibility(self, visibility: str, *asset_ids: str) -> None:
        """Timeline, archive, hidden or locked."""
        for asset in self._each(asset_ids):
            asset.visibility = visibility
            self.touch(asset)

    def favorite(self, *asset_ids: str, on: bool = True) -> None:
        """Mark as favourites, or no longer."""
        for asset in self._each(asset_ids):
            asset.is_favorite = on
            self.touch(asset)

    def redate(self, asset_id: str, taken_at: datetime, *, offset: timedelta = timedelta()) -> None:
        """Another date of taking, as after the edit has been extracted; the bytes stay."""
        asset = self.assets[asset_id]
        asset.file_created_at, asset.local_date_time = taken_at, taken_at + offset
        if asset.exif is not None:
            asset.exif |= media.exif_dates(taken_at, offset)
        self.touch(asset)

    def rename(self, asset_id: str, name: str) -> None:
        """Another originalFileName; no API can do it, a database can."""
        asset = self.assets[asset_id]
        asset.original_file_name = name
        self.touch(asset)

    def describe(self, asset_id: str, **exif: object) -> None:
        """Change what `exifInfo` says: description, rating, city …; the row is touched after it."""
        asset = self.assets[asset_id]
        asset.exif = (asset.exif or {}) | exif
        self.touch(asset)

    def replace(
        self, asset_id: str, content: Content | bytes, *, file_modified_at: datetime | None = None
    ) -> None:
        """Other bytes under an id (2.x could), with a new checksum; in a library only new bytes."""
        asset = self.assets[asset_id]
        asset.content = Fixed(content) if isinstance(content, bytes) else content
        asset.file_modified_at = file_modified_at or self.now()
        self.describe(asset_id, fileSizeInByte=asset.content.size_bytes or None)

    def set_offline(self, *asset_ids: str, on: bool = True) -> None:
        """The file of an external library is missing: the asset looks trashed too."""
        for asset in self._each(asset_ids):
            asset.is_offline = on
            asset.deleted_at = self.now() if on else None
            self.touch(asset)

    def make_album(
        self, name: str, asset_ids: Iterable[str] = (), *, owner_id: str | None = None
    ) -> Album:
        """A new album."""
        now = self.now()
        album = Album(self.new_id(), name, owner_id or self.owner_id, now, now)
        album.asset_ids.extend(asset_ids)
        self.albums[album.id] = album
        return album

    def add_to_album(self, album_id: str, *asset_ids: str) -> None:
        """Moves the album's `updatedAt`, not the assets'."""
        album = self.albums[album_id]
        album.asset_ids.extend(new for new in asset_ids if new not in album.asset_ids)
        album.updated_at = self.now()

    def remove_from_album(self, album_id: str, *asset_ids: str) -> None:
        """Moves no stamp at all."""
        album = self.albums[album_id]
        album.asset_ids = [kept for kept in album.asset_ids if kept not in asset_ids]

    def make_person(self, name: str, *asset_ids: str, owner_id: str | None = None) -> Person:
        """Someone new who is seen on these assets; moves no stamp of an asset."""
        person = Person(self.new_id(), owner_id or self.owner_id, name, self.now())
        self.people[person.id] = person
        for asset in self._each(asset_ids):
            asset.person_ids.append(person.id)
            asset.faces[person.id] = [media.face(self.new_id())]
        return person

    def tag(self, value: str, *asset_ids: str, owner_id: str | None = None) -> Tag:
        """Tag assets; the parents of `Travel/Japan` are made too."""
        owner_id = owner_id or self.owner_id
        tag = self._tag_named(value, owner_id)
        for asset in self._each(asset_ids):
            if tag.id not in asset.tag_ids:
                asset.tag_ids.append(tag.id)
                self.touch(asset)
        return tag

    def _tag_named(self, value: str, owner_id: str) -> Tag:
        for tag in self.tags.values():
            if (tag.value, tag.owner_id) == (value, owner_id):
                return tag
        above, slash, _ = value.rpartition("/")
        parent_id = self._tag_named(above, owner_id).id if slash else None
        now = self.now()
        tag = Tag(self.new_id(), owner_id, value, now, now, parent_id)
        self.tags[tag.id] = tag
        return tag

    def share(self, from_id: str, to_id: str, *, in_timeline: bool = True) -> None:
        """One user shares a whole library with another."""
        self.unshare(from_id, to_id)
        self.partners.append(Partner(from_id, to_id, in_timeline))

    def show_partner(self, from_id: str, to_id: str, *, on: bool) -> None:
        """Whether the other shows a partner's photos among the own; moves no stamp."""
        for partner in self.partners:
            if (partner.from_id, partner.to_id) == (from_id, to_id):
                partner.in_timeline = on

    def unshare(self, from_id: str, to_id: str) -> None:
        """And no longer does; moves no stamp."""
        self.partners = [
            kept for kept in self.partners if (kept.from_id, kept.to_id) != (from_id, to_id)
        ]

    def _each(self, asset_ids: Iterable[str]) -> Iterator[StoredAsset]:
        return (self.assets[asset_id] for asset_id in asset_ids)


def new_asset(
    name: str,
    content: Content,
    *,
    asset_id: str,
    owner_id: str,
    taken_at: datetime,
    offset: timedelta,
    created_at: datetime,
) -> StoredAsset:
    """The row of an upload whose metadata has just been extracted."""
    return StoredAsset(
        id=asset_id,
        owner_id=owner_id,
        type=media.type_of(name),
        original_file_name=name,
        original_path=media.upload_path(owner_id, asset_id, name),
        mime_type=media.mime_type_of(name),
        content=content,
        file_created_at=taken_at,
        local_date_time=taken_at + offset,
        file_modified_at=taken_at,
        created_at=created_at,
        updated_at=created_at,
        exif=media.exif_of(content, taken_at, offset),
        device_asset_id=name,
    )
