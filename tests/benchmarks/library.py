"""A library of so many files of one size, where everything follows from the number of a file."""

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

BEGUN: Final = datetime(2015, 1, 1, tzinfo=UTC)
STEP: Final = timedelta(minutes=5)  # between two files: 288 a day, a million in ten years
UPLOADED: Final = timedelta(days=1)  # after it was taken
OWNER: Final = "0badcafe-0000-4000-8000-00000000feed"
_BLOCK: Final = 1 << 20


def asset_id(number: int) -> str:
    """The id of a file."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def number_of(asset: str) -> int:
    """The file that has this id."""
    return int(asset[:8], 16)


def name(number: int) -> str:
    """Its name on the server."""
    return f"IMG_{number:07}.jpg"


def path(number: int) -> str:
    """Where the default layout puts it."""
    return f"{taken_at(number):%Y/%m/%d}/{name(number)}"


def taken_at(number: int) -> datetime:
    """When it was taken, on a wall clock that shows UTC."""
    return BEGUN + number * STEP


def first_since(instant: datetime) -> int:
    """The first file that was taken then or later."""
    return max(0, -((BEGUN - instant) // STEP))


def count_until(instant: datetime) -> int:
    """How many files were taken then or earlier."""
    return max(0, (instant - BEGUN) // STEP + 1)


def content(number: int, size_bytes: int) -> Iterator[bytes]:
    """Its bytes: a line of its own, and zeros."""
    line = f"{number}\n".encode()
    yield line
    for begin in range(len(line), size_bytes, _BLOCK):
        yield bytes(min(_BLOCK, size_bytes - begin))


@cache
def checksum(number: int, size_bytes: int) -> str:
    """Its SHA-1, as the server shows it."""
    sha1 = hashlib.sha1(usedforsecurity=False)
    for block in content(number, size_bytes):
        sha1.update(block)
    return base64.b64encode(sha1.digest()).decode()


def stamp(instant: datetime) -> str:
    """A time as the server writes it."""
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"


def row(number: int, size_bytes: int) -> dict[str, Any]:
    """An item of a search: the fields of Immich 3.1.0, in its order."""
    taken, uploaded = stamp(taken_at(number)), stamp(taken_at(number) + UPLOADED)
    one = asset_id(number)
    return {
        "id": one,
        "createdAt": uploaded,
        "ownerId": OWNER,
        "libraryId": None,
        "type": "IMAGE",
        "originalPath": f"/data/upload/{OWNER}/{one[:2]}/{one[2:4]}/{one}.jpg",
        "originalFileName": name(number),
        "originalMimeType": "image/jpeg",
        "thumbhash": "2fcZFIB3iId/h3iJh4aIYJ2V8g==",
        "fileCreatedAt": taken,
        "fileModifiedAt": taken,
        "localDateTime": taken,
        "updatedAt": uploaded,
        "isFavorite": False,
        "isArchived": False,
        "isTrashed": False,
        "visibility": "timeline",
        "duration": None,
        "livePhotoVideoId": None,
        "people": [],
        "checksum": checksum(number, size_bytes),
        "isOffline": False,
        "hasMetadata": True,
        "duplicateId": None,
        "resized": True,
        "width": 4032,
        "height": 3024,
        "isEdited": False,
    }


def encoded(number: int, size_bytes: int) -> str:
    """The same as JSON."""
    return json.dumps(row(number, size_bytes), separators=(",", ":"))
