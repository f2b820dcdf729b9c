"""Where mirrors are written: what every kind of destination offers, and how it says no.

A new kind is one module with a `Site` and an `OpenDestination`, and a line in `site_of`. It decides
nothing: whoever calls it knows what may be touched.

Paths are relative to the root, with "/" between components; bytes that are not UTF-8 are surrogate
escapes. Our own state lies below `STATE`, and a scan leaves it out.

Refusals are OSError, whatever a destination is made of, and the errno tells what is meant: the ones
of `concerns_path` are about that path alone, ENOSPC and EDQUOT say that it is full, and after all
others it cannot be used any more. `unwritable` says so to a user. ValueError is a fault of ours: a
path that leads outside, or a foreign file where one of our own is meant.

Methods block, and may be called from several threads at once.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self, runtime_checkable

from mirror.core.compare import Found
from mirror.core.model import Destination, Entry, Shard
from mirror.errors import DestinationError, UnwritableError
from mirror.room import full, is_full

STATE: Final = ".mirror"
MARKER: Final = "mirror.json"
INDEX: Final = "index.sqlite3"
PARTIAL: Final = "partial"
MOVING: Final = "moving"
DAMAGED: Final = "damaged"
QUARANTINE: Final = "quarantine"
SHARDS: Final = "shards"

_PATH_ERRORS: Final = (
    FileExistsError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
)
_REFUSED_NAME: Final = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})
_HINTS: Final = {
    errno.EROFS: (
        "mount it for writing; if it is, the unit may not write there:"
        " make its drop-in again with `mirror profile unit`"
    ),
    errno.EACCES: (
        "check that this user may read and write it and the folders in it;"
        " a run as root leaves folders that only root can write"
    ),
}
_HINT: Final = "check that the folder exists and that this user may read and write it"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Written:
    """What a look at a file will say from now on, be it what was asked for or not."""

    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a destination can do, as far as trying shows it. Correctness needs none of it."""

    hard_links: bool
    reflinks: bool
    folds_case: bool
    mtime_step_ns: int
    mtime_least_s: int  # the earliest time that is known to be held
    mtime_most_s: int
    folder_sync: bool
    flock: bool
    no_overwrite_rename: bool  # of a store: that it writes over nothing, when it is asked not to
    checksums: bool = False  # that it says itself what it has got


class PartialFile(Protocol):
    """An original on its way in: bytes are appended, read back, or thrown away, and then dated.

    It has a place in it, which begins at the first byte, and moves with what is read or written.
    """

    def read(self) -> bytes:
        """The next piece that an earlier run left here; empty at the end of it."""

    def write(self, piece: bytes | memoryview) -> None:
        """All of these bytes, at the place; what lay there is gone."""

    def take(self, file: BinaryIO) -> bool:
        """Hold what a file of this machine holds, without a copy; False: that cannot be.

        The place is at the first byte again.
        """

    def restart(self) -> None:
        """Nothing is in it any more."""

    def finish(self, mtime_ns: int, sha1: bytes | None = None) -> Written:
        """Cut to the place, and dated as far as the destination can hold the date.

        `sha1` is that of all its bytes, where the caller knows it.
        """

    def close(self) -> None:
        """Let go of it; it stays, for a later run too."""


class OpenDestination(Protocol):
    """One destination in use."""

    @property
    def name(self) -> str:
        """What messages and `destinations.json` call it: the whole path, or the URL."""

    @property
    def root(self) -> Path | None:
        """Its folder, where it is one that other programs of this machine can reach."""

    @property
    def shard(self) -> Shard | None:
        """Whose part of it a run sees and holds; None: all of it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def where(self, path: str) -> str:
        """What messages call a path."""

    # -- looking -----------------------------------------------------------------------------------

    def scan(self) -> Iterator[Found]:
        """Everything but our own state, in byte order of the path; all of it, or an error.

        Raises:
            NotOursError: something is there that must not be: another destination, a link.
            UnwritableError: it is not all to be seen; what is missing must not be taken for lost.
        """

    def check_alone(self) -> None:
        """Refuse a place with another destination in it; leaves no trace.

        Raises:
            NotOursError, UnwritableError: as `scan`.
        """

    def entry(self, path: str) -> Entry | None:
        """What lies at a path now; None when nothing does.

        Raises:
            UnwritableError: nobody can tell.
        """

    def sha1(self, path: str) -> bytes:
        """The SHA-1 of a file's bytes, from reading all of them.

        Raises:
            OSError: it is not there, or cannot be read.
            InterruptedRunError: the run is to stop.
        """

    @property
    def tells_sha1(self) -> bool:
        """Whether it ever does that."""

    def told_sha1(self, path: str) -> bytes | None:
        """The SHA-1 that was kept beside a file's bytes when they came; None: nobody did.

        Blocks no longer than a look, and says nothing of what became of the bytes since.
        """

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes, piece by piece.

        Raises:
            OSError, InterruptedRunError: as `sha1`.
        """

    def free_bytes(self) -> int:
        """What may still be written; very much where nobody can tell."""

    # -- our own places ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make what our own state needs.

        Raises:
            NoSpaceError, UnwritableError: it is refused.
        """

    def probe(self) -> Abilities:
        """Find out what it can do, and leave no trace; `prepare` comes first.

        Raises:
            OSError: nothing can be tried.
        """

    def open_partial(self, name: str) -> PartialFile:
        """A partial file, made if need be; `prepare` comes first.

        Two at once never share a name. A name that also is a published file's begins anew.
        """

    def work_files(self, area: str) -> list[str]:
        """The names in one of our own folders, sorted; none when there is no such folder."""

    def gone(self, paths: Iterable[str]) -> list[str]:
        """Those of our own files that are not there.

        Raises:
            UnwritableError: nobody can tell.
        """

    def drop(self, path: str) -> None:
        """Remove one of our own files, if it is there."""

    def read_state(self, name: str) -> bytes | None:
        """One of our own small files; None when it is not there."""

    def write_state(self, name: str, content: Iterable[bytes]) -> None:
        """Replace one of our own small files, durably: the old one or the new one, never a part.

        Raises:
            NoSpaceError, UnwritableError: it is refused.
        """

    # -- putting in place --------------------------------------------------------------------------

    @property
    def at_once(self) -> int:
        """How many moves side by side are worth their threads."""

    def move(self, source: str, path: str) -> None:
        """Give a file another path, and overwrite nothing; folders come as they are needed.

        Whoever looks sees it at one of the two; after a kill it may be at both (`is_same_file`).

        Raises:
            FileExistsError: something lies there.
        """

    def set_aside(self, source: str, path: str) -> None:
        """Move a file to one of our own places, over whatever lies there."""

    def clone(self, source: str, name: str, mtime_ns: int) -> tuple[Written, bytes]:
        """Copy a file into a partial one, finished; with its SHA-1 as read back."""

    def is_same_file(self, path: str, other: str) -> bool:
        """Whether a move was cut in the middle, and left one file at both of its paths."""

    def unlink_second_name(self, path: str, kept: str) -> None:
        """End such a move: the file stays at `kept` alone, and stays where that is its only name.

        Raises:
            OSError: it is refused.
            ValueError: they are not the same file.
        """

    def drop_empty_folders(self, path: str) -> None:
        """Remove the folders above a path that a move has left empty, but never the root."""

    # -- the index ---------------------------------------------------------------------------------

    @property
    def keeps_index(self) -> bool:
        """Whether there is a copy of the index, where it does not live here itself."""

    def fetch_index(self) -> None:
        """Have that copy where the site says, unless what is there came after it.

        Raises:
            UnwritableError: it cannot be had.
        """

    def keep_index(self) -> None:
        """Renew the copy, if it is not the same; nobody has the index open.

        Raises:
            NoSpaceError, UnwritableError: it is refused.
        """

    # -- a batch, a run ----------------------------------------------------------------------------

    def batch(self) -> AbstractContextManager[None]:
        """While the block runs, this thread does many small steps, and nobody else does any.

        A destination may keep at hand what they need.
        """

    def make_durable(self) -> None:
        """Let everything done so far survive a power cut.

        Raises:
            UnwritableError: the disk fails.
        """

    def locked(self) -> AbstractContextManager[None]:
        """Hold it against other runs while the block runs; a killed holder holds nobody up.

        Raises:
            LockedError: another run holds it; the message names holder, host and since when.
        """

    def check_free(self) -> None:
        """Refuse when a run holds it; leaves no trace.

        Raises:
            LockedError: one does.
        """


@runtime_checkable
class Linking(Protocol):
    """A destination where a file can have several names; not every kind can do that."""

    def link(self, file: BinaryIO, path: Path, name: str) -> Written | None:
        """A partial file that is another name of the open file at `path`; None: that cannot be."""


@runtime_checkable
class Fetching(Protocol):
    """A destination elsewhere, whose files no path of this machine leads to."""

    def fetched(self, path: str) -> BinaryIO:
        """A file of this machine with the same bytes, gone when it is closed.

        Raises:
            OSError: they cannot be had.
        """


@runtime_checkable
class Spooling(Protocol):
    """A destination elsewhere: originals wait in a folder of this machine, and leave it again."""

    @property
    def spool(self) -> Path:
        """That folder."""

    def free_here_bytes(self) -> int:
        """What may still wait there."""


class Site(Protocol):
    """Where a destination is, or is to be; nothing is touched before `make`."""

    @property
    def name(self) -> str:
        """As `OpenDestination.name`."""

    @property
    def root(self) -> Path:
        """The folder of this machine where our own state lies: its own, or one beside it."""

    @property
    def index_path(self) -> Path:
        """Where its index is kept, on this machine."""

    def check(self, *, require_mount: bool | str) -> None:
        """Refuse a place where no destination must be.

        Raises:
            NotMountedError: the mount that the profile requires is not there.
            NotOursError: it is Immich's own, or inside another destination.
        """

    def open(self) -> OpenDestination | None:
        """The destination; None when there is none yet.

        Raises:
            UnwritableError: it cannot be used.
        """

    def make(self) -> OpenDestination:
        """The destination, also where there was none.

        Raises:
            NoSpaceError, UnwritableError: it cannot be made.
        """


def site_of(destination: Destination) -> Site:
    """The place that a profile names."""
    # Each kind imports this one.
    if destination.is_bucket:
        from mirror.destinations.bucket_site import BucketSite  # noqa: PLC0415

        return BucketSite(destination)
    if destination.is_sftp:
        from mirror.destinations.sftp_site import SftpSite  # noqa: PLC0415

        return SftpSite(destination)
    from mirror.destinations.site import FolderSite  # noqa: PLC0415

    return FolderSite(Path(destination.path))


def own_state(shard: Shard | None, name: str) -> str:
    """What one of our own small files is called: shards have each their own of most of them."""
    return name if shard is None else f"{SHARDS}/{shard.name}/{name}"


def of_shard(shard: Shard | None) -> str:
    """What ends the name of a shard's own folder on this machine."""
    return "" if shard is None else f"-{shard.name}"


def partial(name: str) -> str:
    """The path of a partial file."""
    return f"{STATE}/{PARTIAL}/{name}"


def concerns_path(error: OSError) -> bool:
    """Whether a refusal is about one path, and says nothing of the destination."""
    return isinstance(error, _PATH_ERRORS) or error.errno in _REFUSED_NAME


def is_full_here(path: Path, error: OSError) -> bool:
    """Whether a refusal is for want of room, and that on the disk of this path."""
    return error.errno in _FULL and is_full(path)


def unwritable(where: str | os.PathLike[str], error: OSError) -> DestinationError:
    """What a refusal means to a user."""
    why = error.strerror or str(error)
    if error.errno in _FULL:
        return full(where, why)
    if str(where).startswith("sftp://"):
        return UnwritableError(
            f"{where}: cannot be used as a destination",
            why=why,
            hint="check the folder on the server, and what this user may do there",
        )
    if "://" in str(where):
        return UnwritableError(
            f"{where}: cannot be used as a destination",
            why=why,
            hint="check the endpoint, the bucket, and what its keys may do",
        )
    return UnwritableError(
        f"{where}: cannot be used as a destination",
        why=why,
        hint=_HINTS.get(error.errno or 0, _HINT),
    )
