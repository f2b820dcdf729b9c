"""One asset, its original, and what a download of several would be."""

from mirror.sandbox import answers, originals
from mirror.sandbox.asking import Ask, Routes
from mirror.sandbox.records import StoredAsset
from mirror.sandbox.refusals import JsonObject, Refusal, no_access
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()


@ROUTES.add("GET", "/api/assets/{id}", "asset.read")
def _asset(ask: Ask) -> Reply:
    asset = ask.asset()
    if asset.id in ask.faults.undatable:
        raise Refusal(500, "Internal server error")
    return from_json(answers.detailed(ask.library, asset, ask.user_id))


@ROUTES.add("GET", "/api/assets/{id}/original", "asset.download")
def _original(ask: Ask) -> Reply:
    asset_id, dialect = ask.id(), ask.library.dialect
    try:
        asset = ask.library.readable(asset_id, ask.user_id, "asset.download")
    except Refusal:
        raise originals.refuse_access(dialect) from None
    lost = ask.faults.disk_lost or asset_id in ask.faults.lost_files | ask.library.erased
    edited = ask.query.get("edited") == "true"
    return originals.serve(asset, dialect, ask.headers, edited=edited, lost=lost)


@ROUTES.add("POST", "/api/download/info", "asset.download")
def _download_info(ask: Ask) -> Reply:
    """What would be in an archive: not the trashed, but the videos of live photos."""
    assets = [asset for asset in _to_download(ask) if not asset.trashed and asset.exif is not None]
    videos = [ask.library.assets.get(asset.live_photo_video_id or "") for asset in assets]
    assets += [video for video in videos if video is not None]
    limit = ask.object.get("archiveSize") or 4 << 30
    archives: list[JsonObject] = []
    for asset in assets:
        if not archives or archives[-1]["size"] > limit:  # closed only after passing the limit
            archives.append({"size": 0, "assetIds": []})
        archives[-1]["size"] += asset.content.size_bytes
        archives[-1]["assetIds"].append(asset.id)
    total = sum(archive["size"] for archive in archives)
    return from_json({"totalSize": total, "archives": archives}, 201)


def _to_download(ask: Ask) -> list[StoredAsset]:
    wanted = ask.object
    if "assetIds" in wanted:
        ids = wanted["assetIds"]
        return [ask.library.readable(each, ask.user_id, "asset.download") for each in ids]
    if "albumId" in wanted:
        return answers.album_assets(ask.library, ask.album(wanted["albumId"]))
    user_id = wanted.get("userId")
    if user_id not in {ask.user_id, *ask.library.partners_of(ask.user_id)}:
        raise no_access("timeline.download")
    shown = {"timeline", "archive"} if user_id == ask.user_id else {"timeline"}
    return [asset for asset in ask.library.own(user_id) if asset.visibility in shown]
