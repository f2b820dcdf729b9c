"""The JSON that each release makes of a row. Shapes are proven against recordings."""

import base64
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime

from mirror.sandbox import dates
from mirror.sandbox.library import Library
from mirror.sandbox.records import Album, Key, Person, Stack, StoredAsset, Tag, User
from mirror.sandbox.refusals import JsonObject

Stamp = Callable[[datetime], str]
MIN_FACES = 3  # a person without a name is shown from so many photos on

# -- assets ----------------------------------------------------------------------------------------


def listed(
    library: Library, asset: StoredAsset, viewer_id: str, *, with_exif: bool, with_people: bool
) -> JsonObject:
    """An item of a search."""
    people = _people_on(library, asset) if with_people else []
    exif = {"exifInfo": asset.exif} if with_exif else {}
    unassigned = with_people and not library.dialect.modern
    return _asset(library, asset, viewer_id, exif=exif, people=people, unassigned=unassigned)


def detailed(library: Library, asset: StoredAsset, viewer_id: str) -> JsonObject:
    """`GET /assets/{id}`; people are shown to the owner alone."""
    people = _people_on(library, asset) if asset.owner_id == viewer_id else []
    return _asset(
        library,
        asset,
        viewer_id,
        owner={"owner": user_card(library.users[asset.owner_id])},
        exif={"exifInfo": asset.exif} if asset.exif is not None else {},
        tags={"tags": [_tag(tag, dates.from_database) for tag in _tags_of(library, asset)]},
        people=people,
        unassigned=not library.dialect.modern,
        stack={"stack": _stack_of(library, asset)},
    )


def _asset(
    library: Library,
    asset: StoredAsset,
    viewer_id: str,
    *,
    owner: JsonObject | None = None,
    exif: JsonObject | None = None,
    tags: JsonObject | None = None,
    people: list[JsonObject],
    unassigned: bool = False,
    stack: JsonObject | None = None,
    stamp: Stamp = dates.shown,
) -> JsonObject:
    """The fields in the server's order."""
    old = not library.dialect.modern
    return {
        "id": asset.id,
        "createdAt": stamp(asset.created_at),
        **({"deviceAssetId": asset.device_asset_id} if old else {}),
        "ownerId": asset.owner_id,
        **(owner or {}),
        **({"deviceId": asset.device_id} if old else {}),
        "libraryId": asset.library_id,
        "type": asset.type.value,
        "originalPath": asset.original_path,
        "originalFileName": asset.original_file_name,
        "originalMimeType": asset.mime_type,
        "thumbhash": asset.thumbhash,
        "fileCreatedAt": stamp(asset.file_created_at),
        "fileModifiedAt": stamp(asset.file_modified_at),
        "localDateTime": stamp(asset.local_date_time),
        "updatedAt": stamp(asset.updated_at),
        "isFavorite": asset.is_favorite and asset.owner_id == viewer_id,
        "isArchived": asset.visibility == "archive",
        "isTrashed": asset.trashed,
        "visibility": asset.visibility,
        "duration": _duration(asset.duration_ms, old=old),
        **(exif or {}),
        "livePhotoVideoId": asset.live_photo_video_id,
        **(tags or {}),
        "people": people,
        **({"unassignedFaces": []} if unassigned else {}),
        "checksum": base64.b64encode(asset.checksum).decode(),
        **(stack or {}),
        "isOffline": asset.is_offline,
        "hasMetadata": True,
        "duplicateId": asset.duplicate_id,
        "resized": True,
        "width": asset.width,
        "height": asset.height,
        "isEdited": asset.edited is not None,
    }


def _duration(duration_ms: int | None, *, old: bool) -> int | str | None:
    if not old:
        return duration_ms
    if duration_ms is None:
        return "0:00:00.00000"
    seconds, milliseconds = divmod(duration_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


def _people_on(library: Library, asset: StoredAsset) -> list[JsonObject]:
    people = (library.people[person_id] for person_id in asset.person_ids)
    if library.dialect.modern:
        return [_person(person, dates.from_database) for person in people]
    return [
        _person(person, dates.from_database) | {"faces": asset.faces.get(person.id, [])}
        for person in people
    ]


def _tags_of(library: Library, asset: StoredAsset) -> Iterable[Tag]:
    return (library.tags[tag_id] for tag_id in asset.tag_ids)


def _stack_of(library: Library, asset: StoredAsset) -> JsonObject | None:
    if asset.stack_id is None:
        return None
    stack = library.stacks[asset.stack_id]
    count = len(stack.asset_ids)
    return {"id": stack.id, "primaryAssetId": stack.primary_id, "assetCount": count}


# -- everything else -------------------------------------------------------------------------------


def user_card(user: User) -> JsonObject:
    """A user as others see it."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "profileImagePath": "",
        "avatarColor": user.avatar_color,
        "profileChangedAt": dates.from_database(user.created_at),
    }


def myself(library: Library, user: User) -> JsonObject:
    """`GET /users/me`."""
    used = sum(
        asset.content.size_bytes for asset in library.own(user.id) if asset.library_id is None
    )
    return {
        **user_card(user),
        "profileChangedAt": dates.shown(user.created_at),
        "storageLabel": user.storage_label,
        "shouldChangePassword": user.is_admin,
        "isAdmin": user.is_admin,
        "createdAt": dates.shown(user.created_at),
        "deletedAt": None,
        "updatedAt": dates.shown(user.created_at),
        "oauthId": "",
        "quotaSizeInBytes": None,
        "quotaUsageInBytes": used,
        "status": "active",
        "license": None,
    }


def key(key: Key) -> JsonObject:
    """`GET /api-keys/me`: no user id in it."""
    created = dates.shown(key.created_at)
    stamps = {"createdAt": created, "updatedAt": created}
    return {"id": key.id, "name": key.name, **stamps, "permissions": key.permissions}


def person(person: Person) -> JsonObject:
    """An item of `GET /people`."""
    return _person(person, dates.shown)


def _person(person: Person, stamp: Stamp) -> JsonObject:
    return {
        "id": person.id,
        "name": person.name,
        "birthDate": person.birth_date,
        "thumbnailPath": person.thumbnail_path,
        "isHidden": person.is_hidden,
        "isFavorite": person.is_favorite,
        "updatedAt": stamp(person.updated_at),
    }


def tag(tag: Tag) -> JsonObject:
    """An item of `GET /tags`."""
    return _tag(tag, dates.shown)


def _tag(tag: Tag, stamp: Stamp) -> JsonObject:
    return {
        "id": tag.id,
        **({"parentId": tag.parent_id} if tag.parent_id else {}),
        "name": tag.value.rpartition("/")[2],
        "value": tag.value,
        "createdAt": stamp(tag.created_at),
        "updatedAt": stamp(tag.updated_at),
    }


def stack(library: Library, stack: Stack) -> JsonObject:
    """An item of `GET /stacks`: the primary asset first, each as the database gives it."""
    ids = sorted(stack.asset_ids, key=lambda asset_id: asset_id != stack.primary_id)
    assets = [raw_asset(library, library.assets[asset_id]) for asset_id in ids]
    return {"id": stack.id, "primaryAssetId": stack.primary_id, "assets": assets}


def raw_asset(library: Library, asset: StoredAsset, **extra: object) -> JsonObject:
    """An asset inside a stack, or inside an album of 2.x: stamps in the database's own form."""
    exif = {"exifInfo": asset.exif} if asset.exif is not None else {}
    stamp = dates.from_database
    return _asset(library, asset, asset.owner_id, exif=exif, people=[], stamp=stamp) | extra


def album(library: Library, album: Album, viewer_id: str, *, whole: bool = False) -> JsonObject:
    """An item of `GET /albums`; `whole` as `GET /albums/{id}`."""
    old = not library.dialect.modern
    assets = album_assets(library, album)
    everyone = {album.owner_id: "owner", **album.members} if not old else album.members
    owner = {"ownerId": album.owner_id, "owner": user_card(library.users[album.owner_id])}
    return {
        "albumName": album.name,
        "description": album.description,
        "albumThumbnailAssetId": assets[0].id if assets else None,
        "createdAt": dates.shown(album.created_at),
        "updatedAt": dates.shown(album.updated_at),
        "id": album.id,
        **(owner if old else {}),
        "albumUsers": [
            {"user": user_card(library.users[user_id]), "role": role}
            for user_id, role in everyone.items()
        ],
        "shared": bool(album.members) or album.has_shared_link,
        "hasSharedLink": album.has_shared_link,
        **_span(assets),
        **({"assets": _inside(library, assets, viewer_id) if whole else []} if old else {}),
        "assetCount": len(assets),
        "isActivityEnabled": True,
        "order": "desc",
        **_newest_change(assets),
        **(_contributors(assets) if whole else {}),
    }


def album_assets(library: Library, album: Album) -> list[StoredAsset]:
    """What an album shows: timeline and archive, newest first."""
    held = (library.assets[asset_id] for asset_id in album.asset_ids if asset_id in library.assets)
    shown = [a for a in held if a.visibility in {"timeline", "archive"} and not a.trashed]
    return sorted(shown, key=lambda asset: asset.file_created_at, reverse=True)


def _inside(library: Library, assets: list[StoredAsset], viewer_id: str) -> list[JsonObject]:
    return [
        raw_asset(library, asset, isFavorite=asset.is_favorite and asset.owner_id == viewer_id)
        for asset in assets
    ]


def _span(assets: list[StoredAsset]) -> JsonObject:
    if not assets:
        return {}
    days = [dates.day_of(asset.local_date_time) for asset in assets]
    return {
        "startDate": f"{min(days)}T00:00:00.000Z",
        "endDate": f"{max(days)}T00:00:00.000Z",
    }


def _newest_change(assets: list[StoredAsset]) -> JsonObject:
    if not assets:
        return {}
    return {"lastModifiedAssetTimestamp": dates.shown(max(asset.updated_at for asset in assets))}


def _contributors(assets: list[StoredAsset]) -> JsonObject:
    counts = Counter(asset.owner_id for asset in assets)
    return {
        "contributorCounts": [
            {"userId": user_id, "assetCount": count} for user_id, count in counts.most_common()
        ]
    }


# -- the timeline ----------------------------------------------------------------------------------


def months(assets: Iterable[StoredAsset], *, ascending: bool) -> list[JsonObject]:
    """A count for each month of the wall clock; the real year, also before 100."""
    counts = Counter(dates.month_of(asset.local_date_time) for asset in assets)
    names = sorted(counts, reverse=not ascending)
    return [{"timeBucket": name, "count": counts[name]} for name in names]


def columns(library: Library, assets: list[StoredAsset], viewer_id: str) -> JsonObject:
    """One month, a list for each field."""
    old = not library.dialect.modern
    place: JsonObject = {
        "city": [(asset.exif or {}).get("city") for asset in assets],
        "country": [(asset.exif or {}).get("country") for asset in assets],
    }
    created = {"createdAt": [dates.bare(asset.created_at) for asset in assets]}
    return {
        **(place if old else {}),
        "duration": [_column_duration(asset, old=old) for asset in assets],
        "id": [asset.id for asset in assets],
        "visibility": [asset.visibility for asset in assets],
        "isFavorite": [asset.is_favorite and asset.owner_id == viewer_id for asset in assets],
        "isImage": [asset.type.value == "IMAGE" for asset in assets],
        "isTrashed": [asset.trashed for asset in assets],
        "livePhotoVideoId": [asset.live_photo_video_id for asset in assets],
        "fileCreatedAt": [dates.bare(asset.file_created_at) for asset in assets],
        "localOffsetHours": [_offset_hours(asset) for asset in assets],
        **({} if old else created),
        "ownerId": [asset.owner_id for asset in assets],
        "projectionType": [(asset.exif or {}).get("projectionType") for asset in assets],
        "ratio": [_ratio(asset) for asset in assets],
        "status": ["trashed" if asset.trashed else "active" for asset in assets],
        "thumbhash": [asset.thumbhash for asset in assets],
        **({} if old else place),
    }


def _column_duration(asset: StoredAsset, *, old: bool) -> int | str | None:
    return None if asset.duration_ms is None else _duration(asset.duration_ms, old=old)


def _offset_hours(asset: StoredAsset) -> float:
    hours = (asset.local_date_time - asset.file_created_at).total_seconds() / 3600
    return int(hours) if hours.is_integer() else hours


def _ratio(asset: StoredAsset) -> float:
    ratio = round(asset.width / asset.height, 3) if asset.width and asset.height else 1.0
    return int(ratio) if ratio == int(ratio) else ratio
