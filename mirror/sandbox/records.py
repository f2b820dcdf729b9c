"""The rows of the sample server's database.

Times are aware UTC with microseconds. They are plain and may be changed while the server runs; the
methods of `Library` also move `updated_at` as the real server does.
"""

from dataclasses import dataclass, field
from datetime import datetime

from mirror.core import checksum
from mirror.core.model import AssetType
from mirror.sandbox.content import Content
from mirror.sandbox.refusals import JsonObject

MINIMUM = ("asset.read", "asset.download")  # what a mirror needs
LOCKED = "locked"  # the visibility that no API key may see; the other three are core.model's


@dataclass
class User:
    """An account of the server."""

    id: str
    name: str
    email: str
    created_at: datetime
    avatar_color: str = "primary"
    is_admin: bool = False
    storage_label: str | None = None


@dataclass
class Key:
    """An API key; `secret` is what a client sends."""

    id: str
    name: str
    secret: str
    user_id: str
    permissions: list[str]
    created_at: datetime
    revoked: bool = False

    @property
    def short_name(self) -> str:
        """Without the user's: `minimum` of `alice minimum`."""
        return self.name.rpartition(" ")[2]

    def may(self, permission: str) -> bool:
        """Whether it holds a permission; ticking every one of them is not `all`."""
        return "all" in self.permissions or permission in self.permissions


@dataclass
class StoredAsset:
    """One photo or video; `exif` is `exifInfo` as the server shows it, None before extraction."""

    id: str
    owner_id: str
    type: AssetType
    original_file_name: str
    original_path: str
    mime_type: str
    content: Content
    file_created_at: datetime  # the instant taken
    local_date_time: datetime  # the wall clock then, with a false UTC
    file_modified_at: datetime
    created_at: datetime  # uploaded
    updated_at: datetime
    visibility: str = "timeline"
    is_favorite: bool = False
    is_offline: bool = False
    deleted_at: datetime | None = None  # in the trash since
    library_id: str | None = None
    path_checksum: bool = False  # an external library's: of the path, not of the bytes
    live_photo_video_id: str | None = None
    duration_ms: int | None = None
    exif: JsonObject | None = None
    width: int | None = None
    height: int | None = None
    thumbhash: str | None = None
    duplicate_id: str | None = None
    edited: Content | None = None  # the rendition after a crop or a turn
    edited_at: datetime | None = None
    stack_id: str | None = None
    tag_ids: list[str] = field(default_factory=list)
    person_ids: list[str] = field(default_factory=list)
    faces: dict[str, list[JsonObject]] = field(default_factory=dict)  # of a person; shown by 2.x
    device_id: str = "sandbox"  # 2.x
    device_asset_id: str = ""  # 2.x

    @property
    def checksum(self) -> bytes:
        """What the server says: of the bytes it serves, or of the path."""
        return checksum.of_path(self.original_path) if self.path_checksum else self.content.sha1

    @property
    def trashed(self) -> bool:
        """Whether it lies in the trash; an offline file looks so too."""
        return self.deleted_at is not None


@dataclass
class Album:
    """An album: whoever made it, who else may see it, and its assets by id."""

    id: str
    name: str
    owner_id: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    members: dict[str, str] = field(default_factory=dict)  # role by user id, the owner left out
    asset_ids: list[str] = field(default_factory=list)
    has_shared_link: bool = False


@dataclass
class Person:
    """Someone who is seen on photos; an empty name is nobody yet."""

    id: str
    owner_id: str
    name: str
    updated_at: datetime
    birth_date: str | None = None
    is_hidden: bool = False
    is_favorite: bool = False
    thumbnail_path: str = ""


@dataclass
class Tag:
    """A tag; `value` is its whole path, `Travel/Japan`."""

    id: str
    owner_id: str
    value: str
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None


@dataclass
class Stack:
    """Assets shown as one."""

    id: str
    owner_id: str
    primary_id: str
    asset_ids: list[str]


@dataclass
class Partner:
    """Someone who shares a whole library, and whether the other shows it among the own photos."""

    from_id: str
    to_id: str
    in_timeline: bool = True
