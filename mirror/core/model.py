"""The nouns: what the server lists, the index remembers, the disk holds, and a profile wants.

Paths are relative to a destination's root, with `/` between components; bytes that are not UTF-8
are kept as surrogate escapes, so that `path.encode("utf-8", "surrogateescape")` is what is on disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from mirror.core.secret import Secret
from mirror.core.timetable import Timetable

JsonValue: TypeAlias = (
    "str | int | float | bool | tuple[JsonValue, ...] | dict[str, JsonValue] | None"
)

# -- what the server lists -------------------------------------------------------------------------


class AssetType(StrEnum):
    """Immich's `type`."""

    IMAGE = "IMAGE"
    VIDEO = "VIDEO"
    AUDIO = "AUDIO"
    OTHER = "OTHER"


class Visibility(StrEnum):
    """Immich's `visibility`, without `locked`: no API key may ask for that (401)."""

    TIMELINE = "timeline"
    ARCHIVE = "archive"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exif:
    """The part of `exifInfo` that filters and layouts read; None is unset."""

    size_bytes: int | None = None
    make: str | None = None
    model: str | None = None
    lens_model: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    description: str | None = None
    rating: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One photo or video as the server describes it (`AssetResponseDto`, Immich 2.0 to 3.2)."""

    id: str
    owner_id: str
    type: AssetType
    visibility: Visibility
    original_file_name: str  # text a stranger chose: may hold "/", "..", newlines, 1000 bytes
    original_path: str  # the server's own path
    checksum: bytes  # 20 bytes; of "path:" + original_path in external libraries, else of the bytes
    taken_at: datetime | None  # fileCreatedAt, aware UTC; None outside years 1 to 9999
    taken_local: datetime | None  # localDateTime without its false Z, naive; None as above
    uploaded_at: datetime  # createdAt, aware UTC
    updated_at: datetime  # aware UTC, cut to milliseconds by the server
    file_modified_at: datetime | None = None  # mtime on the server, aware UTC
    library_id: str | None = None
    live_photo_video_id: str | None = None
    is_favorite: bool = False
    is_trashed: bool = False
    is_offline: bool = False
    exif: Exif | None = None  # None when the listing did not ask for it


@dataclass(frozen=True, slots=True)
class Listed:
    """An asset in a listing; `still` is set for the video of a live photo."""

    asset: Asset
    still: Asset | None = None


# -- what is wanted --------------------------------------------------------------------------------


class Owners(StrEnum):
    """Whose assets a mirror selects."""

    ME = "me"
    ANYONE = "anyone"  # partners and contributors to shared albums too


class LivePhotos(StrEnum):
    """Which half of a live photo is mirrored."""

    BOTH = "both"
    STILL = "still"
    VIDEO = "video"


class NameRules(StrEnum):
    """Which characters a name may keep."""

    PORTABLE = "portable"  # legal on Windows, macOS, SMB and exFAT too
    POSIX = "posix"  # all but "/" and NUL, "." and ".."


class OnGone(StrEnum):
    """What becomes of a file whose asset left the listing."""

    KEEP = "keep"
    QUARANTINE = "quarantine"
    DELETE = "delete"


class Order(StrEnum):
    """Which originals are downloaded first."""

    PATH = "path"  # of the file that they will be
    NEWEST = "newest"  # by the time they were taken
    OLDEST = "oldest"
    SMALLEST = "smallest"


class Dedupe(StrEnum):
    """Whether the same bytes at several destinations of one file system are stored once."""

    OFF = "off"
    REFLINK = "reflink"  # files of their own that share blocks until one is written to
    HARDLINK = "hardlink"  # names of one file: whoever edits it in place edits all of them


@dataclass(frozen=True, slots=True)
class Choice:
    """Names or ids of people, albums or tags: any of them, or all of them."""

    values: tuple[str, ...]
    every: bool = False  # True: `{ all = [...] }`


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which assets a mirror selects: keys are ANDed, the values of a tuple are ORed.

    Times are aware. An empty tuple or None asks nothing. In `city` to `model` an empty string
    means "unset on the server".
    """

    taken_after: datetime | None = None
    taken_before: datetime | None = None
    taken_within_days: int | None = None
    uploaded_after: datetime | None = None
    uploaded_before: datetime | None = None
    uploaded_within_days: int | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    people: Choice | None = None
    albums: Choice | None = None
    tags: Choice | None = None
    type: tuple[AssetType, ...] = ()
    favorite: bool | None = None
    visibility: tuple[Visibility, ...] = (Visibility.TIMELINE,)
    in_album: bool | None = None
    rating: tuple[int, ...] = ()
    city: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    make: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    file_name: tuple[str, ...] = ()  # case-insensitive parts of the original file name
    owners: Owners = Owners.ME
    search: dict[str, JsonValue] = field(default_factory=dict)  # the server's own field names


@dataclass(frozen=True, slots=True)
class Limit:
    """A guard's threshold: exceeded above 10, above `count`, or above `share` of the rows."""

    count: int = 100
    share: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How fast, how much and how long the mirrors of a profile may download; None: no limit."""

    bandwidth: Timetable | None = None
    max_transfer_bytes: int | None = None
    max_duration_s: int | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the runs that split a mirror among them: the `number`th of `count`, from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """As a folder may be called: "3-of-16"."""
        return f"{self.number}-of-{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where files are written, and under which policies."""

    path: str  # absolute, "~" expanded; or "s3://bucket/prefix", or "sftp://user@host/folder"
    endpoint: str | None = None  # of a bucket; None: as the environment says, or Amazon's
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    key_file: str | None = None  # of SFTP; None: the user's own and the agent's, if no password
    password: Secret | None = None
    known_hosts: str | None = None  # None: the user's own, and the machine's
    on_removed: OnGone = OnGone.KEEP
    on_unmatched: OnGone = OnGone.KEEP
    quarantine_days: int = 30
    max_removed: Limit = Limit()
    max_lost: Limit = Limit()
    min_free_bytes: int = 1 << 30
    require_mount: bool | str = False  # True, or the mount point's path
    dedupe: Dedupe = Dedupe.OFF
    shard: Shard | None = None  # of this run, and in no profile; None: all of the mirror

    @property
    def is_bucket(self) -> bool:
        """Whether it is a bucket, and no folder."""
        return self.path.startswith("s3://")

    @property
    def is_sftp(self) -> bool:
        """Whether it is a folder of a server that speaks SFTP."""
        return self.path.startswith("sftp://")

    @property
    def is_remote(self) -> bool:
        """Whether no path of this machine leads to it."""
        return self.is_bucket or self.is_sftp


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """One named selection of one account and where it goes."""

    name: str
    account: str  # key of Profile.accounts
    filter: Filter = Filter()
    exclude: tuple[Filter, ...] = ()
    layout: str = "{taken:%Y/%m/%d}/{filename}"
    names: NameRules = NameRules.PORTABLE
    live_photos: LivePhotos = LivePhotos.BOTH
    transfers: int = 8  # most originals downloaded at once
    order: Order = Order.PATH
    destinations: tuple[Destination, ...] = ()


# -- what the index remembers ----------------------------------------------------------------------


class RowState(StrEnum):
    """Where an asset stands at a destination."""

    PUBLISHED = "published"  # its file is there
    RETAINED = "retained"  # no longer listed, its file stays


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the index knows of one asset at one destination."""

    asset_id: str
    owner_id: str
    checksum: bytes  # what the server listed when the file was written
    base: str  # the path the layout gave, before any suffix
    path: str  # where the file lies
    state: RowState = RowState.PUBLISHED
    sha1: bytes | None = None  # of the bytes on disk; None: adopted by size, unproved
    size_bytes: int = 0
    mtime_ns: int = 0  # what stat said after writing
    etag: str = ""
    file_modified_at: datetime | None = None  # the signal of change in external libraries
    reason: str = ""  # for RETAINED: why it stays
    uploaded_at: datetime | None = None
    still_id: str = ""  # of a live photo's video: its still
    verified_at: datetime | None = None  # when its bytes were last compared with their SHA-1
    seen_trashed_at: datetime | None = None  # when the server last said that it is in the trash


# -- what lies on the disk -------------------------------------------------------------------------


class EntryKind(StrEnum):
    """What a path is, links not followed."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"  # a socket, a device


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing found under a destination."""

    path: str
    kind: EntryKind = EntryKind.FILE
    size_bytes: int = 0
    mtime_ns: int = 0
    sha1: bytes | None = None  # None: not hashed


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What lies under the root, as far as a plan needs it. Keys are folded paths.

    A row that is in neither `missing` nor `other` has its file as recorded.
    """

    missing: frozenset[str] = frozenset()  # ids of rows whose file is gone
    other: Mapping[str, Entry] = field(default_factory=dict)  # by id: other bytes at the row's path
    foreign: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)  # by key: without a row
    folders: frozenset[str] = frozenset()  # keys
    holders: Mapping[str, str] = field(default_factory=dict)  # by key: id of the row that has it
    quarantined: Mapping[bytes, str] = field(default_factory=dict)  # by SHA-1: path
    copies: Mapping[bytes, str] = field(default_factory=dict)  # by SHA-1: path of an intact file
    sizes: Mapping[str, int] = field(default_factory=dict)  # by asset id: what HEAD said
