"""A bucket as a destination: objects, their metadata, and a folder of this machine beside them.

An original waits in that folder until all of it is there and verified, and comes into the bucket
under its own name, whole, in one go. So do the index and what only this machine needs. What a
listing does not tell of an object is asked once, and remembered as long as its ETag is the same.

Nothing here relies on what a store only promises: what it wrote is proved by its ETag, or else read
back; nothing is overwritten, by looking first, and by asking the store too where that was seen to
work. A move is a copy and then a delete; both objects carry the same id in between.
"""

import errno
import hashlib
import os
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final

from mirror.core.batches import batches
from mirror.core.compare import Found
from mirror.core.model import Entry, EntryKind, Shard
from mirror.destinations import (
    MARKER,
    PARTIAL,
    STATE,
    Abilities,
    PartialFile,
    concerns_path,
    partial,
    unwritable,
)
from mirror.destinations.identity import is_marker
from mirror.destinations.remembered import Known, Remembered
from mirror.destinations.remote import IndexCopy, Remote, checked, folders_above
from mirror.destinations.store import Store, Told, part_bytes
from mirror.destinations.sums import SummedPartial, Sums
from mirror.errors import NotOursError, UnwritableError
from mirror.stopping import check_stopping

_LARGE_AT_ONCE: Final = 2  # of those on their way that come in parts, several held in memory
_LOOKS_AT_ONCE: Final = 16
_LOOKS: Final = 1000
_FEW: Final = 8
_PIECE_BYTES: Final = 1 << 20
_MOST_COPIED_BYTES: Final = 5 << 30  # in one request; S3's own limit
_MOST_NS: Final = 2**63 - 1
_SECOND_NS: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHA1_BYTES: Final = 20
_SLASH: Final = ord("/")

# rclone reads and writes the first two; the md5 is that of an object in parts, whose ETag is none.
_MTIME: Final = "mtime"
_MD5: Final = "md5chksum"
_SHA1: Final = "sha1"
_ID: Final = "mirror-id"
_PROBE: Final = f"{STATE}/probe-"


class Bucket(Remote):
    """One bucket, or what lies below a prefix of it."""

    def __init__(self, store: Store, name: str, spool: Path, *, shard: Shard | None = None) -> None:
        """`spool` is the folder of this machine beside it; it may come with `prepare`."""
        super().__init__(name, spool, store, shard=shard)
        self._store = store
        self._remembered = self._opened_memory()
        self._large = threading.BoundedSemaphore(_LARGE_AT_ONCE)
        self._turn = threading.Lock()
        self._are_folders: set[str] = set()  # seen, or made
        self._arrived: dict[str, tuple[Sums, bytes]] = {}  # by partial file; with its SHA-1
        self._is_scanned = False  # so that there are no others, as far as can be known

    def close(self) -> None:
        """Let go of what lies on this machine."""
        self._remembered.close()
        super().close()

    # -- looking -----------------------------------------------------------------------------------

    def scan(self) -> Iterator[Found]:
        """Every object but our own, and the folders that their names make."""
        try:
            objects = self._listed()
        except OSError as error:
            raise unwritable(self.name, error) from error
        seen: list[bytes] = []
        for batch in batches(objects, _LOOKS):
            for (path, told), known in zip(batch, self._known(batch), strict=True):
                yield from _new_folders(path, seen)
                yield path, EntryKind.FILE, told.size_bytes, known.mtime_ns
        self._is_scanned = True

    def check_alone(self) -> None:
        """Refuse a place with another destination in it."""
        try:
            self._listed()
        except OSError as error:
            raise unwritable(self.name, error) from error

    def _listed(self) -> list[tuple[bytes, Told]]:
        found, probes, own_marker = [], [], f"{STATE}/{MARKER}"
        lacks_marker = self._lies(own_marker)
        for told in self._store.listed():
            if told.path.startswith(f"{STATE}/"):
                lacks_marker = lacks_marker and told.path != own_marker
                if told.path.startswith(_PROBE):
                    probes.append(told.path)
                continue
            if told.path.endswith(f"/{STATE}/{MARKER}"):
                raise NotOursError(
                    f"{self.name}: another destination lies inside this one",
                    why=f"{self.where(told.path)} exists",
                    hint="choose a prefix beside it",
                )
            if self._may_hold(path := told.path.encode()):
                found.append((path, told))
        if lacks_marker:
            raise UnwritableError(
                f"{self.name}: its listing is not all of it",
                why=f"{own_marker} is there, and is not listed",
                hint="check what answers at its endpoint, and run again",
            )
        self._clear_probes(probes)
        # An empty object called like a folder is what a store's own console makes one of.
        folders = {path[:at] for path, _ in found for at, byte in enumerate(path) if byte == _SLASH}
        files = [(path, told) for path, told in found if told.size_bytes or path not in folders]
        files.sort(key=lambda item: item[0])  # most stores list in this order, but not all of them
        return files

    def _clear_probes(self, paths: Iterable[str]) -> None:
        """Those of killed runs: who holds all of it knows that nobody is trying anything now."""
        if self._lease is None or self.shard is not None:
            return
        for path in paths:
            with suppress(OSError):
                self._store.delete(path)

    def _known(self, batch: list[tuple[bytes, Told]]) -> list[Known]:
        remembered = self._remembered.of(path for path, _ in batch)
        unknown = [
            told
            for path, told in batch
            if (known := remembered.get(path)) is None
            or (known.etag, known.size_bytes) != (told.etag, told.size_bytes)
        ]
        if unknown:
            with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
                known_now = pool.map(self._look, unknown)
                paths = (told.path.encode() for told in unknown)
                looked = dict(zip(paths, known_now, strict=True))
            self._remembered.note(looked.items())
            remembered |= looked
        return [remembered[path] for path, _ in batch]

    def _look(self, told: Told) -> Known:
        """What an object is beyond its listing; under the listing's own ETag, for the next one."""
        check_stopping()
        try:
            whole = self._store.head(told.path)
        except FileNotFoundError:
            whole = told  # it went in the meantime, as it may a moment later
        except OSError as error:
            raise unwritable(self.where(told.path), error) from error
        return _known_of(whole)._replace(etag=told.etag)

    def entry(self, path: str) -> Entry | None:
        """What lies at a path now; a folder, where only longer names begin with it."""
        if (local := self._local(path)) is not None:
            return local.entry(path)
        try:
            told = self._store.head(checked(path))
        except FileNotFoundError:
            return Entry(path, EntryKind.FOLDER) if self._is_folder(path) else None
        except OSError as error:
            if concerns_path(error):
                return None
            raise unwritable(self.where(path), error) from error
        return Entry(path, EntryKind.FILE, told.size_bytes, _known_of(told).mtime_ns)

    def _is_folder(self, path: str) -> bool:
        try:
            return self._store.lies_below(path)
        except OSError as error:
            raise unwritable(self.where(path), error) from error

    tells_sha1 = True

    def told_sha1(self, path: str) -> bytes | None:
        """What was written beside an object's bytes when they were."""
        if self._local(path) is not None:
            return None
        found = self._remembered.of([path.encode("utf-8", "surrogateescape")])
        known = next(iter(found.values()), None)
        with suppress(OSError):
            if known is None or not self._is_scanned:
                known = _known_of(self._store.head(checked(path)))
            return known.sha1
        return None

    def pieces(self, path: str) -> Iterator[bytes]:
        """An object's bytes."""
        if (local := self._local(path)) is not None:
            return local.pieces(path)
        return self._store.pieces(checked(path))

    def free_bytes(self) -> int:
        """What may still wait on this machine: a bucket has no end that anybody can tell."""
        return self.free_here_bytes()

    # -- our own places ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder beside it."""
        super().prepare()
        self._remembered.close()
        self._remembered = self._opened_memory()

    def _opened_memory(self) -> Remembered:
        state = self._spool_path / STATE
        return Remembered(state / "objects.sqlite3" if state.exists() else None)

    def probe(self) -> Abilities:
        """Find out what the store keeps of its promises."""
        # Shards may try it at once.
        path, data = f"{_PROBE}{uuid.uuid4()}", b"?" * 4096
        try:
            etag = self._store.put(path, data, {})
            folds_case = self._lies(path.upper())
            refuses = self._refuses(path)
        finally:
            self._store.delete(path)
        return replace(
            self._prepared.probe(),  # originals are dated there
            hard_links=False,
            reflinks=False,
            folds_case=folds_case,
            folder_sync=True,
            flock=False,
            no_overwrite_rename=refuses,
            checksums=etag == hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )

    def _refuses(self, path: str) -> bool:
        """Whether the store does not write over an object when it is asked not to."""
        try:
            self._store.put(path, b"", {}, create=True)
        except FileExistsError:
            return True
        except OSError:
            return False  # it does not know what is asked of it
        return False

    def _lies(self, path: str) -> bool:
        try:
            self._store.head(path)
        except FileNotFoundError:
            return False
        return True

    def open_partial(self, name: str) -> PartialFile:
        """A partial file, on this machine; what the store will say of it is found out on the way.

        So its ETag proves the bytes that came, and not those that the disk gave back.
        """
        path = partial(name)
        self._arrived.pop(path, None)

        def arrived(sums: Sums, sha1: bytes) -> None:
            self._arrived[path] = sums, sha1

        return SummedPartial(super().open_partial(name), arrived)

    def work_files(self, area: str) -> list[str]:
        """The names in one of our own folders, here or there."""
        if area == PARTIAL:
            return self._local_work_files()
        return self._store.names(f"{STATE}/{area}")

    def drop(self, path: str) -> None:
        """Remove one of our own files, if it is there."""
        if (local := self._local(path)) is not None:
            self._arrived.pop(path, None)
            local.drop(path)
            return
        if not path.startswith(f"{STATE}/"):
            raise ValueError(f"not a work file: {path}")
        self._store.delete(checked(path))

    def read_state(self, name: str) -> bytes | None:
        """One of our own small objects; None when it is not there."""
        try:
            content = b"".join(self._store.pieces(f"{STATE}/{name}"))
            if name == MARKER and not is_marker(content):
                self._store.prove()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unwritable(self.where(f"{STATE}/{name}"), error) from error
        return content

    def write_state(self, name: str, content: Iterable[bytes]) -> None:
        """Replace one of our own objects."""
        path = f"{STATE}/{name}"
        try:
            with tempfile.TemporaryFile(dir=self._spool_path) as file:
                file.writelines(content)
                self._upload(file, path, {})
        except OSError as error:
            raise unwritable(self.where(path), error) from error

    def gone(self, paths: Iterable[str]) -> list[str]:
        """Those of our own objects that are not there: a listing tells of a thousand at once."""
        wanted = list(paths)
        if len(wanted) <= _FEW:
            return [path for path in wanted if self.entry(path) is None]
        try:
            lying = {told.path for told in self._store.listed(STATE)}
        except OSError as error:
            raise unwritable(self.where(STATE), error) from error
        return [path for path in wanted if path not in lying]

    # -- putting in place --------------------------------------------------------------------------

    def move(self, source: str, path: str) -> None:
        """Give an object another path, or a partial file its own: nothing is overwritten."""
        checked(source)
        checked(path)
        if self._local(source) is not None:
            self._refuse_taken(path)
            self._publish(source, path, create=self._has_seen_refusals())
            return
        told = self._store.head(source)
        self._refuse_taken(path)
        try:
            self._copy(told, path)
        except FileNotFoundError:
            self._take_back(told, path)
            raise
        self._remove(source)

    def _take_back(self, told: Told, path: str) -> None:
        """Remove a copy that cannot be proved; what it was made of must be seen to lie there."""
        with suppress(OSError):
            copied, lying = self._store.head(path), self._store.head(told.path)
            if lying.etag == told.etag and _own(copied).get(_ID, "") == told.metadata.get(_ID):
                self._store.delete(path)

    def _remove(self, path: str) -> None:
        """Delete what is there; a store that denies it is asked whether that is so."""
        try:
            self._store.delete(path)
        except FileNotFoundError:
            if self._lies(path):
                self._store.delete(path)

    def set_aside(self, source: str, path: str) -> None:
        """Move a file to one of our own places, over whatever lies there."""
        if self._local(source) is not None:
            self._publish(source, checked(path))
            return
        self._copy(self._store.head(checked(source)), checked(path))
        self._store.delete(source)

    def is_same_file(self, path: str, other: str) -> bool:
        """Whether one object is a copy of the other, and was to be the only one.

        Both carry the same id then. Where one has none, since a store forgot it or never had any,
        they have the same bytes.
        """
        try:
            return self._are_same(path, other)
        except FileNotFoundError:
            return False

    def _are_same(self, path: str, other: str) -> bool:
        one, two = (self._store.head(checked(each)) for each in (path, other))
        ids = {_ID in told.metadata and told.metadata[_ID] for told in (one, two)}
        if False not in ids:
            return len(ids) == 1
        return one.size_bytes == two.size_bytes and self.sha1(path) == self.sha1(other)

    def unlink_second_name(self, path: str, kept: str) -> None:
        """Remove one of two copies."""
        if not self._are_same(path, kept):
            raise ValueError(f"{path} is not {kept}")
        self._remove(path)

    def drop_empty_folders(self, path: str) -> None:
        """A folder is there as long as something lies in it."""
        with self._turn:
            while "/" in path:
                path = path.rpartition("/")[0]
                self._are_folders.discard(path)

    def _refuse_taken(self, path: str) -> None:
        """Look first: the lock keeps our own runs apart, and others are seen unless they hurry."""
        if self._lies(path) or self._is_known_folder(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        for folder in folders_above(path):
            if folder not in self._are_folders and self._lies(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        with self._turn:
            self._are_folders.update(folders_above(path))

    def _is_known_folder(self, path: str) -> bool:
        return path in self._are_folders or (not self._is_scanned and self._store.lies_below(path))

    def _copy(self, told: Told, path: str) -> None:
        """The same object under another name, all of it, with what is written beside it."""
        if told.size_bytes <= _MOST_COPIED_BYTES:
            self._store.copy(told.path, path)
            copied = self._store.head(path)
            if (copied.size_bytes, _own(copied)) == (told.size_bytes, _own(told)):
                self._remember(path, copied)
                return
        # Too large for one request, or a store that keeps no metadata.
        with closing(self.fetched(told.path)) as file:
            self._upload(file, path, _own(told))

    def _publish(self, source: str, path: str, *, create: bool = False) -> None:
        """A partial file becomes an object."""
        known = self._arrived.pop(source, None)
        with self._prepared.opened(source) as file:
            self._publish_file(file, path, known, create=create)
        self._prepared.drop(source)

    def _publish_file(
        self, file: BinaryIO, path: str, known: tuple[Sums, bytes] | None, *, create: bool
    ) -> None:
        status = os.fstat(file.fileno())
        mtime_ns = max(-_MOST_NS, min(status.st_mtime_ns, _MOST_NS))
        metadata = {_MTIME: _seconds(mtime_ns), _ID: str(uuid.uuid4())}
        self._upload(file, path, metadata, create=create, proves=True, known=known)

    def _upload(
        self,
        file: BinaryIO,
        path: str,
        metadata: Mapping[str, str],
        *,
        create: bool = False,
        proves: bool = False,
        known: tuple[Sums, bytes] | None = None,
    ) -> None:
        """Write a file's bytes, and have the store prove that it has them.

        `known`: their sums and their SHA-1 as they came, if that is known.
        """
        if known is None or known[0].part_bytes != part_bytes(known[0].size_bytes):
            known = _sums(file)
        sums, sha1 = known
        told = {**metadata, **({_SHA1: sha1.hex()} if proves else {})}
        if sums.has_parts:
            with self._large:
                told = {**told, _MD5: sums.md5_text}
                etag = self._store.put_parts(path, _pieces(file), sums.part_bytes, told)
        else:
            file.seek(0)
            etag = self._store.put(path, file.read(), told, create=create)
        if etag != sums.etag and self.sha1(path) != sha1:
            self._store.delete(path)
            raise OSError(errno.EIO, "the store has other bytes than it was given", path)
        if proves:
            mtime_ns = _parsed_ns(told[_MTIME]) or 0
            now = Known(etag, sums.size_bytes, mtime_ns, sha1)
            self._remembered.note([(path.encode(), now)])

    def _remember(self, path: str, told: Told) -> None:
        self._remembered.note([(path.encode(), _known_of(told))])

    # -- the index ---------------------------------------------------------------------------------

    def _index_copy(self) -> IndexCopy | None:
        try:
            told = self._store.head(self._copy_path)
        except FileNotFoundError:
            return None
        return IndexCopy(told.metadata.get(_ID, ""), told.metadata.get(_SHA1))

    def _renew_index_copy(self, file: BinaryIO, sha1: str) -> str:
        own_id = str(uuid.uuid4())
        self._upload(file, self._copy_path, {_ID: own_id, _SHA1: sha1})
        return own_id


def _sums(file: BinaryIO) -> tuple[Sums, bytes]:
    """Read all of a file, for what a store will say of it, and for its SHA-1."""
    sums, sha1 = Sums(part_bytes(file.seek(0, os.SEEK_END))), hashlib.sha1(usedforsecurity=False)
    for piece in _pieces(file):
        sums.add(piece)
        sha1.update(piece)
    return sums, sha1.digest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """All of a file; pieces of which a part is a multiple."""
    file.seek(0)
    while piece := file.read(_PIECE_BYTES):
        check_stopping()
        yield piece


def _known_of(told: Told) -> Known:
    mtime_ns = _parsed_ns(told.metadata.get(_MTIME, ""))
    if mtime_ns is None:
        mtime_ns = (told.modified - _EPOCH) // timedelta(microseconds=1) * 1000
    sha1: bytes | None = None
    with suppress(ValueError):
        sha1 = bytes.fromhex(told.metadata.get(_SHA1, ""))
    whole = sha1 if sha1 and len(sha1) == _SHA1_BYTES else None
    return Known(told.etag, told.size_bytes, mtime_ns, whole)


def _own(told: Told) -> dict[str, str]:
    """What was written beside an object."""
    return {key: told.metadata[key] for key in (_MTIME, _MD5, _SHA1, _ID) if key in told.metadata}


def _seconds(time_ns: int) -> str:
    """A time as rclone writes it: seconds, with as many digits as it needs."""
    text = f"{Decimal(time_ns).scaleb(-9):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _parsed_ns(text: str) -> int | None:
    try:
        time_ns = int(Decimal(text).scaleb(9))
    except (ArithmeticError, ValueError):
        return None
    return max(-_MOST_NS, min(time_ns, _MOST_NS))


def _new_folders(path: bytes, seen: list[bytes]) -> Iterator[Found]:
    """The folders above a path that were not told yet; `seen` are those above the one before."""
    folders = [path[: at + 1] for at, byte in enumerate(path) if byte == _SLASH]
    for folder in folders:
        if folder not in seen:
            yield folder, EntryKind.FOLDER, 0, 0
    seen[:] = folders
