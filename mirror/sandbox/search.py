"""Which assets a search finds, and in which order.

Source: searchAssetBuilder in server/src/utils/database.ts (2.7.5, 3.1.0), measured on both.
"""

import base64
import binascii
import re
import unicodedata
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mirror.sandbox.library import Library
from mirror.sandbox.records import LOCKED, StoredAsset
from mirror.sandbox.refusals import JsonObject, Refusal, no_access

DEFAULT_SIZE = 250
_EXIF_FIELDS = ("city", "state", "country", "make", "model", "lensModel", "rating", "description")

Test = Callable[[StoredAsset], bool]


@dataclass(frozen=True)
class Page:
    """One page of what was found."""

    assets: list[StoredAsset]
    next_page: int | None


def find(library: Library, user_id: str, fields: JsonObject) -> Iterator[StoredAsset]:
    """Every asset that these fields select for a user, in no order.

    Raises:
        Refusal: they ask for the locked folder (401) or for an album of others (400).
    """
    found = iter(library.assets.values())
    for test in (*_scope(library, user_id, fields), *_tests(library, fields)):
        found = filter(test, found)
    return found


def page(
    library: Library, user_id: str, fields: JsonObject, *, hidden: Collection[str] = ()
) -> Page:
    """One page in the server's order; `hidden` assets are found by their id alone."""
    size, number = fields.get("size") or DEFAULT_SIZE, fields.get("page") or 1
    start, end = (number - 1) * size, number * size
    found = list(find(library, user_id, fields))
    if hidden and "id" not in fields:
        found = [asset for asset in found if asset.id not in hidden]
    found.sort(key=_order(library, end), reverse=fields.get("order") != "asc")
    return Page(found[start:end], number + 1 if len(found) > end else None)


def _order(library: Library, end: int) -> Callable[[StoredAsset], tuple[datetime, str | int]]:
    """3.1 breaks ties by id. Before it, each page is a top-N sort of its own.

    Without a tie-break PostgreSQL's order among equals depends on LIMIT + OFFSET, so pages repeat
    one row and miss another, the same ones each time (measured on 2.7.5).
    """
    if library.dialect.ties_by_id:
        return lambda asset: (asset.file_created_at, asset.id)
    return lambda asset: (asset.file_created_at, zlib.crc32(f"{end}/{asset.id}".encode()))


# -- whose -----------------------------------------------------------------------------------------


def _scope(library: Library, user_id: str, fields: JsonObject) -> Iterator[Test]:
    yield _visible(library, fields)
    owners = {user_id, *library.partners_of(user_id, in_timeline=True)}
    if fields.get("albumIds") and library.dialect.modern:
        _require_albums(library, user_id, fields["albumIds"])
    else:
        yield lambda asset: asset.owner_id in owners
    if not _with_deleted(fields):
        yield lambda asset: not asset.trashed


def _visible(library: Library, fields: JsonObject) -> Test:
    wanted = fields.get("visibility")
    if wanted == LOCKED:
        raise Refusal(401, "Elevated permission is required")
    if wanted is not None:
        return lambda asset: asset.visibility == wanted
    if library.dialect.modern:
        return lambda asset: asset.visibility != LOCKED
    return lambda asset: asset.visibility == "timeline"


def _require_albums(library: Library, user_id: str, album_ids: list[str]) -> None:
    if not set(album_ids) <= {album.id for album in library.albums_of(user_id)}:
        raise no_access("album.read")


def _with_deleted(fields: JsonObject) -> bool:
    asked = fields.get("withDeleted") or fields.get("isOffline")
    return bool(asked or fields.get("trashedAfter") or fields.get("trashedBefore"))


# -- which -----------------------------------------------------------------------------------------


def _tests(library: Library, fields: JsonObject) -> Iterator[Test]:
    for name, value in fields.items():
        if name in _TESTS and (value is not None or name in _NULL_MEANS_UNSET):
            yield _TESTS[name](library, value)
    if fields.get("withExif") or any(name in fields for name in _EXIF_FIELDS):
        yield lambda asset: asset.exif is not None  # an inner join
    if fields.get("withStacked") is False:
        yield lambda asset: asset.stack_id is None
    if fields.get("isNotInAlbum") and not fields.get("albumIds"):
        yield _in_no_album(library)


_Maker = Callable[[Library, Any], Test]


def _equal(attribute: str) -> _Maker:
    return lambda _library, value: lambda asset: getattr(asset, attribute) == value


def _from(attribute: str) -> _Maker:
    def make(_library: Library, bound: Any) -> Test:  # noqa: ANN401 (the wire)
        return lambda asset: (at := getattr(asset, attribute)) is not None and at >= bound

    return make


def _until(attribute: str) -> _Maker:
    def make(_library: Library, bound: Any) -> Test:  # noqa: ANN401 (the wire)
        return lambda asset: (at := getattr(asset, attribute)) is not None and at <= bound

    return make


def _exif(name: str) -> _Maker:
    """Exact; null is unset, and in 2.x the empty text is null too."""

    def make(library: Library, value: Any) -> Test:  # noqa: ANN401 (the wire)
        if not value and value != 0 and not library.dialect.modern:
            value = None
        return lambda asset: (asset.exif or {}).get(name) == value

    return make


def _contains(read: Callable[[StoredAsset], str | None]) -> _Maker:
    """ILIKE %value%: `%` and `_` inside it are wildcards; accents are ignored on both sides."""

    def make(_library: Library, value: Any) -> Test:  # noqa: ANN401 (the wire)
        wild = {"%": ".*", "_": "."}
        parts = (wild.get(character, re.escape(character)) for character in _plain(value))
        pattern = re.compile("".join(parts), re.DOTALL)
        return lambda asset: (
            (text := read(asset)) is not None and bool(pattern.search(_plain(text)))
        )

    return make


def _plain(text: str) -> str:
    """Lower case without accents, roughly what f_unaccent and ILIKE make equal."""
    split = unicodedata.normalize("NFD", text)
    return "".join(each for each in split if not unicodedata.combining(each)).lower()


def _checksum(_library: Library, value: str) -> Test:
    try:
        in_base64 = len(value) == 28  # noqa: PLR2004 (SHA-1 in base64, as the server tells)
        wanted = base64.b64decode(value) if in_base64 else bytes.fromhex(value)
    except (ValueError, binascii.Error):
        return lambda _asset: False
    return lambda asset: asset.checksum == wanted


def _has_motion(_library: Library, wanted: bool) -> Test:  # noqa: FBT001 (a value of the wire)
    return lambda asset: (asset.live_photo_video_id is not None) == wanted


def _people(_library: Library, ids: list[str]) -> Test:
    """All of them; an id said twice matches nothing (the server counts distinct people)."""
    if len(ids) != len(set(ids)):
        return lambda _asset: False
    return lambda asset: set(ids) <= set(asset.person_ids)


def _tags(library: Library, ids: list[str] | None) -> Test:
    """All of them, each itself or a child of it; null is untagged."""
    if ids is None:
        return lambda asset: not asset.tag_ids
    families = [_family(library, tag_id) for tag_id in ids]
    return lambda asset: all(not family.isdisjoint(asset.tag_ids) for family in families)


def _family(library: Library, tag_id: str) -> set[str]:
    children = [tag.id for tag in library.tags.values() if tag.parent_id == tag_id]
    return {tag_id}.union(*(_family(library, child) for child in children))


def _albums(library: Library, ids: list[str]) -> Test:
    """All of them."""
    held = [set(album.asset_ids) if (album := library.albums.get(i)) else set() for i in ids]
    return lambda asset: all(asset.id in each for each in held)


def _in_no_album(library: Library) -> Test:
    held = {asset_id for album in library.albums.values() for asset_id in album.asset_ids}
    return lambda asset: asset.id not in held


_NULL_MEANS_UNSET = {"city", "state", "country", "make", "model", "lensModel", "rating", "tagIds"}
_TESTS: dict[str, _Maker] = {
    "id": _equal("id"),
    "libraryId": _equal("library_id"),
    "deviceId": _equal("device_id"),
    "deviceAssetId": _equal("device_asset_id"),
    "type": _equal("type"),
    "isFavorite": _equal("is_favorite"),
    "isOffline": _equal("is_offline"),
    "isMotion": _has_motion,
    "createdAfter": _from("created_at"),
    "createdBefore": _until("created_at"),
    "updatedAfter": _from("updated_at"),
    "updatedBefore": _until("updated_at"),
    "trashedAfter": _from("deleted_at"),
    "trashedBefore": _until("deleted_at"),
    "takenAfter": _from("file_created_at"),
    "takenBefore": _until("file_created_at"),
    **{name: _exif(name) for name in _EXIF_FIELDS[:-1]},
    "description": _contains(lambda asset: (asset.exif or {}).get("description")),
    "originalFileName": _contains(lambda asset: asset.original_file_name),
    "originalPath": _contains(lambda asset: asset.original_path),
    "checksum": _checksum,
    "personIds": _people,
    "tagIds": _tags,
    "albumIds": _albums,
}
