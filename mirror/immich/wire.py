"""What the server says: rows of JSON become assets, leniently; what must be there is demanded.

Immich 2.0 to 3.2, `AssetResponseDto` of POST /search/metadata and GET /assets/{id}.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

from mirror.core import checksum
from mirror.core.filter import is_id
from mirror.core.model import Asset, AssetType, Exif, Visibility
from mirror.errors import NotImmichError

Row: TypeAlias = Mapping[str, Any]  # an object of the server's JSON: the only Any of this program
_T = TypeVar("_T")

_TYPES: Final = {str(kind): kind for kind in AssetType}
_VISIBILITIES: Final = {str(visibility): visibility for visibility in Visibility}


def instant(text: object) -> datetime | None:
    """An aware UTC time; None for what Python cannot hold or read: years outside 1 to 9999."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is UTC:
            return time
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def wall_clock(text: object) -> datetime | None:
    """A naive local time, without the false Z that Immich writes after `localDateTime`."""
    time = instant(text)
    return None if time is None else time.replace(tzinfo=None)


def parse_asset(raw: Row) -> Asset:
    """One row of a search, or the answer of GET /assets/{id}.

    Raises:
        NotImmichError: a field that every version sends is missing or makes no sense.
    """
    try:
        taken, modified = raw["fileCreatedAt"], raw.get("fileModifiedAt")
        taken_at = instant(taken)
        return Asset(
            id=_id(raw["id"]),
            owner_id=sys.intern(_id(raw["ownerId"])),  # one text for all that are theirs
            type=_TYPES.get(raw["type"], AssetType.OTHER),
            visibility=_VISIBILITIES[raw["visibility"]],
            original_file_name=_text(raw["originalFileName"]),
            original_path=_text(raw["originalPath"]),
            checksum=checksum.decode(_text(raw["checksum"])),
            taken_at=taken_at,
            taken_local=wall_clock(raw["localDateTime"]),
            uploaded_at=_needed(instant(raw["createdAt"])),
            updated_at=_needed(instant(raw["updatedAt"])),
            # Often the same; then it is read once, and one object.
            file_modified_at=taken_at if modified == taken else instant(modified),
            library_id=_optional_id(raw.get("libraryId")),
            live_photo_video_id=_optional_id(raw.get("livePhotoVideoId")),
            is_favorite=raw.get("isFavorite") is True,
            is_trashed=raw.get("isTrashed") is True,
            is_offline=raw.get("isOffline") is True,
            exif=_exif(raw.get("exifInfo")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotImmichError(
            "the server describes an asset in a way that is not understood",
            why=f"asset {str(raw.get('id'))[:36]}: {_reason(error)}",
            hint="see whether a newer version of this program knows this server",
        ) from error


def rows(answer: object, *path: str) -> list[Row]:
    """The objects of a list that stands at `path` in an answer.

    Raises:
        NotImmichError: there is no such list.
    """
    found = answer
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise _lacks(f"a list of objects at {'.'.join(path) or 'its top'}")
    return found


def member(answer: object, key: str, kind: type[_T]) -> _T:
    """The value of `key` in an answer that is an object.

    Raises:
        NotImmichError: there is none, or of another type.
    """
    value = answer.get(key) if isinstance(answer, Mapping) else None
    if not isinstance(value, kind):
        raise _lacks(f"{key!r}")
    return value


def bucket_counts(answer: object) -> dict[str, int]:
    """How many assets each month has, as GET /timeline/buckets gives it; by `YYYY-MM-01`.

    Raises:
        NotImmichError: it is not that answer.
    """
    return {
        member(bucket, "timeBucket", str): member(bucket, "count", int) for bucket in rows(answer)
    }


def column(answer: object, key: str) -> list[str]:
    """A list of texts of a columnar answer, as GET /timeline/bucket gives it."""
    values = member(answer, key, list)
    if not all(isinstance(value, str) for value in values):
        raise _lacks(f"texts in {key!r}")
    return values


def _lacks(what: str) -> NotImmichError:
    return NotImmichError(
        f"the server's answer lacks {what}",
        hint="is this Immich's own API, and not a proxy's page?",
    )


def _reason(error: Exception) -> str:
    return f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)


def _id(value: object) -> str:
    # Ids become parts of URLs and of file names: nothing but a UUID may pass.
    if not is_id(value):
        raise ValueError(f"not an id: {str(value)[:60]!r}")
    return str(value)


def _optional_id(value: object) -> str | None:
    return None if value is None else _id(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {str(value)[:60]!r}")
    return value


def _needed(time: datetime | None) -> datetime:
    if time is None:
        raise ValueError("createdAt or updatedAt is no date")
    return time


def _exif(raw: object) -> Exif | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise TypeError("exifInfo is no object")
    return Exif(
        size_bytes=_whole(raw.get("fileSizeInByte")),
        make=_word(raw.get("make")),
        model=_word(raw.get("model")),
        lens_model=_word(raw.get("lensModel")),
        city=_word(raw.get("city")),
        state=_word(raw.get("state")),
        country=_word(raw.get("country")),
        description=_word(raw.get("description")),
        rating=_whole(raw.get("rating")),
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    # A number of bytes beyond 2**53 may come as a float, and some versions send texts.
    try:
        return None if value is None else int(str(value))
    except ValueError:
        return None
