"""A library from a `library.json`, as the recordings of real servers have them.

The bytes of originals are not recorded: they are made up, of the recorded size, and the same for
the same recorded SHA-1; checksums are those of what is served. What the file does not say (key ids,
microseconds, who else is in an album) is made up too, the same way each time.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.core import checksum
from mirror.core.model import AssetType
from mirror.errors import UsageError
from mirror.sandbox import dates, dialect, images
from mirror.sandbox.content import Content, Filler
from mirror.sandbox.library import Library
from mirror.sandbox.records import (
    MINIMUM,
    Album,
    Key,
    Partner,
    Person,
    Stack,
    StoredAsset,
    Tag,
    User,
)
from mirror.sandbox.refusals import JsonObject

_SOMETIME = datetime(2026, 1, 1, tzinfo=UTC)
_EDITED_BYTES = 4096


def load_library(path: str | Path, *, version: str | None = None) -> Library:
    """A recorded library, served as the release that it was recorded from, or as `version`.

    Raises:
        UsageError: the file is not there, or is no library.
    """
    try:
        recorded = json.loads(Path(path).read_text("utf-8"))
        return _Loader(recorded, version).library
    except OSError as error:
        raise UsageError(f"cannot read {path}", why=str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        hint = "give a library.json as recorded from a server"
        raise UsageError(f"{path} is no library", why=repr(error), hint=hint) from error


def made_up_id(*parts: str) -> str:
    """A version 4 UUID that depends on the parts alone."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


class _Loader:
    """Turns one recorded library into rows."""

    def __init__(self, recorded: JsonObject, version: str | None) -> None:
        self._recorded = recorded
        self._user_ids = {name: user["id"] for name, user in recorded["users"].items()}
        self._answers = [each["answer"] for each in recorded["assets"] if each["answer"]]
        self._ids = {
            each["key"]: each["answer"]["id"] for each in recorded["assets"] if each["answer"]
        }
        server = recorded["server"]
        release = f"{server['major']}.{server['minor']}.{server['patch']}"
        owner = next(iter(self._user_ids))  # the first is the one whose keys were used
        self._owner_id = self._user_ids[owner]
        self.library = Library(
            dialect=dialect.parse(version or release),
            owner_id=self._owner_id,
            users={user.id: user for user in self._users()},
            keys=list(self._keys(owner)),
            partners=list(self._partners()),
            albums={album.id: album for album in self._albums()},
            people={person.id: person for person in self._people()},
            tags={tag.id: tag for tag in self._tags()},
            stacks={stack.id: stack for stack in self._stacks()},
        )
        for each in recorded["assets"]:
            if each["answer"]:
                asset = self._asset(each)
                self.library.assets[asset.id] = asset

    def _users(self) -> Iterator[User]:
        seen = {answer["ownerId"]: answer["owner"] for answer in self._answers}
        for number, (name, user) in enumerate(self._recorded["users"].items()):
            card = seen.get(user["id"], {})
            yield User(
                id=user["id"],
                name=user["name"],
                email=card.get("email", f"{name}@lab.test"),
                created_at=_date(card.get("profileChangedAt")),
                avatar_color=card.get("avatarColor", "primary"),
                is_admin=number == 0,
                storage_label="admin" if number == 0 else None,
            )

    def _keys(self, owner: str) -> Iterator[Key]:
        permissions_by_name = {"minimum": MINIMUM, "all": ["all"]} | self._recorded["keys"]
        for name, permissions in permissions_by_name.items():
            yield Key(
                id=made_up_id(owner, name),
                name=f"{owner} {name}",
                secret=hashlib.sha256(f"{owner} {name}".encode()).hexdigest()[:43],
                user_id=self._owner_id,
                permissions=[*permissions],
                created_at=_SOMETIME,
                revoked=name == "deleted",
            )

    def _partners(self) -> Iterator[Partner]:
        for each in self._recorded["partners"]:
            from_id, to_id = self._user_ids[each["from"]], self._user_ids[each["to"]]
            yield Partner(from_id, to_id, each["inTimeline"])

    def _albums(self) -> Iterator[Album]:
        for number, (name, each) in enumerate(self._recorded["albums"].items()):
            made = _SOMETIME + timedelta(seconds=number)
            yield Album(
                id=each["id"],
                name=name,
                owner_id=self._user_ids[each["owner"]],
                created_at=made,
                updated_at=made,
                asset_ids=[self._ids[key] for key in each["assets"] if key in self._ids],
            )

    def _people(self) -> Iterator[Person]:
        for answer in self._answers:
            for each in answer["people"]:
                yield Person(
                    id=each["id"],
                    owner_id=answer["ownerId"],
                    name=each["name"],
                    updated_at=_date(each["updatedAt"]),
                    birth_date=each["birthDate"],
                    is_hidden=each["isHidden"],
                    is_favorite=each["isFavorite"],
                    thumbnail_path=each["thumbnailPath"],
                )

    def _tags(self) -> Iterator[Tag]:
        """Those that are listed or on an asset, and their parents, of which only ids are known."""
        found = {tag["id"]: (tag, self._owner_id) for tag in self._recorded["tags"]}
        for answer in self._answers:
            found |= {tag["id"]: (tag, answer["ownerId"]) for tag in answer["tags"]}
        by_value = {tag["value"]: tag for tag, _owner in found.values()}
        for tag, owner_id in list(found.values()):
            child = tag
            while (parent_id := child.get("parentId")) is not None and parent_id not in found:
                value = child["value"].rpartition("/")[0]
                child = by_value.setdefault(value, self._missing_parent(child, value))
                found[parent_id] = child, owner_id
        for tag, owner_id in found.values():
            made, changed = _date(tag["createdAt"]), _date(tag["updatedAt"])
            yield Tag(tag["id"], owner_id, tag["value"], made, changed, tag.get("parentId"))

    def _missing_parent(self, child: JsonObject, value: str) -> JsonObject:
        """Its own parent is that of a sister, if one is known."""
        above = value.rpartition("/")[0]
        siblings = (
            each.get("parentId")
            for answer in self._answers
            for each in answer["tags"]
            if each["value"].rpartition("/")[0] == above
        )
        return {**child, "id": child["parentId"], "value": value, "parentId": next(siblings, None)}

    def _stacks(self) -> Iterator[Stack]:
        for each in self._recorded["stacks"]:
            ids = [self._ids[key] for key in each["assets"] if key in self._ids]
            primary = self._ids[each["primary"]]
            owner = next(answer["ownerId"] for answer in self._answers if answer["id"] == primary)
            yield Stack(each["id"], owner, primary, ids)

    def _asset(self, each: JsonObject) -> StoredAsset:
        answer = each["answer"]
        by_path = checksum.of_path(answer["originalPath"])
        updated = _with_microseconds(answer["updatedAt"], answer["id"])
        return StoredAsset(
            id=answer["id"],
            owner_id=answer["ownerId"],
            type=AssetType(answer["type"]),
            original_file_name=answer["originalFileName"],
            original_path=answer["originalPath"],
            mime_type=answer["originalMimeType"],
            content=_content(each),
            file_created_at=_date(answer["fileCreatedAt"]),
            local_date_time=_date(answer["localDateTime"]),
            file_modified_at=_date(answer["fileModifiedAt"]),
            created_at=_with_microseconds(answer["createdAt"], answer["id"]),
            updated_at=updated,
            visibility=answer["visibility"],
            is_favorite=answer["isFavorite"],
            is_offline=answer["isOffline"],
            deleted_at=updated if answer["isTrashed"] else None,
            library_id=answer["libraryId"],
            path_checksum=checksum.decode(answer["checksum"]) == by_path,
            live_photo_video_id=answer["livePhotoVideoId"],
            duration_ms=_duration_ms(answer["duration"]),
            exif=answer.get("exifInfo"),
            width=answer["width"],
            height=answer["height"],
            thumbhash=answer["thumbhash"],
            duplicate_id=answer["duplicateId"],
            edited=Filler(b"edited", _EDITED_BYTES) if answer["isEdited"] else None,
            edited_at=updated if answer["isEdited"] else None,
            stack_id=(answer.get("stack") or {}).get("id"),
            tag_ids=[tag["id"] for tag in answer["tags"]],
            person_ids=[person["id"] for person in answer["people"]],
            faces={person["id"]: person.get("faces", []) for person in answer["people"]},
            device_id=answer.get("deviceId", "sandbox"),
            device_asset_id=answer.get("deviceAssetId", answer["originalFileName"]),
        )


def _content(each: JsonObject) -> Content:
    """Of the recorded size, and recognisable as what it says it is."""
    answer = each["answer"]
    size = each["size"]
    if size is None:
        size = (answer.get("exifInfo") or {}).get("fileSizeInByte") or 0
    seed = (each["sha1"] or answer["originalPath"]).encode()
    return Filler(seed, size, images.beginning(answer["originalMimeType"]))


def _date(text: str | None) -> datetime:
    return dates.parse(text) if text else _SOMETIME


def _with_microseconds(text: str, asset_id: str) -> datetime:
    """The database keeps what JSON cuts off: an upper bound of the JSON value misses its row."""
    digest = hashlib.sha256(asset_id.encode()).digest()
    return dates.parse(text) + timedelta(microseconds=int.from_bytes(digest[:2]) % 1000)


def _duration_ms(value: Any) -> int | None:  # noqa: ANN401 (the wire)
    """3.x: milliseconds or null. 2.x: `HH:MM:SS.mmm`, and zero for what does not move."""
    if not isinstance(value, str):
        return value if isinstance(value, int) else None
    hours, minutes, seconds = value.split(":")
    total = int(hours) * 3_600_000 + int(minutes) * 60_000 + round(float(seconds) * 1000)
    return total or None
