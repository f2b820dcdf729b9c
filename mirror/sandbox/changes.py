"""The few routes by which a program changes the sample library while it runs, with the key `all`.

Everything takes effect at once: there is no queue between an upload and its metadata.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from mirror.sandbox import answers, dates, media, validation
from mirror.sandbox.asking import Ask, Routes, Upload
from mirror.sandbox.content import Fixed
from mirror.sandbox.records import LOCKED, Album, StoredAsset
from mirror.sandbox.refusals import JsonObject, Refusal, no_access, not_implemented
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()


@ROUTES.add("POST", "/api/assets", "asset.upload")
def _upload(ask: Ask) -> Reply:
    """201 with the new id, or 200 with that of the same owner's twin, in the trash or not."""
    file = ask.object.get("assetData")
    if not isinstance(file, Upload):
        raise Refusal(400, "assetData is missing")
    name = str(ask.object.get("filename") or file.name)
    if media.mime_type_of(name) == "application/octet-stream":
        raise Refusal(400, f"Unsupported file type {media.extension(name).lower()}")
    devices = _devices(ask)
    taken_at, modified_at = _moment(ask, "fileCreatedAt"), _moment(ask, "fileModifiedAt")
    content = Fixed(file.data)
    twin = ask.library.twin(ask.user_id, content.sha1)
    if twin is not None:
        return from_json({"id": twin.id, "status": "duplicate"})
    asset = ask.library.upload(
        name,
        content,
        taken_at=taken_at,
        owner_id=ask.user_id,
        file_modified_at=modified_at,
        visibility=_visibility(ask.object) or "timeline",
        is_favorite=ask.object.get("isFavorite") == "true",
        live_photo_video_id=_video_id(ask),
    )
    asset.device_id, asset.device_asset_id = devices
    return from_json({"id": asset.id, "status": "created"}, 201)


def _devices(ask: Ask) -> tuple[str, str]:
    """Two fields that 2.x requires and 3.x has forgotten."""
    names = ("deviceId", "deviceAssetId")
    missing = [name for name in names if not isinstance(ask.object.get(name), str)]
    if missing and not ask.modern:
        raise Refusal(400, [f"{name} must be a string" for name in missing])
    device_id, device_asset_id = (str(ask.object.get(name, "")) for name in names)
    return device_id, device_asset_id


def _moment(ask: Ask, name: str) -> datetime:
    try:
        return dates.parse(str(ask.object[name]))
    except (KeyError, ValueError):
        raise Refusal(400, f"{name} must be a date string") from None


def _video_id(ask: Ask) -> str | None:
    video_id = ask.object.get("livePhotoVideoId")
    return None if video_id is None else _own(ask, str(video_id), "asset.update").id


def _visibility(wanted: Mapping[str, Any]) -> str | None:
    visibility = wanted.get("visibility")
    if visibility not in {None, "timeline", "archive", "hidden", LOCKED}:
        raise Refusal(400, ["visibility must be one of archive, timeline, hidden, locked"])
    return None if visibility is None else str(visibility)


def _own(ask: Ask, asset_id: str, permission: str) -> StoredAsset:
    """Only the owner may change an asset."""
    asset = ask.library.readable(asset_id, ask.user_id, permission)
    if asset.owner_id != ask.user_id:
        raise no_access(permission)
    return asset


def _ids(ask: Ask, permission: str) -> list[str]:
    ids = ask.object.get("ids")
    if not isinstance(ids, list) or not all(validation.is_uuid(each) for each in ids):
        raise Refusal(400, ["each value in ids must be a UUID"])
    return [_own(ask, asset_id, permission).id for asset_id in ids]


@ROUTES.add("DELETE", "/api/assets", "asset.delete")
def _delete(ask: Ask) -> Reply:
    """To the trash, or with `force` for good."""
    ids = _ids(ask, "asset.delete")
    (ask.library.delete if ask.object.get("force") else ask.library.trash)(*ids)
    return Reply(204)


@ROUTES.add("POST", "/api/trash/restore/assets", "asset.delete")
def _restore(ask: Ask) -> Reply:
    """How many came back."""
    ids = [each for each in _ids(ask, "asset.delete") if ask.library.assets[each].trashed]
    ask.library.restore(*ids)
    return from_json({"count": len(ids)})


@ROUTES.add("PUT", "/api/assets", "asset.update")
def _update_many(ask: Ask) -> Reply:
    for asset_id in _ids(ask, "asset.update"):
        _update(ask, asset_id)
    return Reply(204)


@ROUTES.add("PUT", "/api/assets/{id}", "asset.update")
def _update_one(ask: Ask) -> Reply:
    asset = _own(ask, ask.id(), "asset.update")
    _update(ask, asset.id)
    return from_json(answers.detailed(ask.library, asset, ask.user_id))


_UPDATABLE = {
    "ids",
    "isFavorite",
    "visibility",
    "dateTimeOriginal",
    "rating",
    "description",
    "livePhotoVideoId",
}


def _update(ask: Ask, asset_id: str) -> None:
    wanted = ask.object
    for name in wanted.keys() - _UPDATABLE:
        raise not_implemented(f"the update of {name}")
    if "isFavorite" in wanted:
        ask.library.favorite(asset_id, on=wanted["isFavorite"] is True)
    visibility = _visibility(wanted)
    if visibility is not None:
        ask.library.set_visibility(visibility, asset_id)
    if "dateTimeOriginal" in wanted:
        _redate(ask, asset_id, str(wanted["dateTimeOriginal"]))
    if wanted.get("livePhotoVideoId") is not None:
        ask.library.link_live_photo(asset_id, str(_video_id(ask)))
    described = {name: wanted[name] for name in ("rating", "description") if name in wanted}
    if described:
        ask.library.describe(asset_id, **described)


def _redate(ask: Ask, asset_id: str, text: str) -> None:
    """The offset that is given is the photographer's; without one the wall clock is UTC."""
    try:
        moment = dates.parse(text)
        offset = datetime.fromisoformat(text).utcoffset() or timedelta()
    except ValueError:
        raise Refusal(400, "dateTimeOriginal must be a date string") from None
    ask.library.redate(asset_id, moment, offset=offset)


# -- albums ----------------------------------------------------------------------------------------


@ROUTES.add("POST", "/api/albums", "album.create")
def _make_album(ask: Ask) -> Reply:
    ids = [_shown(ask, asset_id) for asset_id in ask.object.get("assetIds", [])]
    name = str(ask.object.get("albumName", ""))
    album = ask.library.make_album(name, ids, owner_id=ask.user_id)
    album.description = str(ask.object.get("description", ""))
    return from_json(answers.album(ask.library, album, ask.user_id, whole=True), 201)


def _shown(ask: Ask, asset_id: str) -> str:
    return ask.library.readable(asset_id, ask.user_id, "asset.share").id


@ROUTES.add("PUT", "/api/albums/{id}/assets", "albumAsset.create")
def _add_to_album(ask: Ask) -> Reply:
    """One result an id; those already there are `duplicate`, those out of reach `no_permission`."""
    album = ask.album(ask.id())
    return from_json([_added(ask, album, str(each)) for each in ask.object.get("ids", [])])


def _added(ask: Ask, album: Album, asset_id: str) -> JsonObject:
    if asset_id in album.asset_ids:
        return {"id": asset_id, "success": False, "error": "duplicate"}
    try:
        ask.library.add_to_album(album.id, _shown(ask, asset_id))
    except Refusal:
        return {"id": asset_id, "success": False, "error": "no_permission"}
    return {"id": asset_id, "success": True}


@ROUTES.add("DELETE", "/api/albums/{id}/assets", "albumAsset.delete")
def _remove_from_album(ask: Ask) -> Reply:
    """One result an id; no stamp moves."""
    album = ask.album(ask.id())
    results: list[JsonObject] = []
    for asset_id in map(str, ask.object.get("ids", [])):
        held = asset_id in album.asset_ids
        error = {} if held else {"error": "not_found"}
        results.append({"id": asset_id, "success": held, **error})
        ask.library.remove_from_album(album.id, asset_id)
    return from_json(results)
