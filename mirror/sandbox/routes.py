"""The routes of the API, the permission each wants, and what each answers.

An answer is a function of the library and the request alone; nothing here knows of sockets.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from mirror.sandbox import answers, dates, media, originals, search, validation
from mirror.sandbox.faults import Faults
from mirror.sandbox.library import Library
from mirror.sandbox.records import LOCKED, Album, Key, StoredAsset, User
from mirror.sandbox.refusals import JsonObject, Refusal, no_access, not_a_uuid, not_implemented
from mirror.sandbox.replies import Reply, from_json


@dataclass(frozen=True)
class Upload:
    """A file of a multipart form."""

    name: str
    data: bytes


@dataclass
class Ask:
    """A request that was let in."""

    library: Library
    faults: Faults
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None  # JSON, or the fields of a form
    parts: Mapping[str, str] = field(default_factory=dict)  # of the path, by name
    key: Key | None = None  # None on public routes

    @property
    def modern(self) -> bool:
        """Whether the server is 3.x."""
        return self.library.dialect.modern

    @cached_property
    def user_id(self) -> str:
        """Whose key it is."""
        if self.key is None:
            raise Refusal(401, "Authentication required")
        return self.key.user_id

    @property
    def user(self) -> User:
        """Whose key it is."""
        return self.library.users[self.user_id]

    def id(self, name: str = "id") -> str:
        """An id in the path."""
        value = self.parts[name]
        if not validation.is_uuid(value):
            raise not_a_uuid([name], modern=self.modern)
        return value

    def flag(self, name: str) -> bool | None:
        """`true` or `false` in the query, None if it is not there."""
        value = self.query.get(name)
        if value not in {None, "true", "false"}:
            raise Refusal(400, [f"{name} must be a boolean value"])
        return None if value is None else value == "true"

    def asset(self, permission: str = "asset.read") -> StoredAsset:
        """The asset that the path names."""
        return self.library.readable(self.id(), self.user_id, permission)


Answer: TypeAlias = Callable[[Ask], Reply]


@dataclass(frozen=True)
class Route:
    """`permission` None: public. Empty: any key."""

    method: str
    pattern: re.Pattern[str]
    permission: str | None
    answer: Answer
    in_maintenance: bool = False


ROUTES: list[Route] = []


def route(
    method: str, path: str, permission: str | None, *, in_maintenance: bool = False
) -> Callable[[Answer], Answer]:
    """Declare a route; `{id}` in its path is one segment."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def add(answer: Answer) -> Answer:
        ROUTES.append(Route(method, pattern, permission, answer, in_maintenance))
        return answer

    return add


def resolve(method: str, path: str, *, maintenance: bool) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and the named parts of its path; HEAD goes where GET does."""
    wanted = "GET" if method == "HEAD" else method
    for each in ROUTES:
        found = each.pattern.fullmatch(path) if each.method == wanted else None
        if found and (each.in_maintenance or not maintenance):
            return each, found.groupdict()
    return None


# -- the server itself -----------------------------------------------------------------------------


@route("GET", "/.well-known/immich", None)
def _well_known(_ask: Ask) -> Reply:
    return from_json({"api": {"endpoint": "/api"}})


@route("GET", "/api/server/ping", None, in_maintenance=True)
def _ping(_ask: Ask) -> Reply:
    return from_json({"res": "pong"})


@route("GET", "/api/server/version", None, in_maintenance=True)
def _version(ask: Ask) -> Reply:
    release = ask.library.dialect
    numbers = {"major": release.major, "minor": release.minor, "patch": release.patch}
    return from_json(numbers | ({"prerelease": None} if ask.modern else {}))


@route("GET", "/api/server/config", None, in_maintenance=True)
def _config(ask: Ask) -> Reply:
    if ask.faults.maintenance:
        return from_json({"maintenanceMode": True})
    return from_json(
        {
            "loginPageMessage": "",
            "trashDays": 30,
            "userDeleteDelay": 7,
            "oauthButtonText": "Login with OAuth",
            "isInitialized": True,
            "isOnboarded": True,
            "externalDomain": "",
            "publicUsers": True,
            "mapDarkStyleUrl": "https://tiles.immich.cloud/v1/style/dark.json",
            "mapLightStyleUrl": "https://tiles.immich.cloud/v1/style/light.json",
            "maintenanceMode": False,
            **({"minFaces": _MIN_FACES} if ask.modern else {}),
        }
    )


_FEATURES = """
smartSearch facialRecognition duplicateDetection map reverseGeocoding importFaces sidecar
search trash oauth oauthAutoLaunch ocr passwordLogin configFile email
""".split()  # noqa: SIM905 (readable)


@route("GET", "/api/server/features", None)
def _features(ask: Ask) -> Reply:
    on = {"map", "reverseGeocoding", "sidecar", "search", "trash", "passwordLogin", "configFile"}
    extra = ["realtimeTranscoding"] if ask.modern else []
    return from_json({name: name in on for name in [*_FEATURES, *extra]})


@route("GET", "/api/server/media-types", None)
def _media_types(ask: Ask) -> Reply:
    images = [kind for kind in media.IMAGE_EXTENSIONS if ask.modern or kind != ".mpo"]
    return from_json({"video": media.VIDEO_EXTENSIONS, "image": images, "sidecar": [".xmp"]})


@route("GET", "/api/server/about", "server.about")
def _about(ask: Ask) -> Reply:
    version = f"v{ask.library.dialect}"
    url = f"https://github.com/immich-app/immich/releases/tag/{version}"
    return from_json({"version": version, "versionUrl": url, "licensed": False})


@route("GET", "/api/api-keys/me", "")
def _key(ask: Ask) -> Reply:
    if ask.key is None:
        raise Refusal(401, "Authentication required")
    return from_json(answers.key(ask.key))


@route("GET", "/api/users/me", "user.read")
def _me(ask: Ask) -> Reply:
    return from_json(answers.myself(ask.library, ask.user))


@route("POST", "/api/sync/stream", "sync.stream")
def _sync(_ask: Ask) -> Reply:
    raise Refusal(403, "Sync endpoints cannot be used with API keys")


# -- listing ---------------------------------------------------------------------------------------


@route("POST", "/api/search/metadata", "asset.read")
def _search(ask: Ask) -> Reply:
    fields = validation.read(_object(ask), modern=ask.modern)
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


def _object(ask: Ask) -> JsonObject:
    return ask.body if isinstance(ask.body, dict) else {}


@route("POST", "/api/search/statistics", "asset.statistics")
def _search_statistics(ask: Ask) -> Reply:
    """The flat filters without withDeleted; never the exemption of albums from the owner scope."""
    fields = validation.read(_object(ask), modern=ask.modern)
    fields.pop("withDeleted", None)
    owners = {ask.user_id, *ask.library.partners_of(ask.user_id, in_timeline=True)}
    found = search.find(ask.library, ask.user_id, fields)
    return from_json({"total": sum(asset.owner_id in owners for asset in found)})


@route("GET", "/api/assets/statistics", "asset.statistics")
def _statistics(ask: Ask) -> Reply:
    """Own assets alone; without `visibility` timeline and archive."""
    found = list(_own_in_timeline(ask, ask.user_id))
    videos = sum(asset.type.value == "VIDEO" for asset in found)
    images = sum(asset.type.value == "IMAGE" for asset in found)
    return from_json({"images": images, "videos": videos, "total": len(found)})


@route("GET", "/api/timeline/buckets", "asset.read")
def _buckets(ask: Ask) -> Reply:
    assets = _timeline(ask)
    return from_json(answers.months(assets, ascending=ask.query.get("order") == "asc"))


@route("GET", "/api/timeline/bucket", "asset.read")
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
        _album(ask, ask.query["albumId"])
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


# -- one asset -------------------------------------------------------------------------------------


@route("GET", "/api/assets/{id}", "asset.read")
def _asset(ask: Ask) -> Reply:
    return from_json(answers.detailed(ask.library, ask.asset(), ask.user_id))


@route("GET", "/api/assets/{id}/original", "asset.download")
def _original(ask: Ask) -> Reply:
    asset_id, dialect = ask.id(), ask.library.dialect
    try:
        asset = ask.library.readable(asset_id, ask.user_id, "asset.download")
    except Refusal:
        raise originals.refuse_access(dialect) from None
    lost = ask.faults.disk_lost or asset_id in ask.faults.lost_files
    edited = ask.query.get("edited") == "true"
    return originals.serve(asset, dialect, ask.headers, edited=edited, lost=lost)


@route("POST", "/api/download/info", "asset.download")
def _download_info(ask: Ask) -> Reply:
    """What would be in an archive: not the trashed, but the videos of live photos."""
    assets = [asset for asset in _to_download(ask) if not asset.trashed and asset.exif is not None]
    videos = [ask.library.assets.get(asset.live_photo_video_id or "") for asset in assets]
    assets += [video for video in videos if video is not None]
    limit = _object(ask).get("archiveSize") or 4 << 30
    archives: list[JsonObject] = []
    for asset in assets:
        if not archives or archives[-1]["size"] > limit:  # closed only after passing the limit
            archives.append({"size": 0, "assetIds": []})
        archives[-1]["size"] += asset.content.size_bytes
        archives[-1]["assetIds"].append(asset.id)
    total = sum(archive["size"] for archive in archives)
    return from_json({"totalSize": total, "archives": archives}, 201)


def _to_download(ask: Ask) -> list[StoredAsset]:
    wanted = _object(ask)
    if "assetIds" in wanted:
        ids = wanted["assetIds"]
        return [ask.library.readable(each, ask.user_id, "asset.download") for each in ids]
    if "albumId" in wanted:
        return answers.album_assets(ask.library, _album(ask, wanted["albumId"]))
    user_id = wanted.get("userId")
    if user_id not in {ask.user_id, *ask.library.partners_of(ask.user_id)}:
        raise no_access("timeline.download")
    shown = {"timeline", "archive"} if user_id == ask.user_id else {"timeline"}
    return [asset for asset in ask.library.own(user_id) if asset.visibility in shown]


# -- names -----------------------------------------------------------------------------------------


@route("GET", "/api/albums", "album.read")
def _albums(ask: Ask) -> Reply:
    """3.x: own and shared, `isOwned`, `isShared`; 2.x: own, or with `shared` the shared ones."""
    albums = sorted(ask.library.albums_of(ask.user_id), key=lambda album: album.created_at)
    owned, shared = ask.flag("isOwned"), ask.flag("isShared")
    if not ask.modern:
        shared = ask.flag("shared")
        owned = True if shared is None else None
    chosen = [
        album
        for album in reversed(albums)
        if owned in {None, album.owner_id == ask.user_id}
        and shared in {None, bool(album.members) or album.has_shared_link}
    ]
    return from_json([answers.album(ask.library, album, ask.user_id) for album in chosen])


@route("GET", "/api/albums/{id}", "album.read")
def _one_album(ask: Ask) -> Reply:
    album = _album(ask, ask.id())
    answer = answers.album(ask.library, album, ask.user_id, whole=True)
    if not ask.modern and ask.flag("withoutAssets"):
        answer["assets"] = []
    return from_json(answer)


def _album(ask: Ask, album_id: str) -> Album:
    for album in ask.library.albums_of(ask.user_id):
        if album.id == album_id:
            return album
    raise no_access("album.read")


_MIN_FACES = 3  # a person without a name is shown from so many photos on


@route("GET", "/api/people", "person.read")
def _people(ask: Ask) -> Reply:
    """Those with a name or enough faces, the most seen first; hidden ones only when asked for."""
    own = [person for person in ask.library.people.values() if person.owner_id == ask.user_id]
    seen = Counter(
        person_id for asset in ask.library.own(ask.user_id) for person_id in asset.person_ids
    )
    shown = [
        person
        for person in own
        if (person.name or seen[person.id] >= _MIN_FACES)
        and (ask.flag("withHidden") or not person.is_hidden)
    ]
    shown.sort(key=lambda p: (p.is_hidden, not p.is_favorite, not p.name, -seen[p.id], p.name))
    page, size = int(ask.query.get("page", 1)), int(ask.query.get("size", 500))
    return from_json(
        {
            "people": [answers.person(person) for person in shown[(page - 1) * size : page * size]],
            "hasNextPage": len(shown) > page * size,
            "total": len(own),
            "hidden": sum(person.is_hidden for person in own),
        }
    )


@route("GET", "/api/tags", "tag.read")
def _tags(ask: Ask) -> Reply:
    own = [tag for tag in ask.library.tags.values() if tag.owner_id == ask.user_id]
    return from_json([answers.tag(tag) for tag in sorted(own, key=lambda tag: tag.value)])


@route("GET", "/api/partners", "partner.read")
def _partners(ask: Ask) -> Reply:
    with_me = ask.query.get("direction") == "shared-with"
    cards = []
    for partner in ask.library.partners:
        here, there = (partner.to_id, partner.from_id)
        if not with_me:
            here, there = there, here
        if here == ask.user_id:
            card = answers.user_card(ask.library.users[there])
            cards.append(card | {"inTimeline": partner.in_timeline})
    return from_json(cards)


@route("GET", "/api/stacks", "stack.read")
def _stacks(ask: Ask) -> Reply:
    own = (stack for stack in ask.library.stacks.values() if stack.owner_id == ask.user_id)
    return from_json([answers.stack(ask.library, stack) for stack in own])
